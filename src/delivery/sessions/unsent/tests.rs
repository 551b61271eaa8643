//! What is held for clients that do not read is counted once and bounded.

use super::*;
use crate::bus::retention::Retention;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::goodbye::Goodbye;
use crate::words::topic::Pattern;

const LARGE: usize = 1 << 20;

fn publish(harness: &mut Harness, topic: &str, bytes: usize) {
    let payload = Payload { bytes: format!("\"{}\"", "x".repeat(bytes - 2)).into(), kind: PayloadKind::Json };
    harness.publisher.publish(topic, payload, Retention::NEWEST, harness.now).expect("a good topic");
}

fn subscriber(harness: &mut Harness, pattern: &str) -> HarnessClient {
    let patterns = vec![Pattern::parse(pattern).expect("a pattern")];
    let client = harness.adopt(SessionOptions { patterns, ..SessionOptions::default() });
    harness.settle();
    client.received();
    client
}

fn stall(client: &HarnessClient, room: usize) {
    client.pipe.borrow_mut().room = room;
}

#[test]
fn clients_that_stall_in_one_large_frame_hold_it_once_and_so_they_do_when_they_are_dismissed() {
    let mut harness = Harness::open();
    let clients: Vec<HarnessClient> = (0..60).map(|_| subscriber(&mut harness, "a")).collect();
    clients.iter().enumerate().for_each(|(n, client)| stall(client, 1000 + n));
    publish(&mut harness, "a", LARGE);
    harness.settle();
    let held = harness.shard.sessions.unsent_bytes();
    assert!((LARGE..LARGE + 1000).contains(&held), "{held}");

    harness.shard.drain(|| 7);
    harness.settle();
    let ends: HashSet<usize> = clients.iter().map(|it| end_of(harness.shard.sessions[it.id].unsent())).collect();
    assert_eq!(ends.len(), 1, "no session has a copy");
    assert_eq!(harness.shard.sessions.unsent_bytes(), held);
    for client in &clients {
        stall(client, LARGE * 2);
        harness.shard.ready(client.id, false, harness.now);
    }
    harness.settle();
    for client in &clients {
        assert!(client.pipe.borrow().to_client.ends_with(Goodbye::Draining.sentence().as_bytes()), "a close frame");
        let heard = client.received();
        assert_eq!((&heard[0]["topic"], &heard[1]["op"]), (&"a".into(), &"goodbye".into()));
        assert_eq!(heard[1]["reconnect_ms"], 7);
    }
    assert_eq!(harness.shard.sessions.unsent_bytes(), 0);
}

#[test]
fn beyond_the_bytes_of_all_those_that_hold_the_oldest_are_cut() {
    let mut harness = Harness::open();
    harness.shard.settings.unsent_bytes_total_max = 16 * LARGE;
    let clients: Vec<HarnessClient> = (0..40).map(|n| subscriber(&mut harness, &format!("t{n}"))).collect();
    let reader = subscriber(&mut harness, ">");
    for (n, client) in clients.iter().enumerate() {
        stall(client, 100);
        harness.now.mono_ns += 1_000_000;
        publish(&mut harness, &format!("t{n}"), LARGE);
        harness.turn();
    }
    harness.settle();
    let there = |client: &&HarnessClient| harness.shard.sessions.contains(client.id);
    let cut = clients.iter().position(|client| there(&client)).expect("the newest are there");
    assert!((24..=27).contains(&cut), "{cut} of 40");
    assert!(clients[cut..].iter().all(|client| there(&client)));
    assert_eq!(reader.received().len(), 40, "a client that reads has lost nothing");
    clients[cut..].iter().for_each(|client| harness.vanish(client));
    assert_eq!(harness.shard.sessions.unsent_bytes(), 0);
}

#[test]
fn clients_that_catch_up_while_much_is_held_get_single_frames_that_all_share() {
    const FRAMES: usize = 200;
    let mut harness = Harness::open();
    (0..FRAMES).for_each(|n| publish(&mut harness, &format!("t{n}"), 1000));
    let join = |harness: &mut Harness| {
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let client = harness.adopt(SessionOptions { patterns, ..SessionOptions::default() });
        stall(&client, 0);
        harness.settle();
        harness.shard.sessions[client.id].unsent().len()
    };
    // The answer to the subscription is held first; a slice follows once the socket takes something.
    harness.shard.settings.unsent_bytes_total_max = 1 << 20;
    let crowd: Vec<usize> = (0..4).map(|_| join(&mut harness)).collect();
    assert!(crowd.iter().all(|held| *held > 0));
    for scarce in [false, true] {
        if scarce {
            harness.shard.settings.unsent_bytes_total_max = harness.shard.sessions.unsent_bytes();
        }
        let client = harness.adopt(SessionOptions {
            patterns: vec![Pattern::parse(">").expect("a pattern")],
            ..SessionOptions::default()
        });
        stall(&client, 1000);
        harness.settle();
        let held = harness.shard.sessions[client.id].unsent().len();
        assert!(held > 0 && (held <= 1200) == scarce, "{held} bytes");
        harness.vanish(&client);
        harness.settle();
    }
}
