//! The last-value cache: topic to what is retained of it.
//!
//! Written by the publisher alone, before the frame enters the ring; read by shards that must start over and by the
//! edge. A reader may therefore find a frame that is newer than the head it saw, never one that is older.

use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;

use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::retained::Retained;
use crate::bus::topic_status::TopicStatusKind;
use crate::words::ids::Offset;

/// What is kept of a topic, and how many frames there were.
#[derive(Clone, Debug)]
pub struct Current {
    pub retained: Retained,
    /// Frames published on the topic since it is known; statuses do not count.
    pub count: u64,
    /// When the last of them was received, or the topic became known.
    arrived_ns: u64,
    /// Its value was built of snapshots and deltas.
    builds_up: bool,
}

impl Current {
    pub fn new(first: Arc<Frame>) -> Current {
        Current {
            count: u64::from(!first.is_status()),
            arrived_ns: first.received.mono_ns,
            builds_up: builds_up(&first),
            retained: Retained::new(first),
        }
    }

    /// As another server has it. Durations begin with the newest frame.
    pub(super) fn restored(retained: Retained, count: u64, builds_up: bool) -> Current {
        Current { count, arrived_ns: retained.newest().received.mono_ns, builds_up, retained }
    }

    /// Whether its value was built of snapshots and deltas, ever.
    pub(super) fn builds_up(&self) -> bool {
        self.builds_up
    }

    /// Takes the topic's next frame.
    pub fn take(&mut self, frame: Arc<Frame>) {
        if !frame.is_status() {
            self.count += 1;
            self.arrived_ns = frame.received.mono_ns;
            self.builds_up |= builds_up(&frame);
        }
        self.retained.take(frame);
    }
}

/// Whether a topic may be forgotten.
pub(super) enum Outlived {
    No,
    /// Once a gap has ended its value.
    Unended,
    Yes,
}

pub(super) struct Latest {
    /// Each message is looked for twice. Names come from the feed alone, so a quick hash with a seed is enough.
    by_name: DashMap<Box<str>, Current, RandomState>,
}

impl Latest {
    pub(super) fn new() -> Latest {
        Latest { by_name: DashMap::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|current| current.retained.newest().topic.clone())
    }

    pub(super) fn get(&self, name: &str) -> Option<Current> {
        self.by_name.get(name).map(|current| current.clone())
    }

    /// Whether deltas of the topic have a snapshot that they belong to.
    pub(super) fn holds_deltas(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|current| current.retained.holds_deltas())
    }

    /// Publisher only.
    pub(super) fn remember(&self, frame: Arc<Frame>) {
        if let Some(mut current) = self.by_name.get_mut(&*frame.topic.name) {
            current.take(frame);
        } else {
            self.by_name.insert(frame.topic.name.clone(), Current::new(frame));
        }
    }

    /// Publisher only: what is retained of a topic, instead of what was.
    pub(super) fn replace(&self, current: Current) {
        self.by_name.insert(current.retained.newest().topic.name.clone(), current);
    }

    /// The offset of the topic's newest frame.
    pub(super) fn newest_offset(&self, name: &str) -> Option<Offset> {
        self.by_name.get(name).map(|current| current.retained.newest().offset)
    }

    /// Publisher only: whether the topic may be forgotten, because nothing has arrived since then, and the ring, which ends
    /// at `tail`, holds nothing of it. If its value was ever built of deltas, clients hold a value to which the next delta
    /// would be applied, so a gap must have ended it.
    pub(super) fn outlived(&self, name: &str, since_ns: u64, tail: Offset) -> Outlived {
        let Some(current) = self.by_name.get(name) else { return Outlived::No };
        let newest = current.retained.newest();
        if current.arrived_ns >= since_ns || newest.offset >= tail {
            Outlived::No
        } else if current.builds_up && !matches!(newest.kind, FrameKind::Status(TopicStatusKind::Gap)) {
            Outlived::Unended
        } else {
            Outlived::Yes
        }
    }

    /// Publisher only.
    pub(super) fn forget(&self, name: &str) {
        self.by_name.remove(name);
    }

    /// Visits every topic once, in no order; a part of the cache is locked against the publisher during each call.
    pub(super) fn each(&self, mut visit: impl FnMut(&Current)) {
        for entry in &self.by_name {
            visit(entry.value());
        }
    }
}

fn builds_up(frame: &Frame) -> bool {
    matches!(frame.kind, FrameKind::Snapshot | FrameKind::Delta { .. })
}
