//! What a look at the log has found so far, and what it means for a node that stands somewhere.

use feed_log::chain::Chain;
use feed_log::entry::header::EntryHeader;
use feed_log::entry::{EntryBody, LogEntry};

use crate::log::{LogBounds, LogSequence, StoredBytes};
use crate::position::LogPosition;

#[derive(Debug)]
pub struct LogScan {
    pub bounds: LogBounds,
    /// Of the next entry.
    pub next: LogSequence,
    /// It began at the oldest entry.
    pub is_whole: bool,
    /// The newest entry in it that the node has applied.
    has_seen: Known,
    /// Entries that had come by the tail when it began.
    pub tailed: u64,
    has_hole: bool,
    foreign: Option<ForeignEntries>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Nothing,
    /// An entry that the node has applied, and not the last.
    Older,
    /// The last that the node has applied.
    Last,
}

/// An entry that the node has not applied.
#[derive(Clone, Debug)]
pub struct UnknownEntry {
    pub stored: StoredBytes,
    pub entry: LogEntry,
}

/// Entries after the newest known one that do not continue it, of the node's term or a later one.
#[derive(Debug)]
struct ForeignEntries {
    newest: EntryHeader,
    newest_chain: Chain,
    /// Something is missing right before them.
    is_after_hole: bool,
    /// The first of the newest epoch.
    of_epoch: UnknownEntry,
    /// The first that is not before the node's next offset.
    ahead: Option<UnknownEntry>,
    /// The newest with which a log of the node's epoch begins.
    beginning: Option<UnknownEntry>,
}

#[derive(Debug)]
pub enum ScanVerdict {
    /// The node has all there is.
    Level,
    /// The same, but for entries at the end that cannot be read.
    Unread,
    /// The log has lost entries that the node has applied.
    Shorter,
    /// The node's last entry is not where it was: all of the log is to be read.
    ReadWhole,
    /// Go on with this entry.
    NewEpoch(UnknownEntry),
    /// Entries are missing; this one is the first after them.
    Hole(UnknownEntry),
    /// The log begins anew with this entry, and has all that the node lacks.
    Restarted(UnknownEntry),
    /// The log goes on with another history.
    Fork,
}

impl LogScan {
    pub fn new(bounds: LogBounds, from: LogSequence, tailed: u64) -> LogScan {
        let is_whole = from <= bounds.first;
        LogScan { bounds, next: from, is_whole, has_seen: Known::Nothing, tailed, has_hole: false, foreign: None }
    }

    /// The next entry stands there.
    pub fn reach(&mut self, sequence: LogSequence) {
        self.has_hole |= sequence > self.next;
        self.next = sequence.next();
    }

    /// There is nothing else up to here.
    pub fn reach_end(&mut self, read_to: LogSequence) {
        self.has_hole |= read_to >= self.next;
        self.next = self.next.max(read_to.next());
    }

    pub fn see(&mut self, known: Known) {
        (self.has_seen, self.has_hole, self.foreign) = (known, false, None);
    }

    pub fn see_foreign(&mut self, unknown: UnknownEntry, position: &LogPosition) {
        let (header, chain) = (unknown.entry.header, unknown.entry.chain);
        let is_ahead = header.epoch == position.epoch && header.first >= position.next_offset;
        let ahead = is_ahead.then(|| unknown.clone());
        let begins = header.chain_before == Chain::START && matches!(unknown.entry.body, EntryBody::Term(_));
        let begins = begins && header.epoch == position.epoch && header.first <= position.next_offset;
        let beginning = begins.then(|| unknown.clone());
        match &mut self.foreign {
            Some(foreign) => {
                if foreign.newest.epoch != header.epoch {
                    foreign.of_epoch = unknown;
                }
                foreign.ahead = foreign.ahead.take().or(ahead);
                foreign.beginning = beginning.or(foreign.beginning.take());
                (foreign.newest, foreign.newest_chain) = (header, chain);
            }
            None => {
                let is_after_hole = self.has_hole;
                self.foreign = Some(ForeignEntries {
                    newest: header,
                    newest_chain: chain,
                    is_after_hole,
                    of_epoch: unknown,
                    ahead,
                    beginning,
                });
            }
        }
    }

    /// The newest of the entries that the node has not applied: its term, and what it is.
    pub fn newest_foreign(&self) -> Option<(u64, Chain)> {
        self.foreign.as_ref().map(|foreign| (foreign.newest.term, foreign.newest_chain))
    }

    pub fn has_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    pub fn verdict(self: Box<LogScan>, position: &LogPosition) -> ScanVerdict {
        let Some(foreign) = self.foreign else {
            return match self.has_seen {
                Known::Last if self.has_hole => ScanVerdict::Unread,
                Known::Last => ScanVerdict::Level,
                Known::Nothing if !self.is_whole => ScanVerdict::ReadWhole,
                Known::Older | Known::Nothing => ScanVerdict::Shorter,
            };
        };
        if self.has_seen == Known::Nothing && !self.is_whole {
            return ScanVerdict::ReadWhole;
        }
        let newest = foreign.newest;
        if newest.epoch != position.epoch {
            return ScanVerdict::NewEpoch(foreign.of_epoch);
        }
        if let Some(beginning) = foreign.beginning.filter(|_| self.has_seen == Known::Nothing) {
            return ScanVerdict::Restarted(beginning);
        }
        if newest.next_offset() < position.next_offset {
            return ScanVerdict::Shorter;
        }
        let begins_later = self.has_seen == Known::Nothing && self.bounds.first > LogSequence::START.next();
        // Where the node's own last entry is not in the log, another one may stand in its place.
        let is_hole = self.has_seen == Known::Last && foreign.is_after_hole;
        match foreign.ahead {
            Some(unknown) if is_hole || begins_later => ScanVerdict::Hole(unknown),
            _ => ScanVerdict::Fork,
        }
    }
}
