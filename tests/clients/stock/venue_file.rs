//! Files to replay: messages that a test has written, and parts of recordings.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A file to replay.
pub fn written(name: &str, lines: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
    std::fs::write(&path, lines).expect("a folder to write to");
    path
}

/// Appends a message that the venue sends at this moment.
pub fn put_line(lines: &mut String, t_ms: u64, data: &str) {
    writeln!(lines, "{}", json!({"t_ns": t_ms * 1_000_000, "dir": "in", "data": data})).expect("room in memory");
}

/// What a venue sends of a file to a client that has asked for some of it, after these messages. Gives the file, and how many
/// messages of the recording there are.
pub fn part_of(
    name: &str,
    path: &Path,
    before: &[&str],
    mut is_asked_for: impl FnMut(&Value) -> bool,
) -> (PathBuf, usize) {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let mut lines = String::new();
    let mut count = 0;
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).expect("a sound line");
        let message = entry["data"].as_str().filter(|_| entry["dir"] == "in");
        let message = message.map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)));
        if !message.is_some_and(|message| is_asked_for(&message)) {
            continue;
        }
        if count == 0 {
            let at = json!(entry["t_ns"]);
            before.iter().for_each(|data| put_at(&mut lines, &at, data));
        }
        count += 1;
        lines.push_str(line);
        lines.push('\n');
    }
    (written(name, &lines), count)
}

fn put_at(lines: &mut String, t_ns: &Value, data: &str) {
    writeln!(lines, "{}", json!({"t_ns": t_ns, "dir": "in", "data": data})).expect("room in memory");
}
