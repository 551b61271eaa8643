//! The built-in profiles and the guess on recorded feeds. The recordings are not part of the project: without them
//! these tests say so and end.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::intake::assemble::Assembler;
use crate::intake::recorded::shared;
use crate::protocol::encoding::Payload;
use crate::words::stamp::Stamp;

use crate::intake::classify::drive::{self, Onlooker};
use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage};
use crate::intake::update::{Oddity, Release, Update, UpdateSink};
use crate::profile::Profile;
use crate::profile::rule::MessageClass;
use crate::profile::rules::numbers::{Continuity, GapRemedy};

/// Recordings, and the profiles they belong to.
const RECORDED: [(&str, &str); 11] = [
    ("binance-spot", "binance"),
    ("binance-usdm", "binance-usdm"),
    ("bitfinex-v2", "bitfinex-v2"),
    ("bitstamp", "bitstamp"),
    ("coinbase-exchange", "coinbase-exchange"),
    ("deribit", "deribit"),
    ("gemini-v2", "gemini"),
    ("htx", "htx"),
    ("kraken-v1", "kraken-v1"),
    ("kraken-v2", "kraken-v2"),
    ("okx-v5", "okx-v5"),
];
/// Messages that the venues' documents show, and the profiles they belong to.
const DOCUMENTED: [(&str, &str); 7] = [
    ("alpaca", "alpaca"),
    ("finnhub", "finnhub"),
    ("polygon-massive", "polygon"),
    ("pyth-hermes", "pyth-hermes"),
    ("tradermade-v1", "tradermade-v1"),
    ("tradermade-v2", "tradermade-v2"),
    ("twelvedata", "twelvedata"),
];

/// One line of a recording.
struct ReplayLine {
    conn: String,
    inbound: bool,
    bytes: Vec<u8>,
    binary: bool,
}

/// What was received and sent, in its order.
fn lines(file: &str) -> Option<Vec<ReplayLine>> {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a recording is JSON lines");
        let inbound = match line["dir"].as_str() {
            Some("in") => true,
            Some("out") => false,
            _ => return None,
        };
        let conn = line["conn"].as_str().unwrap_or_default().to_string();
        match (&line["data"], &line["b64"]) {
            (Value::String(text), _) => {
                Some(ReplayLine { conn, inbound, bytes: text.clone().into_bytes(), binary: false })
            }
            (_, Value::String(text)) => {
                let bytes = BASE64_STANDARD.decode(text).expect("base64");
                Some(ReplayLine { conn, inbound, bytes, binary: true })
            }
            _ => panic!("expected `data` or `b64`, found neither"),
        }
    };
    Some(shared(file)?.lines().filter_map(line).collect())
}

/// The texts of a file of messages that were unpacked.
fn lines_of_text(file: &str) -> Option<Vec<Vec<u8>>> {
    Some(lines(file)?.into_iter().filter(|line| line.inbound).map(|line| line.bytes).collect())
}

fn inbound(feed: &str) -> Option<Vec<ReplayLine>> {
    let mut lines = lines(&format!("{feed}/capture.jsonl"))?;
    lines.retain(|line| line.inbound);
    Some(lines)
}

/// Findings of a profile in a recording.
#[derive(Default)]
struct ReplayResult {
    classes: BTreeMap<&'static str, u64>,
    topics: BTreeMap<String, u64>,
    /// Updates that follow the one before in their topic's numbers, by rule.
    follows: BTreeMap<&'static str, u64>,
    /// Topics of this connection that have had a number.
    numbered: BTreeSet<String>,
    gaps: u64,
    wrong_checksums: u64,
    renewals: u64,
    connection_gaps: u64,
    replies: Vec<String>,
    problems: Vec<String>,
    published: Vec<Vec<u8>>,
    assembler: Assembler,
}

/// Sink of the assembled updates of a recording.
struct ReplaySink<'a> {
    gaps: &'a mut u64,
    wrong_checksums: &'a mut u64,
    renewals: &'a mut u64,
    published: &'a mut Vec<Vec<u8>>,
}

impl UpdateSink for ReplaySink<'_> {
    fn publish(&mut self, _: &str, payload: Payload, _: Retention, _: Stamp) {
        self.published.push(payload.bytes.to_vec());
    }

    fn status(&mut self, _: &str, status: TopicStatus, _: Stamp) {
        *self.gaps += u64::from(matches!(status, TopicStatus::Gap { .. }));
    }

    fn remedy(&mut self, _: &str, remedy: GapRemedy) {
        *self.renewals += u64::from(remedy == GapRemedy::Resubscribe);
    }

    fn oddity(&mut self, _: &str, oddity: Oddity, _: Stamp) {
        *self.wrong_checksums += u64::from(oddity == Oddity::WrongChecksum);
    }
}

impl Onlooker for ReplayResult {
    fn update(&mut self, update: &Update<'_>) {
        *self.topics.entry(update.topic.to_string()).or_default() += 1;
        if let (Some(rule), Some(_)) = (update.treatment.sequence, update.numbers.and_then(|numbers| numbers.last)) {
            let known = !self.numbered.insert(update.topic.to_string());
            let label = match rule.follow {
                Continuity::Inc => "topic:inc",
                Continuity::Range => "topic:range",
                Continuity::Prev => "topic:prev",
                Continuity::Monotonic => "topic:monotonic",
            };
            *self.follows.entry(label).or_default() += u64::from(known && !update.snapshot);
        }
        self.assembler.take(
            update,
            Release::InOrder,
            &mut ReplaySink {
                gaps: &mut self.gaps,
                wrong_checksums: &mut self.wrong_checksums,
                renewals: &mut self.renewals,
                published: &mut self.published,
            },
        );
    }

    fn classified(&mut self, classified: &Classified, message: &FeedMessage<'_>) {
        *self.classes.entry(classified.class.label()).or_default() += 1;
        self.connection_gaps += u64::from(classified.gap.is_some());
        self.replies.extend(classified.reply.clone());
        if let Some(problem) = &classified.problem {
            self.problems.push(format!("{problem}: {message:?}"));
        }
    }
}

impl ReplayResult {
    /// One classifier and one assembler for each connection; sums over all of them.
    fn of(profile: &Profile, lines: &[ReplayLine]) -> ReplayResult {
        ReplayResult::of_each(|_| profile.clone(), lines)
    }

    /// With a profile for each connection.
    fn of_each(profile: impl Fn(&str) -> Profile, lines: &[ReplayLine]) -> ReplayResult {
        let mut whole = ReplayResult::default();
        let conns: BTreeSet<&str> = lines.iter().map(|line| line.conn.as_str()).collect();
        for conn in conns {
            let mut classifier = Classifier::new(&profile(conn));
            (whole.assembler, whole.numbered) = Default::default();
            for line in lines.iter().filter(|line| line.conn == conn) {
                let message = match std::str::from_utf8(&line.bytes) {
                    Ok(text) if !line.binary => FeedFrame::Text(text),
                    _ => FeedFrame::Binary(&line.bytes),
                };
                drive::take(&mut classifier, message, Stamp::default(), &mut whole);
            }
            classifier.settle();
            drive::take_waited(&mut classifier, &mut whole);
        }
        whole
    }

    /// Counts of the busiest topics.
    fn busiest(&self, count: usize) -> Vec<u64> {
        let mut counts: Vec<u64> = self.topics.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.truncate(count);
        counts
    }
}

fn profile(name: &str) -> Profile {
    Profile::built_in(name).unwrap_or_else(|| panic!("`{name}` is built in"))
}

/// The profile of one connection: those of Kraken, version 2, have books of two depths.
fn of_connection(name: &str, conn: &str) -> Profile {
    if name != "kraken-v2" || conn == "btcusd_l2" {
        return profile(name);
    }
    let text = include_str!("../../profile/built_in/kraken-v2.toml").replace("depth = 10, carry", "depth = 25, carry");
    crate::profile::check(&text, name).expect("a valid profile")
}

#[test]
fn books_have_the_checksums_that_their_venues_send() {
    for (feed, pointers, expected) in [
        ("okx-v5", &["/data/0/checksum"][..], 290),
        ("kraken-v1", &["/1/c", "/2/c"], 4269),
        ("kraken-v2", &["/data/0/checksum"], 4629),
    ] {
        let Some(mut lines) = inbound(feed) else { return };
        let pointers = pointers.iter().map(|text| crate::json::Pointer::parse(text).expect("a pointer"));
        let pointers: Vec<_> = pointers.collect();
        let has_one = |line: &&ReplayLine| {
            let text = std::str::from_utf8(&line.bytes).expect("text");
            // Kraken's tickers have a list of this name.
            pointers.iter().any(|at| crate::json::find(text, at).is_some_and(|token| !token.starts_with('[')))
        };
        assert_eq!(lines.iter().filter(has_one).count(), expected, "{feed}");
        let profile = |conn: &str| of_connection(feed, conn);
        let replay = ReplayResult::of_each(profile, &lines);
        assert_eq!((replay.wrong_checksums, replay.renewals), (0, 0), "{feed}: every message was checked");

        let mut place = 0..lines.len();
        lines.retain(|_| place.next().is_some_and(|place| place % 53 != 52));
        let replay = ReplayResult::of_each(profile, &lines);
        assert!(replay.wrong_checksums > 0 && replay.gaps > 0 && replay.renewals > 0, "{feed}: what was lost shows");
    }
}

#[test]
fn every_recording_is_sorted_without_a_rest_as_is_expected_of_it() {
    let Some(expected) = shared("REPLAY_EXPECTED.jsonl") else { return };
    let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (feed, name) in RECORDED {
        let Some(lines) = inbound(feed) else { return };
        let replay = ReplayResult::of_each(|conn| of_connection(name, conn), &lines);
        assert_eq!(replay.problems, [""; 0], "{feed}");
        let expected = expected.iter().find(|line| line["profile"] == feed).expect("an expectation of each recording");
        for (key, count) in expected["stats"].as_object().expect("counts") {
            if let Some(class) = key.strip_prefix("as:") {
                assert_eq!(replay.classes.get(class), count.as_u64().as_ref(), "{feed}: {class}");
            }
        }
        let messages: u64 = replay.classes.values().sum();
        assert_eq!(Some(messages), expected["stats"]["messages"].as_u64(), "{feed}: every message is counted once");
        assert_eq!(Some(replay.topics.len() as u64), expected["topics"].as_u64(), "{feed}: {:?}", replay.topics);
        let top = expected["top"].as_array().expect("the busiest topics");
        let counts: Vec<u64> = top.iter().filter_map(|pair| pair[1].as_u64()).collect();
        assert_eq!(replay.busiest(top.len()), counts, "{feed}");
        for pair in top {
            let topic = pair[0].as_str().expect("a topic");
            assert_eq!(replay.topics.get(topic), pair[1].as_u64().as_ref(), "{feed}: {topic}");
        }
        // The profiles check more: nobody else expects that Binance's book tickers never go back.
        for (rule, verdicts) in expected["seq"].as_object().expect("verdicts") {
            if rule != "connection:inc" {
                assert_eq!(replay.follows.get(rule.as_str()), verdicts["ok"].as_u64().as_ref(), "{feed}: {rule}");
            }
        }
        assert_eq!((replay.gaps, replay.connection_gaps), (0, 0), "{feed}: nothing was lost");
    }
}

#[test]
fn lost_messages_are_seen_where_numbers_tell_of_them() {
    for (feed, name, dropped, topic_gaps, connection_gaps) in [
        // Only the depth streams have numbers without holes; a lost ticker or trade does not show.
        ("binance-spot", "binance", 182, 14, 0),
        ("bitfinex-v2", "bitfinex-v2", 28, 0, 28),
    ] {
        let Some(mut lines) = inbound(feed) else { return };
        let before = lines.len();
        // The beginning stays whole, or acknowledgements were missing.
        let mut place = 0..before;
        lines.retain(|_| place.next().is_some_and(|place| place < 200 || place % 53 != 52));
        assert_eq!(before - lines.len(), dropped, "{feed}");
        let replay = ReplayResult::of(&profile(name), &lines);
        assert_eq!((replay.gaps, replay.connection_gaps), (topic_gaps, connection_gaps), "{feed}");
    }
}

#[test]
fn the_documents_messages_are_sorted_without_a_rest() {
    for (file, name) in DOCUMENTED {
        let Some(mut lines) = lines(&format!("doc-examples/{file}.jsonl")) else { return };
        lines.retain(|line| line.inbound);
        let replay = ReplayResult::of(&profile(name), &lines);
        assert_eq!(replay.problems, [""; 0], "{file}");
        assert!(replay.classes.contains_key(MessageClass::Data.label()), "{file}: {:?}", replay.classes);
    }
}

#[test]
fn pings_are_answered_as_the_recording_answers_them() {
    let Some(lines) = lines("htx/capture.jsonl") else { return };
    let recorded = lines.iter().filter(|line| !line.inbound).map(|line| String::from_utf8_lossy(&line.bytes));
    let recorded: Vec<String> = recorded.filter(|text| text.contains("pong")).map(|text| text.to_string()).collect();
    let received: Vec<ReplayLine> = lines.into_iter().filter(|line| line.inbound).collect();
    assert_eq!(ReplayResult::of(&profile("htx"), &received).replies, recorded);
    assert_eq!(recorded.len(), 6);
}

#[test]
fn payloads_are_published_byte_for_byte() {
    let Some(lines) = inbound("binance-spot") else { return };
    let published = ReplayResult::of(&profile("binance"), &lines).published;
    assert!(published.iter().eq(lines.iter().map(|line| &line.bytes)));
    let (Some(packed), Some(unpacked)) = (inbound("htx"), lines_of_text("htx/decoded.jsonl")) else { return };
    let published = ReplayResult::of(&profile("htx"), &packed).published;
    assert!(published.iter().eq(unpacked.iter().filter(|text| text.starts_with(b"{\"ch\""))));
}

#[test]
fn raw_binance_messages_have_topics_like_combined_ones() {
    let Some(mut lines) = inbound("binance-spot") else { return };
    let pointer = crate::json::Pointer::parse("/data").expect("a pointer");
    for line in &mut lines {
        let text = std::str::from_utf8(&line.bytes).expect("text");
        line.bytes = crate::json::find(text, &pointer).expect("data").as_bytes().to_vec();
    }
    let replay = ReplayResult::of(&profile("binance"), &lines);
    assert_eq!(replay.classes, BTreeMap::from([(MessageClass::Data.label(), 9819)]), "{:?}", replay.problems);
    let topics: Vec<&str> = replay.topics.keys().map(String::as_str).collect();
    let [btc, eth] = ["btcusdt", "ethusdt"].map(|s| ["bookTicker", "depthUpdate", "trade"].map(|e| format!("{s}@{e}")));
    assert_eq!(topics, [btc, eth].concat());
}

#[test]
fn the_generic_guess_suits_every_recorded_feed() {
    for (feed, template, unnamed_max) in [
        ("binance-spot", "${/stream}", 0),
        ("binance-usdm", "${/stream}", 0),
        ("coinbase-exchange", "${/type}.${/product_id}", 3),
        ("kraken-v1", "${/-2}.${/-1}", 200),
        ("kraken-v2", "${/channel}.${/data/0/symbol}", 300),
        ("okx-v5", "${/arg/channel}.${/arg/instId}", 0),
        ("bitstamp", "${/channel}", 0),
        ("gemini-v2", "${/type}.${/symbol}", 40),
        ("deribit", "${/params/channel}", 1),
        ("bitfinex-v2", "feed", 0),
    ] {
        let Some(lines) = inbound(feed) else { return };
        let mut classifier = Classifier::new(&profile("generic"));
        let mut replay = ReplayResult::default();
        for line in &lines {
            let text = std::str::from_utf8(&line.bytes).expect("text");
            drive::take(&mut classifier, FeedFrame::Text(text), Stamp::default(), &mut replay);
        }
        classifier.settle();
        drive::take_waited(&mut classifier, &mut replay);
        assert_eq!(classifier.guess().expect("made").template(), template, "{feed}");
        let unmatched = replay.classes.get(MessageClass::Unmatched.label()).copied().unwrap_or(0);
        assert!(unmatched <= unnamed_max, "{feed}: {unmatched} unmatched, as {:?}", replay.problems.first());
        assert_eq!(replay.classes.get(MessageClass::Garbled.label()), None, "{feed}");
    }
}
