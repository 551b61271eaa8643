//! Topics appear, change and are forgotten: the index and the lanes move along with the shard's cursor.

use std::sync::Arc;

use crate::bus::frame::{Frame, Topic};
use crate::bus::retained::Retained;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::topic_index::IndexUpdate;
use crate::words::ids::{Offset, TopicId};

impl Lanes {
    /// Moves the index forward by a frame; gives the work of matching. `place` is the frame's in the current round, in
    /// which it becomes fresh on its lanes; none for a frame that is not sent as it arrives.
    pub fn take_frame(&mut self, frame: Arc<Frame>, place: Option<u32>) -> usize {
        let (topic, offset) = (frame.topic.id, frame.offset);
        let update = self.index.take_frame(frame);
        self.mark((topic, offset), &update, place);
        update.steps
    }

    /// Takes a retained value from elsewhere, because frames in between were missed.
    pub fn adopt(&mut self, retained: Retained) {
        let newest = retained.newest();
        let newest = (newest.topic.id, newest.offset);
        let update = self.index.adopt(retained);
        self.mark(newest, &update, None);
    }

    /// A topic has news: each lane that gets it is visited.
    fn mark(&mut self, (topic, newest): (TopicId, Offset), update: &IndexUpdate, place: Option<u32>) {
        for subscriber in self.index.subscribers_mut(topic) {
            let lane_id = subscriber.lane;
            let lane = &mut self.lanes[lane_id.0 as usize];
            // Retained values are adopted in no order.
            lane.newest = lane.newest.max(newest);
            match (&mut lane.pace, place) {
                (Some(pace), _) if update.before <= pace.position => {
                    pace.changed.push(topic);
                    self.paced_due_ns = Some(self.paced_due_ns.map_or(pace.due_ns, |due_ns| due_ns.min(pace.due_ns)));
                }
                (None, Some(place)) => {
                    if lane.fresh.is_empty() {
                        self.with_fresh.push(lane_id);
                    }
                    lane.fresh.push(place);
                }
                _ => {}
            }
        }
    }

    /// Takes a topic off the index and its lanes; gives the work.
    pub fn forget(&mut self, topic: &Arc<Topic>) -> usize {
        self.index.forget(topic)
    }

    /// Forgets what is not living any more, or has come back as another topic.
    pub fn forget_all_but(&mut self, mut living: Vec<Arc<Topic>>) {
        living.sort_unstable_by_key(|topic| topic.id);
        let mut living = living.into_iter().peekable();
        for slot in 0..self.index.slots() {
            let Some(topic) = self.index.topic(slot) else { continue };
            while living.next_if(|other| other.id < topic.id).is_some() {}
            if living.peek().is_none_or(|living| !Arc::ptr_eq(living, topic)) {
                let topic = topic.clone();
                self.forget(&topic);
            }
        }
    }
}
