//! The turn that brings sessions that are behind to their lane's position; `delivery/catch_up/` has what it sends.
//!
//! What a turn of the shard does for all of them is bounded in topics and frames looked at. What is done because of a
//! client's subscriptions (matching, scans) counts like messages of the client, so `limits.messages_per_second_max` is
//! also its share of the shard's time.

use crate::delivery::catch_up::CatchUpCause;
use crate::delivery::catch_up::replay::{RingReplay, replay_slice};
use crate::delivery::catch_up::scan::{ScanProgress, ScanSources};
use crate::delivery::chunk::{Chunk, SLICE_BYTES};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::sync_state::NextState;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::Policy;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Slices one session may have in one turn: 4 of 64 KiB, then it is the next one's turn.
const TURN_SLICES: usize = 4;
/// Further cost of a slice: the encodings are copied, and the socket takes them.
pub(super) const SLICE_WORK: usize = 256;

/// What is next for a session that is behind.
enum Next {
    Send(Chunk),
    /// Nothing to send in this part of the way.
    Nothing,
    /// A lane of it is not matched against all topics yet; or it has seen more than this shard has: another shard,
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
    pub(super) fn catch_up(&mut self, id: SessionId, now: Stamp) {
        for slice in 0..TURN_SLICES {
            if !self.flush(id, now) {
                return;
            }
            if slice > 0 && self.budgets.catch_up.is_spent() {
                break;
            }
            if self.sessions[id].access.has_outcome() {
                if !self.take_outcome(id, now) {
                    return;
                }
                continue;
            }
            if self.next_answer(id) {
                continue;
            }
            match self.next_slice(id, now) {
                Next::Send(chunk) => {
                    self.meters.delivered(&chunk, 1);
                    self.sessions.send(id, chunk.bytes, chunk.compression);
                }
                Next::Nothing => {}
                Next::Wait => return self.sessions.enqueue(id),
                Next::Rest => return,
                Next::Arrived if self.ends_for_loss(id, now) => return,
                Next::Arrived => return self.arrive(id),
                Next::Left => return,
            }
        }
        if self.flush(id, now) {
            self.sessions.enqueue(id);
        }
    }

    fn next_slice(&mut self, id: SessionId, now: Stamp) -> Next {
        let slice_bytes = self.slice_bytes();
        let session = &mut self.sessions[id];
        let (lane_id, policy) = (session.lane(), session.policy);
        let Some(catch_up) = session.catch_up_mut() else { return Next::Arrived };
        // What it has been sent on lanes before is known only once these are matched, too.
        let known = catch_up.scan.iter().flat_map(|scan| &scan.known).map(|(lane, _)| *lane);
        if let Some(unmatched) = known.chain([lane_id]).find(|lane| !self.lanes[*lane].is_matched()) {
            return self.match_lane(id, unmatched);
        }
        let lane = &self.lanes[lane_id];
        if catch_up.scan.is_some() {
            return self.next_scan_slice(id, lane_id, now);
        }
        if catch_up.cursor > self.log.offset() {
            return Next::Wait;
        }
        let position = lane.position(self.log.offset());
        if catch_up.cursor >= position {
            return self.catch_up_with_feed(id, now);
        }
        if lane.is_paced() {
            catch_up.skip_to(position);
            return Next::Nothing;
        }
        let reader = self.log.reader();
        let oldest = reader.frame(catch_up.cursor.next()).hot();
        let lag_ns = oldest.as_ref().map(|frame| now.ns_since(frame.received));
        let is_patient = catch_up.cause == CatchUpCause::Resume || policy == Policy::Lossless;
        if lag_ns.is_some_and(|lag_ns| is_patient || u128::from(lag_ns) <= self.settings.slow.replay_max.as_nanos()) {
            let (before, from) = (catch_up.cursor, (reader, &mut self.encoder, slice_bytes));
            let replay = replay_slice(catch_up, position, (lane_id, lane.key()), self.lanes.index(), from);
            self.budgets.catch_up.spend((catch_up.cursor.0 - before.0) as usize + SLICE_WORK);
            match replay {
                RingReplay::Chunk(chunk) => return Next::Send(chunk),
                RingReplay::Nothing => return Next::Nothing,
                RingReplay::Lost => {}
            }
        }
        self.skip(id, position, now)
    }

    /// How large a slice may be. It is a session's own, unlike a single frame, which all share: while much is held for
    /// clients that do not take it, each is sent frame by frame.
    pub(super) fn slice_bytes(&self) -> usize {
        if self.sessions.unsent_bytes() > self.settings.slow.unsent_bytes_total_max / 2 { 0 } else { SLICE_BYTES }
    }

    /// Matches a lane of a session against further topics.
    fn match_lane(&mut self, id: SessionId, lane: LaneId) -> Next {
        if self.sessions[id].has_spent_messages(&self.settings) {
            return Next::Rest;
        }
        let steps = self.lanes.match_lane(lane, self.log.offset(), &mut self.budgets.matches);
        self.charge(id, steps);
        if self.lanes[lane].is_matched() { Next::Nothing } else { Next::Wait }
    }

    /// The next part of a session's snapshot scan.
    fn next_scan_slice(&mut self, id: SessionId, lane_id: LaneId, now: Stamp) -> Next {
        let slice_bytes = self.slice_bytes();
        let Some(catch_up) = self.sessions[id].catch_up_mut() else { return Next::Arrived };
        let Some(scan) = &mut catch_up.scan else { return Next::Nothing };
        let (index, reader) = (self.lanes.index(), self.log.reader());
        let sources = ScanSources { index, reader, slice_bytes };
        let lane = (lane_id, &self.lanes[lane_id]);
        let (progress, looked) = self.scanner.next_slice(scan, lane, sources, &mut self.encoder);
        let slice_work = if matches!(progress, ScanProgress::Unsorted) { 0 } else { SLICE_WORK };
        self.budgets.catch_up.spend(looked + slice_work);
        self.scanner.mark_used(now.mono_ns);
        let next = match progress {
            ScanProgress::Chunk(chunk) => Next::Send(chunk),
            ScanProgress::Nothing => Next::Nothing,
            ScanProgress::Unsorted => {
                let topics_max = self.budgets.catch_up.left().max(1);
                let looked = self.scanner.sort(index, self.log.offset(), topics_max);
                self.budgets.catch_up.spend(looked);
                Next::Wait
            }
            ScanProgress::Done => {
                catch_up.end_scan().for_each(|lane| self.lanes.release(lane));
                Next::Nothing
            }
        };
        self.charge(id, looked);
        next
    }

    /// Counts work for a client like messages of it.
    fn charge(&mut self, id: SessionId, steps: usize) {
        let session = &mut self.sessions[id];
        let messages = session.catch_up_mut().map_or(0, |catch_up| catch_up.count(steps));
        session.count_messages(messages);
    }

    /// Gives up on sending frame by frame up to `position`; the newest values follow. The client receives `skipped` if
    /// it matters.
    fn skip(&mut self, id: SessionId, position: Offset, now: Stamp) -> Next {
        let session = &mut self.sessions[id];
        let (policy, encoding) = (session.policy, session.encoding());
        let newest = self.lanes[session.lane()].newest();
        let Some(catch_up) = session.catch_up_mut() else { return Next::Arrived };
        let (from, cause) = (catch_up.cursor, catch_up.cause);
        catch_up.skip_to(position);
        // Nothing of the shard, and this lane is not paced, is newer than its position. Of topics that were forgotten
        // since, it is not known whether the lane had them.
        if newest <= from && self.log.reader().forgotten() <= from {
            return Next::Nothing;
        }
        let is_harmless = self.sessions[id].is_told_nothing() && !self.would_miss_events(id, from);
        if policy == Policy::Disconnect && cause != CatchUpCause::Resume && !is_harmless {
            self.dismiss(id, Goodbye::TooSlow, Goodbye::TooSlow.sentence(), now);
            return Next::Left;
        }
        let (reason, counter) = match cause {
            CatchUpCause::Slow => ("slow", &self.meters.skips_slow),
            CatchUpCause::Resume => ("expired", &self.meters.skips_expired),
            CatchUpCause::Overrun => ("overrun", &self.meters.skips_overrun),
        };
        if !self.sessions[id].is_canary {
            counter.increment(1);
        }
        self.sessions[id].skips += 1;
        let mut out = Vec::new();
        ServerMessage::Skipped { from: from.next(), to: position, reason }.put(encoding, &mut out);
        send_unless_empty(out).unwrap_or(Next::Nothing)
    }

    /// Before it is in step again, a session receives what it missed of the state of the feed and of its topics.
    fn catch_up_with_feed(&mut self, id: SessionId, now: Stamp) -> Next {
        if let Some(next) = send_unless_empty(self.owed_statuses(id, now)) {
            return next;
        }
        let session = &mut self.sessions[id];
        let current = self.log.feed_version();
        if std::mem::replace(&mut session.feed_version, current) == current {
            return Next::Arrived;
        }
        let (encoding, mut out) = (session.encoding(), Vec::new());
        self.put_feed(encoding, now, &mut out);
        send_unless_empty(out).unwrap_or(Next::Nothing)
    }

    /// The session has been sent everything up to its lane's position, or, on a paced lane, even more.
    fn arrive(&mut self, id: SessionId) {
        let (lane, cursor) = (&self.lanes[self.sessions[id].lane()], self.log.offset());
        let sent = self.sessions.sent(id, &self.lanes, cursor);
        let is_ahead = lane.is_paced() && sent > lane.position(cursor);
        let next = if is_ahead { NextState::Ahead(sent) } else { NextState::InStep };
        self.sessions.move_to(id, next, &mut self.lanes);
    }
}

fn send_unless_empty(messages: Vec<u8>) -> Option<Next> {
    (!messages.is_empty()).then(|| Next::Send(Chunk::messages(messages)))
}
