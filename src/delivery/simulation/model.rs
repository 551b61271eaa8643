//! What the simulation has published, and what that comes to: kept in another way than the server does it.

use std::collections::HashMap;

use crate::bus::retained::CHANGES_MAX;
use crate::bus::retention::TopicStatusKind;

/// Everything published, by topic and by offset.
#[derive(Default)]
pub struct Model {
    topics: HashMap<&'static str, Telling>,
    /// Of offset 1, 2, …
    published: Vec<ModelItem>,
    /// How often topics were forgotten.
    pub expired: usize,
}

/// What one offset is.
#[derive(Clone, Copy, Debug)]
pub struct ModelItem {
    pub topic: &'static str,
    pub what: ModelKind,
    /// What the topic's changes come to after it; none if they have no start.
    pub state: Option<u32>,
    /// More changes have followed the start than are kept.
    pub overflowed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    Value,
    Start,
    Change,
    Moment,
    Note(TopicStatusKind),
    /// Word among the shards that topics are forgotten.
    Expired,
}

/// What all that was published of one topic comes to.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// The newest value, if nothing has started since.
    pub value: Option<u64>,
    pub state: Option<u32>,
    /// The newest start or change; 0 if there is none.
    pub last: u64,
    /// Gaps since the start; of several between two changes the newest.
    pub gaps: Vec<u64>,
    /// Changes since the start.
    followers: usize,
    /// The offset since which all this came: where the topic was forgotten last.
    pub began: u64,
    /// The note that says that the topic is not well.
    pub mark: Option<u64>,
}

/// One change after another. The order matters, and none may be missing.
pub fn changed(state: u32, add: u32) -> u32 {
    state.wrapping_mul(1_000_003).wrapping_add(add)
}

impl Model {
    pub fn next_offset(&self) -> u64 {
        self.published.len() as u64 + 1
    }

    pub fn topic(&self, topic: &str) -> Telling {
        self.topics.get(topic).cloned().unwrap_or_default()
    }

    pub fn item(&self, offset: u64) -> ModelItem {
        self.published[offset as usize - 1]
    }

    /// Offsets of a topic, oldest first.
    pub fn offsets<'m>(&'m self, topic: &'m str) -> impl Iterator<Item = (u64, ModelKind)> + 'm {
        (1..)
            .zip(&self.published)
            .filter(move |(_, item)| item.topic == topic)
            .map(|(offset, item)| (offset, item.what))
    }

    /// These are forgotten, and that has the next offset.
    pub fn expire<'t>(&mut self, topics: impl Iterator<Item = &'t str>) {
        let began = self.next_offset();
        for topic in topics {
            let published = self.topics.get_mut(topic).expect("it was published");
            *published = Telling { began, ..Telling::default() };
        }
        self.published.push(ModelItem { topic: "", what: ModelKind::Expired, state: None, overflowed: false });
        self.expired += 1;
    }

    /// Adds what has the next offset. `state` is that of a start, or what a change adds; `has_whole` tells that the whole
    /// value is at hand beside the change.
    pub fn add(&mut self, topic: &'static str, what: ModelKind, state: u32, has_whole: bool) {
        let offset = self.next_offset();
        let published = self.topics.entry(topic).or_default();
        let began = published.began;
        match what {
            ModelKind::Value => *published = Telling { value: Some(offset), began, ..Telling::default() },
            ModelKind::Start => *published = Telling { state: Some(state), last: offset, began, ..Telling::default() },
            ModelKind::Change => {
                published.last = offset;
                if let Some(before) = published.state {
                    published.state = Some(changed(before, state));
                    published.followers += 1;
                    published.mark = None;
                }
                if has_whole {
                    *published = Telling { state: published.state, last: offset, began, ..Telling::default() };
                }
            }
            ModelKind::Moment | ModelKind::Expired => {}
            ModelKind::Note(TopicStatusKind::Gap) => {
                published.gaps.retain(|gap| *gap < published.last);
                published.gaps.push(offset);
            }
            ModelKind::Note(TopicStatusKind::Live) => published.mark = None,
            ModelKind::Note(TopicStatusKind::Stale | TopicStatusKind::Refused) => published.mark = Some(offset),
        }
        let (state, overflowed) = (published.state, published.overflowed());
        self.published.push(ModelItem { topic, what, state, overflowed });
    }
}

impl Telling {
    pub fn overflowed(&self) -> bool {
        self.state.is_some() && self.followers > CHANGES_MAX
    }
}
