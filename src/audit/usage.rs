//! AuditUsage from an audit log: unique subjects by tier, status, group of patterns and delay, first and last day, peaks.
//!
//! The files are read once, line by line; memory is that of the unique subjects and of the sessions open at a moment. The
//! group of a pattern is its first token (`nasdaq` for `nasdaq.quote.*`), `*` if that is a wildcard. A session counts for a
//! group from its subscription to its end. A client without an identity counts as its address.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::audit::counting::Counting;
use crate::audit::files::{self, FilesError};
use crate::audit::record::UsageRecord;
use crate::audit::verify::next_line;

/// A UTC day as `20270105`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

/// Days from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub first: Day,
    pub last: Day,
}

/// Why usage could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{}:{line}: expected a line of an audit log, found something else; look with `fanline audit verify`", .path.display())]
    Line { path: PathBuf, line: u64 },
    #[error("expected a month such as `2027-01`, found `{found}`")]
    Month { found: String },
    #[error("expected a day such as `2027-01-31`, found `{found}`")]
    Day { found: String },
    #[error("expected a first day up to the last, found {first} and {last}")]
    Order { first: Day, last: Day },
}

/// Who used what in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditUsage {
    pub total: UsageTotal,
    /// By tier, status, group of patterns and delay.
    pub groups: Vec<GroupUsage>,
    /// By issuer and subject; empty issuer: an address.
    pub subjects: Vec<SubjectUsage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageTotal {
    pub subjects: usize,
    pub sessions: u64,
    pub queries: u64,
    /// The most sessions that were open at a moment.
    pub peak_sessions: usize,
    /// The most that one subject had open at a moment.
    pub peak_sessions_of_one: usize,
    pub span: Option<Period>,
}

/// What makes a row of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    pub tier: Box<str>,
    pub status: Box<str>,
    /// None: all that have the tier and the status, whatever they subscribed to.
    pub patterns: Option<(Box<str>, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupUsage {
    pub key: GroupKey,
    pub subjects: usize,
    pub peak_sessions: usize,
    pub peak_sessions_of_one: usize,
    pub span: Period,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectUsage {
    pub issuer: Box<str>,
    pub subject: Box<str>,
    pub sessions: u64,
    pub queries: u64,
    pub peak_sessions: usize,
    pub span: Period,
    pub groups: Vec<(GroupKey, Period)>,
}

/// Reads an audit log for a period.
pub fn count(files: &[PathBuf], period: Period) -> Result<AuditUsage, UsageError> {
    let wanted: Vec<&PathBuf> =
        files.iter().filter(|path| day_of_file(path).is_none_or(|day| day <= period.last)).collect();
    // Sessions of before may still be open. A start of the server closes all: nothing before it matters.
    let mut begin = wanted.iter().position(|path| day_of_file(path).is_none_or(|day| day >= period.first));
    let mut at = begin.unwrap_or(wanted.len());
    while at > 0 {
        at -= 1;
        begin = Some(at);
        if has_start(wanted[at]).map_err(|error| FilesError::Unreadable { path: wanted[at].clone(), error })? {
            break;
        }
    }
    let mut counting = Counting::new(period);
    let mut bytes = Vec::new();
    for path in &wanted[begin.unwrap_or(0)..] {
        let unreadable = |error| FilesError::Unreadable { path: path.to_path_buf(), error };
        let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(unreadable)?);
        let mut line = 0;
        while next_line(&mut reader, &mut bytes).map_err(unreadable)? {
            line += 1;
            // A running server may be writing the last line.
            let Some(text) = bytes.strip_suffix(b"\n") else { break };
            let wrong = || UsageError::Line { path: path.to_path_buf(), line };
            let record: UsageRecord<'_> = serde_json::from_slice(text).map_err(|_| wrong())?;
            let day = Day::of_timestamp(&record.ts).ok_or_else(wrong)?;
            counting.take(&record, day);
        }
    }
    Ok(counting.finish())
}

fn day_of_file(path: &Path) -> Option<Day> {
    files::day_of(path)?.parse().ok()
}

/// Whether the server was started on the day of this file.
fn has_start(path: &Path) -> io::Result<bool> {
    const START: &[u8] = b"\"event\":\"start\"";
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut bytes = Vec::new();
    while next_line(&mut reader, &mut bytes)? {
        // It follows `seq` and `ts`. Quotes inside a text are escaped, so no text looks like it.
        if bytes.windows(START.len()).take(128).any(|window| window == START) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Period {
    /// `2027-01`.
    pub fn month(text: &str) -> Result<Period, UsageError> {
        let wrong = || UsageError::Month { found: text.chars().take(32).collect() };
        let first: Day = format!("{text}-01").parse().map_err(|_| wrong())?;
        // No month has more days; no line is of a day that does not exist.
        Ok(Period { first, last: Day(first.0 + 30) })
    }

    /// From the first to the last day: `2027-01-05`.
    pub fn between(first: &str, last: &str) -> Result<Period, UsageError> {
        let (first, last): (Day, Day) = (first.parse()?, last.parse()?);
        if first <= last { Ok(Period { first, last }) } else { Err(UsageError::Order { first, last }) }
    }
}

impl Day {
    pub(super) fn of_timestamp(ts: &str) -> Option<Day> {
        ts.get(..10)?.parse().ok()
    }
}

impl std::str::FromStr for Day {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Day, UsageError> {
        let wrong = || UsageError::Day { found: text.chars().take(32).collect() };
        let [year, month, day] = text.split('-').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let number = |digits: &str, length: usize| {
            let is_number = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse::<u32>().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(wrong());
        }
        Ok(Day(year * 10_000 + month * 100 + day))
    }
}

/// `2027-01-05`.
impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}
