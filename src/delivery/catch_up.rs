//! Brings sessions that are behind to their lane's position, one bounded turn at a time.

use crate::delivery::lane::SessionId;
use crate::delivery::lanes::MATCHES_PER_TURN;
use crate::delivery::session::{Socket, Standing};
use crate::delivery::shard::Shard;
use crate::delivery::walk::{Behind, Cause, Chunk, Replay, Walk, replay_slice, walk_slice};
use crate::wire::command::Policy;
use crate::wire::encode::Format;
use crate::wire::notice::Notice;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Slices one session may have in one turn: 4 of 64 KiB, then it is the next one's turn.
const TURN_SLICES: usize = 4;

/// What is next for a session that is behind.
enum Next {
    Send(Chunk),
    /// Nothing to send in this part of the way.
    Nothing,
    /// Its lane is not matched against all topics yet; or it has seen more than this shard has: another shard,
    /// before, was faster.
    Wait,
    /// It has arrived.
    Arrived,
    /// It is on no lane any more.
    Left,
}

impl<S: Socket> Shard<S> {
    /// One turn: sends until the socket takes no more, the session has arrived, or the turn is over.
    pub(super) fn catch_up(&mut self, id: SessionId, now: Stamp) {
        // Each slice of a walk looks at all topics of the lane: many of them are a turn's work at once.
        let topics = self.lanes[self.sessions[id.0].lane.0 as usize].topics.len();
        for _ in 0..if topics > MATCHES_PER_TURN { 1 } else { TURN_SLICES } {
            if !self.flush(id, now) {
                return;
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
        if !self.match_lane(lane_id) {
            return Next::Wait;
        }
        let session = &mut self.sessions[id.0];
        let lane = &self.lanes[lane_id.0 as usize];
        let Standing::Behind(behind) = &mut session.standing else { return Next::Arrived };
        if let Some(walk) = &mut behind.walk {
            return match walk_slice(walk, lane, &self.index, &mut self.encoder, &mut self.scratch) {
                Some(chunk) => Next::Send(chunk),
                None => {
                    behind.walk = None;
                    Next::Nothing
                }
            };
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
        let oldest = self.reader.frame(behind.cursor.next());
        let lag_ns = oldest.as_ref().map(|frame| now.ns_since(frame.received));
        let patient = behind.cause == Cause::Resume || session.policy == Policy::Lossless;
        let replay = lag_ns.is_some_and(|lag_ns| patient || u128::from(lag_ns) <= self.settings.replay_max.as_nanos());
        if replay {
            let from = (&self.reader, &mut self.encoder);
            match replay_slice(behind, position, (lane_id, &lane.key), &self.index, from) {
                Replay::Chunk(chunk) => return Next::Send(chunk),
                Replay::Nothing => return Next::Nothing,
                Replay::Lost => {}
            }
        }
        self.skip(id, position, now)
    }

    /// Gives up on sending frame by frame up to `position`; the newest values follow. Says so if it matters.
    fn skip(&mut self, id: SessionId, position: Offset, now: Stamp) -> Next {
        let session = &mut self.sessions[id.0];
        let lane = &self.lanes[session.lane.0 as usize];
        let Standing::Behind(behind) = &mut session.standing else { return Next::Arrived };
        let (from, cause) = (behind.cursor, behind.cause);
        behind.skip_to(position);
        let entries = lane.topics.iter().filter_map(|topic| self.index.entry(*topic));
        let mut newest = entries.map(|entry| entry.story.newest().offset);
        let matters = newest.any(|offset| offset > from && offset <= position);
        if !matters {
            return Next::Nothing;
        }
        if session.policy == Policy::Disconnect && cause != Cause::Resume {
            self.dismiss(id, Goodbye::TooSlow, Goodbye::TooSlow.sentence(), now);
            return Next::Left;
        }
        let (reason, counter) = match cause {
            Cause::Slow => ("slow", &self.meters.skips_slow),
            Cause::Resume => ("expired", &self.meters.skips_expired),
            Cause::Overrun => ("overrun", &self.meters.skips_overrun),
        };
        counter.increment(1);
        if session.format == Format::Raw {
            return Next::Nothing;
        }
        let mut out = Vec::new();
        Notice::Skipped { from: from.next(), to: position, reason }.put(&mut out);
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
        let Standing::Behind(behind) = &session.standing else { return };
        let cursor = behind.cursor;
        let standing = match &mut lane.pace {
            Some(pace) if cursor > pace.position => {
                pace.ahead.push(id);
                self.paced_due_ns = self.paced_due_ns.min(pace.due_ns);
                Standing::Ahead { seat: pace.ahead.len() as u32 - 1, cursor }
            }
            _ => {
                lane.in_step.push(id);
                Standing::InStep { seat: lane.in_step.len() as u32 - 1 }
            }
        };
        self.stand(id, standing);
    }
}

impl Behind {
    /// From here on only what is kept counts, up to `position`.
    fn skip_to(&mut self, position: Offset) {
        let walk = Walk { reached: self.cursor, until: position, known: None };
        *self = Behind::walking(position, walk);
    }
}
