//! Requests of clients reach the upstream, and answers the clients that sent them.

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

fn taken(stage: &Harness) -> ClientRequest {
    stage.queue.next().now_or_never().flatten().expect("an ask waits")
}

fn codes(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["code"].as_str().or(message["op"].as_str()).expect("an op")).collect()
}

#[test]
fn what_a_client_says_reaches_the_upstream_as_it_was_written() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    assert!(stage.ask(&puppet, SEND).is_empty(), "the answer comes later");
    let ask = taken(&stage);
    assert_eq!(ask.kind, RequestKind::Send { topic: "chat.#rust".into(), data: "\"hi\"".into() });
    ask.answer.give(RequestAnswer::Sent);
    stage.settle();
    assert_eq!(puppet.hear(), [json!({"op": "sent", "id": 1})]);

    for (answer, data) in [(r#"{"p": 1.50}"#, json!({"p": 1.5})), ("not JSON", json!("not JSON"))] {
        assert!(stage.ask(&puppet, REQUEST).is_empty());
        let ask = taken(&stage);
        let RequestKind::Request { data: text, .. } = &ask.kind else { panic!("expected a request, found {ask:?}") };
        assert_eq!(&**text, "{\"a\": 1}");
        ask.answer.give(RequestAnswer::Response(answer.into()));
        stage.settle();
        assert_eq!(puppet.hear(), [json!({"op": "response", "id": "q", "data": data})]);
    }
}

#[test]
fn an_answer_reaches_the_asker_and_nobody_who_has_its_seat_later() {
    let mut stage = Harness::open();
    let (asker, other) = (stage.join(), stage.join());
    stage.say(&asker, SEND);
    stage.say(&other, REQUEST);
    let (first, second) = (taken(&stage), taken(&stage));
    second.answer.give(RequestAnswer::Response("7".into()));
    stage.settle();
    assert_eq!(codes(&other.hear()), ["response"]);
    assert!(asker.hear().is_empty());

    stage.vanish(&asker);
    let newcomer = stage.join();
    assert_eq!(newcomer.id, asker.id, "the seat is used again");
    stage.say(&newcomer, SEND);
    first.answer.give(RequestAnswer::Failed(RequestFailure::NotSent, "too late".into()));
    stage.settle();
    assert!(newcomer.hear().is_empty());
    taken(&stage).answer.give(RequestAnswer::Sent);
    stage.settle();
    assert_eq!(codes(&newcomer.hear()), ["sent"]);
    assert!(other.hear().is_empty() && asker.hear().is_empty());
}

#[test]
fn an_ask_that_is_dropped_or_taken_by_nobody_is_answered() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    stage.say(&puppet, SEND);
    drop(taken(&stage));
    stage.settle();
    assert_eq!(codes(&puppet.hear()), ["unanswered"]);
    let (_, another) = crate::bus::demand::requests::open(Default::default());
    stage.queue = another;
    assert_eq!(codes(&stage.ask(&puppet, REQUEST)), ["upstream_down"]);
}

#[test]
fn clients_may_ask_what_is_allowed_and_not_too_much() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    let elsewhere = r#"{"op":"send","id":5,"topic":"orders","data":1}"#;
    let refused = stage.ask(&puppet, elsewhere);
    assert_eq!((&refused[0]["code"], &refused[0]["id"]), (&json!("forbidden"), &json!(5)));

    for _ in 0..REQUESTS_MAX {
        assert!(stage.ask(&puppet, SEND).is_empty());
    }
    assert_eq!(codes(&stage.ask(&puppet, SEND)), ["busy"]);
    for _ in REQUESTS_MAX as u32..stage.shard.settings.client_requests_per_second_max {
        taken(&stage).answer.give(RequestAnswer::Sent);
        stage.settle();
        assert_eq!(codes(&stage.ask(&puppet, SEND)), ["sent"], "one place is free again");
    }
    taken(&stage).answer.give(RequestAnswer::Sent);
    assert_eq!(codes(&stage.ask(&puppet, SEND)), ["too_fast", "sent"]);
    stage.pass_second();
    assert!(stage.ask(&puppet, SEND).is_empty(), "a second later it may ask again");
}

#[test]
fn a_client_that_is_behind_gets_its_answers_between_whole_messages() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    stage.ask(&puppet, SUBSCRIBE);
    stage.say(&puppet, SEND);
    stage.say(&puppet, REQUEST);
    puppet.pipe.borrow_mut().room = 7;
    stage.publish("a.b");
    stage.turn();
    let (first, second) = (taken(&stage), taken(&stage));
    first.answer.give(RequestAnswer::Sent);
    second.answer.give(RequestAnswer::Response("[1]".into()));
    stage.settle();
    let mut messages = Vec::new();
    for _ in 0..100 {
        puppet.pipe.borrow_mut().room += 11;
        stage.shard.ready(puppet.id, false, stage.now);
        stage.settle();
        messages.extend(puppet.hear());
    }
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0]["topic"], "a.b");
    assert_eq!(codes(&messages[1..]), ["sent", "response"]);
    assert_eq!(stage.shard.requests.held_bytes(), 0);
}

#[test]
fn answers_that_clients_do_not_read_are_bounded() {
    let mut stage = Harness::open();
    let puppets: Vec<HarnessClient> = (0..3).map(|_| stage.join()).collect();
    for puppet in &puppets {
        stage.ask(puppet, SUBSCRIBE);
        (0..REQUESTS_MAX).for_each(|_| stage.say(puppet, REQUEST));
        puppet.pipe.borrow_mut().room = 0;
    }
    stage.publish("a.b");
    stage.turn();
    let large = Bytes::from(vec![b'1'; HELD_BYTES_MAX / 16]);
    for _ in 0..REQUESTS_MAX * puppets.len() {
        taken(&stage).answer.give(RequestAnswer::Response(large.clone()));
    }
    stage.settle();
    let held = stage.shard.requests.held_bytes();
    assert!(held > HELD_BYTES_MAX / 2 && held < HELD_BYTES_MAX + REQUESTS_MAX * puppets.len() * 200, "{held}");
    puppets.iter().for_each(|puppet| stage.vanish(puppet));
    stage.settle();
    assert_eq!(stage.shard.requests.held_bytes(), 0);
}

#[test]
fn a_raw_client_is_told_nothing_and_nothing_is_remembered_of_it() {
    let mut stage = Harness::open();
    let raw = stage.adopt(SessionOptions { format: Format::Raw, ..SessionOptions::default() });
    stage.settle();
    assert!(stage.ask(&raw, SEND).is_empty());
    taken(&stage).answer.give(RequestAnswer::Sent);
    stage.settle();
    assert!(raw.pipe.borrow().to_client.is_empty());
    stage.pass_second();
    assert!(stage.shard.sessions[raw.id].requests.is_none());
}
