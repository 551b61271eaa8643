//! Several connections to one feed: copies become one stream, connections are replaced and shared out, and the venue is
//! never asked for more, or faster, than it allows. The venue's log says what was sent, to whom, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fanline::bus::Limits;
use fanline::bus::demand::interest::Interest;
use fanline::bus::demand::requests;
use fanline::bus::demand::requests::{
    AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, RequestRules, Requests,
};
use fanline::bus::feed_state::FeedState;
use fanline::bus::frame::{Frame, FrameKind};
use fanline::intake::upstream::Settings;
use fanline::profile::check;
use fanline::words::ids::Offset;
use fanline::words::metrics::Meters;
use kit::fake_feed::{FakeFeed, most_within};
use kit::http::sum;
use kit::intake::{self, Intake, PATIENCE};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(10);

const PROFILE: &str = r#"
profile = 1
name = "exchange"
[subscribe]
send = '{"op":"sub","items":${items|json},"id":${req},"at":${now.ms}}'
unsubscribe = '{"op":"unsub","items":${items|json},"id":${req},"at":${now.ms}}'
ack = { per = "list", id = "/id", ok = "/ok", bad = ["/bad"] }
@SUBSCRIBE@
[keepalive]
idle_timeout = "none"
ws_ping = "none"
stale_after = "none"
[client]
send = '{"op":"say","where":${item|json},"what":${data},"id":${req}}'
request = { id = "/id", timeout = "10s" }
[[on]]
name = "granted"
as = "ack"
when = ['/ok exists']
[[on]]
name = "gone"
as = "ack"
when = ['/gone exists']
[[on]]
name = "moving"
as = "reconnect"
when = ['/op == "move"']
[[on]]
name = "delta"
as = "data"
when = ['/kind == "delta"']
topic = "${/topic}"
mode = "delta"
snapshot_when = ['/full == true']
seq = { rule = "inc", last = "/n" }
[[on]]
name = "quote"
as = "data"
when = ['/kind == "quote"']
topic = "${/topic}"
seq = { rule = "monotonic", last = "/n" }
[[on]]
name = "book"
as = "data"
when = ['/kind == "book"']
topic = "${/topic}"
mode = "delta"
snapshot_when = ['/full == true']
[[on]]
name = "value"
as = "data"
when = ['/kind == "value"']
topic = "${/topic}"
@SECTIONS@
"#;

fn settings(exchange: &FakeFeed, items: &[&str]) -> Settings {
    Settings {
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(200),
        message_bytes_max: 1 << 20,
        linger: Duration::from_millis(300),
        ..intake::settings(&exchange.url(), profile("", ""), items)
    }
}

fn profile(subscribe: &str, sections: &str) -> fanline::profile::Profile {
    let text = PROFILE.replace("@SUBSCRIBE@", subscribe).replace("@SECTIONS@", sections);
    check(&text, "exchange.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// An upstream that runs, and what it publishes.
struct Harness(Intake);

impl Deref for Harness {
    type Target = Intake;

    fn deref(&self) -> &Intake {
        &self.0
    }
}

impl Harness {
    fn start(settings: Settings) -> Harness {
        let limits = Limits { ring_frames_max: 1 << 17, ring_bytes_max: 256 << 20, topics_max: 10_000 };
        Harness(Intake::start_within(limits, settings))
    }

    fn frames(&self) -> Vec<Arc<Frame>> {
        (1..=self.reader.head().0)
            .map(|offset| self.reader.frame(Offset(offset)).hot().expect("the ring holds all"))
            .collect()
    }

    /// How much was published of a topic; notes do not count.
    fn count(&self, topic: &str) -> u64 {
        self.reader.latest(topic).map_or(0, |current| current.count)
    }

    /// What was published of a topic: the field `n`, in order; notes are left out.
    fn numbers(&self, topic: &str) -> Vec<u64> {
        let of_topic = |frame: &Arc<Frame>| !frame.is_status() && *frame.topic.name == *topic;
        self.frames().iter().filter(|frame| of_topic(frame)).map(|frame| number(frame)).collect()
    }

    /// The notes of this kind, such as `gap`, that were published of a topic.
    fn notes(&self, topic: &str, op: &str) -> Vec<Value> {
        let of_topic = |frame: &Arc<Frame>| frame.is_status() && *frame.topic.name == *topic;
        let notes = self.frames().into_iter().filter(of_topic).map(|frame| json(&frame));
        notes.filter(|note| note["op"] == op).collect()
    }

    fn metric(&self, name: &str) -> f64 {
        sum(&self.metrics(), name, "")
    }

    async fn end(self) {
        assert!(self.0.end().await.is_ok());
    }
}

fn json(frame: &Frame) -> Value {
    serde_json::from_slice(&frame.payload.bytes).expect("JSON")
}

fn number(frame: &Frame) -> u64 {
    json(frame)["n"].as_u64().expect("a number")
}

fn message(kind: &str, topic: &str, n: u64) -> String {
    format!(r#"{{"kind":"{kind}","topic":"{topic}","n":{n}}}"#)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "expected in time: {what}");
        sleep(POLL).await;
    }
}

/// Once each, in any order.
fn assert_each_once(found: &[u64], sent: &BTreeSet<u64>, what: &str) {
    let distinct: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "{what}: something was published twice");
    let lost: Vec<&u64> = sent.difference(&distinct).collect();
    assert!(lost.is_empty(), "{what}: lost {lost:?}");
    assert_eq!(distinct.len(), sent.len(), "{what}: more was published than sent");
}

/// Messages missing in front of each gap, as the venue knows them, and as they were reported.
fn assert_gaps(harness: &Harness, topic: &str, sent: &BTreeSet<u64>) -> usize {
    let sent: Vec<u64> = sent.iter().copied().collect();
    let missing: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|missing| *missing > 0).collect();
    let told: Vec<u64> = harness.notes(topic, "gap").iter().map(|gap| gap["missed"].as_u64().unwrap_or(0)).collect();
    assert_eq!(told, missing, "{topic}: a gap is reported if, and only if, no connection brought what is missing");
    missing.len()
}

const SEED: u64 = 20_260_101;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_legs_that_lose_and_die_make_one_whole_stream() {
    const ITEMS: [&str; 3] = ["delta.A", "value.A", "quote.A"];
    let exchange = FakeFeed::open();
    exchange.delay(1, Duration::from_millis(4));
    let harness = Harness::start(Settings { legs: 2, ..settings(&exchange, &ITEMS) });
    until("both legs", || exchange.ready(&ITEMS).len() == 2).await;
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut sent: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut deaths = 0;
    let start = Instant::now();
    for n in 0..1000_u64 {
        for item in ITEMS {
            let kind = item.split_once('.').map_or(item, |(kind, _)| kind);
            // The first ones reach both legs, so that each numbered topic has its beginning.
            let reached = exchange.publish(item, &message(kind, item, n), |_| n > 0 && rng.random_bool(0.05));
            if reached > 0 {
                sent.entry(item).or_default().insert(n);
            }
        }
        // In bursts of five, so that a slow copy comes after the next message.
        if n % 5 == 4 {
            let due = start + Duration::from_millis(10 * (n + 1));
            sleep(due.saturating_duration_since(Instant::now())).await;
        }
        if n % 100 == 99 {
            let victim = exchange.ready(&ITEMS).into_iter().find(|guest| *guest != 1);
            if let Some(victim) = victim {
                exchange.end(victim);
                deaths += 1;
            }
        }
    }
    until("all frames", || ITEMS.iter().all(|item| harness.count(item) >= sent[item].len() as u64)).await;
    // What is too much is on one of the connections.
    until("everything to be read", exchange.all_read()).await;
    for item in ITEMS {
        assert_each_once(&harness.numbers(item), &sent[item], &format!("seed {SEED}: {item}"));
    }
    assert!(deaths >= 5, "the fault was there: {deaths}");
    assert!(harness.numbers("delta.A").is_sorted(), "numbered messages are in order");
    let gaps = assert_gaps(&harness, "delta.A", &sent["delta.A"]);
    assert!(gaps > 0, "seed {SEED}: some were lost on both legs");

    let quotes: Vec<Arc<Frame>> =
        harness.frames().into_iter().filter(|frame| *frame.topic.name == *"quote.A" && !frame.is_status()).collect();
    let (current, late): (Vec<_>, Vec<_>) =
        quotes.iter().partition(|frame| matches!(frame.kind, FrameKind::Value { .. }));
    assert!(current.iter().map(|frame| number(frame)).is_sorted(), "a late one is not the current value again");
    assert!(
        !late.is_empty() && late.iter().all(|frame| matches!(frame.kind, FrameKind::Transient)),
        "the fault was there"
    );
    let latest = harness.reader.latest("quote.A").expect("known").retained;
    let base: Vec<u64> = latest.kept_after(Offset(0)).map(|frame| number(frame)).collect();
    assert_eq!(base.last(), sent["quote.A"].last());
    assert!(harness.metric("fanline_upstream_leg_duplicates_total") > 100.0);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_both_legs_lose_is_reported_after_a_while() {
    let exchange = FakeFeed::open();
    let harness = Harness::start(Settings { legs: 2, ..settings(&exchange, &["d"]) });
    until("both legs", || exchange.ready(&["d"]).len() == 2).await;
    for (n, lost_on) in
        [(1, vec![]), (2, vec![0]), (3, vec![1]), (4, vec![0, 1]), (5, vec![]), (6, vec![1]), (7, vec![])]
    {
        exchange.publish("d", &message("delta", "d", n), |guest| lost_on.contains(&guest));
    }
    until("all frames", || harness.numbers("d").len() == 6).await;
    assert_eq!(harness.numbers("d"), [1, 2, 3, 5, 6, 7]);
    let gaps = harness.notes("d", "gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((&gaps[0]["reason"], &gaps[0]["missed"]), (&Value::from("sequence"), &Value::from(1)));
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_without_numbers_come_from_one_leg_until_it_goes() {
    let exchange = FakeFeed::open();
    let harness = Harness::start(Settings { legs: 2, ..settings(&exchange, &["book"]) });
    until("both legs", || exchange.ready(&["book"]).len() == 2).await;
    let full = |n: u64| format!(r#"{{"kind":"book","topic":"book","full":true,"n":{n}}}"#);
    exchange.publish("book", &full(0), |_| false);
    for n in 1..50 {
        exchange.publish("book", &message("book", "book", n), |_| false);
    }
    until("one copy of each", || harness.numbers("book").len() >= 50).await;
    assert_eq!(harness.numbers("book"), (0..50).collect::<Vec<u64>>());
    // Whichever is believed goes: the other one is asked for a snapshot.
    let (first, second) = (exchange.ready(&["book"])[0], exchange.ready(&["book"])[1]);
    exchange.publish("book", &message("book", "book", 50), |guest| guest == second);
    until("the first to be believed or not", || {
        harness.metric("fanline_upstream_leg_wins_total") + harness.metric("fanline_upstream_leg_duplicates_total")
            >= 101.0
    })
    .await;
    let believed = if harness.numbers("book").last() == Some(&50) { first } else { second };
    let other = if believed == first { second } else { first };
    exchange.end(believed);
    let asked_again =
        || exchange.state().connections[other].heard.iter().filter(|(_, text)| text.contains("\"sub\"")).count();
    until("the other one to be asked again", || asked_again() == 2).await;
    exchange.say(other, &full(60));
    exchange.say(other, &message("book", "book", 61));
    until("the new snapshot", || harness.numbers("book").ends_with(&[60, 61])).await;
    assert_eq!(harness.notes("book", "gap"), [Value::Null; 0], "a snapshot leaves no gap");
    harness.end().await;
}

const FEED: [&str; 3] = ["delta.A", "value.B", "quote.C"];

/// Sends a few hundred messages a second over three topics for some seconds, which is what rotations need; `at` is called
/// before each. Gives how many of each.
async fn feed(exchange: &FakeFeed, seconds: u64, at: impl Fn(u64)) -> u64 {
    let start = Instant::now();
    for n in 0..seconds * 100 {
        at(n);
        for item in FEED {
            let kind = item.split_once('.').map_or(item, |(kind, _)| kind);
            exchange.publish(item, &message(kind, item, n), |_| false);
        }
        let due = start + Duration::from_millis(10 * (n + 1));
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    seconds * 100
}

/// Each connection that was closed was so only after the one that came after it was fed.
fn assert_overlap(exchange: &FakeFeed) {
    let state = exchange.state();
    assert!(state.most_open() <= 2, "{} connections at a time", state.most_open());
    for pair in state.connections.windows(2) {
        // The test may end while one takes over from another.
        let Some(closed) = pair[0].closed else { continue };
        assert!(pair[1].fed.is_some_and(|fed| fed < closed), "the old one was closed before the new one was fed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_loses_and_repeats_nothing() {
    let exchange = FakeFeed::open();
    // The first connection is slow: what it still has on its way is not lost.
    exchange.delay(0, Duration::from_millis(50));
    let harness = Harness::start(Settings { rotate_after: Some(Duration::from_secs(1)), ..settings(&exchange, &FEED) });
    until("the connection", || exchange.ready(&FEED).len() == 1).await;
    let count = feed(&exchange, 5, |_| {}).await;
    let all: BTreeSet<u64> = (0..count).collect();
    until("all frames", || FEED.iter().all(|item| harness.count(item) >= count)).await;
    until("everything to be read", exchange.all_read()).await;
    for item in FEED {
        assert_each_once(&harness.numbers(item), &all, item);
        assert_eq!(harness.notes(item, "gap"), [Value::Null; 0]);
    }
    assert!(harness.numbers("delta.A").is_sorted());
    let rotations = harness.metric("fanline_upstream_rotations_total");
    assert!(rotations >= 2.0, "{rotations} rotations");
    assert_overlap(&exchange);
    assert_eq!(*harness.reader.feed(), FeedState::Live);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_announces_its_end_is_replaced_without_a_loss() {
    let exchange = FakeFeed::open();
    let harness = Harness::start(settings(&exchange, &FEED));
    until("the connection", || exchange.ready(&FEED).len() == 1).await;
    let announce = |n| {
        // After a second: sooner after it was opened it would be a venue that is not well.
        if n == 120 {
            exchange.say(0, r#"{"op":"move"}"#);
        }
    };
    let count = feed(&exchange, 3, announce).await;
    until("all frames", || FEED.iter().all(|item| harness.count(item) >= count)).await;
    for item in FEED {
        assert_each_once(&harness.numbers(item), &(0..count).collect(), item);
    }
    assert_eq!(harness.metric("fanline_upstream_rotations_total"), 1.0);
    assert_eq!(exchange.state().connections.len(), 2);
    assert_overlap(&exchange);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_of_one_connection_never_sees_two() {
    let exchange = FakeFeed::open();
    let profile = profile("", "[connect]\nmax_conns = 1");
    let rotate_after = Some(Duration::from_millis(700));
    let harness = Harness::start(Settings { profile, rotate_after, ..settings(&exchange, &FEED) });
    until("the connection", || exchange.ready(&FEED).len() == 1).await;
    let count = feed(&exchange, 4, |_| {}).await;
    exchange.say(exchange.ready(&FEED)[0], r#"{"op":"move"}"#);
    for item in FEED {
        until("the newest", || {
            exchange.publish(item, &message("value", item, count), |_| false);
            harness.numbers(item).last() == Some(&count)
        })
        .await;
        assert!(harness.numbers(item).windows(2).all(|pair| pair[0] < pair[1] || pair[1] == count), "no repeats");
    }
    {
        let state = exchange.state();
        assert!(state.connections.len() >= 4, "it was rotated: {}", state.connections.len());
        assert_eq!(state.most_open(), 1);
    }
    harness.end().await;
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("t{n:04}")).collect()
}

/// How many items each connection that stands is subscribed to.
fn loads(exchange: &FakeFeed) -> Vec<usize> {
    exchange.state().connections.iter().filter(|guest| guest.is_open()).map(|guest| guest.items.len()).collect()
}

/// No stretch of a second holds more messages than allowed, on any connection, by the upstream's own clock. When they
/// arrive says less: a machine that is busy brings two seconds' messages at once.
fn assert_rate(exchange: &FakeFeed, count: usize) {
    let sent: Vec<Vec<Duration>> = exchange.state().connections.iter().map(|guest| guest.sent()).collect();
    for sent in sent {
        assert!(sent.is_sorted(), "messages arrive as they were sent: {sent:?}");
        assert!(most_within(&sent, Duration::from_secs(1)) <= count, "sent too fast: {sent:?}");
    }
}

/// Sends a message on each of these items, and waits until each has come exactly once.
async fn assert_each_delivers(exchange: &FakeFeed, harness: &Harness, items: &[String], n: u64) {
    for item in items {
        assert!(exchange.publish(item, &message("value", item, n), |_| false) > 0, "{item} is subscribed");
    }
    let of_round = |frame: &&Arc<Frame>| !frame.is_status() && number(frame) == n;
    let published =
        || harness.frames().iter().filter(of_round).map(|frame| frame.topic.name.to_string()).collect::<Vec<_>>();
    until("one frame of each", || published().len() >= items.len()).await;
    until("everything to be read", exchange.all_read()).await;
    let mut found = published();
    found.sort();
    assert_eq!(found.len(), items.len(), "each once");
    assert!(found.iter().eq(items), "each of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_items_of_a_lost_connection_move_to_others_and_return() {
    let exchange = FakeFeed::open();
    let items = names(3000);
    let profile = profile("batch = 100", "[connect]\ntopics_per_conn = 2000\n[send]\nrate = \"10/s\"");
    let texts: Vec<&str> = items.iter().map(String::as_str).collect();
    let harness = Harness::start(Settings { profile, connections: 3, ..settings(&exchange, &texts) });
    until("an even load", || loads(&exchange) == [1000; 3]).await;
    assert_each_delivers(&exchange, &harness, &items, 1).await;

    exchange.refuse(true);
    exchange.end(1);
    until("two that carry everything", || loads(&exchange) == [1500; 2]).await;
    assert_each_delivers(&exchange, &harness, &items, 2).await;
    until("an attempt", || !exchange.state().turned_away.is_empty()).await;

    exchange.refuse(false);
    until("an even load again", || loads(&exchange) == [1000; 3]).await;
    assert_each_delivers(&exchange, &harness, &items, 3).await;
    assert_rate(&exchange, 10);
    assert_eq!(harness.metric("fanline_upstream_refused_total"), 0.0);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_beyond_one_connection_open_further_ones_as_far_as_allowed() {
    let exchange = FakeFeed::open();
    let items = names(250);
    let profile = profile("", "[connect]\ntopics_per_conn = 100\nmax_conns = 2");
    let texts: Vec<&str> = items.iter().map(String::as_str).collect();
    let harness = Harness::start(Settings { profile, ..settings(&exchange, &texts) });
    until("two full ones", || loads(&exchange) == [100; 2]).await;
    assert_each_delivers(&exchange, &harness, &items[..200], 1).await;
    assert_eq!(harness.metric("fanline_upstream_refused_total"), 50.0);
    let told = "the items do not fit into 2 connections to the feed; subscribe to fewer";
    assert_eq!(harness.notes("t0249", "refused")[0]["message"], told);
    assert!(harness.log().contains("do not fit into 2 connections"), "{}", harness.log());
    assert_eq!(exchange.state().connections.len(), 2);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_address_carries_on_at_once() {
    let (first, second) = (FakeFeed::open(), FakeFeed::open());
    let urls = vec![first.url(), second.url()];
    // A client that waited before trying the second address would wait for minutes.
    let (backoff_min, backoff_max) = (Duration::from_secs(6000), Duration::from_secs(6000));
    let harness = Harness::start(Settings { urls, backoff_min, backoff_max, ..settings(&first, &["v"]) });
    until("the first", || first.ready(&["v"]).len() == 1).await;
    first.publish("v", &message("value", "v", 1), |_| false);
    first.refuse(true);
    first.end(0);
    until("the second", || second.ready(&["v"]).len() == 1).await;
    second.publish("v", &message("value", "v", 2), |_| false);
    until("data of both", || harness.numbers("v") == [1, 2]).await;
    assert_eq!(*harness.reader.feed(), FeedState::Live);
    assert_eq!(first.state().turned_away.len(), 0, "it is not tried again so soon");
    harness.end().await;
}

fn named(topics: &[&str]) -> Vec<Arc<str>> {
    topics.iter().map(|topic| Arc::from(*topic)).collect()
}

/// 2500 clients that come, stay for some milliseconds with one or several topics, and go.
fn throng(interest: &Arc<Interest>, topics: &[String], lane: u64, ends: &AtomicBool) -> u32 {
    let mut rng = StdRng::seed_from_u64(SEED + lane);
    let mut claims = Vec::new();
    let mut clients = 0;
    while !ends.load(Ordering::Relaxed) || clients < 2500 {
        let first = rng.random_range(0..topics.len());
        let some: BTreeSet<&str> =
            (0..rng.random_range(1..6)).map(|n| topics[(first + n * 7) % topics.len()].as_str()).collect();
        let some: Vec<&str> = some.into_iter().collect();
        claims.push(interest.claim(&named(&some)).expect("room"));
        clients += 1;
        if claims.len() > 20 {
            claims.swap_remove(rng.random_range(0..claims.len()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wanted_topics_are_requested_as_fast_as_allowed_and_no_faster() {
    let exchange = FakeFeed::open();
    let mut topics = names(500);
    topics.extend(["bad.1", "bad.2", "bad.3", "pin.1"].map(String::from));
    let interest = Interest::new(1000, &Meters::unread());
    let profile = profile("batch = 20", "[send]\nrate = \"10/s\"");
    let pinned = ["pin.1", "pin.2"];
    let settings = Settings { profile, interest: Some(interest.clone()), ..settings(&exchange, &pinned) };
    let harness = Harness::start(settings);
    until("the pinned ones", || exchange.ready(&pinned).len() == 1).await;

    let ends = Arc::new(AtomicBool::new(false));
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let (interest, topics, ends) = (interest.clone(), topics.clone(), ends.clone());
            std::thread::spawn(move || throng(&interest, &topics, lane, &ends))
        })
        .collect();
    // More than the rate allows at once, and as many as it allows in four seconds.
    let has_let_go = || exchange.heard().iter().any(|text| text.contains("unsub"));
    until("40 messages, and something that is let go", || exchange.heard().len() >= 40 && has_let_go()).await;
    ends.store(true, Ordering::Relaxed);
    let clients: u32 = lanes.into_iter().map(|lane| lane.join().expect("it does not panic")).sum();
    assert!(clients >= 10_000, "{clients} clients");

    // From now on nothing changes: some are wanted, the others not any more.
    let wanted: BTreeSet<&str> = topics.iter().step_by(3).map(String::as_str).chain(["bad.2"]).collect();
    let held = interest.claim(&named(&wanted.iter().copied().collect::<Vec<_>>())).expect("room");
    let sent: BTreeSet<&str> = wanted.iter().copied().filter(|name| !name.starts_with("bad")).chain(pinned).collect();
    until("what is wanted, and nothing else", || {
        exchange.state().connections[0].items.iter().map(String::as_str).eq(sent.iter().copied())
    })
    .await;
    let names: Vec<String> = sent.iter().map(|name| name.to_string()).collect();
    assert_each_delivers(&exchange, &harness, &names, 1).await;

    let heard = exchange.heard();
    assert!(heard.iter().any(|text| text.contains("unsub")), "something was let go");
    assert!(heard.iter().all(|text| !text.contains("unsub") || !text.contains("pin.")), "what is pinned stays");
    let (_, said) = interest.statuses_after(0);
    assert!(said.iter().any(|(topic, _)| **topic == *"bad.2"), "a client that wanted it is notified");
    assert!(harness.notes("bad.2", "refused").is_empty(), "and nobody else");
    assert!(harness.metric("fanline_upstream_refused_total") >= 1.0);
    drop(held);
    until("only what is pinned", || exchange.state().connections[0].items.iter().eq(pinned.iter())).await;
    assert_rate(&exchange, 10);
    assert_eq!(exchange.state().connections.len(), 1, "one connection was enough");
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_wanted_again_within_the_linger_is_never_unsubscribed() {
    let exchange = FakeFeed::open();
    let interest = Interest::new(20, &Meters::unread());
    let linger = Duration::from_secs(2);
    let harness = Harness::start(Settings { interest: Some(interest.clone()), linger, ..settings(&exchange, &[]) });
    let mut claim = interest.claim(&named(&["a"])).expect("room");
    until("the topic", || exchange.ready(&["a"]).len() == 1).await;
    // Of a topic of which nothing has ever come there would be nothing to tell.
    exchange.publish("a", r#"{"kind":"value","topic":"a"}"#, |_| false);
    until("its value", || !harness.frames().is_empty()).await;
    let mut marks = Vec::new();
    // What is wanted after a change is asked for once the upstream knows of the change.
    let mut mark = async |name: String| {
        marks.push(interest.claim(&named(&[&name])).expect("room"));
        until("what is wanted after it", || exchange.ready(&[&name]).len() == 1).await;
    };
    for round in 0..5 {
        drop(claim);
        mark(format!("gone.{round}")).await;
        claim = interest.claim(&named(&["a"])).expect("room");
        mark(format!("back.{round}")).await;
    }
    let of_a = exchange.heard().into_iter().filter(|text| text.contains("\"a\""));
    assert_eq!(of_a.count(), 1, "{:?}", exchange.heard());
    drop(claim);
    let left = Instant::now();
    until("the end of the linger", || !exchange.state().connections[0].items.contains("a")).await;
    assert!(left.elapsed() >= linger, "it lingers");
    until("a note", || harness.notes("a", "stale").len() == 1).await;
    harness.end().await;
}

fn ask(asks: &Requests, kind: RequestKind) -> Receiver<RequestAnswer> {
    let (given, answers) = channel();
    // The peer that is answered may be gone.
    let answer = AnswerTo::new(move |answer| given.send(answer).unwrap_or_default());
    asks.put(ClientRequest { kind, answer });
    answers
}

fn request(asks: &Requests, data: &str, timeout: Duration) -> Receiver<RequestAnswer> {
    ask(asks, RequestKind::Request { data: data.into(), timeout })
}

async fn answered(answers: &Receiver<RequestAnswer>) -> RequestAnswer {
    let mut found = None;
    until("an answer", || {
        found = answers.try_recv().ok();
        found.is_some()
    })
    .await;
    found.expect("it was waited for")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_reaches_the_client_that_asked() {
    let exchange = FakeFeed::open();
    let (asks, queue) = requests::open(RequestRules::default());
    let harness = Harness::start(Settings { requests: Some(queue), ..settings(&exchange, &["v"]) });
    until("the connection", || exchange.ready(&["v"]).len() == 1).await;

    let one = request(&asks, r#"{"id":7,"method":"one"}"#, PATIENCE);
    let two = request(&asks, r#"{"method":"two","id":"7"}"#, PATIENCE);
    until("both requests", || exchange.heard().len() == 3).await;
    let asked: Vec<Value> =
        exchange.heard()[1..].iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    assert_eq!((&asked[0]["method"], &asked[1]["method"]), (&Value::from("one"), &Value::from("two")));
    let ids: Vec<String> = asked.iter().map(|asked| asked["id"].to_string()).collect();
    assert_ne!(ids[0].trim_matches('"'), ids[1].trim_matches('"'));
    // In the other order, and with data in between.
    exchange.say(0, &format!(r#"{{"id":{},"result":2.50}}"#, ids[1]));
    exchange.publish("v", &message("value", "v", 1), |_| false);
    exchange.say(0, &format!(r#"{{"id":{},"result":1.50}}"#, ids[0]));
    assert_eq!(answered(&two).await, RequestAnswer::Response(r#"{"id":"7","result":2.50}"#.into()));
    assert_eq!(answered(&one).await, RequestAnswer::Response(r#"{"id":7,"result":1.50}"#.into()));
    until("the data", || harness.numbers("v") == [1]).await;

    let sent = ask(&asks, RequestKind::Send { topic: "v".into(), data: r#"{"a": 1}"#.into() });
    assert_eq!(answered(&sent).await, RequestAnswer::Sent);
    until("the message", || exchange.heard().len() == 4).await;
    assert_eq!(exchange.heard()[3], r#"{"op":"say","where":"v","what":{"a": 1},"id":4}"#);

    let late = request(&asks, r#"{"id":1}"#, Duration::from_millis(50));
    assert!(matches!(answered(&late).await, RequestAnswer::Failed(RequestFailure::Timeout, _)));
    let lost = request(&asks, r#"{"id":2}"#, PATIENCE);
    until("the request", || exchange.heard().len() == 6).await;
    exchange.refuse(true);
    exchange.end(0);
    assert!(matches!(answered(&lost).await, RequestAnswer::Failed(RequestFailure::UpstreamDown, _)));
    let down = request(&asks, r#"{"id":3}"#, PATIENCE);
    assert!(matches!(answered(&down).await, RequestAnswer::Failed(RequestFailure::UpstreamDown, _)));
    assert!(one.try_recv().is_err() && lost.try_recv().is_err(), "each is answered once");
    harness.end().await;
}
