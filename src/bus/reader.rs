//! The bus as everyone but the publisher sees it: frames, current values, the state of the feed.

use std::sync::Arc;

use crate::bus::BusShared;
use crate::bus::feed_state::FeedState;
use crate::bus::frame::Frame;
use crate::bus::latest::Current;
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::signal::pulse::Pulse;
use crate::bus::signal::sync::Ordering;
use crate::words::ids::{Epoch, Offset};

/// A view on the bus; clones see the same one.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<BusShared>,
}

/// Where a frame is.
#[derive(Clone, Debug)]
pub enum FrameLookup {
    /// In memory.
    Hot(Arc<Frame>),
    /// Overwritten, or not published yet.
    Gone,
}

impl FrameLookup {
    pub fn hot(self) -> Option<Arc<Frame>> {
        match self {
            FrameLookup::Hot(frame) => Some(frame),
            FrameLookup::Gone => None,
        }
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<BusShared>) -> Reader {
        Reader { shared }
    }

    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Newest offset in the ring; `Offset::START` before the first frame.
    pub fn head(&self) -> Offset {
        self.shared.ring.head()
    }

    /// Oldest offset that the ring may still hold.
    pub fn tail(&self) -> Offset {
        self.shared.ring.tail()
    }

    /// Looks up the frame with this offset.
    pub fn frame(&self, offset: Offset) -> FrameLookup {
        self.shared.ring.get(offset).map_or(FrameLookup::Gone, FrameLookup::Hot)
    }

    /// Whether there has been anything of the topic.
    pub fn knows(&self, topic: &str) -> bool {
        self.shared.latest.topic(topic).is_some()
    }

    pub fn latest(&self, topic: &str) -> Option<Current> {
        self.shared.latest.get(topic)
    }

    /// Visits what is kept of every topic, in no order. Keep `visit` short: it holds back the publisher.
    pub fn each_latest(&self, visit: impl FnMut(&Current)) {
        self.shared.latest.each(visit);
    }

    /// The newest offset at which topics were forgotten. Nothing may be left of their frames before it.
    pub fn forgotten(&self) -> Offset {
        Offset(self.shared.forgotten.load(Ordering::Acquire))
    }

    pub fn topics(&self) -> usize {
        self.shared.latest.len()
    }

    pub fn feed(&self) -> Arc<FeedState> {
        self.shared.feed.get()
    }

    /// Changes whenever `feed` becomes another state, or stale for another reason.
    pub fn feed_version(&self) -> u32 {
        self.shared.feed.version()
    }

    /// Whether the publisher is no more: the head is the last.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// The sign of life of what feeds the publisher.
    pub fn pulse(&self) -> Pulse {
        self.shared.pulse.clone()
    }

    /// From now on the doorbell is rung after each frame and each change of the feed's state.
    pub fn add_doorbell(&self, doorbell: Arc<Doorbell>) {
        self.shared.doorbells.rcu(|doorbells| {
            let mut doorbells = Vec::clone(doorbells);
            doorbells.push(doorbell.clone());
            doorbells
        });
    }
}
