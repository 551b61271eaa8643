//! How sessions change their state: off the slot they have, onto the next one.

use crate::delivery::catch_up::CatchUp;
use crate::delivery::catch_up::scan::SnapshotScan;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::{Lane, SlotList};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::Sessions;
use crate::delivery::sessions::session::Session;
use crate::delivery::sessions::sync_state::{NextState, SessionEnd, SyncState};
use crate::delivery::sessions::unsent::end_of;
use crate::delivery::transport::socket::Socket;
use crate::words::ids::Offset;

impl<S: Socket> Sessions<S> {
    /// Up to where the session has been sent everything of its lane; `cursor` is the shard's.
    pub fn sent(&self, id: SessionId, lanes: &Lanes, cursor: Offset) -> Offset {
        let session = &self.sessions[id.0];
        match &session.state {
            SyncState::InStep { .. } | SyncState::Boarded { .. } => lanes.position(session.lane, cursor),
            SyncState::Ahead { cursor, .. } => *cursor,
            SyncState::Behind(catch_up) => catch_up.cursor,
            SyncState::Leaving(_) => cursor,
        }
    }

    /// Puts the session into another state on its lane. What it had in the state before, it gives back.
    pub fn move_to(&mut self, id: SessionId, next: NextState, lanes: &mut Lanes) {
        self.leave_state(id, lanes);
        let session = &mut self.sessions[id.0];
        session.state = match next {
            NextState::InStep => SyncState::InStep { slot: lanes.take_slot(session.lane, SlotList::InStep, id) },
            NextState::Ahead(cursor) => {
                SyncState::Ahead { slot: lanes.take_slot(session.lane, SlotList::Ahead, id), cursor }
            }
            NextState::Behind(catch_up) => {
                self.behind += 1;
                SyncState::Behind(Box::new(catch_up))
            }
            NextState::Leaving(end) => SyncState::Leaving(Box::new(end)),
        };
    }

    /// Gives back the slot on the lane, or the lane that a snapshot scan holds.
    fn leave_state(&mut self, id: SessionId, lanes: &mut Lanes) {
        let session = &mut self.sessions[id.0];
        if let SyncState::Behind(catch_up) = &mut session.state {
            self.behind -= 1;
            catch_up.end_scan().for_each(|lane| lanes.release(lane));
        }
        let Some((list, slot)) = session.state.slot() else { return };
        if let Some(moved) = lanes.free_slot(session.lane, list, slot, id) {
            self.sessions[moved.0].state.set_slot(slot);
        }
    }

    /// The session continues at a cursor of its own.
    pub fn fall_behind(&mut self, id: SessionId, lanes: &mut Lanes, cursor: Offset) {
        let sent = self.sent(id, lanes, cursor);
        self.move_to(id, NextState::Behind(CatchUp::at(sent)), lanes);
        self.enqueue(id);
    }

    /// Puts a session that is on no lane on one.
    pub fn join_lane(&mut self, id: SessionId, lane: LaneId, lanes: &mut Lanes) {
        lanes.join(lane);
        self.sessions[id.0].lane = lane;
    }

    /// Moves the session to another lane. What it has been sent already of the topics on both is not repeated, what it has
    /// not been sent follows.
    pub fn change_lane(&mut self, id: SessionId, lane: LaneId, lanes: &mut Lanes, cursor: Offset) {
        let (old, mut sent) = (self.sessions[id.0].lane, self.sent(id, lanes, cursor));
        let mut known = Vec::new();
        if let Some(scan) = self.sessions[id.0].catch_up_mut().and_then(|catch_up| catch_up.scan.as_mut()) {
            // In the middle of a scan it has less, and what it knew before it still counts.
            (sent, known) = (scan.reached, std::mem::take(&mut scan.known));
        }
        if !lanes[old].key().patterns.is_empty() {
            lanes.hold(old);
            known.push((old, sent));
        }
        let scan = SnapshotScan { reached: Offset::START, until: cursor, known };
        self.move_to(id, NextState::Behind(CatchUp::scanning(cursor, scan)), lanes);
        lanes.quit(old);
        self.join_lane(id, lane, lanes);
    }

    /// Lanes that the session's scan holds.
    pub fn lanes_held(&self, id: SessionId) -> usize {
        match &self.sessions[id.0].state {
            SyncState::Behind(catch_up) => catch_up.scan.as_ref().map_or(0, |scan| scan.known.len()),
            _ => 0,
        }
    }

    /// The session leaves its lane and joins no other.
    pub fn leave_lane(&mut self, id: SessionId, end: SessionEnd, lanes: &mut Lanes) {
        self.move_to(id, NextState::Leaving(end), lanes);
        lanes.quit(self.sessions[id.0].lane);
    }

    /// The session leaves its lane and the shard, with its socket and what it has not taken.
    pub fn take_out(&mut self, id: SessionId, lanes: &mut Lanes) -> Session<S> {
        self.move_to(id, NextState::Behind(CatchUp::at(Offset::START)), lanes);
        lanes.quit(self.sessions[id.0].lane);
        let mut session = self.sessions.remove(id.0);
        self.behind -= 1;
        self.inbound_bytes -= session.inbound_bytes as usize;
        if std::mem::take(&mut session.unsent_counted) {
            self.unsent.release(end_of(&session.unsent));
        }
        session.is_queued = false;
        session.awaits_hearing = false;
        session
    }

    /// Takes over a session of another shard, which has left its lane.
    pub fn take_in(&mut self, mut session: Session<S>, cursor: Offset) -> SessionId {
        session.state = SyncState::Behind(Box::new(CatchUp::at(cursor)));
        self.inbound_bytes += session.inbound_bytes as usize;
        self.insert(session)
    }

    /// The session is on no lane, because all lanes are gone: `cursor` is the shard's in another log.
    pub fn start_anew(&mut self, id: SessionId, cursor: Offset) {
        let session = &mut self.sessions[id.0];
        self.behind += usize::from(!matches!(session.state, SyncState::Behind(_)));
        session.state = SyncState::Behind(Box::new(CatchUp::at(cursor)));
        if std::mem::take(&mut session.unsent_counted) {
            self.unsent.release(end_of(&session.unsent));
        }
    }

    /// Puts bytes behind what the session has not taken.
    pub fn append(&mut self, id: SessionId, bytes: &[u8]) {
        let session = &mut self.sessions[id.0];
        assert!(!session.unsent_counted, "what is counted is shared");
        let mut unsent = session.unsent.to_vec();
        unsent.extend_from_slice(bytes);
        session.unsent = unsent.into();
    }

    /// All sessions from this slot on have boarded the lane's window, and those that are in step without it have other
    /// slots.
    pub fn set_slots(&mut self, lane: &Lane, boarded_from: u32) {
        for (slot, id) in (boarded_from..).zip(&lane.slots(SlotList::Boarded)[boarded_from as usize..]) {
            self.sessions[id.0].state = SyncState::Boarded { slot };
        }
        self.set_disembarked(lane, 0);
    }

    /// All sessions from this slot on are in step without the window that they were on board of.
    pub fn set_disembarked(&mut self, lane: &Lane, first: u32) {
        for (slot, id) in (first..).zip(&lane.slots(SlotList::InStep)[first as usize..]) {
            self.sessions[id.0].state = SyncState::InStep { slot };
        }
    }

    /// The paced lane has passed the sessions that were ahead of it: they catch up.
    pub fn end_lead(&mut self, lane: LaneId, lanes: &mut Lanes, cursor: Offset) {
        let Some(ahead) = lanes.get(lane).map(|lane| lane.slots(SlotList::Ahead).to_vec()) else { return };
        for id in ahead {
            self.fall_behind(id, lanes, cursor);
        }
    }
}
