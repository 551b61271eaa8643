//! The topics of one lane: those that it names, and those that its wildcards match.

use std::sync::Arc;

use crate::delivery::lanes::names::NameId;
use crate::delivery::lanes::topic_filter::SharedFilter;
use crate::words::ids::TopicId;

/// Both lists are sorted, so that whether the lane is on a topic is found without a table.
#[derive(Debug, Default)]
pub struct LaneTopics {
    /// The names of its key, shared with it.
    pub names: Arc<[NameId]>,
    /// The lane's place among the subscribers of each of these names.
    pub places: Vec<u32>,
    /// Topics that it does not name. One that was forgotten stays, without a place, until there are many of them: a
    /// list of 100,000 is not moved up for each.
    matched: Vec<MatchedPlace>,
    forgotten: usize,
    /// Of the topics that its wildcards match it has those that are allowed.
    pub filter: Option<SharedFilter>,
}

#[derive(Clone, Copy, Debug)]
struct MatchedPlace {
    topic: TopicId,
    /// `FORGOTTEN` if the topic was forgotten.
    place: u32,
}

/// More than lanes can be on a topic.
const FORGOTTEN: u32 = u32::MAX;

impl MatchedPlace {
    fn is_forgotten(&self) -> bool {
        self.place == FORGOTTEN
    }
}

impl LaneTopics {
    /// Topics that are named, with the places on them.
    pub fn naming(names: Arc<[NameId]>, places: Vec<u32>, filter: Option<SharedFilter>) -> LaneTopics {
        LaneTopics { names, places, filter, ..LaneTopics::default() }
    }

    /// The lane has the name.
    pub fn has_name(&self, name: NameId) -> bool {
        self.names.binary_search(&name).is_ok()
    }

    /// The lane's place among the subscribers of the name.
    pub fn place_of(&self, name: NameId) -> Option<u32> {
        self.names.binary_search(&name).ok().map(|at| self.places[at])
    }

    /// One of its wildcards matches the topic, and it does not name it.
    pub fn has_matched(&self, topic: TopicId) -> bool {
        self.find(topic).is_ok_and(|at| !self.matched[at].is_forgotten())
    }

    /// Its names, whether there are topics or not, and topics that its wildcards match.
    pub fn len(&self) -> usize {
        self.places.len() + self.matched.len() - self.forgotten
    }

    pub fn matched(&self) -> impl Iterator<Item = TopicId> {
        self.matched.iter().filter(|matched| !matched.is_forgotten()).map(|matched| matched.topic)
    }

    /// The lane has another place among the subscribers of a name.
    pub fn move_name(&mut self, name: NameId, place: u32) {
        let at = self.names.binary_search(&name).expect("a subscriber of a name is a lane that has it");
        self.places[at] = place;
    }

    /// The lane is on this topic, at this place among the subscribers.
    pub fn put_matched(&mut self, topic: TopicId, place: u32) {
        let matched = MatchedPlace { topic, place };
        match self.find(topic) {
            Ok(at) => {
                self.forgotten -= usize::from(self.matched[at].is_forgotten());
                self.matched[at] = matched;
            }
            Err(at) => self.matched.insert(at, matched),
        }
    }

    /// There is no such topic any more.
    pub fn forget_matched(&mut self, topic: TopicId) {
        let at = self.find(topic).expect("a topic knows the lanes that are on it");
        self.matched[at].place = FORGOTTEN;
        self.forgotten += 1;
        if self.forgotten > self.matched.len() / 2 {
            self.matched.retain(|matched| !matched.is_forgotten());
            self.matched.shrink_to_fit();
            self.forgotten = 0;
        }
    }

    /// Takes one of the matched topics off the list.
    pub fn pop_matched(&mut self) -> Option<(TopicId, u32)> {
        while let Some(matched) = self.matched.pop() {
            if !matched.is_forgotten() {
                return Some((matched.topic, matched.place));
            }
            self.forgotten -= 1;
        }
        None
    }

    /// Takes out the place of a name. The names after it must not be asked for any more.
    pub fn take_place(&mut self, name: NameId) -> u32 {
        let at = self.names.binary_search(&name).expect("what is removed was in force");
        self.places.remove(at)
    }

    /// Takes the last of the names that are left off the list.
    pub fn pop_name(&mut self) -> Option<(NameId, u32)> {
        let place = self.places.pop()?;
        Some((self.names[self.places.len()], place))
    }

    fn find(&self, topic: TopicId) -> Result<usize, usize> {
        // A new lane comes to its topics in their order.
        if self.matched.last().is_none_or(|last| last.topic < topic) {
            return Err(self.matched.len());
        }
        self.matched.binary_search_by_key(&topic, |matched| matched.topic)
    }
}
