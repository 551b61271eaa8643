//! The newest entries of what this server shows, for relays: bounded by bytes, the newest is always kept.
//!
//! Whoever shows entries pushes them; sessions of relays read at a place of their own, and nobody waits for them. A log
//! that does not go on from what it has is begun anew.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backbone::log::{LogBounds, LogRange, LogSequence, StoredBytes};
use tokio::sync::watch;

/// Entries and bytes that are handed out at once.
const GIVE_ENTRIES: usize = 256;
const GIVE_BYTES: usize = 512 << 10;

pub struct ServedLog {
    kept: Mutex<ServedEntries>,
    /// Entries that were pushed, ever.
    pushed: watch::Sender<u64>,
}

struct ServedEntries {
    bytes_max: usize,
    bytes: usize,
    /// Oldest first.
    entries: VecDeque<ServedEntry>,
    /// Number of the next entry, among all that were pushed.
    next: u64,
    /// Of the first entry since the log was begun anew.
    begun: u64,
}

struct ServedEntry {
    stored: StoredBytes,
    /// Its first offset.
    first: u64,
}

/// A relay is too slow: what it would read next is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOverrun;

impl ServedLog {
    pub fn new(bytes_max: usize) -> ServedLog {
        let entries = ServedEntries { bytes_max, bytes: 0, entries: VecDeque::new(), next: 0, begun: 0 };
        ServedLog { kept: Mutex::new(entries), pushed: watch::Sender::new(0) }
    }

    /// The next entry, with its first offset.
    pub fn push(&self, stored: StoredBytes, first: u64) {
        let next = self.lock().push(ServedEntry { stored, first });
        self.pushed.send_replace(next);
    }

    /// What follows does not continue what is here.
    pub fn begin_anew(&self) {
        self.lock().begin_anew();
    }

    /// Changes with each entry.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.pushed.subscribe()
    }

    /// The bounds, and the place after the last entry.
    pub(super) fn tail(&self) -> (LogBounds, u64) {
        let kept = self.lock();
        let empty = LogBounds { first: LogSequence::START.next(), last: LogSequence::START };
        let ends = kept.entries.front().zip(kept.entries.back());
        let bounds =
            ends.map_or(empty, |(first, last)| LogBounds { first: first.stored.sequence, last: last.stored.sequence });
        (bounds, kept.next)
    }

    /// What is at this place and after it, and the next place.
    pub(super) fn after(&self, place: u64) -> Result<(Vec<StoredBytes>, u64), RelayOverrun> {
        let kept = self.lock();
        let oldest = kept.next - kept.entries.len() as u64;
        // What came before the log was begun anew is of no use to anybody.
        let place = place.max(kept.begun);
        let Some(skipped) = place.checked_sub(oldest) else { return Err(RelayOverrun) };
        let given = give(kept.entries.range((skipped as usize).min(kept.entries.len())..));
        let next = place + given.len() as u64;
        Ok((given, next))
    }

    /// What there is in a range, or in its beginning; and up to where that is all.
    pub(super) fn read(&self, range: LogRange) -> (Vec<StoredBytes>, LogSequence) {
        let kept = self.lock();
        let from = kept.entries.partition_point(|entry| entry.stored.sequence < range.from);
        let to = kept.entries.partition_point(|entry| entry.stored.sequence <= range.to).max(from);
        let given = give(kept.entries.range(from..to));
        let is_all = given.len() == to - from;
        let read_to = given.last().filter(|_| !is_all).map_or(range.to, |last| last.sequence);
        (given, read_to)
    }

    /// Where to begin to read to have the entries from this offset on; the oldest if that is later.
    pub(super) fn sequence_of(&self, offset: u64) -> LogSequence {
        let kept = self.lock();
        let after = kept.entries.partition_point(|entry| entry.first <= offset);
        kept.entries.get(after.saturating_sub(1)).map_or(LogSequence::START, |entry| entry.stored.sequence)
    }

    fn lock(&self) -> MutexGuard<'_, ServedEntries> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServedEntries {
    fn begin_anew(&mut self) {
        (self.bytes, self.begun) = (0, self.next);
        self.entries.clear();
    }

    fn push(&mut self, entry: ServedEntry) -> u64 {
        // A log that was made again counts from 1 again.
        if self.entries.back().is_some_and(|last| last.stored.sequence >= entry.stored.sequence) {
            self.begin_anew();
        }
        self.bytes += entry.stored.bytes.len();
        self.entries.push_back(entry);
        self.next += 1;
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.stored.bytes.len();
            }
        }
        self.next
    }
}

/// At least one, if there is one.
fn give<'e>(entries: impl Iterator<Item = &'e ServedEntry>) -> Vec<StoredBytes> {
    let (mut given, mut bytes) = (Vec::new(), 0);
    for entry in entries.take(GIVE_ENTRIES) {
        bytes += entry.stored.bytes.len();
        if bytes > GIVE_BYTES && !given.is_empty() {
            break;
        }
        given.push(entry.stored.clone());
    }
    given
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(sequence: u64) -> StoredBytes {
        StoredBytes { sequence: LogSequence(sequence), bytes: Bytes::from(vec![0; 100]) }
    }

    fn sequences(entries: &[StoredBytes]) -> Vec<u64> {
        entries.iter().map(|entry| entry.sequence.0).collect()
    }

    #[test]
    fn the_newest_are_given_from_any_place_and_whoever_is_too_slow_is_told() {
        let log = ServedLog::new(500);
        assert!(log.tail().0.is_empty());
        (1..=8).for_each(|number| log.push(entry(10 + number), 100 * number));
        let (bounds, place) = log.tail();
        assert_eq!((bounds.first.0, bounds.last.0, place), (14, 18, 8));
        assert_eq!(log.after(2), Err(RelayOverrun));
        let (given, next) = log.after(3).expect("it is kept");
        assert_eq!((sequences(&given), next), (vec![14, 15, 16, 17, 18], 8));
        assert_eq!(log.after(8), Ok((Vec::new(), 8)));
        assert_eq!((log.sequence_of(650).0, log.sequence_of(1).0), (16, 14));
        let (given, read_to) = log.read(LogRange { from: LogSequence(1), to: LogSequence(16) });
        assert_eq!((sequences(&given), read_to.0), (vec![14, 15, 16], 16));
        let (given, read_to) = log.read(LogRange { from: LogSequence(30), to: LogSequence(2) });
        assert_eq!((sequences(&given), read_to.0), (vec![], 2));
    }

    #[test]
    fn a_log_that_begins_anew_overruns_nobody() {
        let log = ServedLog::new(500);
        (1..=3).for_each(|number| log.push(entry(number), number));
        log.begin_anew();
        assert_eq!(log.after(1), Ok((Vec::new(), 3)));
        log.push(entry(1), 7);
        let (given, next) = log.after(1).expect("the new one");
        assert_eq!((sequences(&given), next), (vec![1], 4));
    }

    #[test]
    fn what_is_given_at_once_is_bounded_and_says_how_far_it_goes() {
        let log = ServedLog::new(1 << 20);
        (1..=1000).for_each(|number| log.push(entry(number), number));
        let (given, next) = log.after(0).expect("all is kept");
        assert_eq!((given.len(), next), (GIVE_ENTRIES, GIVE_ENTRIES as u64));
        let (given, read_to) = log.read(LogRange { from: LogSequence(5), to: LogSequence(900) });
        assert_eq!((given.len(), read_to.0), (GIVE_ENTRIES, 4 + GIVE_ENTRIES as u64));
    }
}
