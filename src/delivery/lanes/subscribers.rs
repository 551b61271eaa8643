//! The subscribers of one topic: the lanes that a message of it goes to.

use crate::delivery::lanes::topic_index::LaneId;
use shared_deflate::token::Mark;

/// One lane that gets the topic.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    pub lane: LaneId,
    /// Where the lane's sessions find the newest messages of the topic in what they have inflated.
    pub mark: Mark,
}

/// In no order; each lane knows its place. A frame visits all of them, so they lie side by side.
#[derive(Debug, Default)]
pub struct Subscribers(Vec<Subscriber>);

impl Subscribers {
    /// Adds the lane; gives its place.
    pub fn add(&mut self, lane: LaneId) -> u32 {
        if self.0.len() == self.0.capacity() {
            // A quarter more instead of twice as many: all of them together are as many as all lists are long.
            self.0.reserve_exact(self.0.len() / 4 + 1);
        }
        self.0.push(Subscriber { lane, mark: Mark::default() });
        self.0.len() as u32 - 1
    }

    /// Removes the lane on a place; gives the lane that has it now, if one was moved there.
    pub fn remove(&mut self, place: u32) -> Option<LaneId> {
        self.0.swap_remove(place as usize);
        if self.0.capacity() > 2 * self.0.len() + 8 {
            self.0.shrink_to(self.0.len() + self.0.len() / 4);
        }
        self.0.get(place as usize).map(|subscriber| subscriber.lane)
    }

    pub fn as_slice(&self) -> &[Subscriber] {
        &self.0
    }

    pub fn as_mut_slice(&mut self) -> &mut [Subscriber] {
        &mut self.0
    }
}

/// Puts a lane among others, which are sorted.
pub fn put(lanes: &mut Vec<LaneId>, lane: LaneId) {
    if let Err(place) = lanes.binary_search(&lane) {
        lanes.insert(place, lane);
    }
}

/// Takes a lane out from among others, which are sorted. True if none is left.
pub fn take_out(lanes: &mut Vec<LaneId>, lane: LaneId) -> bool {
    if let Ok(slot) = lanes.binary_search(&lane) {
        lanes.remove(slot);
    }
    lanes.is_empty()
}
