//! Where in the log an offset is, about: for nodes that begin to read there.
//!
//! Bounded: of each few hundred offsets one entry, and of those the newest.

use std::collections::VecDeque;

use feed_log::entry::{EntryBody, LogEntry};

use crate::log::LogSequence;

/// Offsets between two entries that are remembered.
const STEP: u64 = 256;
/// Entries that are remembered: two million offsets, more than the ring of a server with a busy feed.
const PLACES_MAX: usize = 8192;

#[derive(Debug, Default)]
pub(super) struct SequenceIndex {
    /// Of entries of one epoch, the first offset and the place.
    places: VecDeque<(u64, LogSequence)>,
}

impl SequenceIndex {
    /// An entry was applied there. One that a reader cannot begin with is left out.
    pub fn add(&mut self, sequence: LogSequence, entry: &LogEntry) {
        let first = entry.header.first;
        if let Some((last, at)) = self.places.back() {
            // A log that was made again counts from 1 again, and so does a new epoch.
            if sequence < *at || first < *last {
                self.places.clear();
            } else if first < last + STEP {
                return;
            }
        }
        if matches!(entry.body, EntryBody::Part(_)) {
            return;
        }
        self.places.push_back((first, sequence));
        if self.places.len() > PLACES_MAX {
            self.places.pop_front();
        }
    }

    /// The newest entry that begins at this offset or before; the oldest if all begin later.
    pub fn before(&self, offset: u64) -> Option<LogSequence> {
        let after = self.places.partition_point(|(first, _)| *first <= offset);
        self.places.get(after.saturating_sub(1)).map(|(_, sequence)| *sequence)
    }

    pub fn clear(&mut self) {
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use feed_log::chain::Chain;
    use feed_log::entry::header::{EntryHeader, EntryKind};

    use super::*;

    fn entry(first: u64) -> LogEntry {
        let (kind, chain_before) = (EntryKind::Batch, Chain::START);
        let header = EntryHeader {
            kind,
            term: 1,
            node: 1,
            epoch: 1,
            first,
            count: 0,
            chain_before,
            sent_ms: 0,
            deflated: false,
        };
        LogEntry { header, body: EntryBody::Batch(Vec::new()), chain: Chain::START }
    }

    #[test]
    fn an_offset_is_found_at_or_after_the_place_that_is_told() {
        let mut index = SequenceIndex::default();
        assert_eq!(index.before(5), None);
        for sequence in 1..=10_000 {
            index.add(LogSequence(sequence), &entry(1 + 100 * (sequence - 1)));
        }
        for offset in [1, 99, 300, 301, 5_000, 999_901, 2_000_000] {
            let place = index.before(offset).expect("some").0;
            let first = 1 + 100 * (place - 1);
            assert!(first <= offset && (offset > 999_901 || offset - first < STEP + 200), "{offset}: {first}");
        }
        index.add(LogSequence(1), &entry(999_902));
        assert_eq!(index.before(1), Some(LogSequence(1)), "the log was made again");
        index.add(LogSequence(2), &entry(1));
        assert_eq!(index.before(7), Some(LogSequence(2)), "another epoch");
    }

    #[test]
    fn the_oldest_places_go() {
        let mut index = SequenceIndex::default();
        let places = PLACES_MAX as u64 + 10;
        (1..=places).for_each(|sequence| index.add(LogSequence(sequence), &entry(STEP * sequence)));
        assert_eq!(index.places.len(), PLACES_MAX);
        assert_eq!(index.before(1), Some(LogSequence(11)));
    }
}
