//! The tape: what a feed has sent, so that what a client must receive is known without asking fanline.
//!
//! Every test has one: a simulated market of one seed, told as Binance's combined streams. Where the recordings are,
//! which are test data and no part of the project, a recording of the real ones comes before it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fanline::settings::table::MarketSettings;
use fanline::simulator::market::Market;
use serde::Deserialize;
use serde_json::json;

use super::client::Envelope;
use super::{project, skip_without};

/// Topics of the recording, and so of the simulated market: quotes and trades of three symbols.
const STREAMS: [&str; 6] = [
    "btcusdt@bookTicker",
    "btcusdt@trade",
    "ethusdt@bookTicker",
    "ethusdt@trade",
    "btcusdt@depth@100ms",
    "ethusdt@depth@100ms",
];
/// Messages of the simulated market, and how many there are in a second: as many as in the recording.
const SEEDED: usize = 6000;
const RATE: f64 = 212.0;

/// The capture of a feed below `$FANLINE_SHARED/feeds`, or `../shared/feeds` beside the project. Where there is none
/// the test says so, and fails with CI=true.
pub fn capture(feed: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("FANLINE_SHARED").map_or_else(|| project("../shared"), PathBuf::from);
    let file = shared.join("feeds").join(feed).join("capture.jsonl");
    if !file.is_file() {
        skip_without(feed, &format!("the recording {}", file.display()), "FANLINE_SHARED names another folder");
        return None;
    }
    Some(file)
}

/// Messages of a feed, in order. Offsets are dense and start at 1, and every message is data: so a frame's offset is its
/// place here. Nothing of fanline's own code has read them.
pub struct Tape {
    path: PathBuf,
    frames: Vec<Recorded>,
    by_payload: HashMap<String, u64>,
    topics: Vec<String>,
}

pub struct Recorded {
    pub topic: String,
    pub payload: String,
}

impl Tape {
    pub fn open() -> Tape {
        Tape::load(Tape::file())
    }

    /// The file to replay: written once, with the recording first, so that its times run on to the simulated ones.
    fn file() -> &'static Path {
        static FILE: OnceLock<PathBuf> = OnceLock::new();
        FILE.get_or_init(|| {
            let recorded =
                capture("binance-spot").map(|file| std::fs::read_to_string(file).expect("a readable capture"));
            write("tape", &(recorded.unwrap_or_default() + &seeded(&STREAMS)))
        })
    }

    /// A simulated market of so many topics, for lists that differ.
    pub fn wide(topics: usize) -> Tape {
        let streams: Vec<String> = (0..topics).map(|n| format!("wide{n}@value")).collect();
        Tape::load(&write("tape-wide", &seeded(&streams)))
    }

    /// What to give to `fanline replay`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn load(path: &Path) -> Tape {
        #[derive(Deserialize)]
        struct Line {
            dir: String,
            data: Option<String>,
        }
        #[derive(Deserialize)]
        struct Combined {
            stream: String,
        }
        let text = std::fs::read_to_string(path).expect("a readable tape");
        let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).expect("a sound line"));
        let payloads = lines.filter(|line| line.dir == "in").filter_map(|line| line.data);
        let frame = |payload: String| {
            let topic = serde_json::from_str::<Combined>(&payload).expect("a combined stream").stream;
            Recorded { topic, payload }
        };
        let frames: Vec<Recorded> = payloads.map(frame).collect();
        let by_payload: HashMap<_, _> =
            (1..).zip(&frames).map(|(offset, frame)| (frame.payload.clone(), offset)).collect();
        assert_eq!(by_payload.len(), frames.len(), "payloads are unique");
        let topics: BTreeSet<&String> = frames.iter().map(|frame| &frame.topic).collect();
        let topics = topics.into_iter().cloned().collect();
        Tape { path: path.into(), frames, by_payload, topics }
    }

    /// All topics, sorted.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// The newest offset at the end.
    pub fn end(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Offset and frame, in order.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Recorded)> {
        (1..).zip(&self.frames)
    }

    /// The frame with this offset. A replay in a loop goes on counting: offsets beyond the end start over.
    pub fn frame(&self, offset: u64) -> &Recorded {
        assert!(offset > 0, "offsets start at 1");
        &self.frames[((offset - 1) % self.end()) as usize]
    }

    /// Offset of a message received with `format=raw`; it must be a recorded payload byte for byte.
    pub fn locate_raw(&self, text: &str) -> u64 {
        *self.by_payload.get(text).unwrap_or_else(|| panic!("expected a recorded payload, found {text}"))
    }

    /// Offset of a message received with `format=envelope`; topic and payload must be the recorded ones byte for byte.
    pub fn locate(&self, text: &str) -> u64 {
        let found: Envelope =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("expected a frame ({error}): {text}"));
        let expected = self.frame(found.offset);
        assert_eq!(found.topic, expected.topic, "{text}");
        assert_eq!(found.data.get(), expected.payload, "{text}");
        assert!(found.ts > 0, "{text}");
        found.offset
    }
}

/// The profile of a feed that plays a tape.
pub const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tape.toml");

/// A file that holds this. Other test programs write the same.
fn write(name: &str, lines: &str) -> PathBuf {
    let folder = super::scratch();
    let own = folder.join(format!("{name}-{}.jsonl", std::process::id()));
    std::fs::write(&own, lines).expect("a folder to write to");
    let file = folder.join(format!("{name}.jsonl"));
    std::fs::rename(&own, &file).expect("a folder to write to");
    file
}

/// Lines of the simulated market, as `fanline replay` reads them. They begin at the time 0.
fn seeded<S: Display>(streams: &[S]) -> String {
    let settings = MarketSettings { seed: 1, rate: RATE, symbols: streams.len() / 2 };
    let mut market = Market::new(settings).expect("right settings");
    let (mut lines, mut at_ns) = (String::new(), 0);
    for _ in 0..SEEDED {
        let tick = market.next(at_ns / 1_000_000);
        at_ns += (tick.pause / RATE * 1e9) as u64;
        let data = format!(r#"{{"stream":"{}","data":{}}}"#, streams[tick.topic], tick.text);
        writeln!(lines, "{}", json!({"t_ns": at_ns, "dir": "in", "data": data})).expect("room in memory");
    }
    lines
}
