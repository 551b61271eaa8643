//! What clients have begun to send and not ended: bounded in time for each, in bytes for all of a shard together.
//!
//! The time is that of the client alone: it stands still while the shard does not read on, because the client is
//! written to, has used up its second, or waits for its turn.

use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::{Session, Socket};
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

impl<S> Session<S> {
    /// It has used up what is read from one client in a second.
    pub fn is_throttled(&self, settings: &Settings) -> bool {
        self.messages >= settings.limits.messages_per_second_max
            || self.message_bytes >= settings.limits.inbound_bytes_per_second_max
    }

    /// A second has passed. True if it may be heard again that could not.
    pub fn pass_second(&mut self, settings: &Settings) -> bool {
        let was_throttled = self.is_throttled(settings);
        (self.messages, self.message_bytes, self.told_throttled) = (0, 0, false);
        was_throttled
    }

    /// The rest of a message is the client's to send, and has been for longer than it may be.
    pub fn dawdles(&mut self, settings: &Settings, now: Stamp) -> bool {
        if self.inbound_ns == 0 {
            return false;
        }
        if !self.takes_commands() || self.unheard || self.is_throttled(settings) {
            self.inbound_ns = now.mono_ns;
        }
        u128::from(now.mono_ns.saturating_sub(self.inbound_ns)) > settings.limits.message_timeout.as_nanos()
    }
}

impl<S: Socket> Shard<S> {
    /// Counts what the session's decoder holds, once it has taken or given something.
    pub(in crate::delivery) fn count_inbound(&mut self, id: SessionId, now: Stamp) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        // Bounded by the message limit, 1 MiB, and what a turn reads.
        let bytes = session.decoder.held_bytes() as u32;
        self.inbound_bytes = self.inbound_bytes + bytes as usize - session.inbound_bytes as usize;
        session.inbound_bytes = bytes;
        if session.decoder.is_empty() {
            session.inbound_ns = 0;
        } else if session.inbound_ns == 0 {
            session.inbound_ns = now.mono_ns;
        }
    }

    /// Says that the client has sent more than is read in a second, once in that second.
    pub(in crate::delivery) fn tell_throttled(&mut self, id: SessionId) {
        if !std::mem::replace(&mut self.sessions[id.0].told_throttled, true) {
            self.meters.throttled.increment(1);
        }
    }

    /// Ends the sessions that began first what they have not ended, if too much is held. An eighth is freed at once, so
    /// that this is rare.
    pub(in crate::delivery) fn shed_inbound(&mut self, now: Stamp) {
        let max = self.settings.limits.inbound_bytes_total_max;
        if self.inbound_bytes <= max {
            return;
        }
        let holds = self.sessions.iter().filter(|(_, it)| it.inbound_bytes > 0);
        let mut by_age: Vec<(u64, SessionId)> = holds.map(|(id, it)| (it.inbound_ns, SessionId(id))).collect();
        by_age.sort_unstable_by_key(|(since_ns, _)| *since_ns);
        for (_, id) in by_age {
            if self.inbound_bytes <= max - max / 8 {
                return;
            }
            self.dismiss(id, Goodbye::Overloaded, Goodbye::Overloaded.sentence(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::delivery::harness::{Harness, HarnessClient};

    const SECOND_NS: u64 = 1_000_000_000;

    fn send(stage: &mut Harness, puppet: &HarnessClient, bytes: &[u8]) {
        puppet.pipe.borrow_mut().to_server.extend(bytes);
        stage.shard.ready(puppet.id, true, stage.now);
    }

    /// The code of the close frame that is the last thing the client got.
    fn close_code(puppet: &HarnessClient) -> Option<u16> {
        let pipe = puppet.pipe.borrow();
        let at = pipe.to_client.iter().rposition(|byte| *byte == 0x88)?;
        let code = pipe.to_client.get(at + 2..at + 4)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }

    fn stage() -> Harness {
        let mut stage = Harness::open();
        stage.shard.settings.limits.message_timeout = std::time::Duration::from_secs(30);
        stage
    }

    #[test]
    fn a_message_that_does_not_end_in_time_ends_its_session_however_its_bytes_trickle() {
        let half = [&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b' '; 50]].concat();
        let header: &[u8] = &[0x81];
        let fragment: &[u8] = &[0x01, 0x81, 0, 0, 0, 0, b' '];
        let empty_fragment: &[u8] = &[0x00, 0x80, 0, 0, 0, 0];
        let ping: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
        for (what, first, then) in [
            ("silence", &half[..], &[][..]),
            ("a byte now and then", &half, b" "),
            ("half a header", header, &[]),
            ("a fragment and nothing", fragment, &[]),
            ("empty fragments", fragment, empty_fragment),
            ("pings inside a fragmented message", fragment, ping),
        ] {
            let mut stage = stage();
            let puppet = stage.join();
            send(&mut stage, &puppet, first);
            for second in 0..35 {
                stage.pass_second();
                stage.settle();
                if second % 5 == 0 && close_code(&puppet).is_none() {
                    send(&mut stage, &puppet, then);
                }
                assert!(second > 28 || close_code(&puppet).is_none(), "{what}: after {second} s");
            }
            assert_eq!(close_code(&puppet), Some(4411), "{what}");
            assert_eq!(stage.shard.inbound_bytes, 0);
        }
    }

    #[test]
    fn whole_messages_have_time_whatever_they_wait_for() {
        let mut stage = stage();
        stage.shard.settings.limits.messages_per_second_max = 1;
        let ping = [&[0x81, 0x80 | 13, 0, 0, 0, 0][..], br#"{"op":"ping"}"#].concat();
        let (throttled, blocked, slow) = (stage.join(), stage.join(), stage.join());
        send(&mut stage, &throttled, &ping.repeat(100));
        blocked.pipe.borrow_mut().room = 0;
        send(&mut stage, &blocked, &ping.repeat(3));
        for second in 0..90 {
            stage.pass_second();
            stage.settle();
            // Each message of the third one takes 18 seconds, and each has its own time.
            send(&mut stage, &slow, &ping[second % ping.len()..][..1]);
        }
        assert_eq!([&throttled, &blocked, &slow].map(close_code), [None; 3]);
        assert!(throttled.hear().len() > 80 && slow.hear().len() == 4);
        blocked.pipe.borrow_mut().room = 1000;
        stage.shard.ready(blocked.id, false, stage.now);
        for _ in 0..5 {
            stage.settle();
            stage.pass_second();
        }
        assert_eq!(blocked.hear().len(), 3);
    }

    #[test]
    fn beyond_the_bytes_of_all_those_that_began_first_are_ended() {
        const BYTES: usize = 10_000;
        let mut stage = stage();
        stage.shard.settings.limits.inbound_bytes_total_max = 40 * BYTES;
        let half = [&[0x81, 0x80 | 126, 0xFF, 0xFF, 0, 0, 0, 0][..], &vec![b' '; BYTES]].concat();
        let puppets: Vec<HarnessClient> = (0..100).map(|_| stage.join()).collect();
        for puppet in &puppets {
            stage.now.mono_ns += SECOND_NS / 100;
            send(&mut stage, puppet, &half);
            stage.turn();
            assert!(stage.shard.inbound_bytes <= 40 * BYTES, "{}", stage.shard.inbound_bytes);
        }
        stage.settle();
        let codes: Vec<Option<u16>> = puppets.iter().map(close_code).collect();
        let ended = codes.iter().position(Option::is_none).expect("the newest stay");
        assert!((60..70).contains(&ended), "the oldest: {ended}");
        assert!(codes[..ended].iter().all(|code| *code == Some(1013)));
        assert!(codes[ended..].iter().all(Option::is_none));
        for puppet in &puppets[ended..] {
            stage.vanish(puppet);
        }
        assert_eq!(stage.shard.inbound_bytes, 0);
    }
}
