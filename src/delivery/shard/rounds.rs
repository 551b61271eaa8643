//! From the ring to the sockets: new frames become one contiguous chunk per lane and round, sent once to each in step.

use bytes::Bytes;

use crate::delivery::catch_up::CatchUpCause;
use crate::delivery::chunk::Chunk;
#[cfg(test)]
use crate::delivery::chunk::Compression;
use crate::delivery::lanes::lane::SlotList;
use crate::delivery::lanes::lane_key::CompressionMode;
use crate::delivery::lanes::stream::{Due, Reference};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::writes::{Flushed, Taken};
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::encoding::Framing;
#[cfg(test)]
use crate::protocol::server_message::ServerMessage;
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
                let from = due[0].frame.offset;
                self.deliver_frames(lane, &due, now);
                self.end_at_gap(lane, from, now);
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
            self.end_after_loss(now);
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
        let is_one_stream = self.lanes[lane].key().compression == CompressionMode::Gzip;
        let position = if is_one_stream { self.lanes.stream_position(lane) } else { due[0].position };
        let (level, settings) = (self.settings.compression.level, self.settings.window());
        if let Some(first) = self.lanes.board(lane, position, level, &settings) {
            self.sessions.set_slots(&self.lanes[lane], first);
        }
        if let Some(chunk) = self.lanes.window_chunk(lane, due, &mut self.encoder) {
            self.deliver(lane, Recipients::List(SlotList::Boarded), &chunk, now);
        }
        if is_one_stream {
            if self.lanes.get(lane).is_some_and(|lane| !lane.slots(SlotList::InStep).is_empty()) {
                let chunk = self.lanes.chunk(lane, due, 0, (self.log.reader(), &mut self.encoder));
                self.deliver(lane, Recipients::List(SlotList::InStep), &chunk, now);
            }
            return self.lanes.pass(lane, due, &mut self.encoder);
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
        if let Some(first) = self.lanes.interrupt(lane) {
            self.sessions.set_disembarked(&self.lanes[lane], first);
        }
    }

    /// A session that reads all that it is sent as one stream leaves the lane's before it is sent something of its own.
    pub(super) fn step_aside(&mut self, id: SessionId) {
        let session = &self.sessions[id];
        if matches!(session.encoding().framing, Framing::Gzip(_)) && session.state().is_settled() {
            self.fall_behind(id);
        }
    }

    /// Sends a message to one session alone, as before its token ends.
    #[cfg(test)]
    pub fn say_alone(&mut self, id: SessionId, now: Stamp) {
        if self.sessions[id].is_clear() {
            let mut out = Vec::new();
            ServerMessage::TokenExpiring { expires_ms: 1, ts: 1 }.put(self.sessions[id].encoding(), &mut out);
            self.step_aside(id);
            self.sessions.send(id, out, Compression::Plain);
            self.flush_or_fall_behind(id, now);
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
