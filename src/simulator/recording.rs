//! A recording of a feed: the venue's frames and their times.
//!
//! JSON Lines, one object per line: `dir` is `in` (a frame from the venue), `out` (from the client), `connect` or
//! `rest` (remarks of the recorder). A frame has its text in `data` or its bytes, base64, in `b64`. `t_ns` is when it
//! arrived, in nanoseconds since the Unix epoch, or null if unknown. Other members are ignored. Only `in`
//! frames are kept, and whether the client had asked for something before them; where several connections were
//! recorded, they are one stream in the order of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

/// An example of a valid line, for errors.
const EXPECTED: &str = r#"{"t_ns":…,"dir":"in","data":"…"}"#;

/// The frames of a recording, in memory: about the size of the file.
#[derive(Clone, Debug)]
pub struct Recording {
    frames: Vec<RecordedFrame>,
}

#[derive(Clone, Debug)]
pub(super) struct RecordedFrame {
    /// Since the frame before; zero for the first, and where the time is unknown or runs backwards.
    pub pause: Duration,
    /// The recorder had said something before.
    pub is_asked_for: bool,
    /// Text or binary, as it was. Cheap to clone.
    pub message: Message,
}

/// Why a file cannot be served as a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("expected to read the recording `{path}`: {source}; check the name and its permissions")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path}:{line}: expected one JSON object per line like `{EXPECTED}`, found `{found}`: {reason}; \
             remove or repair this line"
    )]
    BadLine { path: PathBuf, line: usize, found: String, reason: String },
    #[error(
        "{path}: expected at least one line with `\"dir\":\"in\"`, found `{lines}` lines without; \
             a recording holds what the venue sent"
    )]
    Empty { path: PathBuf, lines: usize },
}

#[derive(Deserialize)]
struct RecordedLine {
    dir: Direction,
    t_ns: Option<u64>,
    data: Option<String>,
    b64: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Direction {
    In,
    Out,
    Connect,
    Rest,
}

impl Recording {
    /// Reads a whole recording. Blocks; call it before serving begins.
    pub fn load(path: impl AsRef<Path>) -> Result<Recording, RecordingError> {
        let path = path.as_ref();
        let unreadable = |source| RecordingError::Unreadable { path: path.into(), source };
        Recording::read(path, BufReader::new(File::open(path).map_err(unreadable)?))
    }

    /// Frames from the venue.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Always false: a recording without frames is refused.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Duration at the original speed.
    pub fn duration(&self) -> Duration {
        self.frames.iter().map(|frame| frame.pause).sum()
    }

    pub(super) fn frames(&self) -> &[RecordedFrame] {
        &self.frames
    }

    /// Reads a whole recording from `source`; `path` is for errors.
    pub fn read(path: &Path, mut source: impl BufRead) -> Result<Recording, RecordingError> {
        let mut frames = Vec::new();
        let mut last_ns = None;
        let mut is_asked_for = false;
        let mut line = Vec::new();
        let mut lines = 0;
        loop {
            line.clear();
            let read = source.read_until(b'\n', &mut line);
            if read.map_err(|source| RecordingError::Unreadable { path: path.into(), source })? == 0 {
                break;
            }
            lines += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let parsed = parse(&line).map_err(|reason| RecordingError::BadLine {
                path: path.into(),
                line: lines,
                found: String::from_utf8_lossy(line.trim_ascii()).chars().take(80).collect(),
                reason,
            })?;
            is_asked_for |= parsed == RecordedStep::Asked;
            if let RecordedStep::Frame(t_ns, message) = parsed {
                let pause = t_ns.zip(last_ns).map_or(0, |(now, last): (u64, u64)| now.saturating_sub(last));
                last_ns = t_ns.or(last_ns);
                frames.push(RecordedFrame { pause: Duration::from_nanos(pause), is_asked_for, message });
            }
        }
        if frames.is_empty() {
            return Err(RecordingError::Empty { path: path.into(), lines });
        }
        Ok(Recording { frames })
    }
}

/// What a line is.
#[derive(PartialEq)]
enum RecordedStep {
    /// A frame from the venue, and its time.
    Frame(Option<u64>, Message),
    /// The recorder said something.
    Asked,
    Remark,
}

/// The error says what is wrong.
fn parse(line: &[u8]) -> Result<RecordedStep, String> {
    let line: RecordedLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match line.dir {
        Direction::In => {}
        Direction::Out => return Ok(RecordedStep::Asked),
        Direction::Connect | Direction::Rest => return Ok(RecordedStep::Remark),
    }
    let message = match (line.data, line.b64) {
        (Some(text), None) => Message::Text(Utf8Bytes::from(text)),
        (None, Some(b64)) => {
            let bytes = BASE64_STANDARD.decode(b64).map_err(|error| format!("`b64` is not base64: {error}"))?;
            Message::Binary(Bytes::from(bytes))
        }
        (Some(_), Some(_)) => return Err("both `data` and `b64` are there".into()),
        (None, None) => return Err("neither `data` nor `b64` is there".into()),
    };
    Ok(RecordedStep::Frame(line.t_ns, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Recording, RecordingError> {
        Recording::read(Path::new("some/capture.jsonl"), text)
    }

    #[test]
    fn only_what_the_venue_sent_is_kept_as_it_was() {
        let recording = read(
            br#"{"dir":"connect","url":"wss://example.org","t_ns":5}
{"t_ns":10,"dir":"out","data":"hello"}
{"t_ns":20,"dir":"in","data":"{\"p\": 1.500}","conn":3}

{"t_ns":50,"dir":"in","b64":"AP8Q"}
{"t_ns":null,"dir":"in","data":"a"}
{"t_ns":40,"dir":"in","data":"b"}
{"t_ns":60,"dir":"rest","data":"{}"}
{"t_ns":90,"dir":"in","data":"c"}"#,
        )
        .expect("a sound recording");
        let frames: Vec<_> = recording.frames().iter().map(|f| (f.pause.as_nanos(), f.message.clone())).collect();
        let expected = [
            (0, Message::text("{\"p\": 1.500}")),
            (30, Message::binary(vec![0, 255, 16])),
            (0, Message::text("a")),
            (0, Message::text("b")),
            (50, Message::text("c")),
        ];
        assert_eq!(frames, expected);
        assert_eq!(recording.duration(), Duration::from_nanos(80));
    }

    #[test]
    fn a_broken_recording_is_refused_with_file_and_line() {
        for (text, parts) in [
            (&b"{\"dir\":\"in\",\"data\":\"x\"}\n{\"dir\":\"in\",\"da"[..], ["some/capture.jsonl:2:", "EOF"]),
            (b"\n\n17", ["some/capture.jsonl:3:", "found `17`"]),
            (b"{\"dir\":\"up\",\"data\":\"x\"}", [":1:", "unknown variant `up`"]),
            (b"{\"data\":\"x\"}", [":1:", "missing field `dir`"]),
            (b"{\"dir\":\"in\"}", [":1:", "neither `data` nor `b64`"]),
            (b"{\"dir\":\"in\",\"b64\":\"@@\"}", [":1:", "not base64"]),
            (b"{\"dir\":\"in\",\"data\":\"x\",\"t_ns\":-1}", [":1:", "t_ns"]),
            (b"\xff\xfe", [":1:", "expected one JSON object per line"]),
            (b"{\"dir\":\"out\",\"data\":\"x\"}\n", ["some/capture.jsonl:", "found `1` lines without"]),
            (b"", ["some/capture.jsonl:", "found `0` lines without"]),
        ] {
            let error = read(text).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "expected `{part}` in: {error}");
            }
        }
    }

    #[test]
    fn an_unreadable_recording_is_refused_by_name() {
        let error = Recording::load("/nonexistent/capture.jsonl").expect_err("refused").to_string();
        assert!(error.contains("`/nonexistent/capture.jsonl`") && error.contains("check the name"), "{error}");
        let error = Recording::load("/").expect_err("a directory is refused").to_string();
        assert!(error.contains("`/`"), "{error}");
    }
}
