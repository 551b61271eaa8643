//! How sessions end: a goodbye after what is unsent, then the socket's end; when all have to go, some in each turn.

use std::time::Duration;

use bytes::Bytes;

use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::sync_state::SessionEnd;
use crate::delivery::shard::Shard;
use crate::delivery::shard::draining::{DRAIN_PART, Draining};
use crate::delivery::transport::socket::Socket;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// How long a session that has sent its goodbye may take to end the connection itself.
const LEAVE_NS: u64 = 1_000_000_000;

/// A part of `spread_ms` for a session: its number is spread by the golden ratio, so that sessions that leave together come
/// back one by one.
pub(super) fn spread_by_number(number: u64, spread_ms: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % spread_ms.saturating_add(1)
}

impl<S: Socket> Shard<S> {
    /// Ends every session with a goodbye, some in each turn, and from now on those that join at once; `reconnect_ms`
    /// gives each its delay.
    pub fn drain(&mut self, reconnect_ms: impl FnMut() -> u64 + Send + 'static) {
        self.draining = Some(Draining::new(reconnect_ms));
    }

    /// The same in waves over this time, each with a tenth of a second.
    pub fn drain_in_waves(&mut self, spread: Duration, reconnect_ms: impl FnMut() -> u64 + Send + 'static) {
        self.draining = Some(Draining::in_waves(spread, reconnect_ms));
    }

    /// Begins the next wave of those that leave.
    pub(super) fn tick_draining(&mut self, now: Stamp) {
        let sessions = self.sessions.len();
        if let Some(draining) = &mut self.draining {
            draining.tick(sessions, now.mono_ns);
        }
    }

    /// Whether sessions are left without a goodbye.
    pub(super) fn has_to_drain(&self) -> bool {
        self.draining.as_ref().is_some_and(|draining| draining.is_before(self.sessions.capacity()))
    }

    /// The part of one turn.
    pub(super) fn drain_part(&mut self, now: Stamp) {
        let end = self.sessions.capacity();
        for _ in 0..DRAIN_PART {
            let Some(number) = self.draining.as_mut().and_then(|draining| draining.take_number(end)) else { return };
            self.drain_one(SessionId(number), now);
        }
    }

    /// Ends a session with a goodbye if the shard drains.
    pub(super) fn drain_one(&mut self, id: SessionId, now: Stamp) {
        let Some(draining) = &mut self.draining else { return };
        if self.sessions.get(id).is_some_and(|session| !session.is_leaving()) {
            let reconnect_ms = draining.reconnect_ms();
            self.dismiss_for(id, Goodbye::Draining, reconnect_ms, now);
        }
    }

    /// Ends a session whose query was refused, if its client can say nothing else, or would not know.
    pub(super) fn dismiss_mute(&mut self, id: SessionId, now: Stamp) {
        if self.sessions[id].is_mute() || self.sessions[id].is_told_nothing() {
            self.dismiss(id, Goodbye::Refused, Goodbye::Refused.sentence(), now);
        }
    }

    /// Ends a session whose client may come back after a delay.
    pub(super) fn dismiss_for(&mut self, id: SessionId, goodbye: Goodbye, reconnect_ms: u64, now: Stamp) {
        let Some(session) = self.sessions.get(id).filter(|session| !session.is_leaving()) else { return };
        let (mut tail, code, message) = (Vec::new(), goodbye.label(), goodbye.sentence());
        ServerMessage::Goodbye { code, message, reconnect_ms }.put(session.encoding(), &mut tail);
        self.put_last_words(id, goodbye, now, &mut tail);
        session.transport().put_goodbye(goodbye, message, &mut tail);
        self.leave_with(id, goodbye, (message, tail), now);
    }

    /// Starts the end of a session: off its lane, a goodbye with the sentence, then the socket's end.
    pub(super) fn dismiss(&mut self, id: SessionId, goodbye: Goodbye, sentence: &str, now: Stamp) {
        let Some(session) = self.sessions.get(id).filter(|session| !session.is_leaving()) else { return };
        let mut tail = Vec::new();
        self.put_last_words(id, goodbye, now, &mut tail);
        session.transport().put_goodbye(goodbye, sentence, &mut tail);
        self.leave_with(id, goodbye, (sentence, tail), now);
    }

    /// `tail` follows what is unsent, which stays shared with all others that have not taken it.
    pub(super) fn leave_with(
        &mut self,
        id: SessionId,
        goodbye: Goodbye,
        (sentence, tail): (&str, Vec<u8>),
        now: Stamp,
    ) {
        // A client that is to reconnect may be slow to read it; `drain.timeout` bounds all of them together.
        let is_patient = goodbye == Goodbye::Draining;
        let deadline_ns = if is_patient { u64::MAX } else { now.mono_ns + LEAVE_NS };
        self.give_back(id, sentence, SessionEnd { goodbye, deadline_ns, said: false, tail: tail.into() });
        self.sessions.forget_inbound(id, now);
        self.sessions.enqueue(id);
    }

    /// Gives back what the session has: its slot, its lane, its requests.
    fn give_back(&mut self, id: SessionId, sentence: &str, end: SessionEnd) {
        self.keep_end(id, end.goodbye, sentence);
        self.forget_end(id);
        self.sessions.leave_lane(id, end, &mut self.lanes);
        self.requests.forget(self.sessions[id].requests.take());
    }

    /// Sends the rest and the goodbye; then waits for the client to end the connection, up to the deadline (`sweep`).
    pub(super) fn leave(&mut self, id: SessionId, now: Stamp) {
        while self.flush(id, now) {
            let session = &mut self.sessions[id];
            let Some(end) = session.end_mut().filter(|end| !end.said) else { return };
            if !end.tail.is_empty() {
                let tail = std::mem::take(&mut end.tail);
                self.sessions.send(id, tail, Compression::Plain);
                continue;
            }
            end.said = true;
            end.deadline_ns = now.mono_ns + LEAVE_NS;
            session.shutdown_write();
        }
    }

    /// Forgets the session and closes its socket.
    pub(super) fn end(&mut self, id: SessionId, goodbye: Goodbye) {
        let Some(session) = self.sessions.get(id) else { return };
        let reason = session.goodbye().unwrap_or(goodbye);
        if !session.is_leaving() {
            let end = SessionEnd { goodbye, deadline_ns: 0, said: true, tail: Bytes::new() };
            self.give_back(id, goodbye.sentence(), end);
        }
        self.record_close(&self.sessions[id], reason);
        let is_canary = self.sessions[id].is_canary;
        self.sessions.remove(id);
        if !is_canary {
            self.load.leave();
            self.meters.goodbye(reason);
        }
    }

    /// Ends the sessions with the oldest unfinished messages, if too many bytes of such messages are held. An eighth is
    /// freed at once, so that this is rare.
    pub(super) fn shed_inbound(&mut self, now: Stamp) {
        let max = self.settings.limits.inbound_bytes_total_max;
        if self.sessions.inbound_bytes() <= max {
            return;
        }
        for id in self.sessions.by_age_of_inbound() {
            if self.sessions.inbound_bytes() <= max - max / 8 {
                return;
            }
            self.dismiss(id, Goodbye::Overloaded, Goodbye::Overloaded.sentence(), now);
        }
    }

    /// Disconnects the sessions that hold the oldest chunks, if too much is unsent. They are in the middle of a chunk
    /// and take nothing, so there is no place for a goodbye. An eighth is freed at once, so that this is rare.
    pub(super) fn shed_unsent(&mut self) {
        let max = self.settings.slow.unsent_bytes_total_max;
        if self.sessions.unsent_bytes() <= max {
            return;
        }
        let oldest = self.sessions.holding_oldest(max - max / 8);
        tracing::debug!(
            sessions = oldest.len(),
            "disconnecting the clients that hold the oldest bytes beyond slow.unsent_bytes_total_max"
        );
        for id in oldest {
            self.end(id, Goodbye::Overloaded);
        }
    }
}

#[cfg(test)]
mod tests;
