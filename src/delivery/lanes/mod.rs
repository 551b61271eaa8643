//! The lanes of a shard: sessions that see the identical stream share its work.
//!
//! `Lanes` is the only place where lanes, their topics and their windows change. Invariants:
//!  - a topic's lanes and a lane's topics agree (`topic_index.rs`);
//!  - what is counted (windows, memory, wildcards) is what the lanes hold;
//!  - a lane without members is found by no key, and goes once no snapshot scan needs its topics.

mod changes;
pub(crate) mod lane;
pub(crate) mod lane_key;
pub mod lane_patterns;
mod lane_topics;
pub mod names;
mod opening;
mod paced;
pub(crate) mod stream;
mod subscribers;
pub(crate) mod topic_entry;
pub mod topic_filter;
pub mod topic_index;
mod topics;
pub mod window;
mod windows;

use std::collections::HashMap;
use std::ops::Index;

use slab::Slab;

use crate::access::rights::Rights;
use crate::bus::reader::Reader;
use crate::delivery::chunk::{Chunk, SLICE_BYTES, Slice};
use crate::delivery::lanes::lane::{Fresh, Lane, SlotList};
use crate::delivery::lanes::lane_key::{CompressionMode, LaneKey};
use crate::delivery::lanes::names::NameId;
use crate::delivery::lanes::stream::{Due, PacedTokens, Sources};
use crate::delivery::lanes::subscribers::Subscriber;
use crate::delivery::lanes::topic_filter::{SharedFilter, TopicFilters};
use crate::delivery::lanes::topic_index::{LaneId, TopicIndex};
use crate::delivery::session_id::SessionId;
use crate::protocol::encoding::Encoder;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// A lane on a topic: the subscriber, with the room that lists keep to grow, and on the lane's side the topic and the place.
const PLACE_BYTES: usize = size_of::<Subscriber>() * 5 / 4 + size_of::<NameId>() + size_of::<u32>();

#[derive(Default)]
pub struct Lanes {
    lanes: Slab<Lane>,
    /// Without the lanes that have no members any more.
    by_key: HashMap<LaneKey, LaneId>,
    /// Lanes without members that still have to leave their topics.
    closing: Vec<LaneId>,
    index: TopicIndex,
    filters: TopicFilters,
    /// Lanes with fresh frames in the current round.
    with_fresh: Vec<LaneId>,
    /// The earliest moment at which a paced lane may have something to send; none if no lane has.
    paced_due_ns: Option<u64>,
    paced_tokens: PacedTokens,
    /// Lanes that have a shared window.
    windows: usize,
    /// Memory of the lanes' keys, as `PatternTotals::lane_bytes` counts it.
    key_bytes: usize,
}

impl Lanes {
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    pub fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(id.0 as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (LaneId(id as u32), lane))
    }

    pub fn index(&self) -> &TopicIndex {
        &self.index
    }

    /// What these rights allow of the topics; none if all.
    pub fn filter_of(&mut self, rights: &Rights) -> Option<SharedFilter> {
        self.filters.of(rights)
    }

    /// Lanes without members have topics to leave.
    pub fn has_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// The approximate memory of all lanes, their names and their places in topics.
    pub fn bytes(&self) -> usize {
        self.key_bytes + self.index.names().bytes() + self.index.subscribers() * PLACE_BYTES
    }

    /// One more session is on the lane.
    pub fn join(&mut self, id: LaneId) {
        self.lane_mut(id).members += 1;
    }

    /// One session less is on the lane, which closes with the last.
    pub fn quit(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        lane.members -= 1;
        if lane.members == 0 {
            self.windows -= usize::from(lane.window.take().is_some());
            lane.pace = None;
            self.index.remove_wildcards(id, lane.key.patterns.wildcards());
            self.key_bytes -= lane.key.patterns.totals().lane_bytes();
            self.by_key.remove(&lane.key);
            if lane.holders == 0 {
                self.closing.push(id);
            }
        }
    }

    /// A snapshot scan needs the lane's topics until `release`.
    pub fn hold(&mut self, id: LaneId) {
        self.lane_mut(id).holders += 1;
    }

    pub fn release(&mut self, id: LaneId) {
        let lane = self.lane_mut(id);
        lane.holders -= 1;
        if lane.holders == 0 && lane.members == 0 {
            self.closing.push(id);
        }
    }

    /// Puts the session on a list of the lane; gives its slot.
    pub fn take_slot(&mut self, id: LaneId, list: SlotList, session: SessionId) -> u32 {
        if list == SlotList::Ahead {
            self.await_pace(id);
        }
        self.lane_mut(id).take_slot(list, session)
    }

    /// Takes the session off its slot; gives the session that has the slot now, if there is one.
    pub fn free_slot(&mut self, id: LaneId, list: SlotList, slot: u32, session: SessionId) -> Option<SessionId> {
        let (left, moved) = self.lane_mut(id).free_slot(list, slot);
        assert_eq!(left, session, "a slot belongs to the session that is on it");
        moved
    }

    /// Lanes that have fresh frames.
    pub fn take_with_fresh(&mut self) -> Vec<LaneId> {
        std::mem::take(&mut self.with_fresh)
    }

    /// The lane's fresh frames. Give the list back to `reuse_fresh`.
    pub fn take_fresh(&mut self, id: LaneId) -> Vec<Fresh> {
        std::mem::take(&mut self.lane_mut(id).fresh)
    }

    /// The allocation serves the next round, unless the lane ended with its last member.
    pub fn reuse_fresh(&mut self, id: LaneId, mut fresh: Vec<Fresh>) {
        if let Some(lane) = self.lanes.get_mut(id.0 as usize) {
            fresh.clear();
            lane.fresh = fresh;
        }
    }

    /// The frames as one chunk for sessions in step without a window that have the lane's stream since this position.
    pub fn chunk(
        &mut self,
        id: LaneId,
        due: &[Due<'_>],
        since: u64,
        (reader, encoder): (&Reader, &mut Encoder),
    ) -> Chunk {
        let key = &self.lanes[id.0 as usize].key;
        if let CompressionMode::Kept { window_bits } = key.compression {
            return Sources { key, reader, encoder }.chunk(due, (window_bits, since), &mut self.paced_tokens);
        }
        let mut slice = Slice::of(SLICE_BYTES);
        for due in due {
            slice.push(due.frame, key.encoded(due.frame, encoder));
        }
        slice.finish(key.stateless())
    }

    /// Paced lanes have been served for now.
    pub fn drop_paced_tokens(&mut self) {
        self.paced_tokens.clear();
    }

    /// Something is sent to all in step.
    pub fn mark_sent(&mut self, id: LaneId, now: Stamp) {
        self.lane_mut(id).sent_ns = now.mono_ns;
    }

    /// What has been sent to all in step; `cursor` is the shard's.
    pub fn position(&self, id: LaneId, cursor: Offset) -> Offset {
        self[id].position(cursor)
    }

    fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        &mut self.lanes[id.0 as usize]
    }
}

impl Index<LaneId> for Lanes {
    type Output = Lane;

    fn index(&self, id: LaneId) -> &Lane {
        &self.lanes[id.0 as usize]
    }
}
