//! The topic index of one shard: topic to story, topic to lanes.
//!
//! A pattern is matched once per topic: when a topic is new, or when a lane is. A message costs one array access.
//! The shard moves the stories forward itself, so what a snapshot shows and what the live stream says next
//! fit together by construction.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::bus::frame::{Frame, Topic};
use crate::bus::story::Story;
use crate::words::ids::{Offset, TopicId};
use crate::words::topic::Pattern;

/// Position of a lane in its shard's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

#[derive(Default)]
pub struct Index {
    /// By `TopicId`; none for a topic of which this shard has seen no frame.
    topics: Vec<Option<Entry>>,
    by_name: HashMap<Box<str>, TopicId>,
    /// Patterns in use, and by which lanes. Exact ones are looked up, wildcards matched, when a topic is new.
    exact: HashMap<Pattern, Vec<LaneId>>,
    wild: HashMap<Pattern, Vec<LaneId>>,
}

/// One topic.
pub struct Entry {
    pub story: Story,
    /// The lanes that get this topic, sorted.
    pub lanes: Vec<LaneId>,
}

/// What a frame changed in the index.
pub struct Noted {
    /// Offset of the topic's frame that was the newest before; `Offset::START` if there was none.
    pub before: Offset,
    /// The topic was not known to this shard.
    pub new_topic: bool,
}

impl Index {
    /// Puts the frame into its topic's story.
    pub fn note(&mut self, frame: Arc<Frame>) -> Noted {
        let slot = frame.topic.id.index();
        if let Some(Some(entry)) = self.topics.get_mut(slot) {
            let before = entry.story.newest().offset;
            entry.story.take(frame);
            return Noted { before, new_topic: false };
        }
        self.begin(frame.topic.clone(), Story::new(frame))
    }

    /// Takes a story from elsewhere, because frames in between were missed.
    pub fn adopt(&mut self, story: Story) -> Noted {
        let topic = story.newest().topic.clone();
        if let Some(Some(entry)) = self.topics.get_mut(topic.id.index()) {
            let before = std::mem::replace(&mut entry.story, story);
            return Noted { before: before.newest().offset, new_topic: false };
        }
        self.begin(topic, story)
    }

    fn begin(&mut self, topic: Arc<Topic>, story: Story) -> Noted {
        let slot = topic.id.index();
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, || None);
        }
        let lanes = self.lanes_for(&topic.name);
        self.by_name.insert(topic.name.clone(), topic.id);
        self.topics[slot] = Some(Entry { story, lanes });
        Noted { before: Offset::START, new_topic: true }
    }

    pub fn entry(&self, topic: TopicId) -> Option<&Entry> {
        self.topics.get(topic.index())?.as_ref()
    }

    /// The topic's entry, if the lane gets the topic.
    pub fn entry_on(&self, lane: LaneId, topic: TopicId) -> Option<&Entry> {
        self.entry(topic).filter(|entry| entry.lanes.binary_search(&lane).is_ok())
    }

    /// Puts a lane on all topics that its patterns match later, and on those that it names and that there are; gives
    /// the latter. `match_wildcards` does the rest.
    pub fn add_lane(&mut self, lane: LaneId, patterns: &[Pattern]) -> Vec<TopicId> {
        let mut found = Vec::new();
        for pattern in patterns {
            if pattern.is_exact() {
                self.exact.entry(pattern.clone()).or_default().push(lane);
                let topic = self.by_name.get(pattern.as_str());
                let entry = topic.and_then(|topic| self.topics[topic.index()].as_mut());
                found.extend(entry.and_then(|entry| entry.join(lane)));
            } else {
                self.wild.entry(pattern.clone()).or_default().push(lane);
            }
        }
        found
    }

    /// The lanes that have the topic by its name.
    pub fn lanes_naming(&self, topic: &str) -> &[LaneId] {
        let pattern = Pattern::parse(topic).ok();
        pattern.and_then(|pattern| self.exact.get(&pattern)).map_or(&[], Vec::as_slice)
    }

    /// Size of the table of topics, which `match_wildcards` takes parts of.
    pub fn slots(&self) -> usize {
        self.topics.len()
    }

    /// Puts a lane on the topics in these slots that one of its wildcards matches; gives those that it was not on.
    pub fn match_wildcards(&mut self, lane: LaneId, patterns: &[Pattern], slots: Range<usize>) -> Vec<TopicId> {
        let wild: Vec<&Pattern> = patterns.iter().filter(|pattern| !pattern.is_exact()).collect();
        let entries = self.topics[slots].iter_mut().flatten();
        let matching = entries.filter(|entry| wild.iter().any(|wild| wild.matches(entry.topic_name())));
        matching.filter_map(|entry| entry.join(lane)).collect()
    }

    /// Takes a lane off its patterns; `leave` takes it off its topics.
    pub fn remove_lane(&mut self, lane: LaneId, patterns: &[Pattern]) {
        for pattern in patterns {
            let table = if pattern.is_exact() { &mut self.exact } else { &mut self.wild };
            if let Some(lanes) = table.get_mut(pattern) {
                lanes.retain(|other| *other != lane);
                if lanes.is_empty() {
                    table.remove(pattern);
                }
            }
        }
    }

    /// Takes a lane off these topics.
    pub fn leave(&mut self, lane: LaneId, topics: &[TopicId]) {
        for topic in topics {
            if let Some(entry) = self.topics[topic.index()].as_mut()
                && let Ok(seat) = entry.lanes.binary_search(&lane)
            {
                entry.lanes.remove(seat);
            }
        }
    }

    fn lanes_for(&self, topic: &str) -> Vec<LaneId> {
        let exact = Pattern::parse(topic).ok().and_then(|pattern| self.exact.get(&pattern)).into_iter().flatten();
        let wild = self.wild.iter().filter(|(pattern, _)| pattern.matches(topic)).flat_map(|(_, lanes)| lanes);
        let mut lanes: Vec<LaneId> = exact.chain(wild).copied().collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }
}

impl Entry {
    pub fn topic_name(&self) -> &str {
        &self.story.newest().topic.name
    }

    /// Puts the lane on the topic; gives the topic if the lane was not on it.
    fn join(&mut self, lane: LaneId) -> Option<TopicId> {
        let seat = self.lanes.binary_search(&lane).err()?;
        self.lanes.insert(seat, lane);
        Some(self.story.newest().topic.id)
    }
}
