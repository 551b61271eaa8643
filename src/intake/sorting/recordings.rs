//! The rules and the guess on recorded feeds. The recordings are not part of the project: without them these tests
//! say so and end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::intake::flow::Piece;
use crate::wire::encode::PayloadKind;
use crate::words::stamp::Stamp;

use super::{Incoming, Sink, Sorted, Sorter};
use crate::intake::profile::Profile;
use crate::intake::profile::rule::Class;

/// Counts what a sorter does with a recording.
#[derive(Default)]
struct Count {
    topics: BTreeMap<String, u64>,
    classes: BTreeMap<&'static str, u64>,
    published: Vec<Vec<u8>>,
    problems: Vec<String>,
}

impl Sink for Count {
    fn piece(&mut self, piece: &Piece<'_>) {
        *self.topics.entry(piece.topic.to_string()).or_default() += 1;
        assert_eq!(piece.kind, PayloadKind::Json);
        let bytes = if piece.treatment.emit_element { piece.element } else { piece.message };
        self.published.push(bytes.to_vec());
    }

    fn note(&mut self, sorted: &Sorted, message: Incoming<'_>, _: Stamp) {
        *self.classes.entry(sorted.class.label()).or_default() += 1;
        if let Some(problem) = &sorted.problem {
            self.problems.push(format!("{problem}: {message:?}"));
        }
    }
}

/// The inbound messages of a recording; none if there are no recordings here.
fn recorded(feed: &str) -> Option<Vec<Vec<u8>>> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join("feeds").join(feed).join("capture.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no recording at {}; set FANLINE_SHARED", path.display());
        return None;
    };
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a recording is JSON lines");
        let inbound = line["dir"] == "in";
        let data = line["data"].as_str().map(|text| text.as_bytes().to_vec());
        let data = data.or_else(|| BASE64_STANDARD.decode(line["b64"].as_str()?).ok());
        data.filter(|_| inbound)
    };
    Some(text.lines().filter_map(line).collect())
}

fn count(profile: &Profile, messages: &[Vec<u8>]) -> (Count, Sorter) {
    let mut sorter = Sorter::new(profile);
    let mut count = Count::default();
    for message in messages {
        let message = std::str::from_utf8(message).map_or(Incoming::Binary(message), Incoming::Text);
        sorter.sort(message, Stamp::default(), &mut count);
    }
    sorter.settle(&mut count);
    assert_eq!(count.classes.values().sum::<u64>(), messages.len() as u64, "every message is counted once");
    (count, sorter)
}

#[test]
fn binance_spot_is_sorted_without_a_rest() {
    let Some(messages) = recorded("binance-spot") else { return };
    let (count, _) = count(&Profile::built_in("binance").expect("built in"), &messages);
    assert_eq!(count.classes, BTreeMap::from([(Class::Data.label(), 9819)]), "{:?}", count.problems);
    assert_eq!(count.topics.len(), 6);
    for (topic, expected) in
        [("btcusdt@bookTicker", 3635), ("ethusdt@bookTicker", 3632), ("btcusdt@trade", 908), ("ethusdt@trade", 735)]
    {
        assert_eq!(count.topics[topic], expected, "{topic}");
    }
    let depth = count.topics["btcusdt@depth@100ms"] + count.topics["ethusdt@depth@100ms"];
    assert_eq!(depth, 909);
    assert_eq!(count.published, messages, "payloads are published byte for byte, in order");
}

#[test]
fn raw_binance_messages_have_the_topics_of_combined_ones() {
    let Some(messages) = recorded("binance-spot") else { return };
    let raw = |message: &Vec<u8>| {
        let text = std::str::from_utf8(message).expect("text");
        let pointer = crate::wire::json::Pointer::parse("/data").expect("pointer");
        crate::wire::json::find(text, &pointer).expect("data").as_bytes().to_vec()
    };
    let messages: Vec<Vec<u8>> = messages.iter().map(raw).collect();
    let (count, _) = count(&Profile::built_in("binance").expect("built in"), &messages);
    assert_eq!(count.classes, BTreeMap::from([(Class::Data.label(), 9819)]), "{:?}", count.problems);
    let topics: Vec<&str> = count.topics.keys().map(String::as_str).collect();
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
        let Some(messages) = recorded(feed) else { return };
        let (count, sorter) = count(&Profile::built_in("generic").expect("built in"), &messages);
        let guess = sorter.guess().expect("made").template();
        eprintln!("{feed}: {guess} {:?} {} topics", count.classes, count.topics.len());
        assert_eq!(guess, template, "{feed}");
        let unmatched = count.classes.get(Class::Unmatched.label()).copied().unwrap_or(0);
        assert!(unmatched <= unnamed_max, "{feed}: {unmatched} unmatched, as {:?}", count.problems.first());
        assert_eq!(count.classes.get(Class::Garbled.label()), None, "{feed}");
    }
}

/// `cargo test --release --lib intake::recordings::sorting_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a promise"]
fn sorting_costs() {
    for (feed, profile) in [("binance-spot", "binance"), ("kraken-v2", "generic"), ("coinbase-exchange", "generic")] {
        let Some(messages) = recorded(feed) else { return };
        let profile = Profile::built_in(profile).expect("built in");
        let started = std::time::Instant::now();
        let (count, _) = count(&profile, &messages);
        let ns = started.elapsed().as_nanos() / messages.len() as u128;
        let bytes = messages.iter().map(Vec::len).sum::<usize>() / messages.len();
        eprintln!("{feed}: {ns} ns per message of {bytes} bytes, {} topics", count.topics.len());
    }
}
