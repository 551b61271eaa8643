use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::bus;
use crate::bus::Limits;
use crate::bus::demand::requests::RequestAnswer;
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::{Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::topic::Pattern;

/// Another log, whose offsets go on after this one.
fn next_log(epoch: u64, offset: u64) -> (Publisher, bus::reader::Reader) {
    let limits = Limits { ring_frames_max: 1 << 10, ring_bytes_max: 1 << 30, topics_max: 1_000 };
    let (mut publisher, reader) = bus::open(Epoch(epoch), limits, &Meters::unread());
    publisher.leap(Vec::new(), Offset(offset));
    (publisher, reader)
}

fn publish(publisher: &mut Publisher, topic: &str, value: u64, harness: &Harness) {
    let payload = Payload { bytes: value.to_string().into(), kind: PayloadKind::Json };
    publisher.publish(topic, payload, Retention::NEWEST, harness.now).expect("a good topic");
}

fn subscribed(harness: &mut Harness, options: SessionOptions, topics: &[&str]) -> HarnessClient {
    let patterns = topics.iter().map(|topic| Pattern::parse(topic).expect("a pattern")).collect();
    let client = harness.adopt(SessionOptions { patterns, ..options });
    harness.settle();
    client.received();
    client
}

/// The log goes on with this one, and what fed the one before is no more.
fn begin(harness: &mut Harness, (publisher, reader): (Publisher, bus::reader::Reader)) {
    harness.shard.begin_epoch(reader, harness.now);
    std::mem::replace(&mut harness.publisher, publisher).give_way();
    harness.settle();
}

fn ops(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["op"].as_str().unwrap_or("frame")).collect()
}

#[test]
fn every_client_is_told_of_another_epoch_and_has_its_values_and_what_follows() {
    let mut harness = Harness::open();
    let clients = [
        subscribed(&mut harness, SessionOptions::default(), &["a.*", "b.x"]),
        subscribed(&mut harness, SessionOptions::default(), &["a.*", "b.x"]),
        subscribed(
            &mut harness,
            SessionOptions { every: Some(Duration::from_millis(100)), ..SessionOptions::default() },
            &[">"],
        ),
    ];
    let silent = harness.join();
    for topic in ["a.x", "a.y", "b.x", "b.y"] {
        harness.publish(topic);
    }
    harness.settle();
    harness.pass_second();
    harness.settle();
    clients.iter().for_each(|client| drop(client.received()));

    let (mut publisher, reader) = next_log(2, 3);
    for (value, topic) in (0..).zip(["a.y", "b.x", "c"]) {
        publish(&mut publisher, topic, value, &harness);
    }
    begin(&mut harness, (publisher, reader));
    for client in &clients[..2] {
        let messages = client.received();
        assert_eq!(ops(&messages), ["view", "subscribed", "skipped", "frame", "frame"], "{messages:?}");
        assert_eq!((&messages[0]["epoch"], &messages[0]["offset"]), (&json!("0000000000000002"), &json!(6)));
        assert_eq!(messages[2]["reason"], "epoch");
        let mut topics: Vec<&Value> = messages[1]["topics"].as_array().expect("patterns").iter().collect();
        topics.sort_by_key(|topic| topic.to_string());
        assert_eq!(topics, [&json!("a.*"), &json!("b.x")]);
        assert_eq!((&messages[3]["topic"], &messages[3]["offset"]), (&json!("a.y"), &json!(4)));
        assert_eq!((&messages[4]["topic"], &messages[4]["offset"]), (&json!("b.x"), &json!(5)));
    }
    let paced = clients[2].received();
    assert_eq!(ops(&paced), ["view", "subscribed", "skipped", "frame", "frame", "frame"], "{paced:?}");
    assert_eq!(ops(&silent.received()), ["view"]);

    for (value, topic) in (100..).zip(["a.x", "b.y", "b.x"]) {
        let payload = Payload { bytes: value.to_string().into(), kind: PayloadKind::Json };
        harness.publisher.publish(topic, payload, Retention::NEWEST, harness.now).expect("a good topic");
    }
    harness.settle();
    for client in &clients[..2] {
        let offsets: Vec<u64> = client.received().iter().filter_map(|frame| frame["offset"].as_u64()).collect();
        assert_eq!(offsets, [7, 9]);
    }
    let answers = harness.answers(&silent, r#"{"op":"subscribe","topics":["a.x"],"since":"0000000000000001:2"}"#);
    assert_eq!(ops(&answers), ["subscribed", "skipped", "frame"], "a cursor of before");
    let answers = harness.answers(&clients[0], r#"{"op":"unsubscribe","topics":["a.*"]}"#);
    assert_eq!(ops(&answers), ["unsubscribed"], "the same patterns are in force");
}

#[test]
fn what_clients_want_and_have_asked_for_outlives_an_epoch() {
    let mut harness = Harness::open();
    let client = subscribed(&mut harness, SessionOptions::default(), &["wanted"]);
    let changes = harness.interest.drain(10);
    assert_eq!(changes.len(), 1);
    harness.send(&client, r#"{"op":"request","id":"r","data":{"method":"depth"}}"#);
    harness.settle();
    begin(&mut harness, next_log(2, 0));
    assert!(harness.interest.drain(10).is_empty(), "the feed is neither left nor asked anew");
    let asked = harness.queue.next().now_or_never().flatten().expect("the request is still there");
    asked.answer.give(RequestAnswer::Response("7".into()));
    harness.settle();
    let messages = client.received();
    let response = messages.iter().find(|message| message["op"] == "response");
    assert_eq!(response.map(|message| &message["data"]), Some(&json!(7)), "{messages:?}");
}

#[test]
fn a_client_that_reads_slowly_has_what_it_was_sent_and_then_the_other_epoch() {
    let mut harness = Harness::open();
    let client = subscribed(&mut harness, SessionOptions::default(), &[">"]);
    client.pipe.borrow_mut().room = 20;
    for _ in 0..100 {
        harness.publish("a.x");
        harness.turn();
    }
    let (mut publisher, reader) = next_log(2, 50);
    publish(&mut publisher, "a.x", 1, &harness);
    begin(&mut harness, (publisher, reader));
    client.pipe.borrow_mut().room = 1 << 20;
    harness.shard.ready(client.id, false, harness.now);
    harness.settle();
    let messages = client.received();
    let view = messages.iter().position(|message| message["op"] == "view").expect("it is told");
    assert!(messages[..view].iter().all(|message| message["offset"].as_u64() <= Some(100)));
    assert_eq!(ops(&messages[view..]), ["view", "subscribed", "skipped", "frame"]);
    assert_eq!(messages.last().expect("a frame")["offset"], 51);
}

/// Clients come, go and change what they want, over many epochs; each has at the end what is kept of its topics.
#[test]
fn after_any_number_of_epochs_each_client_has_what_is_kept_of_its_topics() {
    for seed in 0..10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut harness = Harness::open();
        let patterns = ["a.*", "b.*", "a.1", "b.2", ">"];
        let mut clients: Vec<(HarnessClient, &str, BTreeMap<String, Value>)> = Vec::new();
        let (mut epoch, mut value) = (1, 0);
        for _ in 0..200 {
            match rng.random_range(0..10) {
                0 => {
                    let pattern = patterns[rng.random_range(0..patterns.len())];
                    let every = rng.random_bool(0.3).then_some(Duration::from_millis(100));
                    let parsed = vec![Pattern::parse(pattern).expect("a pattern")];
                    let options = SessionOptions { patterns: parsed, every, ..SessionOptions::default() };
                    clients.push((harness.adopt(options), pattern, BTreeMap::new()));
                }
                1 if clients.len() > 1 => {
                    let (client, ..) = clients.swap_remove(rng.random_range(0..clients.len()));
                    harness.vanish(&client);
                }
                2 => {
                    epoch += 1;
                    let (mut publisher, reader) = next_log(epoch, rng.random_range(0..20));
                    for _ in 0..rng.random_range(0..6) {
                        value += 1;
                        let topic = format!("{}.{}", ["a", "b"][rng.random_range(0..2)], rng.random_range(0..4));
                        publish(&mut publisher, &topic, value, &harness);
                    }
                    harness.shard.begin_epoch(reader, harness.now);
                    std::mem::replace(&mut harness.publisher, publisher).give_way();
                }
                3 => harness.settle(),
                _ => {
                    value += 1;
                    let topic = format!("{}.{}", ["a", "b"][rng.random_range(0..2)], rng.random_range(0..4));
                    let payload = Payload { bytes: value.to_string().into(), kind: PayloadKind::Json };
                    let published = harness.publisher.publish(&topic, payload, Retention::NEWEST, harness.now);
                    published.expect("a good topic");
                }
            }
        }
        harness.settle();
        harness.pass_second();
        harness.settle();
        for (client, pattern, seen) in &mut clients {
            let mut of_epoch = String::new();
            for message in client.received() {
                match message["op"].as_str() {
                    Some("welcome" | "view") => {
                        of_epoch = message["epoch"].as_str().expect("an epoch").to_owned();
                        seen.clear();
                    }
                    None => drop(seen.insert(message["topic"].to_string(), message["data"].clone())),
                    Some(_) => {}
                }
            }
            let reader = harness.shard.log.reader().clone();
            assert_eq!(of_epoch, reader.epoch().to_string(), "seed {seed}");
            let (pattern, mut kept) = (Pattern::parse(pattern).expect("a pattern"), BTreeMap::new());
            reader.each_latest(|current| {
                let newest = current.retained.newest();
                if pattern.matches(&newest.topic.name) {
                    let value: Value = serde_json::from_slice(&newest.payload.bytes).expect("JSON");
                    kept.insert(json!(*newest.topic.name).to_string(), value);
                }
            });
            assert_eq!(*seen, kept, "seed {seed}");
        }
    }
}
