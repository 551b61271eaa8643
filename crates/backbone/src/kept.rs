//! The newest entries that a node knows to be committed: what a log that has lost its tail is filled with again.
//!
//! Bounded by bytes; the last entry is always kept.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use feed_log::chain::Chain;

#[derive(Debug)]
pub struct KeptEntries {
    bytes_max: usize,
    bytes: usize,
    /// Oldest first, each continued by the next.
    entries: VecDeque<KeptEntry>,
    /// Of all entries, by the chain after them: the first one's number is `dropped`.
    numbers: HashMap<Chain, u64>,
    dropped: u64,
}

#[derive(Clone, Debug)]
pub struct KeptEntry {
    pub chain: Chain,
    pub bytes: Bytes,
}

impl KeptEntries {
    pub fn new(bytes_max: usize) -> KeptEntries {
        KeptEntries { bytes_max, bytes: 0, entries: VecDeque::new(), numbers: HashMap::new(), dropped: 0 }
    }

    pub fn push(&mut self, entry: KeptEntry) {
        self.bytes += entry.bytes.len();
        self.numbers.insert(entry.chain, self.dropped + self.entries.len() as u64);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.numbers.remove(&oldest.chain);
                self.dropped += 1;
            }
        }
    }

    /// Whether the entry with this chain after it is kept.
    pub fn contains(&self, chain: Chain) -> bool {
        self.numbers.contains_key(&chain)
    }

    /// What follows the entry with this chain after it, or all; None if it is not kept.
    pub fn after(&self, chain: Option<Chain>) -> Option<impl Iterator<Item = &KeptEntry>> {
        let skipped = match chain {
            None => 0,
            Some(chain) => (self.numbers.get(&chain)? - self.dropped) as usize + 1,
        };
        Some(self.entries.range(skipped..))
    }

    pub fn last(&self) -> Option<&KeptEntry> {
        self.entries.back()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clear(&mut self) {
        *self = KeptEntries::new(self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u8) -> KeptEntry {
        let bytes = Bytes::from(vec![number; 10]);
        KeptEntry { chain: Chain::after(&bytes), bytes }
    }

    #[test]
    fn the_newest_within_the_bound_are_found_by_their_chain() {
        let mut kept = KeptEntries::new(35);
        for number in 0..10 {
            kept.push(entry(number));
            assert!(kept.bytes() <= 35);
        }
        let found = |chain| -> Option<Vec<u8>> { Some(kept.after(chain)?.map(|entry| entry.bytes[0]).collect()) };
        assert_eq!(found(None), Some(vec![7, 8, 9]));
        assert_eq!(found(Some(entry(7).chain)), Some(vec![8, 9]));
        assert_eq!(found(Some(entry(9).chain)), Some(vec![]));
        assert_eq!(found(Some(entry(6).chain)), None);
        assert_eq!((kept.contains(entry(7).chain), kept.contains(entry(6).chain)), (true, false));
    }

    #[test]
    fn an_entry_that_is_larger_than_the_bound_is_kept_alone() {
        let mut kept = KeptEntries::new(5);
        kept.push(entry(1));
        kept.push(entry(2));
        assert_eq!(kept.after(None).map(Iterator::count), Some(1));
        assert_eq!(kept.last().map(|entry| entry.bytes[0]), Some(2));
        kept.clear();
        assert!(kept.last().is_none() && kept.bytes() == 0);
    }
}
