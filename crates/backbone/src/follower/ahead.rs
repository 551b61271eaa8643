//! Entries that came before those in front of them, by the entry that they continue.

use std::collections::HashMap;

use feed_log::chain::Chain;

use crate::log::StoredBytes;

/// Bounded by bytes: what does not fit is read from the log later.
#[derive(Debug)]
pub struct AheadEntries {
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<Chain, StoredBytes>,
}

impl AheadEntries {
    pub fn new(bytes_max: usize) -> AheadEntries {
        AheadEntries { bytes_max, bytes: 0, entries: HashMap::new() }
    }

    /// Of two that continue the same entry, the one in front counts, as it does for whoever reads them in order.
    pub fn hold(&mut self, chain_before: Chain, stored: StoredBytes) {
        let is_behind = self.entries.get(&chain_before).is_some_and(|held| held.sequence <= stored.sequence);
        if is_behind || self.bytes + stored.bytes.len() > self.bytes_max {
            return;
        }
        self.bytes += stored.bytes.len();
        if let Some(replaced) = self.entries.insert(chain_before, stored) {
            self.bytes -= replaced.bytes.len();
        }
    }

    pub fn take(&mut self, chain_before: Chain) -> Option<StoredBytes> {
        let stored = self.entries.remove(&chain_before)?;
        self.bytes -= stored.bytes.len();
        Some(stored)
    }

    /// All is read from the log instead.
    pub fn clear(&mut self) {
        *self = AheadEntries::new(self.bytes_max);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
