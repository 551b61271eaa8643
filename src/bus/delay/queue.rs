//! Frames with the same delay, in the order in which they are to be published.
//!
//! Each entry has a number, which it keeps: those that were taken out, and its place among those that are left.

mod spooling;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::delay::block::FrameBlock;
use crate::bus::delay::due::DueItem;
use crate::bus::delay::slice::DelaySlice;
use crate::bus::delay::spool::failure::SpoolFailure;
use crate::bus::delay::spool::limits::SpoolLimits;
use crate::bus::delay::spool::worker::SpoolHandle;
use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::feed_state::FeedState;
use crate::words::stamp::Stamp;
use spooling::QueueSpool;

enum Entry {
    Frame(WaitingFrame),
    /// What is left of frames that were too many.
    Slice(Box<DelaySlice>),
    /// The feed's state, and when it was seen.
    Feed(Arc<FeedState>, Stamp),
    /// Frames that are on disk, or on the way.
    Block(Box<FrameBlock>),
}

pub(super) struct DelayQueue {
    pub delay: Duration,
    entries: VecDeque<Entry>,
    /// Entries that were taken out.
    taken: u64,
    /// Memory of the entries.
    bytes: usize,
    /// Of frames that are entries themselves.
    direct_bytes: usize,
    frames: usize,
    spool: Option<QueueSpool>,
}

impl Entry {
    /// When the newest of it was received, of a block the first; none where that must be read from the disk first.
    fn received(&self) -> Option<Stamp> {
        match self {
            Entry::Frame(frame) => Some(frame.received),
            Entry::Slice(slice) => Some(slice.newest()),
            Entry::Feed(_, seen) => Some(*seen),
            Entry::Block(block) => block.received(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Entry::Frame(frame) => frame.bytes(),
            Entry::Slice(slice) => size_of::<DelaySlice>() + slice.bytes(),
            Entry::Feed(..) => size_of::<Entry>(),
            Entry::Block(block) => block.bytes(),
        }
    }
}

impl DelayQueue {
    pub fn new(delay: Duration, spool: Option<(SpoolHandle, SpoolLimits)>) -> DelayQueue {
        DelayQueue {
            delay,
            entries: VecDeque::new(),
            taken: 0,
            bytes: 0,
            direct_bytes: 0,
            frames: 0,
            spool: spool.map(|(handle, limits)| QueueSpool::new(handle, limits)),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait, each by itself.
    pub fn frames(&self) -> usize {
        self.frames
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the first entry may be published, on the monotonic clock; none if it is not in memory.
    pub fn due_ns(&self) -> Option<u64> {
        let delay_ns = u64::try_from(self.delay.as_nanos()).unwrap_or(u64::MAX);
        self.entries.front()?.received().map(|received| received.mono_ns.saturating_add(delay_ns))
    }

    pub fn pop(&mut self) -> Option<DueItem> {
        if let Some(Entry::Block(_)) = self.entries.front() {
            let (due, is_spent) = self.change_block(self.taken, |block| (block.pop(), block.is_spent()))?;
            if is_spent {
                self.take_entry();
            }
            return due;
        }
        match self.take_entry()? {
            Entry::Frame(frame) => {
                self.direct_bytes -= frame.bytes();
                self.frames -= 1;
                Some(DueItem::Frame(frame))
            }
            Entry::Slice(slice) => Some(DueItem::Slice(*slice)),
            Entry::Feed(feed, _) => Some(DueItem::Feed(feed)),
            Entry::Block(_) => None,
        }
    }

    /// Adds a frame, by itself or, if `is_full`, to the slice at the end. True if it is in a slice.
    pub fn push(&mut self, frame: WaitingFrame, is_full: bool) -> bool {
        let has_open_slice = match self.entries.back() {
            Some(Entry::Slice(slice)) => is_full || slice.is_open(frame.received),
            _ => false,
        };
        if is_full || has_open_slice {
            self.change_slice(frame.received, |slice| slice.take(frame));
            return true;
        }
        if self.goes_to_disk(&frame) {
            self.push_in_block(frame);
            return false;
        }
        self.frames += 1;
        self.direct_bytes += frame.bytes();
        self.add(Entry::Frame(frame));
        false
    }

    /// Changes the slice at the end, which is begun if there is none.
    pub fn change_slice(&mut self, now: Stamp, change: impl FnOnce(&mut DelaySlice)) {
        if !matches!(self.entries.back(), Some(Entry::Slice(_))) {
            self.add(Entry::Slice(Box::new(DelaySlice::begin(now))));
        }
        if let Some(Entry::Slice(slice)) = self.entries.back_mut() {
            let before = slice.bytes();
            change(slice);
            self.bytes = self.bytes + slice.bytes() - before;
        }
    }

    /// Adds the feed's state behind what was published before. Of several in a row the newest is left.
    pub fn push_feed(&mut self, feed: Arc<FeedState>, seen: Stamp) {
        if matches!(self.entries.back(), Some(Entry::Feed(..))) {
            self.entries.pop_back();
            self.bytes -= size_of::<Entry>();
        }
        self.add(Entry::Feed(feed, seen));
    }

    /// What went wrong on disk since the last call, and how many frames each concerns.
    pub fn take_failures(&mut self) -> Vec<(SpoolFailure, usize)> {
        self.spool.as_mut().map(QueueSpool::take_failures).unwrap_or_default()
    }

    /// Adds an entry behind a block that no further frames enter.
    fn add(&mut self, entry: Entry) {
        self.close_block();
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    fn take_entry(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.taken += 1;
        self.bytes -= entry.bytes();
        if self.entries.is_empty() {
            // What a burst has taken is given back.
            self.entries = VecDeque::new();
        }
        Some(entry)
    }
}
