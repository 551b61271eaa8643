//! The topic index of one shard: topic to retained value, topic to lanes, lane to topics.
//!
//! A lane subscribes to each topic that it names, which is kept with the name, and to each further topic that its
//! wildcards match, which is kept with the topic. So a topic that comes or goes costs nothing for the lanes that name it.
//! A pattern is matched once per topic: when the topic is new, or when the lane is. It is found by its tokens
//! (`PatternTable`), not tried. A message costs one array access. The shard moves the retained values forward itself, so
//! a snapshot and the live stream after it fit together by construction.
//!
//! Rights are enforced here: a lane is on no topic that its filter does not allow, and what a session is sent, whether
//! live, by catch-up or in answer to a command, is of topics that its lane is on.
//!
//! Invariants: each subscriber is a lane that has the name, or the topic, on its list with this place, and the other way
//! round; a lane subscribes to a topic once; a name that no lane has is forgotten.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::bus::demand::interest::Claim;
use crate::bus::frame::{Frame, Topic};
use crate::bus::retained::Retained;
use crate::delivery::lanes::lane_patterns::PatternChange;
use crate::delivery::lanes::lane_topics::LaneTopics;
use crate::delivery::lanes::names::{NameId, Names};
use crate::delivery::lanes::subscribers::{Subscriber, Subscribers, put, take_out};
use crate::delivery::lanes::topic_entry::TopicEntry;
use crate::delivery::lanes::topic_filter::{FilterVerdicts, SharedFilter};
use crate::protocol::encoding::Format;
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::{PatternSet, PatternTable};
use crate::words::topic::Pattern;

/// Position of a lane in its shard's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

/// Lanes that are looked through faster than a long list of topics is searched.
const FEW_LANES: usize = 16;

/// A frame's envelope, about.
const FRAME_BYTES: usize = 128;

#[derive(Default)]
pub struct TopicIndex {
    /// By `TopicId`; none for a topic without a frame on this shard.
    topics: Vec<Option<TopicEntry>>,
    by_name: HashMap<Box<str>, TopicId>,
    names: Names,
    /// Wildcards in use, and by which lanes: matched when a topic is new.
    wild: PatternTable<Vec<LaneId>>,
    /// Wildcards of all lanes; one that two lanes have counts twice.
    wildcards: usize,
    /// By `LaneId`.
    lanes: Vec<LaneTopics>,
    /// Of all topics and names together.
    subscribers: usize,
}

/// What a frame changed in the index.
pub struct IndexUpdate {
    /// Offset of the topic's frame that was the newest before; `Offset::START` if there was none.
    pub before: Offset,
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
            return IndexUpdate { before, steps: 0 };
        }
        self.begin(frame.topic.clone(), Retained::new(frame))
    }

    /// Takes a retained value from elsewhere, because frames in between were missed.
    pub fn adopt(&mut self, retained: Retained) -> IndexUpdate {
        let topic = retained.newest().topic.clone();
        if let Some(Some(entry)) = self.topics.get_mut(topic.id.index()) {
            let before = std::mem::replace(&mut entry.retained, retained);
            return IndexUpdate { before: before.newest().offset, steps: 0 };
        }
        self.begin(topic, retained)
    }

    fn begin(&mut self, topic: Arc<Topic>, retained: Retained) -> IndexUpdate {
        let slot = topic.id.index();
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, || None);
        }
        let name = self.names.find(&topic.name);
        if let Some(before) = name.and_then(|name| self.names[name].topic.replace(topic.id))
            && let Some(entry) = self.entry_mut(before)
        {
            entry.name = None;
        }
        let (lanes, steps) = self.lanes_matching(&topic.name);
        let (mut matched, mut verdicts) = (Subscribers::default(), FilterVerdicts::default());
        for lane in lanes {
            let list = &mut self.lanes[lane.0 as usize];
            let is_named = name.is_some_and(|name| list.has_name(name));
            if !is_named && verdicts.allows(list.filter.as_ref(), &topic.name) {
                list.put_matched(topic.id, matched.add(lane));
                self.subscribers += 1;
            }
        }
        self.by_name.insert(topic.name.clone(), topic.id);
        self.topics[slot] = Some(TopicEntry { retained, name, matched });
        IndexUpdate { before: Offset::START, steps: steps + verdicts.steps }
    }

    /// Forgets this topic, and not another one with its number. Gives the work.
    pub fn forget(&mut self, topic: &Arc<Topic>) -> usize {
        let Some(slot) = self.topics.get_mut(topic.id.index()) else { return 1 };
        let taken = slot.take_if(|entry| Arc::ptr_eq(&entry.retained.newest().topic, topic));
        let Some(entry) = taken else { return 1 };
        if self.by_name.get(&topic.name) == Some(&topic.id) {
            self.by_name.remove(&topic.name);
        }
        if let Some(name) = entry.name {
            self.names[name].topic = None;
        }
        let subscribers = entry.matched.as_slice();
        self.subscribers -= subscribers.len();
        for subscriber in subscribers {
            self.lanes[subscriber.lane.0 as usize].forget_matched(topic.id);
        }
        subscribers.len() + 1
    }

    /// The topic with this number.
    pub fn topic(&self, slot: usize) -> Option<&Arc<Topic>> {
        self.topics.get(slot)?.as_ref().map(|entry| &entry.retained.newest().topic)
    }

    pub fn entry(&self, topic: TopicId) -> Option<&TopicEntry> {
        self.topics.get(topic.index())?.as_ref()
    }

    /// The topic's entry, if the lane gets the topic.
    pub fn entry_on(&self, lane: LaneId, topic: TopicId) -> Option<&TopicEntry> {
        self.entry(topic).filter(|entry| self.is_on(lane, entry))
    }

    /// The lane gets the topic.
    pub fn is_on(&self, lane: LaneId, entry: &TopicEntry) -> bool {
        let list = &self.lanes[lane.0 as usize];
        if entry.name.is_some_and(|name| list.has_name(name)) {
            return true;
        }
        // A scan asks this of every topic: few lanes lie side by side, while a long list is searched all over memory.
        match entry.matched.as_slice() {
            few if few.len() <= FEW_LANES => few.iter().any(|subscriber| subscriber.lane == lane),
            _ => list.has_matched(entry.topic_id()),
        }
    }

    fn entry_mut(&mut self, topic: TopicId) -> Option<&mut TopicEntry> {
        self.topics.get_mut(topic.index())?.as_mut()
    }

    /// The lanes that get the topic.
    pub fn subscribers_mut(&mut self, topic: TopicId) -> impl Iterator<Item = &mut Subscriber> {
        let TopicIndex { topics, names, .. } = self;
        let (named, matched) = match topics.get_mut(topic.index()) {
            Some(Some(entry)) => {
                let named = entry.name.map(|name| names[name].subscribers.as_mut_slice());
                (named.unwrap_or_default(), entry.matched.as_mut_slice())
            }
            _ => Default::default(),
        };
        named.iter_mut().chain(matched)
    }

    /// The lane as a subscriber of a topic that it names.
    pub fn subscriber_mut(&mut self, lane: LaneId, topic: TopicId) -> Option<&mut Subscriber> {
        let name = self.entry(topic)?.name?;
        let place = self.lanes[lane.0 as usize].place_of(name)?;
        self.names[name].subscribers.as_mut_slice().get_mut(place as usize)
    }

    /// The topics that the lane gets, in no order.
    pub fn topics_of(&self, lane: LaneId) -> impl Iterator<Item = (TopicId, &TopicEntry)> {
        let list = &self.lanes[lane.0 as usize];
        let named = list.names.iter().filter_map(|name| self.names[*name].topic);
        named.chain(list.matched()).filter_map(|topic| Some((topic, self.entry(topic)?)))
    }

    /// Names of the lane, and topics that its wildcards match.
    pub fn count_of(&self, lane: LaneId) -> usize {
        self.lanes[lane.0 as usize].len()
    }

    /// Subscribers of all topics and names together.
    pub fn subscribers(&self) -> usize {
        self.subscribers
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Remembers a name that no lane has yet. A lane with it must be opened, or changed, at once.
    pub fn insert_name(&mut self, text: Arc<str>, claim: Option<Claim>) -> NameId {
        let topic = self.by_name.get(&*text).copied();
        let name = self.names.insert(text, topic, claim);
        if let Some(entry) = topic.and_then(|topic| self.entry_mut(topic)) {
            entry.name = Some(name);
        }
        name
    }

    /// The lanes that have the topic by its name.
    pub fn lanes_naming(&self, topic: &str) -> impl Iterator<Item = LaneId> {
        let name = self.names.find(topic);
        let subscribers = name.map_or(&[][..], |name| self.names[name].subscribers.as_slice());
        subscribers.iter().map(|subscriber| subscriber.lane)
    }

    /// Puts a lane on the topics that it names, and on all allowed ones that its wildcards match later; gives the newest offset of the
    /// former. `match_lane` does the rest.
    pub fn add_lane(
        &mut self,
        lane: LaneId,
        names: &Arc<[NameId]>,
        (wildcards, filter): (&[Pattern], Option<SharedFilter>),
    ) -> Offset {
        let slot = lane.0 as usize;
        if slot >= self.lanes.len() {
            self.lanes.resize_with(slot + 1, LaneTopics::default);
        }
        let places = names.iter().map(|name| self.names[*name].subscribers.add(lane)).collect();
        self.subscribers += names.len();
        self.lanes[slot] = LaneTopics::naming(names.clone(), places, filter);
        for pattern in wildcards {
            put(self.wild.entry(pattern), lane);
        }
        self.wildcards += wildcards.len();
        self.newest_of(lane)
    }

    /// The newest offset of the lane's topics.
    pub fn newest_of(&self, lane: LaneId) -> Offset {
        let offsets = self.topics_of(lane).map(|(_, entry)| entry.retained.newest().offset);
        offsets.max().unwrap_or(Offset::START)
    }

    /// The newest offset of the topics with these names, if there are any.
    pub fn newest_among(&self, names: &[NameId]) -> Option<Offset> {
        let topics = names.iter().filter_map(|name| self.entry(self.names[*name].topic?));
        topics.map(|entry| entry.retained.newest().offset).max()
    }

    /// What is kept of the topics that come with the change, by offset; none if it is more than this, or a status is among
    /// it that cannot be sent.
    pub fn kept_of_new(&self, change: &PatternChange, (format, bytes_max): (Format, usize)) -> Option<Vec<Arc<Frame>>> {
        let known = change.added.iter().filter_map(|name| self.names[*name].topic);
        let fresh = change.fresh.iter().filter_map(|topic| self.by_name.get(topic.as_str()).copied());
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for entry in known.chain(fresh).filter_map(|topic| self.entry(topic)) {
            for frame in entry.kept_after(Offset::START, format) {
                if format.is_form() && frame.is_status() {
                    return None;
                }
                bytes += FRAME_BYTES + frame.whole().payload.bytes.len();
                if bytes > bytes_max {
                    return None;
                }
                frames.push(frame.clone());
            }
        }
        frames.sort_unstable_by_key(|frame| frame.offset);
        Some(frames)
    }

    /// Changes the names of a lane without wildcards; `names` are those after it.
    pub fn change_lane(&mut self, lane: LaneId, names: &Arc<[NameId]>, change: &PatternChange) {
        let slot = lane.0 as usize;
        // From the end, so that the places before it stay where their names are.
        for name in change.removed.iter().rev() {
            let place = self.lanes[slot].take_place(*name);
            self.leave_name(*name, place);
        }
        let mut places = std::mem::take(&mut self.lanes[slot].places);
        places.reserve_exact(change.added.len());
        for name in &change.added {
            let at = names.binary_search(name).expect("what was added is in force");
            places.insert(at, self.names[*name].subscribers.add(lane));
        }
        self.subscribers += change.added.len();
        let filter = self.lanes[slot].filter.take();
        self.lanes[slot] = LaneTopics::naming(names.clone(), places, filter);
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
    /// the slot where it stopped, the steps taken, and the newest offset of these topics.
    pub fn match_lane(
        &mut self,
        lane: LaneId,
        wildcards: &PatternSet,
        (from, steps_max): (usize, usize),
    ) -> (usize, usize, Offset) {
        let (mut slot, mut steps, mut newest) = (from, 0, Offset::START);
        let list = &mut self.lanes[lane.0 as usize];
        while slot < self.topics.len() && steps < steps_max {
            steps += 1;
            if let Some(entry) = &mut self.topics[slot] {
                let (matches, taken) = wildcards.matches_counted(entry.topic_name());
                steps += taken;
                let topic = entry.topic_id();
                let is_on = || entry.name.is_some_and(|name| list.has_name(name)) || list.has_matched(topic);
                let mut is_allowed = || {
                    let Some(filter) = &list.filter else { return true };
                    let (allowed, taken) = filter.allows_counted(entry.topic_name());
                    steps += taken;
                    allowed
                };
                if matches && !is_on() && is_allowed() {
                    list.put_matched(topic, entry.matched.add(lane));
                    self.subscribers += 1;
                    newest = newest.max(entry.retained.newest().offset);
                }
            }
            slot += 1;
        }
        (slot, steps, newest)
    }

    /// No topic is new for the lane any more by these wildcards; `leave` takes it off its topics.
    pub fn remove_wildcards(&mut self, lane: LaneId, wildcards: &[Pattern]) {
        for pattern in wildcards {
            if self.wild.get_mut(pattern).is_some_and(|lanes| take_out(lanes, lane)) {
                self.wild.remove(pattern);
            }
        }
        self.wildcards -= wildcards.len();
    }

    /// Takes a lane off some of its topics, at most so many; gives how many there were.
    pub fn leave(&mut self, lane: LaneId, topics_max: usize) -> usize {
        for left in 0..topics_max {
            let list = &mut self.lanes[lane.0 as usize];
            if let Some((topic, place)) = list.pop_matched() {
                self.leave_matched(topic, place);
            } else if let Some((name, place)) = list.pop_name() {
                self.leave_name(name, place);
            } else {
                *list = LaneTopics::default();
                return left;
            }
        }
        topics_max
    }

    fn leave_matched(&mut self, topic: TopicId, place: u32) {
        let entry = self.topics[topic.index()].as_mut().expect("a lane is on topics that there are");
        self.subscribers -= 1;
        if let Some(moved) = entry.matched.remove(place) {
            self.lanes[moved.0 as usize].put_matched(topic, place);
        }
    }

    fn leave_name(&mut self, name: NameId, place: u32) {
        let subscribers = &mut self.names[name].subscribers;
        self.subscribers -= 1;
        if let Some(moved) = subscribers.remove(place) {
            return self.lanes[moved.0 as usize].move_name(name, place);
        }
        if subscribers.as_slice().is_empty() {
            let topic = self.names.remove(name).topic;
            if let Some(entry) = topic.and_then(|topic| self.entry_mut(topic)) {
                entry.name = None;
            }
        }
    }

    /// The lanes whose wildcards match, sorted, and the steps that finding them took.
    fn lanes_matching(&self, topic: &str) -> (Vec<LaneId>, usize) {
        let mut lanes = Vec::new();
        let steps = self.wild.visit(topic, |matching: &Vec<LaneId>| {
            lanes.extend(matching);
            ControlFlow::Continue(())
        });
        let steps = steps + lanes.len();
        lanes.sort_unstable();
        lanes.dedup();
        (lanes, steps)
    }
}

#[cfg(test)]
mod tests;
