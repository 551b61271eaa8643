//! Recorded feeds for tests. They are not part of the project: without them such a test says so and ends, and fails
//! with CI=true.

use std::path::PathBuf;

use serde_json::Value;

/// The text of a file of the recordings; none if there are none here.
pub(super) fn shared(file: &str) -> Option<String> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = shared.join("feeds").join(file);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "expected {} with CI=true", path.display());
        eprintln!("SKIPPED: no recording at {}; set FANLINE_SHARED", path.display());
    }
    text
}

/// The lines of a recording.
pub(super) fn capture(feed: &str) -> Option<Vec<Value>> {
    let text = shared(&format!("{feed}/capture.jsonl"))?;
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a recording is JSON lines")).collect())
}
