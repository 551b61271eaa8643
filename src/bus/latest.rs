//! The last-value cache: topic to its story.
//!
//! Written by the publisher alone, before the frame enters the ring; read by shards that must start over and by the
//! edge. A reader may therefore find a frame that is newer than the head it saw, never one that is older.

use std::sync::Arc;

use dashmap::DashMap;

use crate::bus::frame::{Frame, Topic};
use crate::bus::story::Story;

/// What is kept of a topic, and how many frames there were.
#[derive(Clone, Debug)]
pub struct Current {
    pub story: Story,
    /// Frames published on the topic in this epoch; notes do not count.
    pub count: u64,
}

impl Current {
    pub fn new(first: Arc<Frame>) -> Current {
        Current { count: u64::from(!first.is_note()), story: Story::new(first) }
    }

    /// Takes the topic's next frame.
    pub fn take(&mut self, frame: Arc<Frame>) {
        self.count += u64::from(!frame.is_note());
        self.story.take(frame);
    }
}

pub(super) struct Latest {
    by_name: DashMap<Box<str>, Current>,
}

impl Latest {
    pub fn new() -> Latest {
        Latest { by_name: DashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|current| current.story.newest().topic.clone())
    }

    pub fn get(&self, name: &str) -> Option<Current> {
        self.by_name.get(name).map(|current| current.clone())
    }

    /// Whether changes of the topic have a start that they belong to.
    pub fn holds_changes(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|current| current.story.holds_changes())
    }

    /// Publisher only.
    pub fn remember(&self, frame: Arc<Frame>) {
        if let Some(mut current) = self.by_name.get_mut(&*frame.topic.name) {
            current.take(frame);
        } else {
            self.by_name.insert(frame.topic.name.clone(), Current::new(frame));
        }
    }

    /// Visits every topic once, in no order; a part of the cache is locked against the publisher during each call.
    pub fn each(&self, mut visit: impl FnMut(&Current)) {
        for entry in &self.by_name {
            visit(entry.value());
        }
    }
}
