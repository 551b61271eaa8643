//! Frames with the same delay, in the order in which they are to be published.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::delay::slice::DelaySlice;
use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::feed_state::FeedState;
use crate::words::stamp::Stamp;

pub(super) enum Entry {
    Frame(WaitingFrame),
    /// What is left of frames that were too many.
    Slice(Box<DelaySlice>),
    /// The feed's state, and when it was seen.
    Feed(Arc<FeedState>, Stamp),
}

pub(super) struct DelayQueue {
    pub delay: Duration,
    entries: VecDeque<Entry>,
    /// Memory of the entries.
    bytes: usize,
    frames: usize,
}

impl Entry {
    /// When the newest of it was received.
    fn received(&self) -> Stamp {
        match self {
            Entry::Frame(frame) => frame.received,
            Entry::Slice(slice) => slice.newest(),
            Entry::Feed(_, seen) => *seen,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Entry::Frame(frame) => frame.bytes(),
            Entry::Slice(slice) => size_of::<DelaySlice>() + slice.bytes(),
            Entry::Feed(..) => size_of::<Entry>(),
        }
    }
}

impl DelayQueue {
    pub fn new(delay: Duration) -> DelayQueue {
        DelayQueue { delay, entries: VecDeque::new(), bytes: 0, frames: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait, each by itself.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// When the first entry may be published, on the monotonic clock.
    pub fn due_ns(&self) -> Option<u64> {
        let delay_ns = u64::try_from(self.delay.as_nanos()).unwrap_or(u64::MAX);
        self.entries.front().map(|first| first.received().mono_ns.saturating_add(delay_ns))
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        self.frames -= usize::from(matches!(entry, Entry::Frame(_)));
        if self.entries.is_empty() {
            // What a burst has taken is given back.
            self.entries = VecDeque::new();
        }
        Some(entry)
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
        self.bytes += frame.bytes();
        self.frames += 1;
        self.entries.push_back(Entry::Frame(frame));
        false
    }

    /// Changes the slice at the end, which is begun if there is none.
    pub fn change_slice(&mut self, now: Stamp, change: impl FnOnce(&mut DelaySlice)) {
        if !matches!(self.entries.back(), Some(Entry::Slice(_))) {
            let entry = Entry::Slice(Box::new(DelaySlice::begin(now)));
            self.bytes += entry.bytes();
            self.entries.push_back(entry);
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
        let entry = Entry::Feed(feed, seen);
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }
}
