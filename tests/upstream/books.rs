//! A client that joins at any time has the book that the venue has: proven by the venue's own checksums.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use kit::client::Client;
use kit::order_book::{Checksums, OrderBook, kraken, okx};
use kit::program::Program;
use kit::relay::Relay;
use kit::scripted_feed::ScriptedFeed;
use kit::subscriber::PATIENT;
use kit::tape::capture;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
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

/// The books of a recording, or of a part of it.
struct Books {
    /// Offsets of the first and of the last message about a book: offsets are dense, and each data message is one frame.
    first: u64,
    last: u64,
    messages: HashSet<String>,
}

impl Books {
    /// `is_wanted` is asked about the session of a message, where the recording has several, and the message.
    fn of(capture: &Path, is_data: fn(&Value) -> bool, is_wanted: fn(&str, &Value) -> bool) -> Books {
        let text = std::fs::read_to_string(capture).expect("a readable capture");
        let mut books = Books { first: 0, last: 0, messages: HashSet::new() };
        let mut offset = 0;
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a sound line")) {
            let Some(text) = line["data"].as_str().filter(|_| line["dir"] == "in") else { continue };
            let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
            offset += u64::from(is_data(&message));
            if is_data(&message) && is_wanted(line["conn"].as_str().unwrap_or_default(), &message) {
                books.first = if books.first == 0 { offset } else { books.first };
                books.last = offset;
                books.messages.insert(text.to_string());
            }
        }
        books
    }
}

/// What joiners have seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    snapshots: u64,
    /// Of the snapshots those that the venue has never sent: fanline has made them of what it sent.
    folded: u64,
    deltas: u64,
    checked: u64,
}

/// Replays a recording to a server with this profile; clients that join at random moments check every message about a book
/// that they get, to the last one.
async fn joiners_have_right_books(capture: &Path, profile: &str, speed: &str, books: Books, apply: Apply) -> Seen {
    let books = Arc::new(books);
    let gate = Relay::shut();
    let server = Arc::new(Program::serve(&[&gate.ws("/"), "--profile", profile], &PATIENT));
    let mut reference = joined(&server, ">").await;
    let venue = Program::replay(capture, &["--speed", speed]);
    gate.open(venue.addr());
    let (first, last) = (books.first, books.last);
    let (tell, seen) = watch::channel(0);
    let reading = tokio::spawn(async move {
        for expected in 1..=last {
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
        let moment = rng.random_range(first..=first + (last - first) * 95 / 100);
        let (server, books, mut seen) = (server.clone(), books.clone(), seen.clone());
        joiners.spawn(async move {
            seen.wait_for(|seen| *seen >= moment).await.expect("the reference reads on");
            let mut client = joined(&server, "book*.%3E").await;
            let found = check(&mut client, &books, apply).await;
            assert!(found.checked > 0, "joined at {moment}: {found:?}");
            found
        });
    }
    drop(seen);
    let all = joiners.join_all().await.into_iter().fold(Seen::default(), |sum, seen| Seen {
        snapshots: sum.snapshots + seen.snapshots,
        folded: sum.folded + seen.folded,
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
async fn check(client: &mut Client, recorded: &Books, apply: Apply) -> Seen {
    let mut seen = Seen::default();
    let mut books: HashMap<String, OrderBook> = HashMap::new();
    loop {
        let text = client.frame().await;
        let frame = frame(&text);
        match frame.kind {
            Some("snapshot") => {
                books.insert(frame.topic.to_string(), OrderBook::default());
                seen.snapshots += 1;
                seen.folded += u64::from(!recorded.messages.contains(frame.data.get()));
            }
            Some("delta") => seen.deltas += 1,
            other => panic!("expected `snapshot` or `delta`, found {other:?}: {text}"),
        }
        let book = books.get_mut(frame.topic).unwrap_or_else(|| panic!("a delta before the snapshot: {text}"));
        let (told, own) = apply(book, frame.data.get());
        assert_eq!(told, own, "{text}");
        seen.checked += 1;
        if frame.offset >= recorded.last {
            return seen;
        }
    }
}

/// Enough to prove something: joiners were given books that the venue had not sent so, and went on with changes.
fn expect_enough(seen: Seen, checked_min: u64) {
    assert!(seen.checked >= checked_min && seen.snapshots >= JOINERS as u64, "{seen:?}");
    assert!(seen.folded > 10 && seen.deltas > seen.snapshots, "{seen:?}");
}

fn kraken_10(book: &mut OrderBook, message: &str) -> Checksums {
    kraken(book, message, 10)
}

fn kraken_25(book: &mut OrderBook, message: &str) -> Checksums {
    kraken(book, message, 25)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_book_is_right_whenever_one_joins() {
    let capture = kit::book_tape::capture();
    let books = Books::of(&capture, |message| message["channel"] == "book", |_, _| true);
    let seen = joiners_have_right_books(&capture, "kraken-v2", "12", books, kraken_10).await;
    expect_enough(seen, 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kraken_book_of_the_built_in_depth_is_right_whenever_one_joins() {
    let Some(capture) = capture("kraken-v2") else { return };
    let is_book = |message: &Value| message["channel"] == "book";
    // The first session is of 10 levels, with four new subscriptions.
    let books = Books::of(&capture, is_book, |session, _| session == "btcusd_l2");
    let seen = joiners_have_right_books(&capture, "kraken-v2", "12", books, kraken_10).await;
    expect_enough(seen, 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kraken_books_of_another_depth_are_right_with_a_copy_of_the_profile() {
    let Some(capture) = capture("kraken-v2") else { return };
    let built_in = std::fs::read_to_string(kit::project("src/profile/built_in/kraken-v2.toml")).expect("a profile");
    // The recording has a book of ten levels as well, whose checksums are those of ten.
    let (before, rest) = built_in.split_once(", checksum = {").expect("the profile has a checksum");
    let (_, after) = rest.split_once('}').expect("it ends");
    let copy = format!("{before}{after}").replace("depth = 10", "depth = 25");
    assert_ne!(copy, built_in);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kraken-25.toml");
    std::fs::write(&file, copy).expect("a file for the test");
    let is_book = |message: &Value| message["channel"] == "book";
    let books = Books::of(&capture, is_book, |session, _| session != "btcusd_l2");
    let profile = file.to_str().expect("a path in UTF-8");
    let seen = joiners_have_right_books(&capture, profile, "40", books, kraken_25).await;
    expect_enough(seen, 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_okx_book_is_right_whenever_one_joins() {
    let Some(capture) = capture("okx-v5") else { return };
    let is_data = |message: &Value| message.get("event").is_none();
    let books = Books::of(&capture, is_data, |_, message| message["arg"]["channel"] == "books");
    let seen = joiners_have_right_books(&capture, "okx-v5", "2", books, okx).await;
    expect_enough(seen, 4000);
}

/// Members of a perpetual's ticker.
const MEMBERS: [&str; 8] =
    ["symbol", "lastPrice", "markPrice", "bid1Price", "bid1Size", "ask1Price", "ask1Size", "fundingRate"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_joiner_of_partial_tickers_holds_every_member() {
    let venue = ScriptedFeed::open().await;
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
