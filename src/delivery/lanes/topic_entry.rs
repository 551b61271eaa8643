//! One topic of a shard: what is retained of it, and the lanes that get it without naming it.

use std::sync::Arc;

use crate::bus::frame::Frame;
use crate::bus::retained::Retained;
use crate::delivery::lanes::names::NameId;
use crate::delivery::lanes::subscribers::Subscribers;
use crate::protocol::encoding::Format;
use crate::words::ids::{Offset, TopicId};

/// One topic.
pub struct TopicEntry {
    pub retained: Retained,
    /// The name of the topic, if a lane has it.
    pub(super) name: Option<NameId>,
    /// Lanes that do not name the topic, and of which a wildcard matches it.
    pub(super) matched: Subscribers,
}

impl TopicEntry {
    pub fn topic_name(&self) -> &str {
        &self.retained.newest().topic.name
    }

    /// What a client with this format that joins receives of the frames after an offset. At a venue whose dialect it
    /// speaks, events begin with the next one.
    pub fn kept_after(&self, after: Offset, format: Format) -> impl Iterator<Item = &Arc<Frame>> {
        let is_omitted = self.is_omitted(format);
        self.retained.kept_after(after).take_while(move |_| !is_omitted)
    }

    /// Of these the one with this offset.
    pub fn find(&self, offset: Offset, format: Format) -> Option<&Arc<Frame>> {
        self.retained.find(offset).filter(|_| !self.is_omitted(format))
    }

    fn is_omitted(&self, format: Format) -> bool {
        format.is_form() && self.retained.is_of_events()
    }

    pub(super) fn topic_id(&self) -> TopicId {
        self.retained.newest().topic.id
    }
}
