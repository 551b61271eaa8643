//! The recordings, where they are: test data that is not part of the project.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::Envelope;
use super::project;

/// The capture of a feed below `$FANLINE_SHARED/feeds`, or `../shared/feeds` beside the project.
pub fn capture(feed: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("FANLINE_SHARED").map_or_else(|| project("../shared"), PathBuf::from);
    Some(shared.join("feeds").join(feed).join("capture.jsonl")).filter(|file| file.is_file())
}

/// A recording of Binance's combined streams, read without any of fanline's own code.
///
/// Offsets are dense and start at 1, and every recorded frame is data: so a frame's offset is its place here, and
/// what a client must receive is known without asking fanline.
pub struct Tape {
    frames: Vec<Recorded>,
    by_payload: HashMap<String, u64>,
    topics: Vec<String>,
}

pub struct Recorded {
    pub topic: String,
    pub payload: String,
}

impl Tape {
    pub fn load(capture: &Path) -> Tape {
        #[derive(Deserialize)]
        struct Line {
            dir: String,
            data: Option<String>,
        }
        #[derive(Deserialize)]
        struct Combined {
            stream: String,
        }
        let text = std::fs::read_to_string(capture).expect("a readable capture");
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
        Tape { frames, by_payload, topics }
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
