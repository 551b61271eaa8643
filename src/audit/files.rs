//! The files of an audit log, oldest first: `audit-2027-01-05.jsonl`, one for each UTC day with events.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest, Sha256};

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Before the first line of all.
pub const NO_HASH: LineHash = LineHash([0; 32]);

/// SHA-256 of a line without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    pub fn of(line: &[u8]) -> LineHash {
        LineHash(Sha256::digest(line).into())
    }

    pub fn from_hex(text: &str) -> Option<LineHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(LineHash(bytes))
    }
}

impl std::fmt::Display for LineHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A moment as in the log: `2027-01-05T10:20:30.123Z`.
pub fn timestamp(ms: u64) -> String {
    // The year 9999; `humantime` knows no later one.
    const LAST_MS: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.min(LAST_MS))).to_string()
}

pub fn name_of(day: &str) -> String {
    format!("{PREFIX}{day}{SUFFIX}")
}

/// The day of a file: `2027-01-05`.
pub fn day_of(path: &Path) -> Option<&str> {
    let day = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let is_day = day.len() == 10
        && day
            .bytes()
            .enumerate()
            .all(|(at, byte)| if [4, 7].contains(&at) { byte == b'-' } else { byte.is_ascii_digit() });
    is_day.then_some(day)
}

/// The files of a directory, oldest first.
pub fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if day_of(&path).is_some() && entry.file_type()?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The files of directories and files as a person gives them, oldest first by their names.
pub fn expand(places: &[PathBuf]) -> Result<Vec<PathBuf>, FilesError> {
    let mut files = Vec::new();
    for place in places {
        let unreadable = |error| FilesError::Unreadable { path: place.clone(), error };
        if fs::metadata(place).map_err(unreadable)?.is_dir() {
            files.extend(list(place).map_err(unreadable)?);
        } else {
            files.push(place.clone());
        }
    }
    files.sort_by(|one, other| one.file_name().cmp(&other.file_name()).then_with(|| one.cmp(other)));
    files.dedup();
    if files.is_empty() { Err(FilesError::Nothing) } else { Ok(files) }
}

/// Why the files of an audit log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("expected a readable audit file or directory, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("expected files `audit-YYYY-MM-DD.jsonl`, found none; give the directory of `audit.dir`, or files of it")]
    Nothing,
}
