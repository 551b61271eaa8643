//! From the feed's own bus into batches for the log.

use std::collections::VecDeque;
use std::sync::Arc;

use feed_log::entry::item::LoggedItem;
use feed_log::entry::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};

use crate::bus::frame::Frame;
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::logged::item_of;
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::cluster::logged_state::logged_state;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// The state of the feed is told again after this time, half of the shortest `cluster.age_max`: a server that joins by the
/// log alone must find it there.
const STATE_AGAIN_NS: u64 = 5_000_000_000;

/// The reader of a feed that publishes for the log.
pub struct Collector {
    reader: Reader,
    cursor: Offset,
    /// What of the ring was overwritten before it was taken, as far as it is known still.
    backlog: VecDeque<LoggedItem>,
    /// The version of the feed's state that was told last, and when.
    told: Option<(u32, u64)>,
    /// Frames that were overwritten before they were taken.
    lost: u64,
}

impl Collector {
    pub fn new(reader: Reader) -> Collector {
        Collector { reader, cursor: Offset::START, backlog: VecDeque::new(), told: None, lost: 0 }
    }

    /// Frames that the log was away for too long to be given, until now.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What has gathered, at most as much as an entry takes; empty if there is nothing.
    pub fn gather(&mut self, now: Stamp) -> Vec<LoggedItem> {
        // Before the head: the state was set after the frames up to there.
        let version = self.reader.feed_version();
        let state = self.reader.feed();
        let head = self.reader.head();
        let mut batch = Batch::default();
        while !batch.is_full() {
            if let Some(item) = self.backlog.pop_front() {
                batch.push(item);
            } else if self.cursor < head {
                match self.reader.frame(self.cursor.next()) {
                    FrameLookup::Hot(frame) => {
                        self.cursor = frame.offset;
                        batch.push(item_of(&frame));
                    }
                    FrameLookup::Gone => self.start_over(now),
                }
            } else {
                break;
            }
        }
        let is_told = |(told, at_ns): (u32, u64)| told == version && now.mono_ns < at_ns + STATE_AGAIN_NS;
        if self.cursor >= head && self.backlog.is_empty() && !self.told.is_some_and(is_told) {
            self.told = Some((version, now.mono_ns));
            batch.push(LoggedItem::State(logged_state(&state)));
        }
        batch.items
    }

    /// Frames are gone: each topic that had some of them has a gap, and then what is retained of it.
    fn start_over(&mut self, now: Stamp) {
        let snapshot = self.reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
        if snapshot.overrun {
            return;
        }
        self.lost += snapshot.offset.0.saturating_sub(self.cursor.0);
        let mut frames: Vec<Arc<Frame>> = Vec::new();
        for current in &snapshot.topics {
            let newest = current.retained.newest();
            if newest.offset <= self.cursor {
                continue;
            }
            let gap = TopicStatus::Gap { reason: GapReason::Conflated, missed: None };
            let gap = Frame::status(newest.offset, newest.topic.clone(), now, &gap);
            self.backlog.push_back(item_of(&gap));
            frames.extend(current.retained.kept_after(self.cursor).cloned());
        }
        frames.sort_by_key(|frame| frame.offset);
        self.backlog.extend(frames.iter().map(|frame| item_of(frame)));
        self.cursor = snapshot.offset;
    }
}

#[derive(Default)]
struct Batch {
    items: Vec<LoggedItem>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, item: LoggedItem) {
        self.bytes += item.bytes();
        self.items.push(item);
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH_ITEMS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
