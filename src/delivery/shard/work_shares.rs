//! What one client's subscriptions may cost the shard: work is counted, not time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::delivery::handoff::SessionOptions;
use crate::delivery::harness::{Harness, HarnessClient};
use crate::words::topic::{Pattern, tried};

fn command(op: &str, patterns: impl Iterator<Item = String>) -> String {
    json!({"op": op, "topics": patterns.collect::<Vec<_>>()}).to_string()
}

/// A stage with topics that are called so.
fn stage_with(topics: impl Iterator<Item = String>) -> Harness {
    let mut stage = Harness::open();
    topics.for_each(|topic| stage.publish(&topic));
    stage.settle();
    stage
}

fn offsets(heard: &[Value]) -> Vec<u64> {
    heard.iter().filter(|message| message["op"].is_null()).filter_map(|frame| frame["offset"].as_u64()).collect()
}

fn newcomer(stage: &mut Harness, pattern: &str, every: Option<Duration>) -> HarnessClient {
    let patterns = vec![Pattern::parse(pattern).expect("a pattern")];
    stage.adopt(SessionOptions { patterns, every, ..SessionOptions::default() })
}

/// Topics and frames looked at until there is nothing to do.
fn work_until_settled(stage: &mut Harness) -> usize {
    stage.shard.work_per_turn = usize::MAX;
    let mut work = 0;
    while stage.shard.has_work() {
        stage.turn();
        work += usize::MAX - stage.shard.work_left;
    }
    work
}

#[test]
fn a_wildcard_more_costs_each_topic_once_however_many_patterns_there_were() {
    const TOPICS: usize = 3200;
    let mut stage = stage_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let puppet = stage.join();
    let wildcards = (0..99).map(|n| format!("*{n:02}.*"));
    let heard = stage.ask(&puppet, &command("subscribe", wildcards.chain((0..900).map(|n| format!("name.{n}")))));
    assert_eq!(offsets(&heard).len(), TOPICS * 99 / 100 - 10, "all but what ends with 99 or has one digit");
    let mut heard = Vec::new();
    let tried = tried::during(|| heard = stage.ask(&puppet, &command("subscribe", ["*.x".to_string()].into_iter())));
    assert_eq!(offsets(&heard).len(), TOPICS / 100 + 10, "what it had not been sent");
    assert!(tried < 20 * TOPICS, "{tried} tokens tried for {TOPICS} topics");
    // It is still subscribed to what it knew, and leaves no lane behind that nobody is on.
    stage.publish("t7.x");
    stage.settle();
    assert_eq!(puppet.hear().len(), 1);
    assert!(stage.shard.lanes.len() <= 2, "its own, and perhaps that of newcomers: {}", stage.shard.lanes.len());
}

#[test]
fn a_burst_of_new_topics_costs_the_topics_and_not_the_wildcards() {
    const TOPICS: usize = 2000;
    let mut stage = Harness::open();
    let puppets: Vec<HarnessClient> = (0..100).map(|_| stage.join()).collect();
    for (client, puppet) in puppets.iter().enumerate() {
        stage.ask(puppet, &command("subscribe", (0..99).map(|n| format!("s{client}x{n}*.*"))));
    }
    assert_eq!(stage.shard.index.wildcards(), 9900);
    (0..TOPICS).for_each(|n| stage.publish(&format!("s{}x{}q.y", n % 100, n % 99)));
    let tried = tried::during(|| stage.settle());
    assert!(tried < 10 * TOPICS, "{tried} tokens tried for {TOPICS} topics");
    let heard: usize = puppets.iter().map(|puppet| offsets(&puppet.hear()).len()).sum();
    assert!(heard >= TOPICS, "{heard}");
}

#[test]
fn new_topics_that_are_dear_to_match_wait_and_nobody_misses_one() {
    const TOPICS: usize = 300;
    let mut stage = Harness::open();
    let (greedy, all, other) = (stage.join(), newcomer(&mut stage, ">", None), stage.join());
    // Nothing to find these by.
    stage.ask(&greedy, &command("subscribe", (0..100).map(|n| format!("t*{}*{}*-*.x", n / 10, n % 10))));
    all.hear();
    stage.shard.matches_per_turn = 1000;
    (0..TOPICS).for_each(|n| stage.publish(&format!("t{n}-0123456789.x")));
    let (mut turns, mut heard) = (0, Vec::new());
    while stage.shard.has_work() {
        stage.say(&other, r#"{"op":"ping"}"#);
        let tried = tried::during(|| stage.turn());
        assert!(tried < 1000 + 250, "{tried} tokens tried in a turn");
        assert_eq!(other.hear().len(), 1, "others are answered in each turn");
        heard.extend(offsets(&all.hear()));
        turns += 1;
    }
    assert!(turns >= 20, "a hundred tried on each of {TOPICS} topics: {turns} turns");
    assert_eq!(heard, (1..=TOPICS as u64).collect::<Vec<_>>(), "everything, in order");
    assert_eq!(offsets(&greedy.hear()).len(), TOPICS - 10, "every number of two digits and more");
}

#[test]
fn joining_everything_costs_what_is_sent() {
    const TOPICS: usize = 20_000;
    let mut stage = stage_with((0..TOPICS).map(|n| format!("t{n}.x")));
    // Values that are replaced: what is kept lies scattered.
    (0..TOPICS).step_by(3).for_each(|n| stage.publish(&format!("t{n}.x")));
    stage.settle();
    for (join, work_max) in [("the first, which sorts", 4 * TOPICS), ("a further one", 2 * TOPICS)] {
        let puppet = newcomer(&mut stage, ">", None);
        let work = work_until_settled(&mut stage);
        let slices = 256 * (TOPICS * 60 / (64 * 1024) + 8);
        assert!(work < work_max + slices, "{join}: {work} looked at for {TOPICS} topics");
        let offsets = offsets(&puppet.hear());
        assert_eq!(offsets.len(), TOPICS, "{join}");
        assert!(offsets.is_sorted_by(|before, after| before < after), "{join}");
    }
    // Some go on, and the list is older than they are: the rest of the way is in the ring.
    (0..TOPICS).step_by(10).for_each(|n| stage.publish(&format!("t{n}.x")));
    stage.settle();
    let puppet = newcomer(&mut stage, ">", None);
    let work = work_until_settled(&mut stage);
    assert!(work < 2 * TOPICS + 256 * 40, "{work}");
    let offsets = offsets(&puppet.hear());
    assert!(offsets.len() == TOPICS && offsets.is_sorted_by(|before, after| before < after));
}

#[test]
fn many_who_join_at_once_wait_in_turns_that_are_bounded() {
    const TOPICS: usize = 10_000;
    let mut stage = stage_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let other = stage.join();
    let puppets: Vec<HarnessClient> = (0..30).map(|_| newcomer(&mut stage, ">", None)).collect();
    stage.shard.work_per_turn = 5000;
    let mut turns = 0;
    while stage.shard.has_work() {
        stage.say(&other, r#"{"op":"ping"}"#);
        let before: usize = puppets.iter().map(|puppet| puppet.pipe.borrow().to_client.len()).sum();
        stage.turn();
        let after: usize = puppets.iter().map(|puppet| puppet.pipe.borrow().to_client.len()).sum();
        assert!(after - before < 8 * 64 * 1024 + 32 * 1024, "{} bytes in a turn", after - before);
        turns += 1;
    }
    assert!(turns > 30, "{turns}");
    assert!(!other.hear().is_empty());
    puppets.iter().for_each(|puppet| assert_eq!(offsets(&puppet.hear()).len(), TOPICS));
}

#[test]
fn a_client_that_toggles_wildcards_has_its_share_of_a_second() {
    const TOPICS: usize = 20_000;
    let mut stage = stage_with((0..TOPICS).map(|n| format!("t{n}.x")));
    stage.shard.settings.limits.messages_per_second_max = 20;
    let restless = stage.join();
    let wildcards = || (0..99).map(|n| format!("*q{n}.*"));
    let mut done = 0;
    for _ in 0..10 {
        for op in ["subscribe", "unsubscribe"] {
            done += stage.ask(&restless, &command(op, wildcards())).len();
        }
    }
    assert!((2..20).contains(&done), "{done} commands done in no time");
    stage.pass_second();
    stage.settle();
    let heard = restless.hear().len();
    assert!(heard > 0 && done + heard < 20, "the next second: {heard} after {done}");
}

#[test]
fn a_shard_has_a_limit_of_wildcards_of_all_clients() {
    let mut stage = Harness::open();
    stage.shard.settings.limits.wildcards_total_max = 5;
    let puppets = [stage.join(), stage.join(), stage.join()];
    let subscribe = |stage: &mut Harness, at: usize, patterns: &[&str]| {
        let command = command("subscribe", patterns.iter().map(|it| it.to_string()));
        stage.ask(&puppets[at], &command)[0].clone()
    };
    assert_eq!(subscribe(&mut stage, 0, &["a.*", "b.*", "c.*"])["op"], "subscribed");
    assert_eq!(subscribe(&mut stage, 1, &["a.*", "b.*", "c.*"])["op"], "subscribed", "the same patterns count once");
    let refused = subscribe(&mut stage, 2, &["d.*", "e.*", "f.*"]);
    assert_eq!(refused["code"], "too_many_wildcards_total");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("limits.wildcards_total_max")), "{refused}");
    assert_eq!(subscribe(&mut stage, 2, &["name", "d.*"])["op"], "subscribed");
    stage.vanish(&puppets[0]);
    stage.vanish(&puppets[1]);
    stage.settle();
    assert_eq!(subscribe(&mut stage, 2, &["e.*", "f.*"])["op"], "subscribed", "who leaves makes room");
}

#[test]
fn a_paced_lane_is_told_much_in_parts_and_each_topic_once() {
    const TOPICS: usize = 40_000;
    let mut stage = stage_with((0..TOPICS).map(|n| format!("t{n}.x")));
    let puppet = newcomer(&mut stage, ">", Some(Duration::from_millis(50)));
    stage.settle();
    puppet.hear();
    (0..TOPICS).for_each(|n| stage.publish(&format!("t{n}.x")));
    stage.shard.follow(stage.now);
    assert!(puppet.hear().is_empty(), "it is not due yet");
    stage.now.mono_ns += 60_000_000;
    let mut heard = Vec::new();
    for _ in 0..3 {
        stage.turn();
        let part = offsets(&puppet.hear());
        assert!((1..=16 * 1024).contains(&part.len()), "{} frames in a round", part.len());
        assert!(stage.shard.paced_due_ns() <= stage.now.mono_ns || heard.len() + part.len() == TOPICS);
        heard.extend(part);
    }
    let expected: Vec<u64> = (TOPICS as u64 + 1..=2 * TOPICS as u64).collect();
    assert_eq!(heard, expected);
    assert!(offsets(&puppet.hear()).is_empty());
}
