//! The assembler on recorded feeds. The recordings are not part of the project: without them these tests say so and
//! end.
//!
//! Reports about topics are checked here; values for clients that join, in `books`.

mod books;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::intake::recorded::capture;
use crate::json::{Each, Pointer, find};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

use crate::intake::assemble::Assembler;
use crate::intake::update::{Generation, Oddity, Release, Update, UpdateSink};
use crate::profile::rules::numbers::{Continuity, GapRemedy, Numbers, SequenceRule};
use crate::profile::rules::treatment::{Mode, StaleAfter, Treatment};

/// One line of a recording.
struct RecordingLine {
    text: String,
    connection: String,
    at: Stamp,
}

/// The inbound messages of a recording; none if there are no recordings here.
fn recorded(feed: &str) -> Option<Vec<RecordingLine>> {
    let line = |line: Value| {
        let ns = line["t_ns"].as_u64().unwrap_or_default();
        (line["dir"] == "in").then(|| RecordingLine {
            text: line["data"].as_str().expect("a text").to_string(),
            connection: line["conn"].as_str().unwrap_or_default().to_string(),
            at: Stamp { wall_ms: ns / 1_000_000, mono_ns: ns },
        })
    };
    Some(capture(feed)?.into_iter().filter_map(line).collect())
}

fn token<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    find(text, &Pointer::parse(pointer).expect(pointer))
}

fn is(text: &str, pointer: &str, expected: &str) -> bool {
    token(text, pointer) == Some(expected)
}

/// A profile's rule, applied by hand.
struct HandRule {
    treatment: Treatment,
    each: Option<Each>,
    /// Of message and element.
    topic: fn(&str, &str) -> Option<String>,
    snapshot: fn(&str) -> bool,
    /// First, prev, last; in the element.
    numbers: [&'static str; 3],
}

impl HandRule {
    fn new(mode: &str, topic: fn(&str, &str) -> Option<String>, snapshot: fn(&str) -> bool) -> HandRule {
        let mode = crate::profile::mode::tests::read(mode).expect("a right rule");
        HandRule {
            treatment: Treatment { mode, ..Treatment::default() },
            each: None,
            topic,
            snapshot,
            numbers: [""; 3],
        }
    }

    fn of_each(self, each: &str) -> HandRule {
        HandRule { each: Some(Each::parse(each).expect(each)), ..self }
    }

    fn in_sequence(mut self, follow: Continuity, remedy: GapRemedy, numbers: [&'static str; 3]) -> HandRule {
        self.treatment.sequence = Some(SequenceRule { follow, remedy });
        HandRule { numbers, ..self }
    }

    /// Hands the assembler all updates of a message.
    fn apply(&self, line: &RecordingLine, assembler: &mut Assembler, out: &mut AssemblerLog) {
        self.release(line, Release::InOrder, assembler, out);
    }

    fn release(&self, line: &RecordingLine, release: Release, assembler: &mut Assembler, out: &mut AssemblerLog) {
        let mut elements = Vec::new();
        match &self.each {
            Some(each) => each.locate(&line.text, &mut elements),
            None => Each::parse("").expect("the whole").locate(&line.text, &mut elements),
        }
        for found in &elements {
            let element = &line.text[found.range.clone()];
            let Some(topic) = (self.topic)(&line.text, element) else { continue };
            let number = |pointer: &str| token(element, pointer)?.trim_matches('"').parse().ok();
            let [first, prev, last] =
                self.numbers.map(|pointer| Some(pointer).filter(|p| !p.is_empty()).and_then(number));
            assembler.take(
                &Update {
                    treatment: &self.treatment,
                    topic: &topic,
                    message: line.text.as_bytes(),
                    kind: PayloadKind::Json,
                    element: found.range.clone(),
                    numbers: self.treatment.sequence.map(|_| Numbers { first, prev, last }),
                    snapshot: (self.snapshot)(&line.text),
                    received: line.at,
                },
                release,
                out,
            );
        }
    }
}

/// Everything that leaves an assembler, and what a client that joins would receive of each topic.
#[derive(Default)]
struct AssemblerLog {
    published: u64,
    images: u64,
    kept: BTreeMap<String, Vec<String>>,
    gaps: Vec<(String, GapReason)>,
    statuses: Vec<TopicStatus>,
    remedies: Vec<GapRemedy>,
}

impl UpdateSink for AssemblerLog {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, _: Stamp) {
        let text = |payload: Payload| String::from_utf8(payload.bytes.to_vec()).expect("text");
        self.published += 1;
        let kept = self.kept.entry(topic.to_string()).or_default();
        match retention {
            Retention::Snapshot => *kept = vec![text(payload)],
            Retention::Delta { whole: Some(whole) } => {
                self.images += 1;
                *kept = vec![text(whole)];
            }
            Retention::Delta { whole: None } if kept.is_empty() => {}
            Retention::Delta { whole: None } => kept.push(text(payload)),
            Retention::Value { .. } | Retention::Transient => {}
        }
    }

    fn status(&mut self, topic: &str, status: TopicStatus, _: Stamp) {
        if let TopicStatus::Gap { reason, .. } = status {
            self.gaps.push((topic.to_string(), reason));
        }
        self.statuses.push(status);
    }

    fn remedy(&mut self, _: &str, remedy: GapRemedy) {
        self.remedies.push(remedy);
    }

    fn oddity(&mut self, _: &str, _: Oddity, _: Stamp) {}
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

/// Gaps reported while one message in 53 is lost, beginning with this one; none is lost without a beginning.
fn gaps(rule: &HandRule, lines: &[RecordingLine], lost_from: Option<usize>) -> AssemblerLog {
    let (mut assembler, mut log) = (Assembler::default(), AssemblerLog::default());
    for (place, line) in lines.iter().enumerate() {
        if lost_from.is_none_or(|first| place % 53 != first) {
            rule.apply(line, &mut assembler, &mut log);
        }
    }
    log
}

#[test]
fn recorded_sequences_have_no_gaps_and_lost_messages_are_seen() {
    let never = |_: &str| false;
    let stream =
        |message: &str, _: &str| token(message, "/stream").filter(|name| name.contains("@depth")).map(str::to_string);
    let spot = HandRule::new("mode = \"none\"", stream, never).in_sequence(
        Continuity::Range,
        GapRemedy::Resubscribe,
        ["/data/U", "", "/data/u"],
    );
    let futures = HandRule::new("mode = \"none\"", stream, never).in_sequence(
        Continuity::Prev,
        GapRemedy::Resubscribe,
        ["", "/data/pu", "/data/u"],
    );
    let options = HandRule::new(
        "mode = \"delta\"",
        |message, _| token(message, "/params/channel").filter(|name| name.starts_with("\"book")).map(str::to_string),
        |message| is(message, "/params/data/type", "\"snapshot\""),
    )
    .in_sequence(
        Continuity::Prev,
        GapRemedy::Resubscribe,
        ["", "/params/data/prev_change_id", "/params/data/change_id"],
    );
    let diffs = HandRule::new("mode = \"delta\"", |message, _| token(message, "/channel").map(str::to_string), never)
        .in_sequence(Continuity::Monotonic, GapRemedy::DropOld, ["", "", "/data/microtimestamp"]);
    // Of the shortest recording all ways to lose one in 53; of the others the 1st, the 18th and so on, and the 53rd.
    let (few, all): (Vec<usize>, Vec<usize>) = (vec![0, 17, 52], (0..53).collect());
    for (feed, rule, chained, lost_from) in [
        ("binance-spot", &spot, true, &few),
        ("binance-usdm", &futures, true, &few),
        ("deribit", &options, true, &all),
        ("bitstamp", &diffs, false, &few),
    ] {
        let Some(lines) = recorded(feed) else { return };
        let log = gaps(rule, &lines, None);
        let reported = log.gaps.iter().filter(|(_, reason)| *reason != GapReason::NoSnapshot).count();
        assert_eq!((reported, log.remedies.len()), (0, 0), "{feed}: {:?}", log.gaps);
        let topic = |place: usize| (rule.topic)(&lines[place].text, &lines[place].text);
        let all = (0..lines.len()).filter(|place| topic(*place).is_some()).count() as u64;
        assert_eq!(log.published, all, "{feed}: nothing is dropped");
        // A loss shows if the topic has messages before and after it, and the next one is not a snapshot.
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
        for &first in lost_from {
            let log = gaps(rule, &lines, Some(first));
            let expected = if chained { seen(first) } else { 0 };
            // A lost snapshot is reported as well.
            let gaps = log.gaps.iter().filter(|(_, reason)| *reason != GapReason::NoSnapshot).count();
            assert_eq!(gaps, expected, "{feed}, lost from {first}");
            assert_eq!(log.remedies, vec![GapRemedy::Resubscribe; expected], "{feed}, lost from {first}");
            found += expected;
            // The figure that was published with the recording.
            assert!((feed, first) != ("binance-spot", 52) || expected == 14, "{expected}");
        }
        eprintln!("{feed}: {found} losses seen in {} runs", lost_from.len());
        assert_eq!(found > 0, chained, "{feed}");
    }
}

#[test]
fn a_new_connection_is_a_gap_only_where_no_snapshot_comes() {
    let Some(lines) = recorded("kraken-v2") else { return };
    let lines: Vec<&RecordingLine> = lines.iter().filter(|line| line.connection == "btcusd_sample").collect();
    let rule = HandRule::new(KRAKEN_BOOK, kraken_topic, kraken_snapshot).of_each("/data/*");
    let snapshot = lines.iter().position(|line| kraken_snapshot(&line.text)).expect("there is one");
    let (mut assembler, mut log) = (Assembler::default(), AssemblerLog::default());
    let [first, second, third] = [1, 2, 3].map(|number| Release::Of(Generation(number)));
    lines[..200].iter().for_each(|line| rule.release(line, first, &mut assembler, &mut log));
    lines[snapshot..200].iter().for_each(|line| rule.release(line, second, &mut assembler, &mut log));
    assert_eq!(log.gaps, []);
    assert!(log.images > 0);
    let images = log.images;
    lines[200..400].iter().for_each(|line| rule.release(line, third, &mut assembler, &mut log));
    assert_eq!(log.gaps, [("book.\"BTC/USD\"".to_string(), GapReason::Reconnect)]);
    assert_eq!(log.images, images, "a whole value would hide the gap");
}

#[test]
fn no_topic_of_a_recording_is_reported_stale() {
    for feed in ["binance-spot", "binance-usdm", "coinbase-exchange", "kraken-v2", "okx-v5", "deribit", "bitstamp"] {
        let Some(lines) = recorded(feed) else { return };
        let rule = HandRule {
            treatment: Treatment { mode: Mode::Replace, ..Treatment::default() },
            each: None,
            topic: |message, _| {
                let names = ["/stream", "/params/channel", "/arg", "/product_id", "/data/0/symbol", "/channel"];
                names.iter().find_map(|name| token(message, name)).map(str::to_string)
            },
            snapshot: |_| false,
            numbers: [""; 3],
        };
        let (mut assembler, mut log) = (Assembler::new(StaleAfter::Auto, 1000), AssemblerLog::default());
        let lines: Vec<&RecordingLine> = lines.iter().filter(|line| line.connection != "btcusd_l2").collect();
        let mut now = lines[0].at;
        for line in lines.iter().filter(|line| line.connection == lines[0].connection) {
            while now.mono_ns < line.at.mono_ns {
                assembler.tick(now, &mut log);
                now = Stamp { wall_ms: now.wall_ms + 100, mono_ns: now.mono_ns + 100_000_000 };
            }
            rule.apply(line, &mut assembler, &mut log);
        }
        eprintln!("{feed}: {} published, {:?}", log.published, log.statuses);
        assert!(log.statuses.is_empty(), "{feed}: {:?}", log.statuses);
    }
}
