//! Client requests reach the feed, and answers the clients that sent them.

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::bus::demand::requests::{ClientRequest, RequestAnswer, RequestFailure, RequestKind};
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::sessions::pending_requests::{HELD_BYTES_MAX, REQUESTS_MAX};
use crate::protocol::encoding::Format;

const SEND: &str = r##"{"op":"send","id":1,"topic":"chat.#rust","data":"hi"}"##;
const REQUEST: &str = r#"{"op":"request","id":"q","data":{"a": 1}}"#;
const SUBSCRIBE: &str = r#"{"op":"subscribe","topics":["a.>"]}"#;

fn taken(harness: &Harness) -> ClientRequest {
    harness.queue.next().now_or_never().flatten().expect("a request waits")
}

fn codes(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["code"].as_str().or(message["op"].as_str()).expect("an op")).collect()
}

#[test]
fn a_request_reaches_the_upstream_as_it_was_written() {
    let mut harness = Harness::open();
    let client = harness.join();
    assert!(harness.answers(&client, SEND).is_empty(), "the answer comes later");
    let request = taken(&harness);
    assert_eq!(request.kind, RequestKind::Send { topic: "chat.#rust".into(), data: "\"hi\"".into() });
    request.answer.give(RequestAnswer::Sent);
    harness.settle();
    assert_eq!(client.received(), [json!({"op": "sent", "id": 1})]);

    for (answer, data) in [(r#"{"p": 1.50}"#, json!({"p": 1.5})), ("not JSON", json!("not JSON"))] {
        assert!(harness.answers(&client, REQUEST).is_empty());
        let request = taken(&harness);
        let RequestKind::Request { data: text, .. } = &request.kind else {
            panic!("expected a request, found {request:?}")
        };
        assert_eq!(&**text, "{\"a\": 1}");
        request.answer.give(RequestAnswer::Response(answer.into()));
        harness.settle();
        assert_eq!(client.received(), [json!({"op": "response", "id": "q", "data": data})]);
    }
}

#[test]
fn an_answer_reaches_its_client_and_none_that_has_its_number_later() {
    let mut harness = Harness::open();
    let (first_client, other) = (harness.join(), harness.join());
    harness.send(&first_client, SEND);
    harness.send(&other, REQUEST);
    let (first, second) = (taken(&harness), taken(&harness));
    second.answer.give(RequestAnswer::Response("7".into()));
    harness.settle();
    assert_eq!(codes(&other.received()), ["response"]);
    assert!(first_client.received().is_empty());

    harness.vanish(&first_client);
    let later_client = harness.join();
    assert_eq!(later_client.id, first_client.id, "the number is used again");
    harness.send(&later_client, SEND);
    first.answer.give(RequestAnswer::Failed(RequestFailure::NotSent, "too late".into()));
    harness.settle();
    assert!(later_client.received().is_empty());
    taken(&harness).answer.give(RequestAnswer::Sent);
    harness.settle();
    assert_eq!(codes(&later_client.received()), ["sent"]);
    assert!(other.received().is_empty() && first_client.received().is_empty());
}

#[test]
fn a_request_that_is_dropped_or_not_taken_is_answered() {
    let mut harness = Harness::open();
    let client = harness.join();
    harness.send(&client, SEND);
    drop(taken(&harness));
    harness.settle();
    assert_eq!(codes(&client.received()), ["unanswered"]);
    let (_, another) = crate::bus::demand::requests::open(Default::default());
    harness.queue = another;
    assert_eq!(codes(&harness.answers(&client, REQUEST)), ["upstream_down"]);
}

#[test]
fn clients_may_request_what_is_allowed_and_not_too_much() {
    let mut harness = Harness::open();
    let client = harness.join();
    let elsewhere = r#"{"op":"send","id":5,"topic":"orders","data":1}"#;
    let refused = harness.answers(&client, elsewhere);
    assert_eq!((&refused[0]["code"], &refused[0]["id"]), (&json!("forbidden"), &json!(5)));

    for _ in 0..REQUESTS_MAX {
        assert!(harness.answers(&client, SEND).is_empty());
    }
    assert_eq!(codes(&harness.answers(&client, SEND)), ["busy"]);
    for _ in REQUESTS_MAX as u32..harness.shard.settings.limits.client_requests_per_second_max {
        taken(&harness).answer.give(RequestAnswer::Sent);
        harness.settle();
        assert_eq!(codes(&harness.answers(&client, SEND)), ["sent"], "one place is free again");
    }
    taken(&harness).answer.give(RequestAnswer::Sent);
    assert_eq!(codes(&harness.answers(&client, SEND)), ["too_fast", "sent"]);
    harness.pass_second();
    assert!(harness.answers(&client, SEND).is_empty(), "a second later it may send one again");
}

#[test]
fn a_client_that_is_behind_gets_its_answers_between_whole_messages() {
    let mut harness = Harness::open();
    let client = harness.join();
    harness.answers(&client, SUBSCRIBE);
    harness.send(&client, SEND);
    harness.send(&client, REQUEST);
    client.pipe.borrow_mut().room = 7;
    harness.publish("a.b");
    harness.turn();
    let (first, second) = (taken(&harness), taken(&harness));
    first.answer.give(RequestAnswer::Sent);
    second.answer.give(RequestAnswer::Response("[1]".into()));
    harness.settle();
    let mut messages = Vec::new();
    for _ in 0..100 {
        client.pipe.borrow_mut().room += 11;
        harness.shard.ready(client.id, false, harness.now);
        harness.settle();
        messages.extend(client.received());
    }
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0]["topic"], "a.b");
    assert_eq!(codes(&messages[1..]), ["sent", "response"]);
    assert_eq!(harness.shard.requests.held_bytes(), 0);
}

#[test]
fn answers_that_clients_do_not_read_are_bounded() {
    let mut harness = Harness::open();
    let clients: Vec<HarnessClient> = (0..3).map(|_| harness.join()).collect();
    for client in &clients {
        harness.answers(client, SUBSCRIBE);
        (0..REQUESTS_MAX).for_each(|_| harness.send(client, REQUEST));
        client.pipe.borrow_mut().room = 0;
    }
    harness.publish("a.b");
    harness.turn();
    let large = Bytes::from(vec![b'1'; HELD_BYTES_MAX / 16]);
    for _ in 0..REQUESTS_MAX * clients.len() {
        taken(&harness).answer.give(RequestAnswer::Response(large.clone()));
    }
    harness.settle();
    let held = harness.shard.requests.held_bytes();
    assert!(held > HELD_BYTES_MAX / 2 && held < HELD_BYTES_MAX + REQUESTS_MAX * clients.len() * 200, "{held}");
    clients.iter().for_each(|client| harness.vanish(client));
    harness.settle();
    assert_eq!(harness.shard.requests.held_bytes(), 0);
}

#[test]
fn a_raw_client_receives_no_answer_and_nothing_is_remembered_of_it() {
    let mut harness = Harness::open();
    let raw = harness.adopt(SessionOptions { format: Format::Raw, ..SessionOptions::default() });
    harness.settle();
    assert!(harness.answers(&raw, SEND).is_empty());
    taken(&harness).answer.give(RequestAnswer::Sent);
    harness.settle();
    assert!(raw.pipe.borrow().to_client.is_empty());
    harness.pass_second();
    assert!(harness.shard.sessions[raw.id].requests.is_none());
}
