//! The shared log, as small as it can be: an append to one place, the tail, and reading.
//!
//! A request gets one reply or none. Only [`LogReply::Appended`], and reading the very entry back, prove that an entry
//! is stored: a refusal proves nothing, not even that another one is.

use std::fmt;

use bytes::Bytes;

/// Where an entry stands in the log, from 1; 0 is before the first. A place and no identity: a log that was made again
/// counts from 1 again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogSequence(pub u64);

impl LogSequence {
    pub const START: LogSequence = LogSequence(0);

    pub fn next(self) -> LogSequence {
        LogSequence(self.0.saturating_add(1))
    }

    /// So many places back, at most to the start.
    pub fn back(self, places: u64) -> LogSequence {
        LogSequence(self.0.saturating_sub(places))
    }
}

impl fmt::Display for LogSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From the oldest to the newest entry; of an empty log, `first` is after `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    pub first: LogSequence,
    pub last: LogSequence,
}

impl LogBounds {
    pub fn is_empty(&self) -> bool {
        self.first > self.last
    }
}

/// Both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    pub from: LogSequence,
    pub to: LogSequence,
}

/// A request to the log. Later requests have greater numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A shared log. Replies come as events, in any order, late, or never.
pub trait SharedLog {
    /// Stores an entry right after `expected` and nowhere else; replied with [`LogReply::Appended`] when it is
    /// committed.
    fn append(&mut self, call: CallId, expected: LogSequence, entry: Bytes);

    /// Asks for the bounds. From the first call on, each entry that is committed comes as an event of its own, at most
    /// once each, and perhaps not at all.
    fn tail(&mut self, call: CallId);

    /// Reads what there is in a range, or in the beginning of it.
    fn read(&mut self, call: CallId, range: LogRange);

    /// Makes the log, if there is none.
    fn create(&mut self, call: CallId);
}

/// A call of a [`SharedLog`], as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRequest {
    Append { expected: LogSequence, entry: Bytes },
    Tail,
    Read(LogRange),
    Create,
}

impl LogRequest {
    pub fn send(self, call: CallId, log: &mut impl SharedLog) {
        match self {
            LogRequest::Append { expected, entry } => log.append(call, expected, entry),
            LogRequest::Tail => log.tail(call),
            LogRequest::Read(range) => log.read(call, range),
            LogRequest::Create => log.create(call),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogReply {
    /// Committed, there.
    Appended(LogSequence),
    /// Not stored there now; another attempt of the same entry may be.
    Refused,
    Bounds(LogBounds),
    /// There is no log.
    Missing,
    /// All that there is up to a place, in order.
    Entries {
        entries: Vec<StoredBytes>,
        read_to: LogSequence,
    },
    Created,
    /// Nobody answers for the log at the moment.
    Unavailable,
}

/// Bytes that stand in the log. They may be no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    pub sequence: LogSequence,
    pub bytes: Bytes,
}
