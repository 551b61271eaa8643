//! What a message of the feed costs before it is published: the busiest recorded feeds through their profiles.
//!
//! `cargo bench --bench sorting -- [ROUNDS]`. Prints ns per frame, the best of the rounds: for decoding, classifying and
//! naming (`sort`), and with sequence, folding and the copy of what is published (`flow`). The share is that of `flow` in
//! the time that 100 clients cost: 100 bare `send` calls of a message of that size on a loopback socket. Recordings are
//! looked for in `FANLINE_SHARED` or `../shared`.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use fanline::bus::retention::Retention;
use fanline::bus::topic_status::TopicStatus;
use fanline::intake::assemble::sequence::GapRemedy;
use fanline::intake::assemble::{Assembler, Oddity, Update, UpdateSink};
use fanline::intake::classify::{Classified, Classifier, ClassifierSink, Incoming};
use fanline::profile::Profile;
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

/// Counts what is found.
#[derive(Default)]
struct Count {
    pieces: u64,
    unmatched: u64,
}

impl ClassifierSink for Count {
    fn piece(&mut self, piece: &Update<'_>) {
        self.pieces += 1;
        black_box(piece.topic);
    }

    fn note(&mut self, sorted: &Classified, _: Incoming<'_>, _: Stamp) {
        self.unmatched += u64::from(sorted.problem.is_some());
    }
}

/// Takes pieces as the upstream's outlet does, up to the publisher.
#[derive(Default)]
struct ToFlow {
    flow: Assembler,
    published: Published,
}

#[derive(Default)]
struct Published(u64);

impl UpdateSink for Published {
    fn publish(&mut self, _: &str, payload: Payload, _: Retention, _: Stamp) {
        self.0 += 1;
        black_box(payload);
    }

    fn note(&mut self, _: &str, note: TopicStatus, _: Stamp) {
        black_box(note);
    }

    fn remedy(&mut self, _: &str, remedy: GapRemedy) {
        black_box(remedy);
    }

    fn oddity(&mut self, _: &str, oddity: Oddity, _: Stamp) {
        black_box(oddity);
    }
}

impl ClassifierSink for ToFlow {
    fn piece(&mut self, piece: &Update<'_>) {
        self.flow.take(piece, &mut self.published);
    }

    fn note(&mut self, sorted: &Classified, _: Incoming<'_>, _: Stamp) {
        black_box(sorted.class);
    }
}

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    println!(
        "{:<20}{:<20}{:>8}{:>8}{:>9}{:>9}{:>9}{:>11}{:>18}",
        "feed", "profile", "frames", "bytes", "sort ns", "flow ns", "pieces", "unmatched", "of 100 sends"
    );
    for (feed, name) in FEEDS {
        let Some(frames) = frames(feed) else {
            println!("{feed:<20}SKIPPED: no recording in ../shared/feeds");
            continue;
        };
        let profile = Profile::built_in(name).expect("a built-in profile");
        let incoming = |frame| std::str::from_utf8(frame).map_or(Incoming::Binary(frame), Incoming::Text);
        let incoming: Vec<Incoming<'_>> = frames.iter().map(|frame| incoming(frame)).collect();
        let mut count = Count::default();
        let sort_ns = best(rounds, || {
            count = Count::default();
            run(&profile, &incoming, &mut count)
        });
        let flow_ns = best(rounds, || run(&profile, &incoming, &mut ToFlow::default()));
        let bytes = frames.iter().map(Vec::len).sum::<usize>() / frames.len();
        let share = flow_ns / (CLIENTS * best(rounds, || send_ns(bytes)));
        println!(
            "{feed:<20}{name:<20}{:>8}{bytes:>8}{sort_ns:>9.0}{flow_ns:>9.0}{:>9}{:>11}{:>16.2} %",
            frames.len(),
            count.pieces,
            count.unmatched,
            100.0 * share
        );
    }
}

fn best(rounds: u32, mut measure: impl FnMut() -> f64) -> f64 {
    (0..rounds).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// ns for each of the frames.
fn run(profile: &Profile, frames: &[Incoming<'_>], sink: &mut dyn ClassifierSink) -> f64 {
    let mut sorter = Classifier::new(profile);
    let started = Instant::now();
    for frame in frames {
        sorter.sort(*frame, Stamp::default(), sink);
    }
    started.elapsed().as_nanos() as f64 / frames.len() as f64
}

/// ns of one `send` of so many bytes, while another thread reads.
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
