//! Clients change their subscriptions: demand, answers, limits.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::Pattern;

fn wanted(stage: &Harness) -> BTreeSet<String> {
    stage.interest.wanted().into_iter().map(String::from).collect()
}

/// Changes at random who is there and what they are subscribed to; gives how often the limit was reached.
fn change(stage: &mut Harness, puppets: &mut Vec<(HarnessClient, BTreeSet<String>)>, rng: &mut StdRng) -> usize {
    const TOPICS: [&str; 7] = ["a", "b", "c.d", "e", "f", "g.*", ">"];
    let topic = TOPICS[rng.random_range(0..TOPICS.len())];
    let choice = rng.random_range(0..9);
    if choice < 2 || puppets.is_empty() {
        let terms =
            SessionOptions { patterns: Pattern::parse(topic).into_iter().collect(), ..SessionOptions::default() };
        let puppet = stage.adopt(terms);
        stage.settle();
        let answered = puppet.hear().iter().any(|message| message["op"] == "subscribed");
        puppets.push((puppet, answered.then(|| topic.to_string()).into_iter().collect()));
        return usize::from(!answered);
    }
    let at = rng.random_range(0..puppets.len());
    if choice == 2 {
        stage.vanish(&puppets.swap_remove(at).0);
    } else if choice == 3 {
        let (puppet, _) = puppets.swap_remove(at);
        puppet.pipe.borrow_mut().to_server.extend([0x88, 0x80, 0, 0, 0, 0]);
        stage.shard.ready(puppet.id, true, stage.now);
    } else {
        let op = ["subscribe", "unsubscribe"][choice % 2];
        let (puppet, topics) = &mut puppets[at];
        let heard = stage.ask(puppet, &json!({"op": op, "topics": [topic]}).to_string());
        match heard[0]["op"].as_str() {
            Some("subscribed") => drop(topics.insert(topic.into())),
            Some("unsubscribed") => drop(topics.remove(topic)),
            _ => return usize::from(heard[0]["code"] == "too_many_topics"),
        }
    }
    0
}

#[test]
fn interest_is_what_those_who_are_there_are_subscribed_to() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut stage = Harness::open_with(4);
    let mut puppets = Vec::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut refused = 0;
    for round in 0..3000 {
        refused += change(&mut stage, &mut puppets, &mut rng);
        let exact = |topic: &&String| !topic.contains(['*', '>']);
        let expected = puppets.iter().flat_map(|(_, topics)| topics).filter(exact).cloned().collect();
        assert_eq!(wanted(&stage), expected);
        if round % 7 == 0 {
            for change in stage.interest.drain(usize::MAX) {
                let topic = String::from(change.topic);
                assert!(if change.wanted { told.insert(topic) } else { told.remove(&topic) }, "news only");
            }
            assert_eq!(told, wanted(&stage));
        }
    }
    assert!(refused > 0, "the limit was reached");
    puppets.iter().for_each(|(puppet, _)| stage.vanish(puppet));
    stage.settle();
    assert!(stage.interest.wanted().is_empty());
    stage.pass_second();
    assert_eq!(stage.shard.lanes.len(), 0);
}

#[test]
fn a_client_is_told_which_of_its_topics_are_still_to_come() {
    let mut stage = Harness::open();
    stage.publish("a");
    stage.settle();
    let puppet = stage.join();
    let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["c","a","b","x.*","b"]}"#);
    assert_eq!(heard[0]["pending"], json!(["b", "c"]));
    stage.publish("b");
    stage.settle();
    puppet.hear();
    let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["b"]}"#);
    assert_eq!(heard[0]["pending"], json!([]));
    stage.shard.demand.stop_asking();
    let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["d"]}"#);
    assert_eq!((&heard[0]["op"], heard[0].get("pending")), (&json!("subscribed"), None));
}

#[test]
fn a_session_has_a_limit_of_wildcards() {
    let mut stage = Harness::open();
    let puppet = stage.join();
    let topics = |count: usize| -> Vec<String> { (0..count).map(|n| format!("t{n}.*")).collect() };
    let max = stage.shard.settings.wildcards_max;
    let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": topics(max)}).to_string());
    assert_eq!(heard[0]["op"], "subscribed");
    let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": topics(max + 1)}).to_string());
    assert_eq!(heard[0]["code"], "too_many_wildcards");
    let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": ["exact"]}).to_string());
    assert_eq!(heard[0]["op"], "subscribed");
}
