//! What sorting costs: the busiest recorded feeds through their profiles, without sockets and without publishing.
//!
//! `cargo bench --bench sorting -- [ROUNDS]`. Prints ns and MB/s per frame, the best of the rounds. A feed whose profile
//! is not built in is sorted by a rule of one topic. Recordings are looked for in `FANLINE_SHARED` or `../shared`.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use fanline::intake::flow::Piece;
use fanline::intake::profile::Profile;
use fanline::intake::sorting::{Incoming, Sink, Sorted, Sorter};
use fanline::words::stamp::Stamp;

/// Feeds, the profiles of their venues, and a topic for those that have none yet.
const FEEDS: [(&str, &str, &str); 5] = [
    ("binance-spot", "binance", "${/stream}"),
    ("coinbase-exchange", "coinbase-exchange", "${/type}.${/product_id}"),
    ("kraken-v2", "kraken-v2", "${/channel}.${/data/0/symbol}"),
    ("kraken-v1", "kraken-v1", "${/-2}.${/-1}"),
    ("binance-usdm", "binance-usdm", "${/stream}"),
];

/// Counts what is found.
#[derive(Default)]
struct Count {
    pieces: u64,
    unmatched: u64,
}

impl Sink for Count {
    fn piece(&mut self, piece: &Piece<'_>) {
        self.pieces += 1;
        black_box(piece.topic);
    }

    fn note(&mut self, sorted: &Sorted, _: Incoming<'_>, _: Stamp) {
        self.unmatched += u64::from(sorted.problem.is_some());
    }
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    println!(
        "{:<20}{:<20}{:>8}{:>8}{:>10}{:>8}{:>9}{:>11}",
        "feed", "profile", "frames", "bytes", "ns/frame", "MB/s", "pieces", "unmatched"
    );
    for (feed, name, topic) in FEEDS {
        let Some(frames) = frames(feed) else {
            println!("{feed:<20}SKIPPED: no recording in ../shared/feeds");
            continue;
        };
        let known = Profile::built_in(name);
        let shown = known.as_ref().map_or("one topic", |_| name);
        let profile = known.unwrap_or_else(|| Profile::generic_with_topic(topic).expect("a template"));
        let incoming = |frame| std::str::from_utf8(frame).map_or(Incoming::Binary(frame), Incoming::Text);
        let incoming: Vec<Incoming<'_>> = frames.iter().map(|frame| incoming(frame)).collect();
        let (mut best, mut count) = (f64::INFINITY, Count::default());
        for _ in 0..rounds {
            let mut sorter = Sorter::new(&profile);
            count = Count::default();
            let started = Instant::now();
            for frame in &incoming {
                sorter.sort(*frame, Stamp::default(), &mut count);
            }
            best = best.min(started.elapsed().as_nanos() as f64 / frames.len() as f64);
        }
        let bytes = frames.iter().map(Vec::len).sum::<usize>() as f64 / frames.len() as f64;
        println!(
            "{feed:<20}{shown:<20}{:>8}{bytes:>8.0}{best:>10.0}{:>8.0}{:>9}{:>11}",
            frames.len(),
            bytes * 1000.0 / best,
            count.pieces,
            count.unmatched
        );
    }
}

/// The inbound frames of a recording.
fn frames(feed: &str) -> Option<Vec<Vec<u8>>> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let text = std::fs::read_to_string(shared.join("feeds").join(feed).join("capture.jsonl")).ok()?;
    let frames = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let data = line["data"].as_str().map(|text| text.as_bytes().to_vec());
        let data = data.or_else(|| BASE64_STANDARD.decode(line["b64"].as_str()?).ok());
        data.filter(|_| line["dir"] == "in")
    });
    Some(frames.collect())
}
