//! Lanes open and close without holding up other clients.

use std::time::Duration;

use serde_json::json;

use crate::delivery::budget::Budget;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::Pattern;

const TOPICS: usize = 10_000;

/// A harness with this many topics, and this many matches in a turn.
fn crowded(matches_per_turn: usize) -> Harness {
    let mut harness = Harness::open();
    (0..TOPICS).for_each(|n| harness.publish(&format!("t{n}.x")));
    harness.settle();
    harness.shard.budgets.matches = Budget::new(matches_per_turn);
    harness
}

fn subscribe(patterns: impl Iterator<Item = String>) -> String {
    json!({"op": "subscribe", "topics": patterns.collect::<Vec<_>>()}).to_string()
}

/// Turns until there is nothing to do. In each of them the other client sends a command, and receives the answer.
fn turns_in_which_another_is_answered(harness: &mut Harness, other: &HarnessClient) -> usize {
    let mut turns = 0;
    while harness.shard.has_work() {
        harness.send(other, r#"{"op":"ping"}"#);
        harness.turn();
        let heard = other.received();
        assert!(heard.len() == 1 && heard[0]["op"] == "pong", "{heard:?}");
        turns += 1;
    }
    turns
}

#[test]
fn a_client_with_many_wildcards_waits_and_others_do_not() {
    let mut harness = crowded(1000);
    let (greedy, other) = (harness.join(), harness.join());
    // There is nothing to find these by: they are tried one by one.
    harness.send(&greedy, &subscribe((0..100).map(|n| format!("t*{}*{}*.x", n / 10, n % 10))));
    let turns = turns_in_which_another_is_answered(&mut harness, &other);
    assert!(turns >= 30, "several tried on each of ten thousand, a thousand in a turn: found {turns} turns");
    let heard = greedy.received();
    assert_eq!(heard[0]["op"], "subscribed");
    assert_eq!(heard.len() - 1, TOPICS - 10, "every number of two digits and more");
}

#[test]
fn a_client_that_subscribes_and_unsubscribes_in_a_loop_holds_up_no_other() {
    let mut harness = crowded(1000);
    let (restless, other) = (harness.join(), harness.join());
    for _ in 0..5 {
        harness.send(&restless, &subscribe([">".to_string()].into_iter()));
        harness.send(&restless, r#"{"op":"unsubscribe","topics":[">"]}"#);
        let turns = turns_in_which_another_is_answered(&mut harness, &other);
        assert!(turns >= 20, "ten to match, ten to leave: found {turns} turns");
        let ops = restless.received().into_iter().filter(|message| message["op"].is_string());
        assert_eq!(ops.count(), 2);
    }
    assert_eq!(harness.shard.lanes.count(), 1, "lanes without members are gone, also after a scan");
    harness.publish("t1.x");
    harness.settle();
    assert!(restless.received().is_empty());
}

#[test]
fn what_changes_while_a_lane_is_matched_is_not_missed() {
    for every in [None, Some(Duration::from_millis(50))] {
        let mut harness = crowded(100);
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let client = harness.adopt(SessionOptions { every, patterns, ..SessionOptions::default() });
        harness.turn();
        harness.turn();
        // The first has been matched, the last has not, and one is new.
        for topic in ["t0.x", "t9999.x", "new"] {
            harness.publish(topic);
        }
        harness.settle();
        harness.publish("t9999.x");
        for _ in 0..3 {
            harness.now.mono_ns += 100_000_000;
            harness.settle();
        }
        let heard = client.received();
        let newest = |topic: &str| {
            let frames = heard.iter().filter(|message| message["topic"] == topic);
            frames.filter_map(|frame| frame["offset"].as_u64()).next_back()
        };
        let found = ["t0.x", "t1.x", "t9999.x", "new"].map(newest);
        let first = TOPICS as u64;
        assert_eq!(found, [Some(first + 1), Some(2), Some(first + 4), Some(first + 3)], "{every:?}");
    }
}
