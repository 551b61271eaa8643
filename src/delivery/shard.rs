//! The core of a shard: sessions, lanes and the topic index of one thread, without a thread, a clock or a poll.
//!
//! Every step is a function of (time, events, frames), so that a simulation can drive it without sockets. The event
//! loop (`eventloop`) feeds it. Invariants:
//!  - a session in step, or ahead, has nothing unsent;
//!  - a session with something unsent is written to only by `flush`, and its commands wait;
//!  - whoever puts a session into another step takes it off its lane's seat first.

pub(crate) mod event_loop;
pub(crate) mod meters;
pub(crate) mod placement;
pub(crate) mod rounds;
pub(crate) mod sweep;
#[cfg(test)]
pub(crate) mod work_shares;

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;

use slab::Slab;

use crate::bus::demand::interest::Interest;
use crate::bus::feed_state::FeedState;
use crate::bus::frame::Frame;
use crate::bus::reader::Reader;
use crate::delivery::catch_up::by_offset::TopicsByOffset;
use crate::delivery::catch_up::path::{CatchUp, SCAN_TOPICS_MAX};
use crate::delivery::catch_up::turns::WORK_PER_TURN;
use crate::delivery::lanes::lane::{Lane, LaneKey, SessionId};
use crate::delivery::lanes::opening::MATCHES_PER_TURN;
use crate::delivery::lanes::topic_index::{LaneId, TopicIndex};
use crate::delivery::sessions::client_requests::{Mailbox, PendingRequests};
use crate::delivery::sessions::commands::TURN_WORK;
use crate::delivery::sessions::departure::Draining;
use crate::delivery::sessions::session::{Session, Socket, SyncState};
use crate::delivery::sessions::unsent::{Unsent, end_of};
use crate::delivery::settings::Settings;
use crate::delivery::shard::meters::ShardMeters;
use crate::delivery::shard::placement::ShardLoad;
use crate::delivery::shards::BusHandles;
use crate::protocol::encoding::Encoder;
use crate::wire::deflate::Inflater;
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// Sessions of the queue that have a turn before frames are looked for again: more than that live long enough to wait.
const QUEUE_PART: usize = 1024;

pub struct Shard<S> {
    pub(super) settings: Settings,
    pub(super) reader: Reader,
    pub(super) sessions: Slab<Session<S>>,
    pub(super) lanes: Slab<Lane>,
    /// Without the lanes that nobody is on any more.
    pub(super) lane_by_key: HashMap<LaneKey, LaneId>,
    /// Lanes that nobody is on any more, and that still have to leave their topics.
    pub(super) closing: Vec<LaneId>,
    /// Patterns that may be matched against topics in a turn, and those of this turn that are left (`lanes`).
    pub(super) matches_per_turn: usize,
    pub(super) matches_left: usize,
    /// Topics and frames that may be looked at for sessions that catch up in a turn, and those that are left (`catch_up`).
    pub(super) work_per_turn: usize,
    pub(super) work_left: usize,
    pub(super) sorted: TopicsByOffset,
    pub(super) scan_topics_max: usize,
    /// What may still be done for clients' messages in this turn (`listen`).
    pub(super) hearing_left: usize,
    /// What clients want of the upstream, where it is asked for topics.
    pub(super) interest: Option<Arc<Interest>>,
    /// Version of what was said of topics that are awaited and was told to all in step.
    pub(super) said: u64,
    pub(super) desk: PendingRequests,
    pub(super) index: TopicIndex,
    /// Everything up to here has been taken from the ring.
    pub(super) cursor: Offset,
    /// Frames of the current round; empty between rounds.
    pub(super) round: Vec<Arc<Frame>>,
    /// Lanes with fresh frames in the current round.
    pub(super) dirty: Vec<LaneId>,
    /// The earliest moment at which a paced lane may have something to send.
    pub(super) paced_due_ns: u64,
    /// The feed's state as told to all in step, and its version.
    pub(super) feed: Arc<FeedState>,
    pub(super) feed_version: u32,
    /// Ticks for which the feed has been stale.
    pub(super) stale_ticks: u32,
    /// Sessions that have something to do besides the live stream.
    queue: VecDeque<SessionId>,
    /// Sessions that have something to say for which there was no work left in their turn, the longest waiting first.
    unheard: VecDeque<SessionId>,
    pub(super) encoder: Encoder,
    pub(super) inflater: Inflater,
    pub(super) read_buffer: Box<[u8]>,
    pub(super) scratch: Vec<(Offset, TopicId)>,
    /// Arrival of the oldest frame of each chunk written since the last report.
    pub(super) written: Vec<Stamp>,
    /// Memory of the lanes: patterns, and places in topics as of the last tick (`lanes`).
    pub(super) pattern_bytes: usize,
    pub(super) lane_places: usize,
    /// What clients have sent and the shard has not read, and what it holds for clients that do not take it.
    pub(super) inbound_bytes: usize,
    pub(super) unsent: Unsent,
    /// Everyone is to be told goodbye.
    pub(super) draining: Option<Draining>,
    pub(super) sweep_tick: usize,
    pub(super) behind: usize,
    /// Lanes that have a shared window.
    pub(super) windows: usize,
    pub(super) load: Arc<ShardLoad>,
    pub(super) meters: ShardMeters,
}

impl<S: Socket> Shard<S> {
    /// `mailbox` takes the answers to what clients ask of the upstream; they come back by `answered`.
    pub fn new(
        settings: Settings,
        (ends, mailbox): (BusHandles, Mailbox),
        load: Arc<ShardLoad>,
        meters: ShardMeters,
    ) -> Shard<S> {
        let BusHandles { reader, interest, asks } = ends;
        let feed_version = reader.feed_version();
        let mut shard = Shard {
            settings,
            sessions: Slab::new(),
            lanes: Slab::new(),
            lane_by_key: HashMap::new(),
            closing: Vec::new(),
            matches_per_turn: MATCHES_PER_TURN,
            matches_left: 0,
            work_per_turn: WORK_PER_TURN,
            work_left: WORK_PER_TURN,
            sorted: TopicsByOffset::default(),
            scan_topics_max: SCAN_TOPICS_MAX,
            hearing_left: TURN_WORK,
            said: 0,
            interest,
            desk: PendingRequests::new(asks, mailbox),
            index: TopicIndex::default(),
            cursor: Offset::START,
            round: Vec::new(),
            dirty: Vec::new(),
            paced_due_ns: u64::MAX,
            feed: reader.feed(),
            feed_version,
            stale_ticks: 0,
            queue: VecDeque::new(),
            unheard: VecDeque::new(),
            encoder: Encoder::new(settings.compression.level),
            inflater: Inflater::new(),
            read_buffer: vec![0; 16 * 1024].into(),
            scratch: Vec::new(),
            written: Vec::new(),
            pattern_bytes: 0,
            lane_places: 0,
            inbound_bytes: 0,
            unsent: Unsent::default(),
            draining: None,
            sweep_tick: 0,
            behind: 0,
            windows: 0,
            load,
            meters,
            reader,
        };
        shard.start_over();
        shard
    }

    /// The id that the next session to be adopted will have.
    pub fn vacant(&self) -> SessionId {
        SessionId(self.sessions.vacant_key())
    }

    /// The earliest moment at which a paced lane may have something to send, on the monotonic clock.
    pub fn paced_due_ns(&self) -> u64 {
        self.paced_due_ns
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Part of the last second in which its thread did not wait.
    pub fn report_busy(&self, part: f64) {
        self.meters.busy.set(part);
    }

    /// Whether there is something to do now, without waiting for an event. Nobody waits for frames in an empty shard.
    pub fn has_work(&self) -> bool {
        let news = || self.reader.head() != self.cursor || self.reader.feed_version() != self.feed_version;
        !self.queue.is_empty()
            || !self.unheard.is_empty()
            || self.has_to_drain()
            || !self.closing.is_empty()
            || (!self.is_empty() && news())
    }

    /// Reports how long what was written since the last call has taken; `now` is read after the last write.
    pub fn report_written(&mut self, now: Stamp) {
        for received in self.written.drain(..) {
            self.meters.publish_to_write.record(now.ns_since(received) as f64 / 1e9);
        }
    }

    /// The socket can be read from, or written to again.
    pub fn ready(&mut self, id: SessionId, readable: bool, now: Stamp) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        session.readable |= readable;
        if readable && session.is_throttled(&self.settings) {
            self.tell_throttled(id);
        }
        // Many sockets may take more at the same moment: those that catch up have the work of a turn between them.
        if self.work_left == 0 && matches!(self.sessions[id.0].standing, SyncState::Behind(_)) {
            return self.enqueue(id);
        }
        self.run(id, now);
    }

    /// Begins a turn, and gives the sessions that have waited longest in the queue their part of it; once they have made
    /// work for a turn, the others wait for the next.
    pub fn run_queue(&mut self, now: Stamp) {
        self.clear_lanes();
        self.work_left = self.work_per_turn;
        self.hearing_left = TURN_WORK;
        self.shed_inbound(now);
        self.shed_unsent();
        self.drain_on(now);
        self.hear_out(now);
        for _ in 0..self.queue.len().min(QUEUE_PART) {
            if self.work_left == 0 {
                break;
            }
            let Some(id) = self.queue.pop_front() else { break };
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.queued = false;
                self.run(id, now);
            }
        }
    }

    pub(super) fn enqueue(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && !session.queued
        {
            session.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Puts the session behind all others that wait to be heard.
    pub(super) fn await_hearing(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && !session.unheard
        {
            session.unheard = true;
            self.unheard.push_back(id);
        }
    }

    /// Hears the sessions that have waited for it, as many as the turn has work for.
    fn hear_out(&mut self, now: Stamp) {
        for _ in 0..self.unheard.len() {
            if self.hearing_left == 0 {
                return;
            }
            let Some(id) = self.unheard.pop_front() else { return };
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.unheard = false;
                self.run(id, now);
            }
        }
    }

    /// One turn of one session: say goodbye, catch up, or listen.
    fn run(&mut self, id: SessionId, now: Stamp) {
        let Some(session) = self.sessions.get(id.0) else { return };
        match session.standing {
            SyncState::Leaving(_) => self.leave(id, now),
            SyncState::Behind(_) => self.catch_up(id, now),
            SyncState::InStep { .. } | SyncState::Boarded { .. } | SyncState::Ahead { .. } => {}
        }
        self.listen(id, now);
    }

    /// Writes what is unsent. True if nothing is left; false if the socket takes no more, or the session has ended.
    pub(super) fn flush(&mut self, id: SessionId, now: Stamp) -> bool {
        let Some(session) = self.sessions.get_mut(id.0) else { return false };
        let (whole, end) = (session.unsent.len(), end_of(&session.unsent));
        loop {
            if session.unsent.is_empty() {
                if std::mem::take(&mut session.held) {
                    self.unsent.release(end);
                }
                session.blocked_ns = 0;
                return true;
            }
            match session.socket.write(&session.unsent) {
                Ok(0) => break,
                Ok(bytes) => {
                    let _ = session.unsent.split_to(bytes);
                    session.blocked_ns = now.mono_ns;
                    self.meters.sent(session.format, session.unsent_form, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if session.blocked_ns == 0 {
                        session.blocked_ns = now.mono_ns;
                    }
                    self.hold(id, whole, now);
                    return false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.end(id, Goodbye::ConnectionLost);
        false
    }

    /// Counts what the session has not taken of a chunk of so many bytes.
    pub(super) fn hold(&mut self, id: SessionId, bytes: usize, now: Stamp) {
        let session = &mut self.sessions[id.0];
        if !std::mem::replace(&mut session.held, true) {
            self.unsent.hold(end_of(&session.unsent), bytes, now);
        }
    }

    /// Position of a lane: what has been sent to all in step.
    pub(super) fn position(&self, lane: LaneId) -> Offset {
        let pace = self.lanes[lane.0 as usize].pace.as_ref();
        pace.map_or(self.cursor, |pace| pace.position)
    }

    /// Takes the session off its seat; it has been sent everything up to the offset given.
    pub(super) fn unseat(&mut self, id: SessionId) -> Offset {
        let session = &self.sessions[id.0];
        let lane = &mut self.lanes[session.lane.0 as usize];
        let position = lane.pace.as_ref().map_or(self.cursor, |pace| pace.position);
        let (seat, (left, moved), cursor) = match &session.standing {
            SyncState::InStep { seat } => (*seat, swap_out(&mut lane.in_step, *seat), position),
            SyncState::Boarded { seat } => {
                let window = lane.window.as_mut().expect("who is on board has a window");
                let (left, moved) = window.leave(*seat as usize);
                (*seat, (left, moved.copied()), position)
            }
            SyncState::Ahead { seat, cursor } => {
                let pace = lane.pace.as_mut().expect("only paced lanes have sessions ahead");
                (*seat, swap_out(&mut pace.ahead, *seat), *cursor)
            }
            SyncState::Behind(behind) => return behind.cursor,
            SyncState::Leaving(_) => return self.cursor,
        };
        assert_eq!(left, id, "a seat belongs to who sits on it");
        if let Some(moved) = moved
            && let SyncState::InStep { seat: its }
            | SyncState::Boarded { seat: its }
            | SyncState::Ahead { seat: its, .. } = &mut self.sessions[moved.0].standing
        {
            *its = seat;
        }
        cursor
    }

    /// Puts the session into another step. It must have been unseated.
    pub(super) fn stand(&mut self, id: SessionId, standing: SyncState) {
        let session = &mut self.sessions[id.0];
        self.behind -= usize::from(matches!(session.standing, SyncState::Behind(_)));
        self.behind += usize::from(matches!(standing, SyncState::Behind(_)));
        session.standing = standing;
    }

    /// Leaves the lane's step: from now on the session stands at a cursor of its own.
    pub(super) fn fall_behind(&mut self, id: SessionId) {
        let cursor = self.unseat(id);
        self.stand(id, SyncState::Behind(Box::new(CatchUp::at(cursor))));
        self.enqueue(id);
    }
}

/// Takes the session off its seat. Gives it, and the session that sits there now, if one was moved.
fn swap_out(seats: &mut Vec<SessionId>, seat: u32) -> (SessionId, Option<SessionId>) {
    let left = seats.swap_remove(seat as usize);
    (left, seats.get(seat as usize).copied())
}
