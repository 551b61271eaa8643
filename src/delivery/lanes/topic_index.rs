//! The topic index of one shard: topic to retained value, topic to lanes.
//!
//! A pattern is matched once per topic: when the topic is new, or when the lane is. It is found by its tokens
//! (`PatternTable`), not tried. A message costs one array access. The shard moves the retained values forward itself,
//! so a snapshot and the live stream after it fit together by construction.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::bus::frame::{Frame, Topic};
use crate::bus::retained::Retained;
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::{PatternSet, PatternTable};
use crate::words::topic::Pattern;
use shared_deflate::token::Mark;

/// Position of a lane in its shard's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

#[derive(Default)]
pub struct TopicIndex {
    /// By `TopicId`; none for a topic without a frame on this shard.
    topics: Vec<Option<TopicEntry>>,
    by_name: HashMap<Box<str>, TopicId>,
    /// Patterns in use, and by which lanes. Exact ones are looked up, wildcards matched, when a topic is new.
    exact: HashMap<Pattern, Vec<LaneId>>,
    wild: PatternTable<Vec<LaneId>>,
    /// Wildcards of all lanes; one that two lanes have counts twice.
    wildcards: usize,
}

/// One topic.
pub struct TopicEntry {
    pub retained: Retained,
    /// The lanes that get this topic, sorted by lane.
    pub lanes: Vec<LaneSlot>,
}

/// A topic's place on one lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneSlot {
    pub lane: LaneId,
    /// Where the topic stands in `LaneTopics::list`.
    pub at: u32,
    /// Where the lane's sessions find the newest messages of the topic in what they have inflated.
    pub mark: Mark,
}

/// The topics of one lane.
#[derive(Debug, Default)]
pub struct LaneTopics {
    /// In no order; each knows its slot.
    pub list: Vec<TopicId>,
    /// The newest offset of any of them.
    pub newest: Offset,
}

/// What a frame changed in the index.
pub struct IndexUpdate {
    /// Offset of the topic's frame that was the newest before; `Offset::START` if there was none.
    pub before: Offset,
    /// The topic was not known to this shard. Its slots on the lanes are not taken yet.
    pub new_topic: bool,
    /// Work that finding its lanes took, in steps of `PatternTable::visit`.
    pub steps: usize,
}

impl TopicIndex {
    /// Puts the frame into its topic's retained value.
    pub fn take_frame(&mut self, frame: Arc<Frame>) -> IndexUpdate {
        let slot = frame.topic.id.index();
        if let Some(Some(entry)) = self.topics.get_mut(slot) {
            let before = entry.retained.newest().offset;
            entry.retained.take(frame);
            return IndexUpdate { before, new_topic: false, steps: 0 };
        }
        self.begin(frame.topic.clone(), Retained::new(frame))
    }

    /// Takes a retained value from elsewhere, because frames in between were missed.
    pub fn adopt(&mut self, retained: Retained) -> IndexUpdate {
        let topic = retained.newest().topic.clone();
        if let Some(Some(entry)) = self.topics.get_mut(topic.id.index()) {
            let before = std::mem::replace(&mut entry.retained, retained);
            return IndexUpdate { before: before.newest().offset, new_topic: false, steps: 0 };
        }
        self.begin(topic, retained)
    }

    fn begin(&mut self, topic: Arc<Topic>, retained: Retained) -> IndexUpdate {
        let slot = topic.id.index();
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, || None);
        }
        let (lanes, steps) = self.lanes_for(&topic.name);
        let lanes = lanes.into_iter().map(|lane| LaneSlot { lane, at: 0, mark: Mark::default() }).collect();
        self.by_name.insert(topic.name.clone(), topic.id);
        self.topics[slot] = Some(TopicEntry { retained, lanes });
        IndexUpdate { before: Offset::START, new_topic: true, steps }
    }

    /// Forgets this topic, and not another one with its number; gives what there was of it. The lanes still hold it.
    pub fn forget(&mut self, topic: &Arc<Topic>) -> Option<TopicEntry> {
        let slot = self.topics.get_mut(topic.id.index())?;
        let entry = slot.take_if(|entry| Arc::ptr_eq(&entry.retained.newest().topic, topic))?;
        if self.by_name.get(&topic.name) == Some(&topic.id) {
            self.by_name.remove(&topic.name);
        }
        Some(entry)
    }

    /// The topic with this number.
    pub fn topic(&self, slot: usize) -> Option<&Arc<Topic>> {
        self.topics.get(slot)?.as_ref().map(|entry| &entry.retained.newest().topic)
    }

    /// The topic has moved on this lane.
    pub fn set_slot(&mut self, topic: TopicId, lane: LaneId, at: u32) {
        if let Some(entry) = self.entry_mut(topic)
            && let Ok(slot) = entry.slot(lane)
        {
            entry.lanes[slot].at = at;
        }
    }

    pub fn entry(&self, topic: TopicId) -> Option<&TopicEntry> {
        self.topics.get(topic.index())?.as_ref()
    }

    /// The topic's entry, if the lane gets the topic.
    pub fn entry_on(&self, lane: LaneId, topic: TopicId) -> Option<&TopicEntry> {
        self.entry(topic).filter(|entry| entry.is_on(lane))
    }

    pub fn entry_mut(&mut self, topic: TopicId) -> Option<&mut TopicEntry> {
        self.topics.get_mut(topic.index())?.as_mut()
    }

    /// Puts a lane on all topics that its patterns match later, and on those that it names and that there are; gives
    /// the latter. `match_lane` does the rest.
    pub fn add_lane(&mut self, lane: LaneId, patterns: &[Pattern]) -> LaneTopics {
        let mut topics = LaneTopics::default();
        for pattern in patterns {
            if pattern.is_exact() {
                put(self.exact.entry(pattern.clone()).or_default(), lane);
                let topic = self.by_name.get(pattern.as_str());
                if let Some(entry) = topic.and_then(|topic| self.topics[topic.index()].as_mut()) {
                    entry.join(lane, &mut topics);
                }
            } else {
                put(self.wild.entry(pattern), lane);
                self.wildcards += 1;
            }
        }
        topics
    }

    /// The lanes that have the topic by its name.
    pub fn lanes_naming(&self, topic: &str) -> &[LaneId] {
        let pattern = Pattern::parse(topic).ok();
        pattern.and_then(|pattern| self.exact.get(&pattern)).map_or(&[], Vec::as_slice)
    }

    /// Size of the table of topics, which `match_lane` goes over.
    pub fn slots(&self) -> usize {
        self.topics.len()
    }

    /// Wildcards of all lanes.
    pub fn wildcards(&self) -> usize {
        self.wildcards
    }

    /// Puts a lane on the topics from this slot on that one of its wildcards matches, until the steps are used up; gives
    /// the slot where it stopped, and the steps taken.
    pub fn match_lane(
        &mut self,
        (lane, topics): (LaneId, &mut LaneTopics),
        wildcards: &PatternSet,
        (from, steps_max): (usize, usize),
    ) -> (usize, usize) {
        let (mut slot, mut steps) = (from, 0);
        while slot < self.topics.len() && steps < steps_max {
            steps += 1;
            if let Some(entry) = &mut self.topics[slot] {
                let (matches, taken) = wildcards.matches_counted(entry.topic_name());
                steps += taken;
                if matches {
                    entry.join(lane, topics);
                }
            }
            slot += 1;
        }
        (slot, steps)
    }

    /// Takes a lane off its patterns; `leave` takes it off its topics.
    pub fn remove_lane(&mut self, lane: LaneId, patterns: &[Pattern]) {
        for pattern in patterns {
            if pattern.is_exact() {
                if self.exact.get_mut(pattern).is_some_and(|lanes| take_out(lanes, lane)) {
                    self.exact.remove(pattern);
                }
                continue;
            }
            if self.wild.get_mut(pattern).is_some_and(|lanes| take_out(lanes, lane)) {
                self.wild.remove(pattern);
            }
            self.wildcards -= 1;
        }
    }

    /// Takes a lane off these topics.
    pub fn leave(&mut self, lane: LaneId, topics: &[TopicId]) {
        for topic in topics {
            if let Some(entry) = self.topics[topic.index()].as_mut()
                && let Ok(slot) = entry.slot(lane)
            {
                entry.lanes.remove(slot);
            }
        }
    }

    /// The lanes whose patterns match, sorted, and the steps that finding them took.
    fn lanes_for(&self, topic: &str) -> (Vec<LaneId>, usize) {
        let mut lanes = self.exact.get(topic).cloned().unwrap_or_default();
        let steps = self.wild.visit(topic, |matching| {
            lanes.extend(matching);
            ControlFlow::Continue(())
        });
        let steps = steps + lanes.len();
        lanes.sort_unstable();
        lanes.dedup();
        (lanes, steps)
    }
}

/// Puts a lane among others, which are sorted.
fn put(lanes: &mut Vec<LaneId>, lane: LaneId) {
    if let Err(place) = lanes.binary_search(&lane) {
        lanes.insert(place, lane);
    }
}

/// Takes a lane out from among others, which are sorted. True if none is left.
fn take_out(lanes: &mut Vec<LaneId>, lane: LaneId) -> bool {
    if let Ok(slot) = lanes.binary_search(&lane) {
        lanes.remove(slot);
    }
    lanes.is_empty()
}

impl TopicEntry {
    pub fn topic_name(&self) -> &str {
        &self.retained.newest().topic.name
    }

    pub fn is_on(&self, lane: LaneId) -> bool {
        self.slot(lane).is_ok()
    }

    fn slot(&self, lane: LaneId) -> Result<usize, usize> {
        self.lanes.binary_search_by_key(&lane, |slot| slot.lane)
    }

    /// Puts the lane on the topic, and the topic on the lane, unless they are.
    fn join(&mut self, lane: LaneId, topics: &mut LaneTopics) {
        if let Err(place) = self.slot(lane) {
            self.lanes.insert(place, LaneSlot { lane, at: topics.list.len() as u32, mark: Mark::default() });
            let newest = self.retained.newest();
            topics.list.push(newest.topic.id);
            topics.newest = topics.newest.max(newest.offset);
        }
    }
}
