//! The topic index of one shard: topic to newest frame, topic to lanes.
//!
//! A pattern is matched once per topic: when a topic is new, or when a lane is. A message costs one array access.
//! The shard moves the newest frames forward itself, so what a snapshot shows and what the live stream says next
//! fit together by construction.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::bus::frame::Frame;
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
    pub newest: Arc<Frame>,
    /// The frames before the newest that are kept for newcomers, oldest first; empty for most topics.
    older: VecDeque<Arc<Frame>>,
    /// The lanes that get this topic, sorted.
    pub lanes: Vec<LaneId>,
}

/// What a frame changed in the index.
pub struct Noted {
    /// Offset of the frame that was the newest before; `Offset::START` if there was none.
    pub before: Offset,
    /// The topic was not known to this shard.
    pub new_topic: bool,
}

impl Index {
    /// Makes the frame the newest of its topic.
    pub fn note(&mut self, frame: Arc<Frame>) -> Noted {
        let slot = frame.topic.id.index();
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, || None);
        }
        if let Some(entry) = &mut self.topics[slot] {
            let before = std::mem::replace(&mut entry.newest, frame);
            let offset = before.offset;
            entry.keep(before);
            return Noted { before: offset, new_topic: false };
        }
        let lanes = self.lanes_for(&frame.topic.name);
        self.by_name.insert(frame.topic.name.clone(), frame.topic.id);
        self.topics[slot] = Some(Entry { newest: frame, older: VecDeque::new(), lanes });
        Noted { before: Offset::START, new_topic: true }
    }

    /// Forgets what is kept of a topic before its newest frame, because frames in between were missed.
    pub fn forget_older(&mut self, topic: TopicId) {
        if let Some(entry) = self.topics.get_mut(topic.index()).and_then(Option::as_mut) {
            entry.older = VecDeque::new();
        }
    }

    pub fn entry(&self, topic: TopicId) -> Option<&Entry> {
        self.topics.get(topic.index())?.as_ref()
    }

    /// Whether the lane gets the topic.
    pub fn is_on(&self, lane: LaneId, topic: TopicId) -> bool {
        self.entry(topic).is_some_and(|entry| entry.lanes.binary_search(&lane).is_ok())
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

    /// Size of the table of topics, which `match_wildcards` takes parts of.
    pub fn slots(&self) -> usize {
        self.topics.len()
    }

    /// Puts a lane on the topics in these slots that one of its wildcards matches; gives those that it was not on.
    pub fn match_wildcards(&mut self, lane: LaneId, patterns: &[Pattern], slots: Range<usize>) -> Vec<TopicId> {
        let wild: Vec<&Pattern> = patterns.iter().filter(|pattern| !pattern.is_exact()).collect();
        let entries = self.topics[slots].iter_mut().flatten();
        let matching = entries.filter(|entry| wild.iter().any(|wild| wild.matches(&entry.newest.topic.name)));
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
    /// The frames that a newcomer gets, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.older.iter().chain([&self.newest])
    }

    /// The kept frame with this offset.
    pub fn find(&self, offset: Offset) -> Option<&Arc<Frame>> {
        if self.newest.offset == offset {
            Some(&self.newest)
        } else {
            self.older.iter().find(|frame| frame.offset == offset)
        }
    }

    fn keep(&mut self, frame: Arc<Frame>) {
        let room = frame.topic.keep - 1;
        if room == 0 {
            return;
        }
        if self.older.len() == room {
            self.older.pop_front();
        }
        self.older.push_back(frame);
    }

    /// Puts the lane on the topic; gives the topic if the lane was not on it.
    fn join(&mut self, lane: LaneId) -> Option<TopicId> {
        let seat = self.lanes.binary_search(&lane).err()?;
        self.lanes.insert(seat, lane);
        Some(self.newest.topic.id)
    }
}
