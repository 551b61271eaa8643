//! A client comes from a server that was further.

use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::ids::{Cursor, Epoch, Offset};

/// At offset 2, in a cluster.
fn harness() -> Harness {
    let mut harness = Harness::open();
    harness.shard.settings.behind_max = Duration::from_secs(5);
    harness.publish("a");
    harness.publish("a");
    harness.settle();
    harness
}

fn resume(harness: &mut Harness, client: &HarnessClient, epoch: u64, offset: u64) -> Vec<Value> {
    let since = Cursor { epoch: Epoch(epoch), offset: Offset(offset) }.to_string();
    harness.answers(client, &json!({"op": "subscribe", "id": 1, "topics": ["a"], "since": since}).to_string())
}

fn pass_tenth(harness: &mut Harness) {
    harness.now.mono_ns += 100_000_000;
    harness.shard.tick(harness.now);
    harness.settle();
}

fn ops(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|message| message["op"].as_str().unwrap_or("frame")).collect()
}

#[test]
fn a_client_that_is_ahead_waits_and_misses_nothing() {
    let mut harness = harness();
    let client = harness.join();
    assert_eq!(resume(&mut harness, &client, 1, 4), [Value::Null; 0]);
    assert_eq!(harness.answers(&client, r#"{"op":"ping"}"#), [Value::Null; 0], "its commands wait in order");
    harness.publish("a");
    pass_tenth(&mut harness);
    assert_eq!(client.received(), [Value::Null; 0], "it has seen that");
    (0..3).for_each(|_| harness.publish("a"));
    pass_tenth(&mut harness);
    let heard = client.received();
    assert_eq!(ops(&heard), ["subscribed", "frame", "frame", "pong"], "{heard:?}");
    let offsets: Vec<u64> = heard[1..3].iter().filter_map(|frame| frame["offset"].as_u64()).collect();
    assert_eq!((&heard[0]["id"], offsets), (&json!(1), vec![5, 6]));
    harness.publish("a");
    harness.settle();
    assert_eq!(client.received()[0]["offset"], 7);
}

#[test]
fn a_cursor_that_is_never_reached_is_refused_after_a_while() {
    let mut harness = harness();
    let client = harness.join();
    assert_eq!(resume(&mut harness, &client, 1, 400), [Value::Null; 0]);
    (0..6).for_each(|_| harness.pass_second());
    harness.settle();
    let heard = client.received();
    assert_eq!((ops(&heard), &heard[0]["code"]), (vec!["error"], &json!("bad_cursor")));
    assert_eq!(ops(&resume(&mut harness, &client, 1, 2)), ["subscribed"], "it may say something else");
}

#[test]
fn nobody_waits_who_need_not() {
    let mut harness = harness();
    let client = harness.join();
    assert_eq!(ops(&resume(&mut harness, &client, 9, 400))[0], "subscribed", "another epoch is told at once");
    harness.shard.settings.behind_max = Duration::ZERO;
    let alone = harness.join();
    assert_eq!(resume(&mut harness, &alone, 1, 400)[0]["code"], "bad_cursor", "a server alone is never behind");
    harness.shard.settings.behind_max = Duration::from_secs(5);
    let gone = harness.join();
    assert_eq!(resume(&mut harness, &gone, 1, 3), [Value::Null; 0]);
    harness.vanish(&gone);
    harness.settle();
    let next = harness.join();
    harness.publish("a");
    pass_tenth(&mut harness);
    assert_eq!(next.received(), [Value::Null; 0], "whoever has the place of one that is gone is told nothing");
    assert!(harness.shard.awaiting_cursors.is_empty());
}
