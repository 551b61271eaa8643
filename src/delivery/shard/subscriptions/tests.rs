//! Clients change their subscriptions: demand, answers, limits.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::lanes::names::looked;
use crate::delivery::sessions::sync_state::SyncState;
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

fn topics(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("t{n}")).collect()
}

/// A client in step that has subscribed to the first topics of many, and another one that has all.
fn with_list(topics_max: usize, count: usize) -> (Harness, HarnessClient) {
    let mut harness = Harness::open();
    topics(topics_max).iter().for_each(|topic| harness.publish(topic));
    harness.settle();
    let (all, client) = (harness.join(), harness.join());
    for (client, count) in [(&all, topics_max), (&client, count)] {
        let heard = harness.answers(client, &json!({"op": "subscribe", "topics": topics(count)}).to_string());
        assert_eq!((&heard[0]["op"], heard.len()), (&json!("subscribed"), 1 + count));
    }
    (harness, client)
}

#[test]
fn one_change_of_a_list_costs_the_change_and_not_the_list() {
    let looked_at = |count: usize| {
        let (mut harness, client) = with_list(1000, count);
        let lane = harness.shard.sessions[client.id].lane();
        let looked = looked::during(|| {
            for (op, topic) in
                [("subscribe", "t999"), ("unsubscribe", "t0"), ("subscribe", "new"), ("unsubscribe", "new")]
            {
                harness.send(&client, &json!({"op": op, "topics": [topic], "brief": true}).to_string());
                assert!(
                    matches!(harness.shard.sessions[client.id].state(), SyncState::InStep { .. }),
                    "it stays in step"
                );
            }
        });
        assert_eq!(harness.shard.sessions[client.id].lane(), lane, "and on its lane");
        let heard = client.received();
        let counts: Vec<_> = heard.iter().filter_map(|answer| answer["count"].as_u64()).collect();
        assert_eq!(counts, [1, 0, 1, 0].map(|more| count as u64 + more));
        assert_eq!(heard.iter().filter(|message| message.get("data").is_some()).count(), 1, "the value of t999");
        looked
    };
    let (of_few, of_many) = (looked_at(30), looked_at(990));
    assert!((4..=40).contains(&of_few), "found {of_few}");
    assert_eq!(of_few, of_many);
}

#[test]
fn a_list_that_changes_in_place_gets_its_values_after_the_answer_and_then_the_stream() {
    let (mut harness, client) = with_list(9, 3);
    harness.publish("t8");
    harness.publish("t7");
    harness.settle();
    harness.send(&client, r#"{"op":"subscribe","topics":["t7","t8","t7"]}"#);
    ["t8", "t2", "t6"].iter().for_each(|topic| harness.publish(topic));
    harness.send(&client, r#"{"op":"unsubscribe","topics":["t2"]}"#);
    harness.settle();
    let heard = client.received();
    let told: Vec<String> = heard.iter().map(|message| format!("{} {}", message["op"], message["topic"])).collect();
    let expected = ["\"subscribed\" null", "null \"t8\"", "null \"t7\"", "\"unsubscribed\" null", "null \"t8\""];
    assert_eq!(told, expected);
    let mut in_force: Vec<&str> =
        heard[3]["topics"].as_array().expect("a list").iter().filter_map(|it| it.as_str()).collect();
    in_force.sort_unstable();
    assert_eq!(in_force, ["t0", "t1", "t7", "t8"]);
}

#[test]
fn lanes_that_become_alike_are_one_and_one_of_several_sessions_stays_as_it_is() {
    let (mut harness, one) = with_list(9, 3);
    let other = harness.join();
    harness.answers(&other, r#"{"op":"subscribe","topics":["t0","t1"]}"#);
    harness.answers(&other, r#"{"op":"subscribe","topics":["t2"]}"#);
    let lane = |harness: &Harness, client: &HarnessClient| harness.shard.sessions[client.id].lane();
    assert_eq!(lane(&harness, &one), lane(&harness, &other));
    let heard = harness.answers(&one, r#"{"op":"subscribe","topics":["t5"]}"#);
    assert_eq!(heard.len(), 2);
    assert_ne!(lane(&harness, &one), lane(&harness, &other));
    harness.publish("t5");
    harness.settle();
    assert_eq!((one.received().len(), other.received().len()), (1, 0));
}

#[test]
fn a_list_grows_in_place_no_further_than_the_limits_allow() {
    let (mut harness, client) = with_list(9, 3);
    harness.shard.settings.limits.lane_bytes_total_max = harness.shard.lanes.bytes() + 30;
    let heard = harness.answers(&client, r#"{"op":"subscribe","topics":["t8"]}"#);
    assert_eq!(heard[0]["op"], "subscribed", "a topic that others name, too, is a place more");
    let heard = harness.answers(&client, r#"{"op":"subscribe","topics":["new"]}"#);
    assert_eq!(heard[0]["code"], "lanes_full");
    assert!(!harness.interest.is_wanted("new"));
    let heard = harness.answers(&client, r#"{"op":"unsubscribe","topics":["t8"]}"#);
    assert_eq!(heard[0]["op"], "unsubscribed");
}
