//! Clients change their subscriptions: demand, answers, limits.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::Pattern;

fn wanted(harness: &Harness) -> BTreeSet<String> {
    harness.interest.wanted().into_iter().map(String::from).collect()
}

/// Changes at random which clients there are and their subscriptions; gives how often the limit was reached.
fn change(harness: &mut Harness, clients: &mut Vec<(HarnessClient, BTreeSet<String>)>, rng: &mut StdRng) -> usize {
    const TOPICS: [&str; 7] = ["a", "b", "c.d", "e", "f", "g.*", ">"];
    let topic = TOPICS[rng.random_range(0..TOPICS.len())];
    let choice = rng.random_range(0..9);
    if choice < 2 || clients.is_empty() {
        let options =
            SessionOptions { patterns: Pattern::parse(topic).into_iter().collect(), ..SessionOptions::default() };
        let client = harness.adopt(options);
        harness.settle();
        let answered = client.received().iter().any(|message| message["op"] == "subscribed");
        clients.push((client, answered.then(|| topic.to_string()).into_iter().collect()));
        return usize::from(!answered);
    }
    let at = rng.random_range(0..clients.len());
    if choice == 2 {
        harness.vanish(&clients.swap_remove(at).0);
        harness.settle();
    } else if choice == 3 {
        let (client, _) = clients.swap_remove(at);
        client.pipe.borrow_mut().to_server.extend([0x88, 0x80, 0, 0, 0, 0]);
        harness.shard.ready(client.id, true, harness.now);
        harness.settle();
    } else {
        let op = ["subscribe", "unsubscribe"][choice % 2];
        let (client, topics) = &mut clients[at];
        let heard = harness.answers(client, &json!({"op": op, "topics": [topic]}).to_string());
        match heard[0]["op"].as_str() {
            Some("subscribed") => drop(topics.insert(topic.into())),
            Some("unsubscribed") => drop(topics.remove(topic)),
            _ => return usize::from(heard[0]["code"] == "too_many_topics"),
        }
    }
    0
}

#[test]
fn demand_is_what_the_clients_of_the_moment_are_subscribed_to() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut harness = Harness::open_with(4);
    let mut clients = Vec::new();
    let mut reported: BTreeSet<String> = BTreeSet::new();
    let mut refused = 0;
    for round in 0..3000 {
        refused += change(&mut harness, &mut clients, &mut rng);
        let exact = |topic: &&String| !topic.contains(['*', '>']);
        let expected = clients.iter().flat_map(|(_, topics)| topics).filter(exact).cloned().collect();
        assert_eq!(wanted(&harness), expected);
        if round % 7 == 0 {
            for change in harness.interest.drain(usize::MAX) {
                let topic = String::from(change.topic);
                assert!(if change.wanted { reported.insert(topic) } else { reported.remove(&topic) }, "news only");
            }
            assert_eq!(reported, wanted(&harness));
        }
    }
    assert!(refused > 0, "the limit was reached");
    clients.iter().for_each(|(client, _)| harness.vanish(client));
    harness.settle();
    assert!(harness.interest.wanted().is_empty());
    harness.pass_second();
    assert_eq!(harness.shard.lanes.count(), 0);
}

#[test]
fn the_answer_names_the_topics_that_are_still_to_come() {
    let mut harness = Harness::open();
    harness.publish("a");
    harness.settle();
    let client = harness.join();
    let heard = harness.answers(&client, r#"{"op":"subscribe","topics":["c","a","b","x.*","b"]}"#);
    assert_eq!(heard[0]["pending"], json!(["b", "c"]));
    harness.publish("b");
    harness.settle();
    client.received();
    let heard = harness.answers(&client, r#"{"op":"subscribe","topics":["b"]}"#);
    assert_eq!(heard[0]["pending"], json!([]));
    harness.shard.demand.stop_asking();
    let heard = harness.answers(&client, r#"{"op":"subscribe","topics":["d"]}"#);
    assert_eq!((&heard[0]["op"], heard[0].get("pending")), (&json!("subscribed"), None));
}

#[test]
fn a_session_has_a_limit_of_wildcards() {
    let mut harness = Harness::open();
    let client = harness.join();
    let topics = |count: usize| -> Vec<String> { (0..count).map(|n| format!("t{n}.*")).collect() };
    let max = harness.shard.settings.limits.wildcards_max;
    let heard = harness.answers(&client, &json!({"op": "subscribe", "topics": topics(max)}).to_string());
    assert_eq!(heard[0]["op"], "subscribed");
    let heard = harness.answers(&client, &json!({"op": "subscribe", "topics": topics(max + 1)}).to_string());
    assert_eq!(heard[0]["code"], "too_many_wildcards");
    let heard = harness.answers(&client, &json!({"op": "subscribe", "topics": ["exact"]}).to_string());
    assert_eq!(heard[0]["op"], "subscribed");
}
