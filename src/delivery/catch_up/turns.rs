//! Brings sessions that are behind to their lane's position, one bounded turn at a time.
//!
//! What a turn of the shard does for all of them is bounded in topics and frames looked at. What is done because of a
//! client's subscriptions (matching, walks) counts like messages of the client, so `limits.messages_per_second_max`
//! is also its share of the shard's time.

use crate::delivery::catch_up::path::{
    CatchUp, CatchUpCause, Chunk, RingReplay, SLICE_BYTES, ScanProgress, ScanSources, SnapshotScan, replay_slice,
    walk_slice,
};
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::session::{Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::command::Policy;
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Slices one session may have in one turn: 4 of 64 KiB, then it is the next one's turn.
const TURN_SLICES: usize = 4;
/// 32,768 topics and frames looked at, for all sessions together, at 50 to 100 ns: a turn of some 3 ms.
pub(in crate::delivery) const WORK_PER_TURN: usize = 32 * 1024;
/// So many of them, or as many steps of matching, count like one message of the client: about 1 ms.
const STEPS_PER_MESSAGE: usize = 16 * 1024;
/// What a slice costs besides: the encodings are copied, and the socket takes them.
const SLICE_WORK: usize = 256;

/// What is next for a session that is behind.
enum Next {
    Send(Chunk),
    /// Nothing to send in this part of the way.
    Nothing,
    /// Its lane is not matched against all topics yet; or it has seen more than this shard has: another shard,
    /// before, was faster.
    Wait,
    /// Its client has had its share of this second; the sweep queues it again.
    Rest,
    /// It has arrived.
    Arrived,
    /// It is on no lane any more.
    Left,
}

impl<S: Socket> Shard<S> {
    /// One turn: sends until the socket takes no more, the session has arrived, or the turn is over.
    pub(in crate::delivery) fn catch_up(&mut self, id: SessionId, now: Stamp) {
        for slice in 0..TURN_SLICES {
            if !self.flush(id, now) {
                return;
            }
            if slice > 0 && self.work_left == 0 {
                break;
            }
            if self.next_answer(id) {
                continue;
            }
            match self.next_slice(id, now) {
                Next::Send(chunk) => {
                    self.meters.delivered(&chunk, 1);
                    let session = &mut self.sessions[id.0];
                    (session.unsent, session.unsent_form) = (chunk.bytes, chunk.form);
                }
                Next::Nothing => {}
                Next::Wait => return self.enqueue(id),
                Next::Rest => return,
                Next::Arrived => return self.arrive(id),
                Next::Left => return,
            }
        }
        if self.flush(id, now) {
            self.enqueue(id);
        }
    }

    fn next_slice(&mut self, id: SessionId, now: Stamp) -> Next {
        let lane_id = self.sessions[id.0].lane;
        let slice_bytes = self.slice_bytes();
        if self.lanes[lane_id.0 as usize].unmatched.is_some() {
            return self.next_match(id, lane_id);
        }
        let session = &mut self.sessions[id.0];
        let lane = &self.lanes[lane_id.0 as usize];
        let SyncState::Behind(behind) = &mut session.standing else { return Next::Arrived };
        if behind.walk.is_some() {
            return self.next_stride(id, lane_id, now);
        }
        if behind.cursor > self.cursor {
            return Next::Wait;
        }
        let position = lane.pace.as_ref().map_or(self.cursor, |pace| pace.position);
        if behind.cursor >= position {
            return self.catch_up_with_feed(id, now);
        }
        if lane.pace.is_some() {
            behind.skip_to(position);
            return Next::Nothing;
        }
        let oldest = self.reader.frame(behind.cursor.next()).hot();
        let lag_ns = oldest.as_ref().map(|frame| now.ns_since(frame.received));
        let patient = behind.cause == CatchUpCause::Resume || session.policy == Policy::Lossless;
        let replay =
            lag_ns.is_some_and(|lag_ns| patient || u128::from(lag_ns) <= self.settings.slow.replay_max.as_nanos());
        if replay {
            let (before, from) = (behind.cursor, (&self.reader, &mut self.encoder, slice_bytes));
            let replay = replay_slice(behind, position, (lane_id, &lane.key), &self.index, from);
            self.work_left = self.work_left.saturating_sub((behind.cursor.0 - before.0) as usize + SLICE_WORK);
            match replay {
                RingReplay::Chunk(chunk) => return Next::Send(chunk),
                RingReplay::Nothing => return Next::Nothing,
                RingReplay::Lost => {}
            }
        }
        self.skip(id, position, now)
    }

    /// How large a slice may be. It is a session's own, unlike a single frame, which everyone shares: while much is held
    /// for clients that do not take it, each is sent frame by frame.
    fn slice_bytes(&self) -> usize {
        if self.unsent.bytes() > self.settings.slow.unsent_bytes_total_max / 2 { 0 } else { SLICE_BYTES }
    }

    /// Goes on matching the lane of a session.
    fn next_match(&mut self, id: SessionId, lane_id: LaneId) -> Next {
        if self.sessions[id.0].messages >= self.settings.limits.messages_per_second_max {
            return Next::Rest;
        }
        let steps = self.match_lane(lane_id);
        self.charge(id, steps);
        match self.lanes[lane_id.0 as usize].unmatched {
            Some(_) => Next::Wait,
            None => Next::Nothing,
        }
    }

    /// The next part of a session's walk.
    fn next_stride(&mut self, id: SessionId, lane_id: LaneId, now: Stamp) -> Next {
        let slice_bytes = self.slice_bytes();
        let lane = &self.lanes[lane_id.0 as usize];
        let SyncState::Behind(behind) = &mut self.sessions[id.0].standing else { return Next::Arrived };
        let Some(walk) = &mut behind.walk else { return Next::Nothing };
        let (index, sorted, reader) = (&self.index, &self.sorted, &self.reader);
        let sources = ScanSources { index, sorted, reader, scan_topics_max: self.scan_topics_max, slice_bytes };
        let (stride, looked) = walk_slice(walk, (lane_id, lane), &sources, &mut self.encoder, &mut self.scratch);
        let slice_work = if matches!(stride, ScanProgress::Unsorted) { 0 } else { SLICE_WORK };
        self.work_left = self.work_left.saturating_sub(looked + slice_work);
        self.charge(id, looked);
        self.sorted.is_used(now.mono_ns);
        match stride {
            ScanProgress::Chunk(chunk) => Next::Send(chunk),
            ScanProgress::Nothing => Next::Nothing,
            ScanProgress::Unsorted => {
                let looked = self.sorted.make(&self.index, self.cursor, self.work_left.max(1));
                self.work_left = self.work_left.saturating_sub(looked);
                Next::Wait
            }
            ScanProgress::Done => {
                self.end_walk(id);
                Next::Nothing
            }
        }
    }

    /// Counts work for a client like messages of it.
    fn charge(&mut self, id: SessionId, steps: usize) {
        let session = &mut self.sessions[id.0];
        if let SyncState::Behind(behind) = &mut session.standing {
            behind.steps += steps;
            session.messages = session.messages.saturating_add((behind.steps / STEPS_PER_MESSAGE) as u32);
            behind.steps %= STEPS_PER_MESSAGE;
        }
    }

    /// The session walks no more; the lane that it was on before may go.
    pub(in crate::delivery) fn end_walk(&mut self, id: SessionId) {
        if let SyncState::Behind(behind) = &mut self.sessions[id.0].standing
            && let Some(SnapshotScan { known: Some((lane, _)), .. }) = behind.walk.take()
        {
            self.release_lane(lane);
        }
    }

    /// Gives up on sending frame by frame up to `position`; the newest values follow. Says so if it matters.
    fn skip(&mut self, id: SessionId, position: Offset, now: Stamp) -> Next {
        let session = &mut self.sessions[id.0];
        let lane = &self.lanes[session.lane.0 as usize];
        let SyncState::Behind(behind) = &mut session.standing else { return Next::Arrived };
        let (from, cause) = (behind.cursor, behind.cause);
        behind.skip_to(position);
        // Nothing of the shard, and this lane is not paced, is newer than its position. Of topics that were forgotten
        // since, it is not known whether the lane had them.
        if lane.topics.newest <= from && self.reader.forgotten() <= from {
            return Next::Nothing;
        }
        if session.policy == Policy::Disconnect && cause != CatchUpCause::Resume {
            self.dismiss(id, Goodbye::TooSlow, Goodbye::TooSlow.sentence(), now);
            return Next::Left;
        }
        let (reason, counter) = match cause {
            CatchUpCause::Slow => ("slow", &self.meters.skips_slow),
            CatchUpCause::Resume => ("expired", &self.meters.skips_expired),
            CatchUpCause::Overrun => ("overrun", &self.meters.skips_overrun),
        };
        counter.increment(1);
        if session.format == Format::Raw {
            return Next::Nothing;
        }
        let mut out = Vec::new();
        ServerMessage::Skipped { from: from.next(), to: position, reason }.put(&mut out);
        Next::Send(Chunk::notice(out.into()))
    }

    /// Before it is in step again, a session is told what it missed of the feed's state.
    fn catch_up_with_feed(&mut self, id: SessionId, now: Stamp) -> Next {
        let owed = self.owed_sayings(id, now);
        if !owed.is_empty() {
            return Next::Send(Chunk::notice(owed.into()));
        }
        let session = &mut self.sessions[id.0];
        if session.feed_told == self.feed_version {
            return Next::Arrived;
        }
        session.feed_told = self.feed_version;
        if session.format == Format::Raw {
            return Next::Nothing;
        }
        match self.feed_notice(now) {
            Some(bytes) => Next::Send(Chunk::notice(bytes)),
            None => Next::Nothing,
        }
    }

    /// The session has been sent everything up to its lane's position, or, on a paced lane, even more.
    fn arrive(&mut self, id: SessionId) {
        let session = &self.sessions[id.0];
        let lane = &mut self.lanes[session.lane.0 as usize];
        let SyncState::Behind(behind) = &session.standing else { return };
        let cursor = behind.cursor;
        let standing = match &mut lane.pace {
            Some(pace) if cursor > pace.position => {
                pace.ahead.push(id);
                self.paced_due_ns = self.paced_due_ns.min(pace.due_ns);
                SyncState::Ahead { seat: pace.ahead.len() as u32 - 1, cursor }
            }
            _ => {
                lane.in_step.push(id);
                SyncState::InStep { seat: lane.in_step.len() as u32 - 1 }
            }
        };
        self.stand(id, standing);
    }
}

impl CatchUp {
    /// From here on only what is kept counts, up to `position`.
    fn skip_to(&mut self, position: Offset) {
        let walk = SnapshotScan { reached: self.cursor, until: position, known: None };
        *self = CatchUp { steps: self.steps, ..CatchUp::walking(position, walk) };
    }
}
