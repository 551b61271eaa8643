//! From the ring to the sockets: new frames become one contiguous chunk per lane and round, sent once to each in step.

use bytes::Bytes;

use crate::delivery::catch_up::CatchUpCause;
use crate::delivery::chunk::Chunk;
use crate::delivery::lanes::lane::SlotList;
use crate::delivery::lanes::stream::{Due, Reference};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::writes::{Flushed, Taken};
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Which sessions of a lane receive a chunk.
#[derive(Clone, Copy)]
enum Recipients<'s> {
    List(SlotList),
    Sessions(&'s [SessionId]),
}

impl<S: Socket> Shard<S> {
    /// Takes new frames from the ring and sends them to everyone in step. One round is bounded; `has_work` says whether
    /// another one is due.
    pub fn round(&mut self, now: Stamp) {
        self.expire(now);
        let end = self.log.round_end();
        let mut round = std::mem::take(&mut self.round);
        let work = (self.budgets.matches.per_turn(), &mut self.encoder);
        if !self.log.take_frames(&mut self.lanes, &mut round, &end, work) {
            self.overrun();
        }
        for lane in self.lanes.take_with_fresh() {
            let fresh = self.lanes.take_fresh(lane);
            if self.lanes[lane].audience() > 0 {
                let due = fresh.iter().map(|fresh| Due {
                    frame: &round[fresh.place as usize],
                    lookback: fresh.lookback,
                    position: fresh.position,
                    reference: Reference::Topic,
                });
                let due: Vec<Due<'_>> = due.collect();
                self.written.push(due[0].frame.received);
                self.deliver_frames(lane, &due, now);
            }
            self.lanes.reuse_fresh(lane, fresh);
        }
        round.clear();
        self.round = round;
        if self.paced_due_ns() <= now.mono_ns {
            self.flush_paced(now);
        }
        if self.log.take_feed(end) {
            self.announce_feed(now);
        }
    }

    /// Takes all frames up to now from the ring, for a shard that was not rung for them.
    pub fn follow(&mut self, now: Stamp) {
        let head = self.log.reader().head();
        loop {
            let before = self.log.offset();
            self.round(now);
            // Without a step forward the publisher is a whole ring ahead again; the rounds that follow try on.
            if self.log.offset() >= head || self.log.offset() == before {
                return;
            }
        }
    }

    /// The publisher was a whole ring ahead: everyone falls behind, and the index starts over from what is retained.
    fn overrun(&mut self) {
        let unpaced = self.lanes.iter().filter(|(_, lane)| !lane.is_paced());
        let everyone: Vec<SessionId> = unpaced.flat_map(|(_, lane)| lane.everyone_in_step()).collect();
        for id in everyone {
            self.fall_behind(id);
            if let Some(catch_up) = self.sessions[id].catch_up_mut() {
                catch_up.cause = CatchUpCause::Overrun;
            }
        }
        self.log.start_over(&mut self.lanes);
    }

    /// Sends frames, at least one, to everyone in step: one chunk to those on board of the lane's window, one to all
    /// others; or several, while some of these have not been in step for long.
    pub(super) fn deliver_frames(&mut self, lane: LaneId, due: &[Due<'_>], now: Stamp) {
        let position = due[0].position;
        let (level, settings) = (self.settings.compression.level, self.settings.window());
        if let Some(first) = self.lanes.board(lane, position, level, &settings) {
            self.sessions.set_slots(&self.lanes[lane], first);
        }
        if let Some(chunk) = self.lanes.window_chunk(lane, due, &mut self.encoder) {
            self.deliver(lane, Recipients::List(SlotList::Boarded), &chunk, now);
        }
        let Some(open) = self.lanes.get(lane).filter(|lane| !lane.slots(SlotList::InStep).is_empty()) else { return };
        if let Some(since) = open.known_since(position) {
            let chunk = self.lanes.chunk(lane, due, since, (self.log.reader(), &mut self.encoder));
            return self.deliver(lane, Recipients::List(SlotList::InStep), &chunk, now);
        }
        for (since, sessions) in open.by_arrival(position) {
            if self.lanes.get(lane).is_some() {
                let chunk = self.lanes.chunk(lane, due, since, (self.log.reader(), &mut self.encoder));
                self.deliver(lane, Recipients::Sessions(&sessions), &chunk, now);
            }
        }
    }

    /// Sends messages of the server to everyone in step. Sessions that are behind or ahead do not receive them: the
    /// caller marks those, and `catch_up_with_feed` sends the messages to them.
    pub(super) fn deliver_messages(&mut self, lane: LaneId, bytes: impl Into<Bytes>, now: Stamp) {
        let chunk = Chunk::messages(bytes);
        for list in [SlotList::Boarded, SlotList::InStep] {
            if self.lanes.get(lane).is_some() {
                self.deliver(lane, Recipients::List(list), &chunk, now);
            }
        }
    }

    /// Sends one chunk to sessions of a lane. A session that does not take all of it keeps the rest, and returns
    /// by catch-up.
    fn deliver(&mut self, lane_id: LaneId, recipients: Recipients<'_>, chunk: &Chunk, now: Stamp) {
        if chunk.bytes.is_empty() {
            // Nothing but topic statuses, in the raw format.
            return;
        }
        self.lanes.mark_sent(lane_id, now);
        let lane = &self.lanes[lane_id];
        let recipients = match recipients {
            Recipients::List(list) => lane.slots(list),
            Recipients::Sessions(sessions) => sessions,
        };
        let mut stragglers: Vec<(SessionId, Taken)> = Vec::new();
        for id in recipients {
            match self.sessions.write(*id, &chunk.bytes) {
                Taken::Whole => {}
                taken => stragglers.push((*id, taken)),
            }
        }
        let whole = recipients.len() - stragglers.len();
        self.meters.delivered(chunk, recipients.len());
        self.meters.sent(lane.key().format, chunk.compression, chunk.bytes.len() * whole);
        for (id, taken) in stragglers {
            let Taken::Part(taken) = taken else {
                self.end(id, Goodbye::ConnectionLost);
                continue;
            };
            self.meters.sent(self.sessions[id].format, chunk.compression, taken);
            self.sessions.keep_rest(id, chunk, taken, now);
            self.fall_behind(id);
        }
    }

    /// Leaves the lane's step: from now on the session has a cursor of its own.
    pub(super) fn fall_behind(&mut self, id: SessionId) {
        self.sessions.fall_behind(id, &mut self.lanes, self.log.offset());
    }

    /// Writes what is unsent. True if nothing is left; false if the socket takes no more, or the session has ended.
    pub(super) fn flush(&mut self, id: SessionId, now: Stamp) -> bool {
        if !self.sessions.contains(id) {
            return false;
        }
        match self.sessions.flush(id, &self.meters, now) {
            Flushed::Whole => true,
            Flushed::Part => false,
            Flushed::Lost => {
                self.end(id, Goodbye::ConnectionLost);
                false
            }
        }
    }
}
