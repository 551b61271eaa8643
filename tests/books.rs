//! Whoever joins, and whenever, has the book that the venue has: proven by the venue's own checksums.

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::client::Client;
use support::gate::Gate;
use support::order_book::{Checksums, OrderBook, kraken, okx};
use support::program::Program;
use support::recorded::capture;
use support::skip_loudly;
use support::stage::Venue;
use support::wish::PATIENT;
use tokio::sync::watch;
use tokio::task::JoinSet;

const JOINERS: usize = 50;

/// What a client makes of a message about a book.
type Apply = fn(&mut OrderBook, &str) -> Checksums;

/// A frame as a client gets it.
#[derive(Deserialize)]
struct Frame<'a> {
    topic: &'a str,
    offset: u64,
    kind: Option<&'a str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A part of a recording: its frames have these offsets, because offsets are dense and every data message is one frame.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

/// Data messages of a recording, in their order; `session` is none where the recording has but one.
fn spans(capture: &Path, is_data: fn(&Value) -> bool, session: Option<fn(&str) -> bool>) -> (u64, Span) {
    let text = std::fs::read_to_string(capture).expect("a readable capture");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a sound line"));
    let data = lines.filter(|line| line["dir"] == "in").filter(|line| {
        let message: Value = serde_json::from_str(line["data"].as_str().expect("a text")).unwrap_or_default();
        is_data(&message)
    });
    let connections: Vec<String> = data.map(|line| line["conn"].as_str().unwrap_or_default().to_string()).collect();
    let wanted = |name: &String| session.is_none_or(|wanted| wanted(name));
    let first = connections.iter().position(wanted).expect("there are some");
    let last = connections.iter().rposition(wanted).expect("there are some");
    (connections.len() as u64, Span { first: first as u64 + 1, last: last as u64 + 1 })
}

/// What joiners have seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    snapshots: u64,
    deltas: u64,
    checked: u64,
}

/// Replays a recording to a server with this profile; clients that join at random moments of the span check every message
/// about a book that they get, to the end of the span.
async fn joiners_have_right_books(capture: &Path, profile: &str, speed: &str, span: Span, apply: Apply) -> Seen {
    let gate = Gate::shut();
    let server = Arc::new(Program::serve(&[&gate.ws("/"), "--profile", profile], &PATIENT));
    let mut reference = joined(&server, ">").await;
    let venue = Program::replay(capture, &["--speed", speed]);
    gate.open(venue.addr());
    let (tell, seen) = watch::channel(0);
    let reading = tokio::spawn(async move {
        for expected in 1..=span.last {
            let text = reference.frame().await;
            let frame = frame(&text);
            assert_eq!(frame.offset, expected, "the reference gets everything in order: {text}");
            tell.send_replace(expected);
        }
        // The others may still need the end.
        tell.closed().await;
    });
    let mut rng = rand::rngs::SmallRng::seed_from_u64(50);
    let mut joiners = JoinSet::new();
    for _ in 0..JOINERS {
        let moment = rng.random_range(span.first..=span.first + (span.last - span.first) * 95 / 100);
        let (server, mut seen) = (server.clone(), seen.clone());
        joiners.spawn(async move {
            seen.wait_for(|seen| *seen >= moment).await.expect("the reference reads on");
            let mut client = joined(&server, "book*.%3E").await;
            let found = check(&mut client, span.last, apply).await;
            assert!(found.checked > 0, "joined at {moment}: {found:?}");
            found
        });
    }
    drop(seen);
    let all = joiners.join_all().await.into_iter().fold(Seen::default(), |sum, seen| Seen {
        snapshots: sum.snapshots + seen.snapshots,
        deltas: sum.deltas + seen.deltas,
        checked: sum.checked + seen.checked,
    });
    reading.await.expect("the reference is content");
    all
}

async fn joined(server: &Program, topics: &str) -> Client {
    let topics = topics.replace('>', "%3E");
    let mut client = Client::connect(&server.ws(&format!("/v1/ws?policy=lossless&topics={topics}"))).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    client
}

/// Keeps books as docs/PROTOCOL.md says, and holds every checksum against the venue's.
async fn check(client: &mut Client, last: u64, apply: Apply) -> Seen {
    let mut seen = Seen::default();
    let mut books: HashMap<String, OrderBook> = HashMap::new();
    loop {
        let text = client.frame().await;
        let frame = frame(&text);
        match frame.kind {
            Some("snapshot") => {
                books.insert(frame.topic.to_string(), OrderBook::default());
                seen.snapshots += 1;
            }
            Some("delta") => seen.deltas += 1,
            other => panic!("expected `snapshot` or `delta`, found {other:?}: {text}"),
        }
        let book = books.get_mut(frame.topic).unwrap_or_else(|| panic!("a delta before the snapshot: {text}"));
        let (told, own) = apply(book, frame.data.get());
        assert_eq!(told, own, "{text}");
        seen.checked += 1;
        if frame.offset >= last {
            return seen;
        }
    }
}

fn kraken_10(book: &mut OrderBook, message: &str) -> Checksums {
    kraken(book, message, 10)
}

fn kraken_25(book: &mut OrderBook, message: &str) -> Checksums {
    kraken(book, message, 25)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kraken_book_of_the_built_in_depth_is_right_whenever_one_joins() {
    let Some(capture) = capture("kraken-v2") else {
        return skip_loudly("books", "../shared/feeds/kraken-v2/capture.jsonl is missing");
    };
    let is_book = |message: &Value| message["channel"] == "book";
    // The first session is of 10 levels, with four new subscriptions.
    let (_, span) = spans(&capture, is_book, Some(|name| name == "btcusd_l2"));
    let seen = joiners_have_right_books(&capture, "kraken-v2", "12", span, kraken_10).await;
    assert!(seen.checked > 2000 && seen.deltas > seen.snapshots && seen.snapshots >= JOINERS as u64, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kraken_books_of_another_depth_are_right_with_a_copy_of_the_profile() {
    let Some(capture) = capture("kraken-v2") else {
        return skip_loudly("books", "../shared/feeds/kraken-v2/capture.jsonl is missing");
    };
    let built_in = std::fs::read_to_string(support::project("src/intake/profiles/kraken-v2.toml")).expect("a profile");
    let copy = built_in.replace("depth = 10", "depth = 25");
    assert_ne!(copy, built_in);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kraken-25.toml");
    std::fs::write(&file, copy).expect("a file for the test");
    let is_book = |message: &Value| message["channel"] == "book";
    let (_, span) = spans(&capture, is_book, Some(|name| name != "btcusd_l2"));
    let profile = file.to_str().expect("a path in UTF-8");
    let seen = joiners_have_right_books(&capture, profile, "40", span, kraken_25).await;
    assert!(seen.checked > 20_000 && seen.deltas > seen.snapshots && seen.snapshots >= JOINERS as u64, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_okx_book_is_right_whenever_one_joins() {
    let Some(capture) = capture("okx-v5") else {
        return skip_loudly("books", "../shared/feeds/okx-v5/capture.jsonl is missing");
    };
    let (frames, span) = spans(&capture, |message| message.get("event").is_none(), None);
    assert_eq!(span.last, frames);
    let seen = joiners_have_right_books(&capture, "okx-v5", "2", span, okx).await;
    assert!(seen.checked > 4000 && seen.deltas > seen.snapshots && seen.snapshots >= JOINERS as u64, "{seen:?}");
}

/// Members of a perpetual's ticker.
const MEMBERS: [&str; 8] =
    ["symbol", "lastPrice", "markPrice", "bid1Price", "bid1Size", "ask1Price", "ask1Size", "fundingRate"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_of_partial_tickers_holds_every_member() {
    let venue = Venue::open().await;
    let args = [&venue.ws("/v5/public/linear"), "--profile", "bybit-v5", "--subscribe", "tickers.BTCUSDT"];
    let server = Program::serve(&args, &PATIENT);
    let mut caller = venue.accept().await;
    let request = caller.hear_json().await;
    assert_eq!((&request["op"], &request["args"]), (&json!("subscribe"), &json!(["tickers.BTCUSDT"])));
    let ack = json!({"success": true, "ret_msg": "", "op": "subscribe", "req_id": request["req_id"]});
    caller.say(ack.to_string()).await;
    let mut early = joined(&server, "tickers.*").await;
    // The venue's own order of members, and figures whose text must stay.
    let mut value: Vec<(&str, String)> = MEMBERS.iter().map(|name| (*name, format!("{}.50", name.len()))).collect();
    value[0].1 = "BTCUSDT".to_string();
    let members = |value: &[(&str, String)]| {
        let members: Vec<String> = value.iter().map(|(name, text)| format!("\"{name}\":\"{text}\"")).collect();
        format!("{{{}}}", members.join(","))
    };
    let message = |kind: &str, data: String, cs: usize| {
        format!(
            r#"{{"topic":"tickers.BTCUSDT","type":"{kind}","data":{data},"cs":{cs},"ts":{}}}"#,
            1_700_000_000_000 + cs
        )
    };
    caller.say(message("snapshot", members(&value), 0)).await;
    let mut rng = rand::rngs::SmallRng::seed_from_u64(6);
    let mut changes = Vec::new();
    for cs in 1..=200 {
        let changed: Vec<usize> = (1..MEMBERS.len()).filter(|_| rng.random_bool(0.3)).collect();
        for place in &changed {
            value[*place].1 = format!("{cs}.{place}00");
        }
        let part: Vec<(&str, String)> = [0].iter().chain(&changed).map(|place: &usize| value[*place].clone()).collect();
        changes.push(message("delta", members(&part), cs));
        caller.misbehave("only what has changed", changes[cs - 1].clone()).await;
        if cs % 20 > 0 {
            continue;
        }
        let mut text = early.frame().await;
        while frame(&text).offset < cs as u64 + 1 {
            text = early.frame().await;
        }
        assert_eq!((frame(&text).kind, frame(&text).data.get()), (Some("delta"), changes[cs - 1].as_str()));
        let mut late = joined(&server, "tickers.*").await;
        let text = late.frame().await;
        assert_eq!(frame(&text).kind, Some("snapshot"), "{text}");
        let found: Value = serde_json::from_str(frame(&text).data.get()).expect("JSON");
        let expected: Value = serde_json::from_str(&message("snapshot", members(&value), cs)).expect("JSON");
        assert_eq!(found, expected, "after {cs} changes");
        late.expect_silence().await;
    }
    venue.record.assert(&[("only what has changed", 200)]);
}

fn frame(text: &str) -> Frame<'_> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("expected a frame ({error}): {text}"))
}
