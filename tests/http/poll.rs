//! Whoever polls, with or without waiting, through a cache or not, has every message once or is told what is missing.

use std::collections::HashMap;
use std::time::Duration;

use fanline::bus::retention::Retention;
use fanline::bus::shown_log::ShownLog;
use fanline::bus::views::Views;
use fanline::bus::{self, Limits};
use fanline::edge::phase::Phase;
use fanline::edge::settings::{PollLimits, Settings};
use fanline::protocol::encoding::{Payload, PayloadKind};
use fanline::words::ids::{Epoch, Offset};
use fanline::words::metrics::Meters;
use fanline::words::stamp::Stamp;
use kit::edge::{EdgeHarness, parts, settings};
use kit::http_client::{Answer, HttpClient};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// So short that a test does not wait for it.
const GATHER: Duration = Duration::from_millis(20);

fn quick() -> Settings {
    let settings = settings();
    Settings { polls: PollLimits { gather: GATHER, ..settings.polls }, ..settings }
}

fn publish(harness: &mut EdgeHarness, topic: &str) {
    harness.publish(topic, "1", PayloadKind::Json);
}

fn next(answer: &Answer) -> String {
    answer.json()["next"].as_str().expect("a cursor").to_owned()
}

fn offset_of(cursor: &str) -> u64 {
    cursor.split(':').nth(1).and_then(|offset| offset.parse().ok()).expect("a cursor")
}

/// Offsets of all frames, with their topics.
fn frames(answer: &Answer) -> Vec<(u64, String)> {
    let frame = |frame: &Value| {
        (frame["offset"].as_u64().expect("an offset"), frame["topic"].as_str().expect("a topic").to_owned())
    };
    answer.json()["frames"].as_array().expect("frames").iter().map(frame).collect()
}

#[tokio::test]
async fn a_snapshot_that_has_not_changed_is_not_sent_again() {
    let mut harness = EdgeHarness::open(settings());
    publish(&mut harness, "a");
    let first = harness.get("/v1/snapshot?topics=a", "").await;
    let etag = first.header("etag").expect("an ETag").to_owned();
    assert_eq!(first.header("cache-control"), Some("public, max-age=1, stale-while-revalidate=5"));
    publish(&mut harness, "b");
    for (known, status) in [(&*etag, 304), ("\"x\", *", 304), ("\"x\"", 200), (etag.trim_start_matches("W/"), 304)] {
        let answer = harness.get("/v1/snapshot?topics=a", &format!("If-None-Match: {known}\r\n")).await;
        assert_eq!(answer.status, status, "{known}");
        for name in ["etag", "cache-control", "access-control-allow-origin"] {
            assert_eq!(answer.header(name), first.header(name), "{known}");
        }
    }
    publish(&mut harness, "a");
    let answer = harness.get("/v1/snapshot?topics=a", &format!("If-None-Match: {etag}\r\n")).await;
    assert_eq!((answer.status, answer.header("etag") == Some(&etag)), (200, false));
    let all = harness.get("/v1/snapshot", &format!("If-None-Match: {etag}\r\n")).await;
    assert_eq!(all.status, 200);
}

#[tokio::test]
async fn the_first_poll_has_the_current_values_and_the_next_ones_what_is_new() {
    let mut harness = EdgeHarness::open(quick());
    for topic in ["a", "b", "a"] {
        publish(&mut harness, topic);
    }
    let first = harness.get("/v1/poll?topics=a", "").await;
    assert_eq!((frames(&first), next(&first)), (vec![(3, "a".into())], "00000000fee1900d:3".into()));
    assert_eq!(first.header("cache-control"), Some("public, max-age=2"));
    let nothing = harness.get(&format!("/v1/poll?topics=a&since={}", next(&first)), "").await;
    assert_eq!((nothing.status, nothing.header("fanline-next")), (204, Some("00000000fee1900d:3")));
    assert_eq!(
        (nothing.header("cache-control"), nothing.header("fanline-feed")),
        (Some("no-store"), Some("connecting"))
    );
    for topic in ["b", "a", "a"] {
        publish(&mut harness, topic);
    }
    let url = format!("/v1/poll?topics=a&wait_ms=30000&since={}", next(&first));
    let news = harness.get(&url, "").await;
    assert_eq!(frames(&news), [(5, "a".into()), (6, "a".into())]);
    assert_eq!((next(&news), news.json()["caught_up"].as_bool()), ("00000000fee1900d:6".into(), Some(true)));
    assert_eq!(news.header("cache-control"), Some("public, max-age=5"));
}

#[tokio::test]
async fn those_that_wait_for_the_same_are_woken_together_and_go_on_from_the_same_cursor() {
    let mut harness = EdgeHarness::open(quick());
    publish(&mut harness, "a");
    let since = next(&harness.get("/v1/poll", "").await);
    let mut waiting = Vec::new();
    // Some wait longer than others, and some for more topics.
    for (topics, max) in [("a", 10), ("a", 10), ("%3E", 1000), ("b", 10)] {
        let mut client = HttpClient::connect(harness.address).await;
        let path = format!("/v1/poll?topics={topics}&max={max}&wait_ms=30000&since={since}");
        client.write(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await;
        waiting.push(client);
    }
    until_waiting(&harness, 4).await;
    publish(&mut harness, "a");
    let mut cursors = Vec::new();
    for client in &mut waiting[..3] {
        let answer = client.answer("GET").await;
        assert_eq!((answer.status, frames(&answer)), (200, vec![(2, "a".into())]));
        cursors.push(next(&answer));
    }
    assert!(cursors.iter().all(|cursor| *cursor == cursors[0]), "{cursors:?}");
    until_waiting(&harness, 1).await;
    publish(&mut harness, "b");
    assert_eq!(frames(&waiting[3].answer("GET").await), [(3, "b".into())]);
    until_waiting(&harness, 0).await;
}

#[tokio::test]
async fn a_server_that_stops_answers_those_that_wait() {
    let mut harness = EdgeHarness::open(quick());
    publish(&mut harness, "a");
    let since = next(&harness.get("/v1/poll", "").await);
    let mut client = HttpClient::connect(harness.address).await;
    let path = format!("/v1/poll?wait_ms=30000&since={since}");
    client.write(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await;
    until_waiting(&harness, 1).await;
    harness.phase.send_replace(Phase::Draining);
    let answer = client.answer("GET").await;
    assert_eq!((answer.status, answer.header("fanline-next")), (204, Some(&*since)));
    harness.get(&path, "").await.check_refusal(503, "draining", "retry");
}

#[tokio::test]
async fn requests_that_wait_are_bounded_in_all_and_by_address() {
    for (limits, setting) in [
        (PollLimits { waiting_max: 2, per_address_max: None, gather: GATHER }, "poll.waiting_max"),
        (PollLimits { waiting_max: 9, per_address_max: Some(2), gather: GATHER }, "poll.waiting_per_address_max"),
    ] {
        let mut harness = EdgeHarness::open(Settings { polls: limits, ..settings() });
        publish(&mut harness, "a");
        let path = format!("/v1/poll?wait_ms=30000&since={}", next(&harness.get("/v1/poll", "").await));
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut client = HttpClient::connect(harness.address).await;
            client.write(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await;
            waiting.push(client);
        }
        until_waiting(&harness, 2).await;
        let refused = harness.get(&path, "").await;
        refused.check_refusal(429, "too_many_polls", setting);
        assert_eq!((refused.header("retry-after"), refused.header("cache-control")), (Some("5"), Some("no-store")));
        // One that leaves makes room.
        waiting.pop();
        until_waiting(&harness, 1).await;
    }
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let mut harness = EdgeHarness::open(quick());
    publish(&mut harness, "a");
    for (query, code, part) in [
        ("wait_ms=30001", "bad_request", "from 0 to 30000 in `wait_ms`"),
        ("wait_ms=x", "bad_request", "`x`"),
        ("max=0", "bad_request", "from 1 to 10000 in `max`"),
        ("since=x", "bad_cursor", "x"),
        ("since=00000000fee1900d:2", "bad_cursor", "still to come"),
        ("wait=1", "bad_request", "did you mean `wait_ms`?"),
        ("topics=a..b", "bad_pattern", "a..b"),
    ] {
        harness.get(&format!("/v1/poll?{query}"), "").await.check_refusal(400, code, part);
    }
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_is_told_and_the_latest_values_follow() {
    let mut harness = EdgeHarness::open(quick());
    // The ring holds 64 frames.
    for number in 0..100 {
        publish(&mut harness, if number < 50 { "old" } else { "new" });
    }
    for (since, reason, from, topics) in [
        ("00000000fee1900d:10", "expired", 11, &["new", "old"][..]),
        ("00000000fee1900d:30", "expired", 31, &["new", "old"]),
        ("0000000000000001:10", "epoch", 0, &["new", "old"]),
    ] {
        let answer = harness.get(&format!("/v1/poll?wait_ms=30000&since={since}"), "").await;
        let skipped = &answer.json()["skipped"];
        assert_eq!((&skipped["reason"], &skipped["from"], &skipped["to"]), (&reason.into(), &from.into(), &100.into()));
        let mut found: Vec<String> = frames(&answer).into_iter().map(|(_, topic)| topic).collect();
        found.sort();
        assert_eq!(found, topics, "{since}");
        assert_eq!(
            (next(&answer), answer.header("cache-control")),
            ("00000000fee1900d:100".into(), Some("public, max-age=2"))
        );
    }
}

/// Clients behind a cache that keeps every answer it may for ever, with whatever `max`.
#[tokio::test]
async fn clients_behind_a_cache_have_every_message_once_and_are_never_led_in_a_circle() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut harness = EdgeHarness::with_parts(quick(), kit::edge::parts_with_ring(4096));
    let mut published: Vec<(u64, String)> = Vec::new();
    let mut cache: HashMap<String, (String, Vec<(u64, String)>)> = HashMap::new();
    let mut cursors: Vec<(String, usize)> = Vec::new();
    publish(&mut harness, "start");
    published.push((1, "start".into()));
    let start = next(&harness.get("/v1/poll", "").await);
    cursors.extend((0..6).map(|client| (start.clone(), [1, 3, 1000][client % 3])));
    let mut shared = 0;
    for _ in 0..500 {
        for _ in 0..rng.random_range(0..4) {
            let topic = ["a", "b"][rng.random_range(0..2)];
            publish(&mut harness, topic);
            published.push((published.len() as u64 + 1, topic.into()));
        }
        let client = rng.random_range(0..cursors.len());
        let (since, max) = cursors[client].clone();
        let url = format!("/v1/poll?topics=a&max={max}&since={since}");
        let (next, received) = match cache.get(&url) {
            Some(known) => {
                shared += 1;
                known.clone()
            }
            None => {
                let answer = harness.get(&url, "").await;
                if answer.status == 204 {
                    assert_eq!(answer.header("cache-control"), Some("no-store"), "nothing is not to be kept");
                    continue;
                }
                let known = (next(&answer), frames(&answer));
                cache.insert(url, known.clone());
                known
            }
        };
        let (from, to) = (offset_of(&since), offset_of(&next));
        assert!(to > from, "{since} leads to {next}");
        let due: Vec<_> = published
            .iter()
            .filter(|(offset, topic)| topic == "a" && (from + 1..=to).contains(offset))
            .cloned()
            .collect();
        assert_eq!(received, due, "{since} to {next}");
        cursors[client].0 = next;
    }
    assert!(shared > 0, "some answers were shared");
}

/// More than a stride of other topics passes: the cursor moves on, so that it stays within the ring.
#[tokio::test]
async fn a_quiet_topic_does_not_fall_out_of_the_ring() {
    let mut harness = EdgeHarness::with_parts(quick(), kit::edge::parts_with_ring(4096));
    publish(&mut harness, "a");
    let since = next(&harness.get("/v1/poll?topics=a", "").await);
    for _ in 0..1500 {
        harness.publisher.publish("b", payload(), Retention::NEWEST, Default::default()).expect("published");
    }
    let moved = harness.get(&format!("/v1/poll?topics=a&since={since}&wait_ms=30000"), "").await;
    assert_eq!((moved.status, frames(&moved)), (200, Vec::new()));
    assert_eq!(next(&moved), "00000000fee1900d:1501");
}

fn payload() -> fanline::protocol::encoding::Payload {
    fanline::protocol::encoding::Payload { bytes: bytes::Bytes::from_static(b"1"), kind: PayloadKind::Json }
}

async fn until_waiting(harness: &EdgeHarness, count: usize) {
    let expected = format!("fanline_http_polls_waiting {count}\n");
    let wait = async {
        while !harness.get("/metrics", "").await.text().contains(&expected) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(kit::DEADLINE, wait).await.unwrap_or_else(|_| panic!("expected {count} that wait"));
}

/// The same offsets stand in both epochs, for other messages.
#[tokio::test]
async fn a_poll_that_waits_while_another_epoch_begins_ends_and_the_next_one_starts_anew() {
    let (mut parts, publisher, newcomers) = parts();
    let shown = ShownLog::new(parts.views.live());
    parts.views = Views::new(shown.clone(), []);
    let mut harness = EdgeHarness::with_parts(quick(), (parts, publisher, newcomers));
    for _ in 0..3 {
        publish(&mut harness, "a");
    }
    let first = harness.get("/v1/poll?topics=a,b", "").await;
    let path = format!("/v1/poll?topics=a,b&since={}&wait_ms=20000", next(&first));
    let limits = Limits { ring_frames_max: 64, ring_bytes_max: 1 << 20, topics_max: 100 };
    let (mut other, reader) = bus::open(Epoch(2), limits, &Meters::unread());
    other.leap(Vec::new(), Offset(2));
    for topic in ["b", "c", "b"] {
        let payload = Payload { bytes: "2".into(), kind: PayloadKind::Json };
        other.publish(topic, payload, Retention::NEWEST, Stamp::default()).expect("a good topic");
    }
    let begin = async {
        until_waiting(&harness, 1).await;
        shown.begin(reader);
    };
    let (waited, ()) = tokio::join!(harness.get(&path, ""), begin);
    assert_eq!((waited.status, waited.header("fanline-next")), (204, Some(&*next(&first))));
    let anew = harness.get(&path, "").await;
    assert_eq!(anew.json()["skipped"]["reason"], "epoch", "{}", anew.text());
    assert_eq!((frames(&anew), next(&anew)), (vec![(5, "b".into())], format!("{}:5", Epoch(2))));
    let path = format!("/v1/poll?topics=a,b&since={}:3", Epoch(2));
    assert_eq!(frames(&harness.get(&path, "").await), [(5, "b".into())]);
}
