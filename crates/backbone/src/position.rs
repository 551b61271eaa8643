//! How far a node has come in the log, and which entry continues it.

use feed_log::chain::Chain;
use feed_log::entry::{EntryBody, LogEntry};

use crate::log::LogSequence;
use crate::planted::{PlantedFault, is_planted};

/// After the last entry that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Where that entry stood when it was last seen.
    pub sequence: LogSequence,
    pub term: u64,
    /// The ingester of the term.
    pub node: u64,
    pub epoch: u64,
    pub next_offset: u64,
    pub chain: Chain,
    /// The ingester has given the feed up: nothing of its term follows.
    pub is_resigned: bool,
}

impl LogPosition {
    /// Before the first entry of all.
    pub const EMPTY: LogPosition = LogPosition {
        sequence: LogSequence::START,
        term: 0,
        node: 0,
        epoch: 0,
        next_offset: 1,
        chain: Chain::START,
        is_resigned: false,
    };

    pub fn after(sequence: LogSequence, entry: &LogEntry) -> LogPosition {
        let header = &entry.header;
        LogPosition {
            sequence,
            term: header.term,
            node: header.node,
            epoch: header.epoch,
            next_offset: header.next_offset(),
            chain: entry.chain,
            is_resigned: matches!(&entry.body, EntryBody::Term(term) if term.resigns),
        }
    }

    /// Whether the entry continues this: it names the one before, and its writer may write here.
    pub fn takes(&self, entry: &LogEntry) -> bool {
        let header = &entry.header;
        if header.chain_before != self.chain && !is_planted(PlantedFault::NoChainCheck) {
            return false;
        }
        let is_next = header.epoch == self.epoch && header.first == self.next_offset;
        match &entry.body {
            // What begins later than the feed is where a reader starts, and continues nothing.
            EntryBody::Term(_) if *self == LogPosition::EMPTY => header.first == self.next_offset,
            EntryBody::Term(_) => header.term > self.term && (is_next || header.epoch != self.epoch),
            EntryBody::Batch(_) | EntryBody::Part(_) => {
                is_next && header.term == self.term && header.node == self.node && !self.is_resigned
            }
            EntryBody::Retained { .. } => false,
        }
    }
}
