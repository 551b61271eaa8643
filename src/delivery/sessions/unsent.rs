//! What a shard holds for clients that have not taken it, in bytes: each chunk counts once, however many share it.
//!
//! A chunk is told by where it ends in memory: what is left of it ends there for every session, and nothing else can
//! while one of them holds it. Only what a socket did not take at once is counted, so that a delivery costs nothing.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::Socket;
use crate::delivery::shard::Shard;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

#[derive(Default)]
pub struct Unsent {
    /// By the end of the chunk.
    chunks: HashMap<usize, UnsentChunk>,
    bytes: usize,
}

struct UnsentChunk {
    sessions: u32,
    bytes: usize,
    since_ns: u64,
}

/// Where the bytes end in memory.
pub fn end_of(bytes: &Bytes) -> usize {
    bytes.as_ptr() as usize + bytes.len()
}

impl Unsent {
    /// One more session holds the chunk that ends there and has so many bytes.
    pub fn hold(&mut self, end: usize, bytes: usize, now: Stamp) {
        let held = self.chunks.entry(end).or_insert(UnsentChunk { sessions: 0, bytes: 0, since_ns: now.mono_ns });
        held.sessions += 1;
        // One that joins late may have a smaller part of it.
        self.bytes += bytes.saturating_sub(held.bytes);
        held.bytes = held.bytes.max(bytes);
    }

    /// One session less holds it.
    pub fn release(&mut self, end: usize) {
        let held = self.chunks.get_mut(&end).expect("who lets a chunk go has held it");
        held.sessions -= 1;
        if held.sessions == 0 {
            self.bytes -= held.bytes;
            self.chunks.remove(&end);
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest chunks, without which at most `bytes_max` are held.
    fn oldest_beyond(&self, bytes_max: usize) -> HashSet<usize> {
        let mut by_age: Vec<(u64, usize, usize)> =
            self.chunks.iter().map(|(end, held)| (held.since_ns, *end, held.bytes)).collect();
        by_age.sort_unstable();
        let mut left = self.bytes;
        let spare = by_age.into_iter().take_while(|(_, _, bytes)| {
            let is_spare = left > bytes_max;
            left = left.saturating_sub(*bytes);
            is_spare
        });
        spare.map(|(_, end, _)| end).collect()
    }
}

impl<S: Socket> Shard<S> {
    /// Cuts the sessions that hold the oldest chunks, if too much is held. They are in the middle of a WireFrame and take
    /// nothing, so there is no place for a goodbye. An eighth is freed at once, so that this is rare.
    pub(in crate::delivery) fn shed_unsent(&mut self) {
        let max = self.settings.slow.unsent_bytes_total_max;
        if self.unsent.bytes() <= max {
            return;
        }
        let oldest = self.unsent.oldest_beyond(max - max / 8);
        let holds = self.sessions.iter().filter(|(_, it)| it.held && oldest.contains(&end_of(&it.unsent)));
        let spare: Vec<SessionId> = holds.map(|(id, _)| SessionId(id)).collect();
        tracing::debug!(sessions = spare.len(), "clients are cut that hold more than slow.unsent_bytes_total_max");
        for id in spare {
            self.end(id, Goodbye::Overloaded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::retention::Retention;
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::topic::Pattern;

    const LARGE: usize = 1 << 20;

    fn publish(stage: &mut Harness, topic: &str, bytes: usize) {
        let payload = Payload { bytes: format!("\"{}\"", "x".repeat(bytes - 2)).into(), kind: PayloadKind::Json };
        stage.publisher.publish(topic, payload, Retention::NEWEST, stage.now).expect("a good topic");
    }

    fn subscriber(stage: &mut Harness, pattern: &str) -> HarnessClient {
        let patterns = vec![Pattern::parse(pattern).expect("a pattern")];
        let puppet = stage.adopt(SessionOptions { patterns, ..SessionOptions::default() });
        stage.settle();
        puppet.hear();
        puppet
    }

    fn stall(puppet: &HarnessClient, room: usize) {
        puppet.pipe.borrow_mut().room = room;
    }

    #[test]
    fn clients_that_stall_in_one_large_frame_hold_it_once_and_so_they_do_when_they_are_told_goodbye() {
        let mut stage = Harness::open();
        let puppets: Vec<HarnessClient> = (0..60).map(|_| subscriber(&mut stage, "a")).collect();
        puppets.iter().enumerate().for_each(|(n, puppet)| stall(puppet, 1000 + n));
        publish(&mut stage, "a", LARGE);
        stage.settle();
        let held = stage.shard.unsent.bytes();
        assert!((LARGE..LARGE + 1000).contains(&held), "{held}");

        stage.shard.drain(|| 7);
        stage.settle();
        let ends: HashSet<usize> = puppets.iter().map(|it| end_of(&stage.shard.sessions[it.id.0].unsent)).collect();
        assert_eq!(ends.len(), 1, "nobody has a copy");
        assert_eq!(stage.shard.unsent.bytes(), held);
        for puppet in &puppets {
            stall(puppet, LARGE * 2);
            stage.shard.ready(puppet.id, false, stage.now);
        }
        stage.settle();
        for puppet in &puppets {
            assert!(puppet.pipe.borrow().to_client.ends_with(Goodbye::Draining.sentence().as_bytes()), "a close frame");
            let heard = puppet.hear();
            assert_eq!((&heard[0]["topic"], &heard[1]["op"]), (&"a".into(), &"goodbye".into()));
            assert_eq!(heard[1]["reconnect_ms"], 7);
        }
        assert_eq!(stage.shard.unsent.bytes(), 0);
    }

    #[test]
    fn beyond_the_bytes_of_all_those_that_hold_the_oldest_are_cut() {
        let mut stage = Harness::open();
        stage.shard.settings.slow.unsent_bytes_total_max = 16 * LARGE;
        let puppets: Vec<HarnessClient> = (0..40).map(|n| subscriber(&mut stage, &format!("t{n}"))).collect();
        let reader = subscriber(&mut stage, ">");
        for (n, puppet) in puppets.iter().enumerate() {
            stall(puppet, 100);
            stage.now.mono_ns += 1_000_000;
            publish(&mut stage, &format!("t{n}"), LARGE);
            stage.turn();
        }
        stage.settle();
        let there = |puppet: &&HarnessClient| stage.shard.sessions.contains(puppet.id.0);
        let cut = puppets.iter().position(|puppet| there(&puppet)).expect("the newest are there");
        assert!((24..=27).contains(&cut), "{cut} of 40");
        assert!(puppets[cut..].iter().all(|puppet| there(&puppet)));
        assert_eq!(reader.hear().len(), 40, "who reads has lost nothing");
        puppets[cut..].iter().for_each(|puppet| stage.vanish(puppet));
        assert_eq!(stage.shard.unsent.bytes(), 0);
    }

    #[test]
    fn clients_that_catch_up_while_much_is_held_get_single_frames_that_all_share() {
        const FRAMES: usize = 200;
        let mut stage = Harness::open();
        (0..FRAMES).for_each(|n| publish(&mut stage, &format!("t{n}"), 1000));
        let join = |stage: &mut Harness| {
            let patterns = vec![Pattern::parse(">").expect("a pattern")];
            let puppet = stage.adopt(SessionOptions { patterns, ..SessionOptions::default() });
            stall(&puppet, 0);
            stage.settle();
            stage.shard.sessions[puppet.id.0].unsent.len()
        };
        // The answer to the subscription is held first; a slice follows once the socket takes something.
        stage.shard.settings.slow.unsent_bytes_total_max = 1 << 20;
        let crowd: Vec<usize> = (0..4).map(|_| join(&mut stage)).collect();
        assert!(crowd.iter().all(|held| *held > 0));
        for scarce in [false, true] {
            if scarce {
                stage.shard.settings.slow.unsent_bytes_total_max = stage.shard.unsent.bytes();
            }
            let puppet = stage.adopt(SessionOptions {
                patterns: vec![Pattern::parse(">").expect("a pattern")],
                ..SessionOptions::default()
            });
            stall(&puppet, 1000);
            stage.settle();
            let held = stage.shard.sessions[puppet.id.0].unsent.len();
            assert!(held > 0 && (held <= 1200) == scarce, "{held} bytes");
            stage.vanish(&puppet);
            stage.settle();
        }
    }
}
