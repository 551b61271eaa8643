//! The cost of a message of the feed before it is published: the busiest recorded feeds through their profiles.
//!
//! `cargo bench --bench sorting -- [ROUNDS] [FEED…]`. Prints ns per frame, the best of the rounds: for decoding, classifying
//! and naming (`sort`), and with sequence, folding and the copy of the payload (`flow`). The share is that of `flow` in
//! the cost of 100 clients: 100 bare `send` calls of a message of that size on a loopback socket. Recordings are read
//! from `FANLINE_SHARED` or `../shared`.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use fanline::bus::retention::Retention;
use fanline::bus::topic_status::TopicStatus;
use fanline::intake::assemble::Assembler;
use fanline::intake::classify::{Classifier, FeedFrame, FoundUpdates};
use fanline::intake::update::{Generation, Oddity, Release, Update, UpdateSink};
use fanline::profile::Profile;
use fanline::profile::rules::numbers::GapRemedy;
use fanline::protocol::encoding::Payload;
use fanline::words::stamp::Stamp;

/// Feeds and the profiles of their venues.
const FEEDS: [(&str, &str); 5] = [
    ("binance-spot", "binance"),
    ("coinbase-exchange", "coinbase-exchange"),
    ("kraken-v2", "kraken-v2"),
    ("kraken-v1", "kraken-v1"),
    ("binance-usdm", "binance-usdm"),
];
const CLIENTS: f64 = 100.0;

/// Where what was assembled ends.
#[derive(Default)]
struct Published(u64);

impl UpdateSink for Published {
    fn publish(&mut self, _: &str, payload: Payload, _: Retention, _: Stamp) {
        self.0 += 1;
        black_box(payload);
    }

    fn status(&mut self, _: &str, status: TopicStatus, _: Stamp) {
        black_box(status);
    }

    fn remedy(&mut self, _: &str, remedy: GapRemedy) {
        black_box(remedy);
    }

    fn oddity(&mut self, _: &str, oddity: Oddity, _: Stamp) {
        black_box(oddity);
    }
}

/// What was found in the frames of a feed.
#[derive(Default)]
struct Count {
    updates: u64,
    unmatched: u64,
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    println!(
        "{:<20}{:<20}{:>8}{:>8}{:>9}{:>9}{:>9}{:>11}{:>18}",
        "feed", "profile", "frames", "bytes", "sort ns", "flow ns", "updates", "unmatched", "of 100 sends"
    );
    let chosen: Vec<String> =
        std::env::args().filter(|argument| FEEDS.iter().any(|(feed, _)| feed == argument)).collect();
    for (feed, name) in FEEDS.into_iter().filter(|(feed, _)| chosen.is_empty() || chosen.iter().any(|it| it == feed)) {
        let Some(frames) = frames(feed) else {
            println!("{feed:<20}SKIPPED: no recording in ../shared/feeds");
            continue;
        };
        let profile = Profile::built_in(name).expect("a built-in profile");
        let incoming = |frame| std::str::from_utf8(frame).map_or(FeedFrame::Binary(frame), FeedFrame::Text);
        let incoming: Vec<FeedFrame<'_>> = frames.iter().map(|frame| incoming(frame)).collect();
        let mut count = Count::default();
        let sort_ns = best(rounds, || {
            count = Count::default();
            run(&profile, &incoming, &mut count, |update| {
                black_box(update.topic);
            })
        });
        let flow_ns = best(rounds, || {
            let (mut assembler, mut published) = (Assembler::default(), Published::default());
            run(&profile, &incoming, &mut Count::default(), |update| {
                assembler.take(&update, Release::Of(Generation(1)), &mut published);
            })
        });
        let bytes = frames.iter().map(Vec::len).sum::<usize>() / frames.len();
        let share = flow_ns / (CLIENTS * best(rounds, || send_ns(bytes)));
        println!(
            "{feed:<20}{name:<20}{:>8}{bytes:>8}{sort_ns:>9.0}{flow_ns:>9.0}{:>9}{:>11}{:>16.2} %",
            frames.len(),
            count.updates,
            count.unmatched,
            100.0 * share
        );
    }
}

fn best(rounds: u32, mut measure: impl FnMut() -> f64) -> f64 {
    (0..rounds).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// ns for each of the frames, which go the way that the pipeline goes.
fn run(profile: &Profile, frames: &[FeedFrame<'_>], count: &mut Count, mut take: impl FnMut(Update<'_>)) -> f64 {
    let mut classifier = Classifier::new(profile);
    let (mut unpacked, mut found) = (Vec::new(), FoundUpdates::default());
    let received = Stamp::default();
    let started = Instant::now();
    for frame in frames {
        for message in classifier.decoder().decode(*frame, &mut unpacked) {
            if let Some(classified) = classifier.classify(&message, received, &mut found) {
                count.unmatched += u64::from(classified.problem.is_some());
                for update in found.updates(message.bytes(), &classifier, received) {
                    count.updates += 1;
                    take(update);
                }
            }
            while let Some(waited) = classifier.next_waited(&mut found) {
                found.updates(waited.text.as_bytes(), &classifier, waited.received).for_each(&mut take);
            }
        }
    }
    started.elapsed().as_nanos() as f64 / frames.len() as f64
}

/// ns of one `send` of this many bytes, while another thread reads.
fn send_ns(bytes: usize) -> f64 {
    const SENDS: u32 = 2000;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    socket.set_nodelay(true).expect("a TCP option");
    let (mut peer, _) = listener.accept().expect("accepted");
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while peer.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let message = vec![b'x'; bytes];
    let started = Instant::now();
    for _ in 0..SENDS {
        socket.write_all(&message).expect("sent");
    }
    let ns = started.elapsed().as_nanos() as f64 / f64::from(SENDS);
    drop(socket);
    reading.join().expect("the reader ends");
    ns
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
