//! What one client's subscriptions may cost the shard: work is counted, not time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::budget::Budget;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::{Pattern, tried};

fn command(op: &str, patterns: impl Iterator<Item = String>) -> String {
    json!({"op": op, "topics": patterns.collect::<Vec<_>>()}).to_string()
}

/// A harness with these topics.
fn harness_with(topics: impl Iterator<Item = String>) -> Harness {
    let mut harness = Harness::open();
    topics.for_each(|topic| harness.publish(&topic));
    harness.settle();
    harness
}

fn offsets(heard: &[Value]) -> Vec<u64> {
    heard.iter().filter(|message| message["op"].is_null()).filter_map(|frame| frame["offset"].as_u64()).collect()
}

fn join_with(harness: &mut Harness, pattern: &str, every: Option<Duration>) -> HarnessClient {
    let patterns = vec![Pattern::parse(pattern).expect("a pattern")];
    harness.adopt(SessionOptions { patterns, every, ..SessionOptions::default() })
}

/// Topics and frames looked at until there is nothing to do.
fn work_until_settled(harness: &mut Harness) -> usize {
    harness.shard.budgets.catch_up = Budget::new(usize::MAX);
    let mut work = 0;
    while harness.shard.has_work() {
        harness.turn();
        work += usize::MAX - harness.shard.budgets.catch_up.left();
    }
    work
}

#[test]
fn a_wildcard_more_costs_each_topic_once_however_many_patterns_there_were() {
    const TOPICS: usize = 3200;
    let mut harness = harness_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let client = harness.join();
    let wildcards = (0..99).map(|n| format!("*{n:02}.*"));
    let heard = harness.answers(&client, &command("subscribe", wildcards.chain((0..900).map(|n| format!("name.{n}")))));
    assert_eq!(offsets(&heard).len(), TOPICS * 99 / 100 - 10, "all but what ends with 99 or has one digit");
    let mut heard = Vec::new();
    let tried =
        tried::during(|| heard = harness.answers(&client, &command("subscribe", ["*.x".to_string()].into_iter())));
    assert_eq!(offsets(&heard).len(), TOPICS / 100 + 10, "what it had not been sent");
    assert!(tried < 20 * TOPICS, "{tried} tokens tried for {TOPICS} topics");
    // It is still subscribed to what it knew, and leaves no lane without members behind.
    harness.publish("t7.x");
    harness.settle();
    assert_eq!(client.received().len(), 1);
    assert!(
        harness.shard.lanes.count() <= 2,
        "its own, and perhaps that of clients that join: {}",
        harness.shard.lanes.count()
    );
}

#[test]
fn a_burst_of_new_topics_costs_the_topics_and_not_the_wildcards() {
    const TOPICS: usize = 2000;
    let mut harness = Harness::open();
    let clients: Vec<HarnessClient> = (0..100).map(|_| harness.join()).collect();
    for (number, client) in clients.iter().enumerate() {
        harness.answers(client, &command("subscribe", (0..99).map(|n| format!("s{number}x{n}*.*"))));
    }
    assert_eq!(harness.shard.lanes.index().wildcards(), 9900);
    (0..TOPICS).for_each(|n| harness.publish(&format!("s{}x{}q.y", n % 100, n % 99)));
    let tried = tried::during(|| harness.settle());
    assert!(tried < 10 * TOPICS, "{tried} tokens tried for {TOPICS} topics");
    let heard: usize = clients.iter().map(|client| offsets(&client.received()).len()).sum();
    assert!(heard >= TOPICS, "{heard}");
}

#[test]
fn new_topics_that_are_dear_to_match_wait_and_no_client_misses_one() {
    const TOPICS: usize = 300;
    let mut harness = Harness::open();
    let (greedy, all, other) = (harness.join(), join_with(&mut harness, ">", None), harness.join());
    // Nothing to find these by.
    harness.answers(&greedy, &command("subscribe", (0..100).map(|n| format!("t*{}*{}*-*.x", n / 10, n % 10))));
    all.received();
    harness.shard.budgets.matches = Budget::new(1000);
    (0..TOPICS).for_each(|n| harness.publish(&format!("t{n}-0123456789.x")));
    let (mut turns, mut heard) = (0, Vec::new());
    while harness.shard.has_work() {
        harness.send(&other, r#"{"op":"ping"}"#);
        let tried = tried::during(|| harness.turn());
        assert!(tried < 1000 + 250, "{tried} tokens tried in a turn");
        assert_eq!(other.received().len(), 1, "others are answered in each turn");
        heard.extend(offsets(&all.received()));
        turns += 1;
    }
    assert!(turns >= 20, "a hundred tried on each of {TOPICS} topics: {turns} turns");
    assert_eq!(heard, (1..=TOPICS as u64).collect::<Vec<_>>(), "everything, in order");
    assert_eq!(offsets(&greedy.received()).len(), TOPICS - 10, "every number of two digits and more");
}

#[test]
fn joining_everything_costs_what_is_sent() {
    const TOPICS: usize = 20_000;
    let mut harness = harness_with((0..TOPICS).map(|n| format!("t{n}.x")));
    // Values that are replaced: what is kept lies scattered.
    (0..TOPICS).step_by(3).for_each(|n| harness.publish(&format!("t{n}.x")));
    harness.settle();
    for (join, work_max) in [("the first, which sorts", 4 * TOPICS), ("a further one", 2 * TOPICS)] {
        let client = join_with(&mut harness, ">", None);
        let work = work_until_settled(&mut harness);
        let slices = 256 * (TOPICS * 60 / (64 * 1024) + 8);
        assert!(work < work_max + slices, "{join}: {work} looked at for {TOPICS} topics");
        let offsets = offsets(&client.received());
        assert_eq!(offsets.len(), TOPICS, "{join}");
        assert!(offsets.is_sorted_by(|before, after| before < after), "{join}");
    }
    // Some go on, and the list is older than they are: the rest of the way is in the ring.
    (0..TOPICS).step_by(10).for_each(|n| harness.publish(&format!("t{n}.x")));
    harness.settle();
    let client = join_with(&mut harness, ">", None);
    let work = work_until_settled(&mut harness);
    assert!(work < 2 * TOPICS + 256 * 40, "{work}");
    let offsets = offsets(&client.received());
    assert!(offsets.len() == TOPICS && offsets.is_sorted_by(|before, after| before < after));
}

#[test]
fn many_clients_that_join_at_once_wait_in_bounded_turns() {
    const TOPICS: usize = 10_000;
    let mut harness = harness_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let other = harness.join();
    let clients: Vec<HarnessClient> = (0..30).map(|_| join_with(&mut harness, ">", None)).collect();
    harness.shard.budgets.catch_up = Budget::new(5000);
    let mut turns = 0;
    while harness.shard.has_work() {
        harness.send(&other, r#"{"op":"ping"}"#);
        let before: usize = clients.iter().map(|client| client.pipe.borrow().to_client.len()).sum();
        harness.turn();
        let after: usize = clients.iter().map(|client| client.pipe.borrow().to_client.len()).sum();
        assert!(after - before < 8 * 64 * 1024 + 32 * 1024, "{} bytes in a turn", after - before);
        turns += 1;
    }
    assert!(turns > 30, "{turns}");
    assert!(!other.received().is_empty());
    clients.iter().for_each(|client| assert_eq!(offsets(&client.received()).len(), TOPICS));
}

#[test]
fn a_client_that_toggles_wildcards_has_its_share_of_a_second() {
    const TOPICS: usize = 20_000;
    let mut harness = harness_with((0..TOPICS).map(|n| format!("t{n}.x")));
    harness.shard.settings.messages_per_second_max = 20;
    let restless = harness.join();
    let wildcards = || (0..99).map(|n| format!("*q{n}.*"));
    let mut done = 0;
    for _ in 0..10 {
        for op in ["subscribe", "unsubscribe"] {
            done += harness.answers(&restless, &command(op, wildcards())).len();
        }
    }
    assert!((2..20).contains(&done), "{done} commands done in no time");
    harness.pass_second();
    harness.settle();
    let heard = restless.received().len();
    assert!(heard > 0 && done + heard < 20, "the next second: {heard} after {done}");
}

#[test]
fn a_shard_has_a_limit_of_wildcards_of_all_clients() {
    let mut harness = Harness::open();
    harness.shard.settings.wildcards_total_max = 5;
    let clients = [harness.join(), harness.join(), harness.join()];
    let subscribe = |harness: &mut Harness, at: usize, patterns: &[&str]| {
        let command = command("subscribe", patterns.iter().map(|it| it.to_string()));
        harness.answers(&clients[at], &command)[0].clone()
    };
    assert_eq!(subscribe(&mut harness, 0, &["a.*", "b.*", "c.*"])["op"], "subscribed");
    assert_eq!(subscribe(&mut harness, 1, &["a.*", "b.*", "c.*"])["op"], "subscribed", "the same patterns count once");
    let refused = subscribe(&mut harness, 2, &["d.*", "e.*", "f.*"]);
    assert_eq!(refused["code"], "too_many_wildcards_total");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("limits.wildcards_total_max")), "{refused}");
    assert_eq!(subscribe(&mut harness, 2, &["name", "d.*"])["op"], "subscribed");
    harness.vanish(&clients[0]);
    harness.vanish(&clients[1]);
    harness.settle();
    assert_eq!(subscribe(&mut harness, 2, &["e.*", "f.*"])["op"], "subscribed", "a client that leaves makes room");
}

#[test]
fn a_paced_lane_gets_much_in_parts_and_each_topic_once() {
    const TOPICS: usize = 40_000;
    let mut harness = harness_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let client = join_with(&mut harness, ">", Some(Duration::from_millis(50)));
    harness.settle();
    client.received();
    (0..TOPICS).for_each(|n| harness.publish(&format!("t{n}.x")));
    harness.shard.follow(harness.now);
    assert!(client.received().is_empty(), "it is not due yet");
    harness.now.mono_ns += 60_000_000;
    let mut heard = Vec::new();
    for _ in 0..3 {
        harness.turn();
        let part = offsets(&client.received());
        assert!((1..=16 * 1024).contains(&part.len()), "{} frames in a round", part.len());
        assert!(harness.shard.paced_due_ns() <= harness.now.mono_ns || heard.len() + part.len() == TOPICS);
        heard.extend(part);
    }
    let expected: Vec<u64> = (TOPICS as u64 + 1..=2 * TOPICS as u64).collect();
    assert_eq!(heard, expected);
    assert!(offsets(&client.received()).is_empty());
}
