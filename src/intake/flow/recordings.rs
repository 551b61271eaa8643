//! The flow on recorded feeds. The recordings are not part of the project: without them these tests say so and end.
//!
//! What newcomers are given is checked by the venues' own checksums, and by books that are kept in another way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::bus::keeping::{GapReason, Keeping, Note};
use crate::wire::encode::{Payload, PayloadKind};
use crate::wire::json::{Each, Pointer, find};
use crate::words::stamp::Stamp;

use super::sequence::{Follow, Numbers, Remedy, SequenceRule};
use super::{Flow, Mode, Outflow, Piece, Treatment};

/// One line of a recording.
struct Line {
    text: String,
    connection: String,
    at: Stamp,
}

/// The inbound messages of a recording; none if there are no recordings here.
fn recorded(feed: &str) -> Option<Vec<Line>> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join("feeds").join(feed).join("capture.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no recording at {}; set FANLINE_SHARED", path.display());
        return None;
    };
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a recording is JSON lines");
        let ns = line["t_ns"].as_u64().unwrap_or_default();
        (line["dir"] == "in").then(|| Line {
            text: line["data"].as_str().expect("a text").to_string(),
            connection: line["conn"].as_str().unwrap_or_default().to_string(),
            at: Stamp { wall_ms: ns / 1_000_000, mono_ns: ns },
        })
    };
    Some(text.lines().filter_map(line).collect())
}

fn token<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    find(text, &Pointer::parse(pointer).expect(pointer))
}

fn is(text: &str, pointer: &str, expected: &str) -> bool {
    token(text, pointer) == Some(expected)
}

/// A rule as a profile would have it, applied by hand.
struct Rule {
    treatment: Treatment,
    each: Option<Each>,
    /// Of message and element.
    topic: fn(&str, &str) -> Option<String>,
    snapshot: fn(&str) -> bool,
    /// First, prev, last; in the element.
    numbers: [&'static str; 3],
}

impl Rule {
    fn new(mode: &str, topic: fn(&str, &str) -> Option<String>, snapshot: fn(&str) -> bool) -> Rule {
        let mode = super::mode::tests::read(mode).expect("a right rule");
        Rule { treatment: Treatment { mode, ..Treatment::default() }, each: None, topic, snapshot, numbers: [""; 3] }
    }

    fn of_each(self, each: &str) -> Rule {
        Rule { each: Some(Each::parse(each).expect(each)), ..self }
    }

    fn in_sequence(mut self, follow: Follow, remedy: Remedy, numbers: [&'static str; 3]) -> Rule {
        self.treatment.sequence = Some(SequenceRule { follow, remedy });
        Rule { numbers, ..self }
    }

    /// Gives the flow all pieces of a message.
    fn apply(&self, line: &Line, flow: &mut Flow, out: &mut Log) {
        let mut elements = Vec::new();
        match &self.each {
            Some(each) => each.locate(&line.text, &mut elements),
            None => Each::parse("").expect("the whole").locate(&line.text, &mut elements),
        }
        for element in &elements {
            let element = &line.text[element.range.clone()];
            let Some(topic) = (self.topic)(&line.text, element) else { continue };
            let number = |pointer: &str| token(element, pointer)?.trim_matches('"').parse().ok();
            let [first, prev, last] =
                self.numbers.map(|pointer| Some(pointer).filter(|p| !p.is_empty()).and_then(number));
            flow.take(
                &Piece {
                    treatment: &self.treatment,
                    topic: &topic,
                    message: line.text.as_bytes(),
                    kind: PayloadKind::Json,
                    element: element.as_bytes(),
                    numbers: self.treatment.sequence.map(|_| Numbers { first, prev, last }),
                    snapshot: (self.snapshot)(&line.text),
                    received: line.at,
                },
                out,
            );
        }
    }
}

/// All that leaves a flow, and what newcomers of each topic would be given.
#[derive(Default)]
struct Log {
    published: u64,
    images: u64,
    kept: BTreeMap<String, Vec<String>>,
    gaps: Vec<(String, GapReason)>,
    notes: Vec<Note>,
    remedies: Vec<Remedy>,
}

impl Outflow for Log {
    fn publish(&mut self, topic: &str, payload: Payload, keeping: Keeping, _: Stamp) {
        let text = |payload: Payload| String::from_utf8(payload.bytes.to_vec()).expect("text");
        self.published += 1;
        let kept = self.kept.entry(topic.to_string()).or_default();
        match keeping {
            Keeping::Start => *kept = vec![text(payload)],
            Keeping::Change { whole: Some(whole) } => {
                self.images += 1;
                *kept = vec![text(whole)];
            }
            Keeping::Change { whole: None } if kept.is_empty() => {}
            Keeping::Change { whole: None } => kept.push(text(payload)),
            Keeping::Value { .. } | Keeping::Moment => {}
        }
    }

    fn note(&mut self, topic: &str, note: Note, _: Stamp) {
        if let Note::Gap { reason, .. } = note {
            self.gaps.push((topic.to_string(), reason));
        }
        self.notes.push(note);
    }

    fn remedy(&mut self, _: &str, remedy: Remedy) {
        self.remedies.push(remedy);
    }
}

/// A book that a client keeps: price and size as they stand in the text, by the price.
#[derive(Clone, Debug, Default, PartialEq)]
struct ClientBook {
    sides: [BTreeMap<u128, (String, String)>; 2],
}

impl ClientBook {
    fn set(&mut self, side: usize, price: &str, size: &str, depth: usize) {
        let key = scaled(price);
        match scaled(size) {
            0 => self.sides[side].remove(&key),
            _ => self.sides[side].insert(key, (price.to_string(), size.to_string())),
        };
        let _ = depth;
    }

    fn cut(&mut self, depth: usize) {
        while self.sides[0].len() > depth {
            self.sides[0].pop_first();
        }
        while self.sides[1].len() > depth {
            self.sides[1].pop_last();
        }
    }

    fn bids(&self) -> impl Iterator<Item = &(String, String)> {
        self.sides[0].values().rev()
    }

    fn asks(&self) -> impl Iterator<Item = &(String, String)> {
        self.sides[1].values()
    }
}

/// A decimal with at most 12 digits behind the point, as a whole number.
fn scaled(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<12}").parse().expect("a decimal")
}

fn crc(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

/// Applies messages to a book and says which checksum is told, and which it has.
trait Client {
    fn apply(book: &mut ClientBook, message: &str, depth: usize) -> (i64, i64);
}

struct Kraken;

#[derive(serde::Deserialize)]
struct KrakenLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    qty: &'a RawValue,
}

impl Client for Kraken {
    fn apply(book: &mut ClientBook, message: &str, depth: usize) -> (i64, i64) {
        if is(message, "/type", "\"snapshot\"") {
            *book = ClientBook::default();
        }
        for (side, pointer) in ["/data/0/bids", "/data/0/asks"].into_iter().enumerate() {
            let levels: Vec<KrakenLevel<'_>> =
                serde_json::from_str(token(message, pointer).expect(pointer)).expect("levels");
            for level in levels {
                book.set(side, level.price.get(), level.qty.get(), depth);
            }
        }
        book.cut(depth);
        let digits = |text: &str| text.replace('.', "").trim_start_matches('0').to_string();
        let text: String = book
            .asks()
            .take(10)
            .chain(book.bids().take(10))
            .map(|(price, size)| digits(price) + &digits(size))
            .collect();
        (token(message, "/data/0/checksum").expect("told").parse().expect("a number"), crc(&text).into())
    }
}

struct Okx;

impl Client for Okx {
    fn apply(book: &mut ClientBook, message: &str, depth: usize) -> (i64, i64) {
        if is(message, "/action", "\"snapshot\"") {
            *book = ClientBook::default();
        }
        for (side, pointer) in ["/data/0/bids", "/data/0/asks"].into_iter().enumerate() {
            let levels: Vec<Vec<String>> =
                serde_json::from_str(token(message, pointer).expect(pointer)).expect("levels");
            for level in levels {
                book.set(side, &level[0], &level[1], depth);
            }
        }
        let (bids, asks): (Vec<_>, Vec<_>) = (book.bids().take(25).collect(), book.asks().take(25).collect());
        let both = (0..25).flat_map(|place| [bids.get(place), asks.get(place)]).flatten();
        let text: Vec<String> = both.map(|(price, size)| format!("{price}:{size}")).collect();
        let told: i64 = token(message, "/data/0/checksum").expect("told").parse().expect("a number");
        (told, i64::from(crc(&text.join(":")) as i32))
    }
}

/// Plays a recording; at many moments a newcomer comes, who from then on gets every message. Its checksums must hold to
/// the end.
fn newcomers_have_right_books<C: Client>(rule: &Rule, lines: &[&Line], depth: usize) -> Log {
    let (mut flow, mut log) = (Flow::default(), Log::default());
    let mut newcomers: Vec<(String, ClientBook)> = Vec::new();
    let mut checked = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut flow, &mut log);
        let Some(topic) = (rule.topic)(&line.text, token(&line.text, "/data/0").unwrap_or_default()) else { continue };
        for (_, book) in newcomers.iter_mut().filter(|(of, _)| *of == topic) {
            let (told, own) = C::apply(book, &line.text, depth);
            assert_eq!(told, own, "line {place}: {}", line.text);
            checked += 1;
        }
        if place % (lines.len() / 50) == 0 {
            let mut book = ClientBook::default();
            for message in &log.kept[&topic] {
                let (told, own) = C::apply(&mut book, message, depth);
                assert_eq!(told, own, "a newcomer at line {place}: {message}");
            }
            newcomers.push((topic, book));
        }
    }
    assert!(newcomers.len() >= 50 && checked > lines.len(), "{} newcomers, {checked} checksums", newcomers.len());
    assert_eq!((log.gaps.len(), log.remedies.len()), (0, 0));
    log
}

const KRAKEN_BOOK: &str = r#"
    each = "/data/*"
    mode = "book"
    snapshot_when = ['/type == "snapshot"']
    book = { sides = ["./bids", "./asks"], price = "price", size = "qty", remove = "size == 0", depth = 25, carry = ["./checksum", "./timestamp"] }
"#;

fn kraken_topic(message: &str, element: &str) -> Option<String> {
    token(element, "/symbol").filter(|_| is(message, "/channel", "\"book\"")).map(|symbol| format!("book.{symbol}"))
}

fn kraken_snapshot(message: &str) -> bool {
    is(message, "/type", "\"snapshot\"")
}

#[test]
fn newcomers_of_kraken_have_the_book_that_the_checksums_tell() {
    let Some(lines) = recorded("kraken-v2") else { return };
    let lines: Vec<&Line> = lines.iter().filter(|line| is(&line.text, "/channel", "\"book\"")).collect();
    let (shallow, deep): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.connection == "btcusd_l2");
    let delta = "mode = \"delta\"\neach = \"/data/*\"";
    for (lines, depth) in [(shallow, 10), (deep, 25)] {
        let rule = Rule::new(delta, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = newcomers_have_right_books::<Kraken>(&rule, &lines, depth);
        assert_eq!((log.published, log.images), (lines.len() as u64, 0));
        let book = KRAKEN_BOOK.replace("depth = 25", &format!("depth = {depth}"));
        let rule = Rule::new(&book, kraken_topic, kraken_snapshot).of_each("/data/*");
        let log = newcomers_have_right_books::<Kraken>(&rule, &lines, depth);
        eprintln!("depth {depth}: {} messages, {} images", log.published, log.images);
        assert_eq!(log.published, lines.len() as u64);
        assert!(log.images > 10 && log.images < log.published / 4, "{} images", log.images);
    }
}

fn okx_topic(message: &str, _: &str) -> Option<String> {
    token(message, "/arg/instId").filter(|_| is(message, "/arg/channel", "\"books\"")).map(str::to_string)
}

fn okx_snapshot(message: &str) -> bool {
    is(message, "/action", "\"snapshot\"")
}

#[test]
fn newcomers_of_okx_have_the_book_that_the_checksums_tell() {
    let Some(lines) = recorded("okx-v5") else { return };
    let lines: Vec<&Line> = lines.iter().filter(|line| token(&line.text, "/action").is_some()).collect();
    let book = r#"
        mode = "book"
        snapshot_when = ['/action == "snapshot"']
        book = { sides = ["/data/0/bids", "/data/0/asks"], price = 0, size = 1, carry = ["/data/0/checksum", "/data/0/ts"] }
    "#;
    for (mode, images) in [("mode = \"delta\"", false), (book, true)] {
        let rule = Rule::new(mode, okx_topic, okx_snapshot);
        let log = newcomers_have_right_books::<Okx>(&rule, &lines, 400);
        assert_eq!(log.published, lines.len() as u64);
        assert_eq!(log.images > 0, images, "{} images", log.images);
    }
}

/// What clients of Coinbase make of the messages that a newcomer is given.
fn coinbase_book(messages: &[String]) -> ClientBook {
    let mut book = ClientBook::default();
    for message in messages {
        let message: Value = serde_json::from_str(message).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_string();
        for (side, name) in ["bids", "asks"].into_iter().enumerate() {
            for level in message[name].as_array().into_iter().flatten() {
                assert_eq!(level.as_array().map(Vec::len), Some(2), "a snapshot's levels have no side");
                book.set(side, &text(&level[0]), &text(&level[1]), usize::MAX);
            }
        }
        for change in message["changes"].as_array().into_iter().flatten() {
            let side = usize::from(change[0] == "sell");
            book.set(side, &text(&change[1]), &text(&change[2]), usize::MAX);
        }
    }
    book
}

#[test]
fn newcomers_of_coinbase_have_the_book_of_snapshot_and_changes() {
    let Some(lines) = recorded("coinbase-exchange") else { return };
    let rule = Rule::new(
        r#"
        mode = "book"
        snapshot_when = ['/type == "snapshot"']
        book = { sides = ["./bids", "./asks"], changes = "./changes", side = 0, bid = "buy", ask = "sell", price = 1, size = 2 }
        "#,
        |message, _| {
            let book = ["\"snapshot\"", "\"l2update\""].iter().any(|name| is(message, "/type", name));
            token(message, "/product_id").filter(|_| book).map(str::to_string)
        },
        kraken_snapshot,
    );
    let (mut flow, mut log) = (Flow::default(), Log::default());
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut compared = 0;
    for (place, line) in lines.iter().enumerate() {
        rule.apply(line, &mut flow, &mut log);
        let Some(topic) = (rule.topic)(&line.text, "") else { continue };
        let messages = all.entry(topic.clone()).or_default();
        messages.push(line.text.clone());
        if place % 97 == 0 && log.kept[&topic].len() < messages.len() {
            assert_eq!(coinbase_book(&log.kept[&topic]), coinbase_book(messages), "line {place}");
            compared += 1;
        }
    }
    for (topic, messages) in &all {
        assert_eq!(coinbase_book(&log.kept[topic]), coinbase_book(messages), "{topic}");
    }
    eprintln!("{} messages, {} images, {compared} compared", log.published, log.images);
    assert!(compared > 30 && log.images > 10, "{compared} compared, {} images", log.images);
    assert_eq!((log.gaps.len(), log.remedies.len(), all.len()), (0, 0, 10));
}

/// Gaps that are told, as one message in 53 is lost, beginning with this one; none is lost without a beginning.
fn gaps(rule: &Rule, lines: &[Line], lost_from: Option<usize>) -> Log {
    let (mut flow, mut log) = (Flow::default(), Log::default());
    for (place, line) in lines.iter().enumerate() {
        if lost_from.is_none_or(|first| place % 53 != first) {
            rule.apply(line, &mut flow, &mut log);
        }
    }
    log
}

#[test]
fn recorded_sequences_have_no_gaps_and_lost_messages_are_seen() {
    let never = |_: &str| false;
    let stream =
        |message: &str, _: &str| token(message, "/stream").filter(|name| name.contains("@depth")).map(str::to_string);
    let spot = Rule::new("mode = \"none\"", stream, never).in_sequence(
        Follow::Range,
        Remedy::Resubscribe,
        ["/data/U", "", "/data/u"],
    );
    let futures = Rule::new("mode = \"none\"", stream, never).in_sequence(
        Follow::Prev,
        Remedy::Resubscribe,
        ["", "/data/pu", "/data/u"],
    );
    let options = Rule::new(
        "mode = \"delta\"",
        |message, _| token(message, "/params/channel").filter(|name| name.starts_with("\"book")).map(str::to_string),
        |message| is(message, "/params/data/type", "\"snapshot\""),
    )
    .in_sequence(Follow::Prev, Remedy::Resubscribe, ["", "/params/data/prev_change_id", "/params/data/change_id"]);
    let diffs = Rule::new("mode = \"delta\"", |message, _| token(message, "/channel").map(str::to_string), never)
        .in_sequence(Follow::Monotonic, Remedy::DropOld, ["", "", "/data/microtimestamp"]);
    for (feed, rule, chained) in [
        ("binance-spot", &spot, true),
        ("binance-usdm", &futures, true),
        ("deribit", &options, true),
        ("bitstamp", &diffs, false),
    ] {
        let Some(lines) = recorded(feed) else { return };
        let log = gaps(rule, &lines, None);
        assert_eq!((log.notes.len(), log.remedies.len()), (0, 0), "{feed}: {:?}", log.gaps);
        let topic = |place: usize| (rule.topic)(&lines[place].text, &lines[place].text);
        let all = (0..lines.len()).filter(|place| topic(*place).is_some()).count() as u64;
        assert_eq!(log.published, all, "{feed}: nothing is dropped");
        // A loss is seen if the topic had something before, has something after, and that is no snapshot.
        let seen = |first: usize| {
            let lost = (first..lines.len()).step_by(53);
            let kept = |place: &usize| place % 53 != first;
            let is_seen = |lost: &usize| {
                let Some(of) = topic(*lost) else { return false };
                let before = (0..*lost).rev().filter(kept).any(|place| topic(place).as_ref() == Some(&of));
                let next = (lost + 1..lines.len()).filter(kept).find(|place| topic(*place).as_ref() == Some(&of));
                before && next.is_some_and(|next| !(rule.snapshot)(&lines[next].text))
            };
            lost.filter(is_seen).count()
        };
        let mut found = 0;
        for first in [0, 17, 52] {
            let log = gaps(rule, &lines, Some(first));
            let expected = if chained { seen(first) } else { 0 };
            assert_eq!(log.gaps.len(), expected, "{feed}, lost from {first}");
            assert_eq!(log.remedies, vec![Remedy::Resubscribe; expected], "{feed}, lost from {first}");
            found += expected;
            eprintln!("{feed}, lost from {first}: {expected} of {} seen", (first..lines.len()).step_by(53).count());
        }
        assert_eq!(found > 0, chained, "{feed}");
    }
}

#[test]
fn a_new_connection_is_a_gap_only_where_no_snapshot_comes() {
    let Some(lines) = recorded("kraken-v2") else { return };
    let lines: Vec<&Line> = lines.iter().filter(|line| line.connection == "btcusd_sample").collect();
    let rule = Rule::new(KRAKEN_BOOK, kraken_topic, kraken_snapshot).of_each("/data/*");
    let snapshot = lines.iter().position(|line| kraken_snapshot(&line.text)).expect("there is one");
    let (mut flow, mut log) = (Flow::default(), Log::default());
    lines[..200].iter().for_each(|line| rule.apply(line, &mut flow, &mut log));
    flow.reconnected();
    lines[snapshot..200].iter().for_each(|line| rule.apply(line, &mut flow, &mut log));
    assert_eq!(log.gaps, []);
    assert!(log.images > 0);
    let images = log.images;
    flow.reconnected();
    lines[200..400].iter().for_each(|line| rule.apply(line, &mut flow, &mut log));
    assert_eq!(log.gaps, [("book.\"BTC/USD\"".to_string(), GapReason::Reconnect)]);
    assert_eq!(log.images, images, "a whole value would hide the gap");
}

#[test]
fn the_recorded_habits_hold_on_the_recordings() {
    for feed in ["binance-spot", "binance-usdm", "coinbase-exchange", "kraken-v2", "okx-v5", "deribit", "bitstamp"] {
        let Some(lines) = recorded(feed) else { return };
        let rule = Rule {
            treatment: Treatment { mode: Mode::Replace, ..Treatment::default() },
            each: None,
            topic: |message, _| {
                let names = ["/stream", "/params/channel", "/arg", "/product_id", "/data/0/symbol", "/channel"];
                names.iter().find_map(|name| token(message, name)).map(str::to_string)
            },
            snapshot: |_| false,
            numbers: [""; 3],
        };
        let (mut flow, mut log) = (Flow::new(super::habit::StaleAfter::Auto, 1000), Log::default());
        let lines: Vec<&Line> = lines.iter().filter(|line| line.connection != "btcusd_l2").collect();
        let mut now = lines[0].at;
        for line in lines.iter().filter(|line| line.connection == lines[0].connection) {
            while now.mono_ns < line.at.mono_ns {
                flow.tick(now, &mut log);
                now = Stamp { wall_ms: now.wall_ms + 100, mono_ns: now.mono_ns + 100_000_000 };
            }
            rule.apply(line, &mut flow, &mut log);
        }
        eprintln!("{feed}: {} published, {:?}", log.published, log.notes);
        assert!(log.notes.is_empty(), "{feed}: {:?}", log.notes);
    }
}
