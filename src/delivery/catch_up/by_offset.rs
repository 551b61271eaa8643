//! What is kept of all topics of a shard, by offset: one list for all sessions that join lanes of many topics.
//!
//! Without it each slice of a snapshot scan would look at all topics of the lane. It is made in parts, a bounded number
//! of topics in each turn: runs that are sorted by themselves, and merged where they are read. It never becomes wrong,
//! only old: what is kept up to `as_of` can only become less, so a reader checks that a frame is still kept, and later
//! frames are in the ring. So a list serves all sessions until the way from `as_of` on is too long. A scan keeps no
//! list, only the offset that it has reached.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::delivery::lanes::topic_index::TopicIndex;
use crate::words::ids::{Offset, TopicId};

/// 8192 entries of 16 bytes: sorted in about 0.3 ms. A test has several runs, too.
const RUN_FRAMES: usize = if cfg!(test) { 4 } else { 8 * 1024 };
/// A list that was not read for this time is dropped.
const KEEP_NS: u64 = 5_000_000_000;

/// A frame that is kept, or was: its offset and its topic.
type Kept = (Offset, TopicId);

/// The list that is read, and the one that is being made.
#[derive(Default)]
pub struct TopicsByOffset {
    ready: Option<List>,
    making: Option<List>,
    used_ns: u64,
}

/// Kept frames of all topics up to an offset.
pub struct List {
    /// What is kept up to here was taken up.
    pub as_of: Offset,
    runs: Vec<Vec<Kept>>,
    /// The first slot of the index that was not looked at.
    from: usize,
}

impl TopicsByOffset {
    pub fn list(&self) -> Option<&List> {
        self.ready.as_ref()
    }

    /// Makes a further part of a list of everything kept up to `cursor`, where the index stands. Looks at about
    /// `topics_max` topics, and returns how many.
    pub fn make(&mut self, index: &TopicIndex, cursor: Offset, topics_max: usize) -> usize {
        let list = self.making.get_or_insert_with(|| List { as_of: cursor, runs: Vec::new(), from: 0 });
        let before = list.from;
        while list.from < index.slots() && list.from < before + topics_max {
            list.read_run(index, before + topics_max);
        }
        let looked = list.from - before;
        if list.from >= index.slots() {
            self.ready = self.making.take();
        }
        looked
    }

    pub fn mark_used(&mut self, now_ns: u64) {
        self.used_ns = now_ns;
    }

    /// Gives the memory back once it is not needed any more.
    pub fn drop_unused(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.used_ns) > KEEP_NS {
            (self.ready, self.making) = (None, None);
        }
    }
}

impl List {
    /// Takes up the topics in the slots that follow, until a run is full.
    fn read_run(&mut self, index: &TopicIndex, until: usize) {
        let mut run = Vec::new();
        while self.from < index.slots().min(until) && run.len() < RUN_FRAMES {
            let topic = TopicId(self.from as u32);
            if let Some(entry) = index.entry(topic) {
                let kept = entry.retained.kept_after(Offset::START).map(|frame| (frame.offset, topic));
                run.extend(kept.take_while(|(offset, _)| *offset <= self.as_of));
            }
            self.from += 1;
        }
        run.sort_unstable();
        self.runs.push(run);
    }

    /// Frames after this offset, in the order of offsets; perhaps they are not kept any more.
    pub fn after(&self, reached: Offset) -> Merge<'_> {
        let rests = self.runs.iter().map(|run| &run[run.partition_point(|(offset, _)| *offset <= reached)..]);
        Merge { rests: rests.filter_map(|rest| rest.first().map(|first| (Reverse(*first), rest))).collect() }
    }
}

/// What is left of each run, by its first frame.
pub struct Merge<'l> {
    rests: BinaryHeap<(Reverse<Kept>, &'l [Kept])>,
}

impl Iterator for Merge<'_> {
    type Item = Kept;

    fn next(&mut self) -> Option<Kept> {
        let mut least = self.rests.peek_mut()?;
        let (Reverse(first), rest) = &mut *least;
        let found = *first;
        *rest = &rest[1..];
        match rest.first() {
            Some(next) => *first = *next,
            None => drop(std::collections::binary_heap::PeekMut::pop(least)),
        }
        Some(found)
    }
}
