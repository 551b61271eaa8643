//! What is held for clients that do not read is counted once and bounded.

use super::*;
use crate::bus::retention::Retention;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::goodbye::Goodbye;
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
    let held = stage.shard.sessions.unsent_bytes();
    assert!((LARGE..LARGE + 1000).contains(&held), "{held}");

    stage.shard.drain(|| 7);
    stage.settle();
    let ends: HashSet<usize> = puppets.iter().map(|it| end_of(stage.shard.sessions[it.id].unsent())).collect();
    assert_eq!(ends.len(), 1, "nobody has a copy");
    assert_eq!(stage.shard.sessions.unsent_bytes(), held);
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
    assert_eq!(stage.shard.sessions.unsent_bytes(), 0);
}

#[test]
fn beyond_the_bytes_of_all_those_that_hold_the_oldest_are_cut() {
    let mut stage = Harness::open();
    stage.shard.settings.unsent_bytes_total_max = 16 * LARGE;
    let puppets: Vec<HarnessClient> = (0..40).map(|n| subscriber(&mut stage, &format!("t{n}"))).collect();
    let reader = subscriber(&mut stage, ">");
    for (n, puppet) in puppets.iter().enumerate() {
        stall(puppet, 100);
        stage.now.mono_ns += 1_000_000;
        publish(&mut stage, &format!("t{n}"), LARGE);
        stage.turn();
    }
    stage.settle();
    let there = |puppet: &&HarnessClient| stage.shard.sessions.contains(puppet.id);
    let cut = puppets.iter().position(|puppet| there(&puppet)).expect("the newest are there");
    assert!((24..=27).contains(&cut), "{cut} of 40");
    assert!(puppets[cut..].iter().all(|puppet| there(&puppet)));
    assert_eq!(reader.hear().len(), 40, "who reads has lost nothing");
    puppets[cut..].iter().for_each(|puppet| stage.vanish(puppet));
    assert_eq!(stage.shard.sessions.unsent_bytes(), 0);
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
        stage.shard.sessions[puppet.id].unsent().len()
    };
    // The answer to the subscription is held first; a slice follows once the socket takes something.
    stage.shard.settings.unsent_bytes_total_max = 1 << 20;
    let crowd: Vec<usize> = (0..4).map(|_| join(&mut stage)).collect();
    assert!(crowd.iter().all(|held| *held > 0));
    for scarce in [false, true] {
        if scarce {
            stage.shard.settings.unsent_bytes_total_max = stage.shard.sessions.unsent_bytes();
        }
        let puppet = stage.adopt(SessionOptions {
            patterns: vec![Pattern::parse(">").expect("a pattern")],
            ..SessionOptions::default()
        });
        stall(&puppet, 1000);
        stage.settle();
        let held = stage.shard.sessions[puppet.id].unsent().len();
        assert!(held > 0 && (held <= 1200) == scarce, "{held} bytes");
        stage.vanish(&puppet);
        stage.settle();
    }
}
