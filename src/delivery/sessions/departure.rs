//! How sessions end: a goodbye and a close frame after what is unsent, then the socket's end; when all have to go, some
//! in each turn.

use std::io::ErrorKind;

use bytes::Bytes;

use crate::delivery::catch_up::path::Compression;
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::{SessionEnd, Socket, SyncState};
use crate::delivery::sessions::unsent::end_of;
use crate::delivery::shard::Shard;
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::wire::frame::{Opcode, put_close, put_header};
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// How long a session that was told goodbye may take to end the connection itself.
const LEAVE_NS: u64 = 1_000_000_000;
/// Sessions that are told goodbye in one turn of a shard that drains: 256 of some 10 us (a write, a shutdown, a read)
/// keep it below 3 ms, and the others get their frames in between.
const DRAIN_PART: usize = 256;

/// How a shard tells all its sessions goodbye.
pub struct Draining {
    /// Gives each its delay.
    reconnect_ms: Box<dyn FnMut() -> u64 + Send>,
    /// The seat that is next; newcomers do not wait for it.
    next: usize,
}

impl<S: Socket> Shard<S> {
    /// Ends every session with a goodbye, some in each turn, and from now on newcomers at once; `reconnect_ms` gives each
    /// its delay.
    pub fn drain(&mut self, reconnect_ms: impl FnMut() -> u64 + Send + 'static) {
        self.draining = Some(Draining { reconnect_ms: Box::new(reconnect_ms), next: 0 });
    }

    /// Whether there are sessions that it has not come to.
    pub(in crate::delivery) fn has_to_drain(&self) -> bool {
        self.draining.as_ref().is_some_and(|draining| draining.next < self.sessions.capacity())
    }

    /// The part of one turn.
    pub(in crate::delivery) fn drain_on(&mut self, now: Stamp) {
        let seats = self.sessions.capacity();
        let Some(draining) = &mut self.draining else { return };
        let first = draining.next;
        draining.next = (first + DRAIN_PART).min(seats).max(first);
        for seat in first..draining.next {
            self.send_away(SessionId(seat), now);
        }
    }

    /// Tells a session goodbye if the shard drains.
    pub(in crate::delivery) fn send_away(&mut self, id: SessionId, now: Stamp) {
        let Some(draining) = &mut self.draining else { return };
        let Some(session) = self.sessions.get(id.0) else { return };
        if matches!(session.standing, SyncState::Leaving(_)) {
            return;
        }
        let goodbye = Goodbye::Draining;
        let (code, message) = (goodbye.label(), goodbye.sentence());
        let mut tail = Vec::new();
        if session.format == Format::Envelope {
            ServerMessage::Goodbye { code, message, reconnect_ms: (draining.reconnect_ms)() }.put(&mut tail);
        }
        self.bid(id, goodbye, closing(tail, goodbye, message), now);
    }

    /// Starts the end of a session: off its lane, a close frame with the sentence, then the socket's end.
    pub(in crate::delivery) fn dismiss(&mut self, id: SessionId, goodbye: Goodbye, sentence: &str, now: Stamp) {
        let Some(session) = self.sessions.get(id.0) else { return };
        if !matches!(session.standing, SyncState::Leaving(_)) {
            self.bid(id, goodbye, closing(Vec::new(), goodbye, sentence), now);
        }
    }

    /// Answers the client's close frame with the same code (RFC 6455 section 5.5.1), after the answers to what it said.
    pub(in crate::delivery) fn answer_close(&mut self, id: SessionId, code: Option<u16>, answers: Vec<u8>, now: Stamp) {
        let mut tail = answers;
        match code {
            Some(code) => put_close(&mut tail, code, ""),
            None => put_header(&mut tail, Opcode::Close, false, 0),
        }
        self.bid(id, Goodbye::ClientClosed, tail, now);
    }

    /// `tail` follows what is unsent, which stays shared with whoever else has not taken it.
    fn bid(&mut self, id: SessionId, goodbye: Goodbye, tail: Vec<u8>, now: Stamp) {
        self.give_up(id);
        self.sessions[id.0].decoder.clear();
        self.count_inbound(id, now);
        // Whoever is told to come back later may be slow to read it; `drain.timeout` bounds all of them together.
        let patient = goodbye == Goodbye::Draining;
        let deadline_ns = if patient { u64::MAX } else { now.mono_ns + LEAVE_NS };
        let leaving = SessionEnd { goodbye, deadline_ns, said: false, tail: tail.into() };
        self.stand(id, SyncState::Leaving(Box::new(leaving)));
        self.enqueue(id);
    }

    /// Sends the rest and the goodbye; then waits for the client to end the connection, up to the deadline (`sweep`).
    pub(in crate::delivery) fn leave(&mut self, id: SessionId, now: Stamp) {
        while self.flush(id, now) {
            let session = &mut self.sessions[id.0];
            let SyncState::Leaving(leaving) = &mut session.standing else { return };
            if leaving.said {
                return;
            }
            if !leaving.tail.is_empty() {
                (session.unsent, session.unsent_form) = (std::mem::take(&mut leaving.tail), Compression::Plain);
                continue;
            }
            leaving.said = true;
            leaving.deadline_ns = now.mono_ns + LEAVE_NS;
            // A peer that is gone already is found by the read that follows.
            let _ = session.socket.shutdown_write();
            session.readable = true;
        }
    }

    /// Reads and forgets what still comes from a client to whom goodbye was said. False if there is nothing to read.
    pub(in crate::delivery) fn hear_end(&mut self, id: SessionId) -> bool {
        let session = &mut self.sessions[id.0];
        match session.socket.read(&mut self.read_buffer) {
            Ok(bytes) if bytes > 0 => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            _ => {
                self.end(id, Goodbye::ConnectionLost);
                false
            }
        }
    }

    /// Gives back what the session has: its seat, its lane, its answers.
    fn give_up(&mut self, id: SessionId) {
        self.unseat(id);
        self.quit_lane(id);
        self.forget_asks(id);
    }

    /// Forgets the session and closes its socket.
    pub(in crate::delivery) fn end(&mut self, id: SessionId, goodbye: Goodbye) {
        let Some(session) = self.sessions.get(id.0) else { return };
        let reason = match &session.standing {
            SyncState::Leaving(leaving) => leaving.goodbye,
            _ => {
                self.give_up(id);
                let gone = SessionEnd { goodbye, deadline_ns: 0, said: true, tail: Bytes::new() };
                self.stand(id, SyncState::Leaving(Box::new(gone)));
                goodbye
            }
        };
        let session = self.sessions.remove(id.0);
        self.inbound_bytes -= session.inbound_bytes as usize;
        if session.held {
            self.unsent.release(end_of(&session.unsent));
        }
        self.load.leave();
        self.meters.goodbye(reason);
    }
}

/// A close frame, where somebody is there to read it, after what there is.
fn closing(mut tail: Vec<u8>, goodbye: Goodbye, sentence: &str) -> Vec<u8> {
    if let Some(code) = goodbye.close_code() {
        put_close(&mut tail, code, sentence);
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::feed_state::{FeedState, StaleReason};
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::settings::table::OnStale;
    use crate::words::topic::Pattern;

    fn subscriber(stage: &mut Harness, format: Format) -> HarnessClient {
        let patterns = vec![Pattern::parse("a").expect("a pattern")];
        let puppet = stage.adopt(SessionOptions { patterns, format, ..SessionOptions::default() });
        stage.settle();
        puppet.hear();
        puppet
    }

    fn has_gone(puppet: &HarnessClient) -> bool {
        puppet.hear().iter().any(|message| message["op"] == "goodbye")
    }

    #[test]
    fn a_drain_tells_some_sessions_in_each_turn_and_the_others_go_on() {
        let mut stage = Harness::open();
        let puppets: Vec<HarnessClient> =
            (0..DRAIN_PART * 4).map(|_| subscriber(&mut stage, Format::Envelope)).collect();
        stage.shard.drain(|| 1);
        let mut gone = vec![false; puppets.len()];
        for turn in 1..=4 {
            assert!(stage.shard.has_work(), "turn {turn}");
            stage.publish("a");
            stage.turn();
            for (puppet, gone) in puppets.iter().zip(&mut gone).filter(|(_, gone)| !**gone) {
                let heard = puppet.hear();
                assert_eq!(heard[0]["topic"], "a", "turn {turn}: a frame before the goodbye");
                *gone = heard.iter().any(|message| message["op"] == "goodbye");
            }
            assert_eq!(gone.iter().filter(|gone| **gone).count(), DRAIN_PART * turn);
        }
        let newcomer = stage.adopt(SessionOptions::default());
        stage.settle();
        assert!(has_gone(&newcomer), "newcomers do not wait");
        assert!(!stage.shard.has_work());
    }

    #[test]
    fn raw_sessions_leave_a_stale_feed_within_a_second_and_not_all_at_once() {
        let stale =
            FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 1, message: "it is down".to_string() };
        for (ends, code) in [(true, Some([3, 245])), (false, None)] {
            let mut stage = Harness::open();
            stage.shard.settings.raw.on_stale = if ends { OnStale::Close } else { OnStale::Keep };
            let raw: Vec<HarnessClient> = (0..40).map(|_| subscriber(&mut stage, Format::Raw)).collect();
            let told = subscriber(&mut stage, Format::Envelope);
            stage.pass_second();
            stage.publisher.announce(stale.clone());
            stage.settle();
            stage.pass_second();
            stage.settle();
            assert_eq!(raw.iter().filter(|it| !it.pipe.borrow().to_client.is_empty()).count(), 0, "before any data");
            stage.publisher.announce(FeedState::Live);
            stage.settle();
            stage.publish("a");
            stage.publisher.announce(stale.clone());
            stage.settle();
            let told_so = || raw.iter().filter(|it| it.pipe.borrow().to_client.get(4) == Some(&0x88)).count();
            for _ in 0..11 {
                let before = told_so();
                stage.now.mono_ns += 100_000_000;
                stage.shard.tick(stage.now);
                stage.settle();
                assert!(told_so() - before <= 10, "of 40 in a tenth of a second");
            }
            for puppet in &raw {
                let heard = puppet.pipe.borrow().to_client.clone();
                assert!(heard.starts_with(&[0x81, 2, b'{', b'}']), "what there was comes first: {heard:?}");
                let found = (heard.get(4) == Some(&0x88)).then(|| [heard[6], heard[7]]);
                assert_eq!(found, code, "1013 in {heard:?}");
            }
            let heard = told.hear();
            let ops: Vec<&str> = heard.iter().filter_map(|message| message["op"].as_str()).collect();
            assert_eq!(ops, ["stale", "live", "stale"]);
        }
    }
}
