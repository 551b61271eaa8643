//! The core of a shard: sessions, lanes and the topic index of one thread, without a thread, a clock or a poll.
//!
//! Every step is a function of (time, events, frames), so that a simulation can drive it without sockets. The event
//! loop (`eventloop`) feeds it. Invariants:
//!  - a session in step, or ahead, has nothing unsent;
//!  - a session with something unsent is written to only by `flush`, and its commands wait;
//!  - whoever puts a session into another step takes it off its lane's seat first.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use crate::bus::feed::FeedState;
use crate::bus::frame::Frame;
use crate::bus::interest::Interest;
use crate::bus::reader::Reader;
use crate::delivery::asking::{Desk, Mailbox};
use crate::delivery::catch_up::WORK_PER_TURN;
use crate::delivery::door::Ends;
use crate::delivery::index::{Index, LaneId};
use crate::delivery::lane::{Lane, LaneKey, SessionId};
use crate::delivery::lanes::MATCHES_PER_TURN;
use crate::delivery::meters::ShardMeters;
use crate::delivery::placement::Load;
use crate::delivery::session::{Session, Socket, Standing};
use crate::delivery::settings::Settings;
use crate::delivery::sorted::Sorted;
use crate::delivery::walk::{Behind, SCAN_TOPICS_MAX};
use crate::wire::deflate::Inflater;
use crate::wire::encode::{Encoder, Format};
use crate::wire::frame::{Opcode, put_close, put_header};
use crate::wire::notice::Notice;
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// How long a session that was told goodbye may take to end the connection itself.
const LEAVE_NS: u64 = 1_000_000_000;

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
    pub(super) sorted: Sorted,
    pub(super) scan_topics_max: usize,
    /// What clients want of the upstream, where it is asked for topics.
    pub(super) interest: Option<Arc<Interest>>,
    /// Version of what was said of topics that are awaited and was told to all in step.
    pub(super) said: u64,
    pub(super) desk: Desk,
    pub(super) index: Index,
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
    /// Sessions that have something to do besides the live stream.
    queue: VecDeque<SessionId>,
    pub(super) encoder: Encoder,
    pub(super) inflater: Inflater,
    pub(super) read_buffer: Box<[u8]>,
    pub(super) scratch: Vec<(Offset, TopicId)>,
    /// Arrival of the oldest frame of each chunk written since the last report.
    pub(super) written: Vec<Stamp>,
    pub(super) sweep_tick: usize,
    pub(super) behind: usize,
    /// Lanes that have a shared window.
    pub(super) windows: usize,
    load: Arc<Load>,
    pub(super) meters: ShardMeters,
}

impl<S: Socket> Shard<S> {
    /// `mailbox` takes the answers to what clients ask of the upstream; they come back by `answered`.
    pub fn new(settings: Settings, (ends, mailbox): (Ends, Mailbox), load: Arc<Load>, meters: ShardMeters) -> Shard<S> {
        let Ends { reader, interest, asks } = ends;
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
            sorted: Sorted::default(),
            scan_topics_max: SCAN_TOPICS_MAX,
            said: 0,
            interest,
            desk: Desk::new(asks, mailbox),
            index: Index::default(),
            cursor: Offset::START,
            round: Vec::new(),
            dirty: Vec::new(),
            paced_due_ns: u64::MAX,
            feed: reader.feed(),
            feed_version,
            queue: VecDeque::new(),
            encoder: Encoder::new(settings.compression_level),
            inflater: Inflater::new(),
            read_buffer: vec![0; 16 * 1024].into(),
            scratch: Vec::new(),
            written: Vec::new(),
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
        !self.queue.is_empty() || !self.closing.is_empty() || (!self.is_empty() && news())
    }

    /// Reports how long what was written since the last call has taken; `now` is read after the last write.
    pub fn report_written(&mut self, now: Stamp) {
        for received in self.written.drain(..) {
            self.meters.publish_to_write.record(now.ns_since(received) as f64 / 1e9);
        }
    }

    /// The socket can be read from, or written to again.
    pub fn ready(&mut self, id: SessionId, readable: bool, now: Stamp) {
        if let Some(session) = self.sessions.get_mut(id.0) {
            session.readable |= readable;
            // Many sockets may take more at the same moment: those that catch up have the work of a turn between them.
            if self.work_left == 0 && matches!(session.standing, Standing::Behind(_)) {
                return self.enqueue(id);
            }
            self.run(id, now);
        }
    }

    /// Gives every session that waits in the queue one turn; once they have made work for a turn of the shard, the others
    /// wait for the next.
    pub fn run_queue(&mut self, now: Stamp) {
        self.clear_lanes();
        self.work_left = self.work_per_turn;
        for _ in 0..self.queue.len() {
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

    /// Ends every session with a goodbye; `reconnect_ms` gives each its delay.
    pub fn drain(&mut self, mut reconnect_ms: impl FnMut() -> u64, now: Stamp) {
        let goodbye = Goodbye::Draining;
        let (code, message) = (goodbye.label(), goodbye.sentence());
        let ids: Vec<SessionId> = self.sessions.iter().map(|(id, _)| SessionId(id)).collect();
        for id in ids {
            let session = &mut self.sessions[id.0];
            if session.format == Format::Envelope && !matches!(session.standing, Standing::Leaving { .. }) {
                let mut unsent = session.unsent.to_vec();
                Notice::Goodbye { code, message, reconnect_ms: reconnect_ms() }.put(&mut unsent);
                session.unsent = unsent.into();
            }
            self.dismiss(id, goodbye, message, now);
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

    /// One turn of one session: say goodbye, catch up, or listen.
    fn run(&mut self, id: SessionId, now: Stamp) {
        let Some(session) = self.sessions.get(id.0) else { return };
        match session.standing {
            Standing::Leaving { .. } => self.leave(id, now),
            Standing::Behind(_) => self.catch_up(id, now),
            Standing::InStep { .. } | Standing::Boarded { .. } | Standing::Ahead { .. } => {}
        }
        self.listen(id, now);
    }

    /// Writes what is unsent. True if nothing is left; false if the socket takes no more, or the session has ended.
    pub(super) fn flush(&mut self, id: SessionId, now: Stamp) -> bool {
        loop {
            let Some(session) = self.sessions.get_mut(id.0) else { return false };
            if session.unsent.is_empty() {
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
                    return false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.end(id, Goodbye::ConnectionLost);
        false
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
        let (seats, seat, cursor) = match &session.standing {
            Standing::InStep { seat } => {
                let cursor = lane.pace.as_ref().map_or(self.cursor, |pace| pace.position);
                (&mut lane.in_step, *seat as usize, cursor)
            }
            Standing::Boarded { seat } => {
                let cursor = lane.pace.as_ref().map_or(self.cursor, |pace| pace.position);
                let window = lane.window.as_mut().expect("who is on board has a window");
                (&mut window.boarded, *seat as usize, cursor)
            }
            Standing::Ahead { seat, cursor } => {
                let pace = lane.pace.as_mut().expect("only paced lanes have sessions ahead");
                (&mut pace.ahead, *seat as usize, *cursor)
            }
            Standing::Behind(behind) => return behind.cursor,
            Standing::Leaving { .. } => return self.cursor,
        };
        assert_eq!(seats[seat], id, "a seat belongs to who sits on it");
        seats.swap_remove(seat);
        if let Some(moved) = seats.get(seat).copied()
            && let Standing::InStep { seat: its } | Standing::Boarded { seat: its } | Standing::Ahead { seat: its, .. } =
                &mut self.sessions[moved.0].standing
        {
            *its = seat as u32;
        }
        cursor
    }

    /// Puts the session into another step. It must have been unseated.
    pub(super) fn stand(&mut self, id: SessionId, standing: Standing) {
        let session = &mut self.sessions[id.0];
        self.behind -= usize::from(matches!(session.standing, Standing::Behind(_)));
        self.behind += usize::from(matches!(standing, Standing::Behind(_)));
        session.standing = standing;
    }

    /// Leaves the lane's step: from now on the session stands at a cursor of its own.
    pub(super) fn fall_behind(&mut self, id: SessionId) {
        let cursor = self.unseat(id);
        self.stand(id, Standing::Behind(Box::new(Behind::at(cursor))));
        self.enqueue(id);
    }

    /// Starts the end of a session: off its lane, a close frame with the sentence, then the socket's end.
    pub(super) fn dismiss(&mut self, id: SessionId, goodbye: Goodbye, sentence: &str, now: Stamp) {
        let Some(session) = self.sessions.get(id.0) else { return };
        if matches!(session.standing, Standing::Leaving { .. }) {
            return;
        }
        let mut farewell = session.unsent.to_vec();
        if let Some(code) = goodbye.close_code() {
            put_close(&mut farewell, code, sentence);
        }
        self.bid(id, goodbye, farewell, now);
    }

    /// Answers the client's close frame with the same code (RFC 6455 section 5.5.1).
    pub(super) fn answer_close(&mut self, id: SessionId, code: Option<u16>, answers: Vec<u8>, now: Stamp) {
        let mut farewell = answers;
        match code {
            Some(code) => put_close(&mut farewell, code, ""),
            None => put_header(&mut farewell, Opcode::Close, false, 0),
        }
        self.bid(id, Goodbye::ClientClosed, farewell, now);
    }

    fn bid(&mut self, id: SessionId, goodbye: Goodbye, farewell: Vec<u8>, now: Stamp) {
        self.give_up(id);
        self.sessions[id.0].unsent = Bytes::from(farewell);
        // Whoever is told to come back later may be slow to read it; `drain.timeout` bounds all of them together.
        let patient = goodbye == Goodbye::Draining;
        let deadline_ns = if patient { u64::MAX } else { now.mono_ns + LEAVE_NS };
        self.stand(id, Standing::Leaving { goodbye, deadline_ns, said: false });
        self.enqueue(id);
    }

    /// Sends the rest of the goodbye; then waits for the client to end the connection, up to the deadline (`sweep`).
    fn leave(&mut self, id: SessionId, now: Stamp) {
        if !self.flush(id, now) {
            return;
        }
        let session = &mut self.sessions[id.0];
        if let Standing::Leaving { said, deadline_ns, .. } = &mut session.standing
            && !*said
        {
            *said = true;
            *deadline_ns = now.mono_ns + LEAVE_NS;
            // A peer that is gone already is found by the read that follows.
            let _ = session.socket.shutdown_write();
            session.readable = true;
        }
    }

    /// Gives back what the session has: its seat, its lane, its answers.
    fn give_up(&mut self, id: SessionId) {
        self.unseat(id);
        self.quit_lane(id);
        self.forget_asks(id);
    }

    /// Forgets the session and closes its socket.
    pub(super) fn end(&mut self, id: SessionId, goodbye: Goodbye) {
        let Some(session) = self.sessions.get(id.0) else { return };
        let reason = match session.standing {
            Standing::Leaving { goodbye, .. } => goodbye,
            _ => {
                self.give_up(id);
                goodbye
            }
        };
        self.stand(id, Standing::Leaving { goodbye: reason, deadline_ns: 0, said: true });
        self.sessions.remove(id.0);
        self.load.leave();
        self.meters.goodbye(reason);
    }
}
