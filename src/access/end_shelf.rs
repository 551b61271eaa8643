//! A bounded number of ends, of which a network that has many displaces its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::access::end_row::EndRow;
use crate::access::network_counts::network;

/// Refusals further apart than this have rows of their own.
const REPEATED_MS: u64 = 60_000;
/// What a row costs in the tables, besides itself.
const TABLES_BYTES: usize = 160;
/// The part of a shelf that a network may hold while the shelf is full.
const NETWORK_PART: usize = 8;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
}

type NetworkReason = (Option<IpAddr>, Cow<'static, str>);

pub(super) struct EndShelf {
    limits: JournalLimits,
    /// By the order in which they came.
    rows: BTreeMap<u64, Arc<EndRow>>,
    /// The rows of a network, oldest first.
    by_network: HashMap<Option<IpAddr>, VecDeque<u64>>,
    /// Of refusals: the newest row of a network for a reason.
    newest: HashMap<NetworkReason, u64>,
    bytes: usize,
    serial: u64,
}

impl JournalLimits {
    pub(super) fn half(self) -> JournalLimits {
        JournalLimits { rows_max: self.rows_max / 2, bytes_max: self.bytes_max / 2 }
    }
}

impl EndShelf {
    pub(super) fn new(limits: JournalLimits) -> EndShelf {
        EndShelf {
            limits,
            rows: BTreeMap::new(),
            by_network: HashMap::new(),
            newest: HashMap::new(),
            bytes: 0,
            serial: 0,
        }
    }

    /// Those above a serial number, oldest first.
    pub(super) fn after(&self, serial: u64) -> impl Iterator<Item = (u64, &Arc<EndRow>)> {
        self.rows.range(serial + 1..).map(|(serial, row)| (*serial, row))
    }

    /// Those below a serial number, newest first.
    pub(super) fn before(&self, serial: u64) -> impl Iterator<Item = (u64, &Arc<EndRow>)> {
        self.rows.range(..serial).rev().map(|(serial, row)| (*serial, row))
    }

    /// Counts another refusal to the row that it shares, if there is one.
    pub(super) fn repeats(&mut self, address: Option<IpAddr>, reason: &'static str, now_ms: u64) -> bool {
        let Some(serial) = self.newest.get(&(address.map(network), Cow::Borrowed(reason))) else { return false };
        let Some(row) = self.rows.get_mut(serial).filter(|row| now_ms <= row.ended_ms + REPEATED_MS) else {
            return false;
        };
        let row = Arc::make_mut(row);
        row.times += 1;
        row.ended_ms = now_ms;
        true
    }

    /// Returns what made room, to be freed once nobody waits for the lock.
    pub(super) fn add(&mut self, row: EndRow) -> Vec<Arc<EndRow>> {
        self.serial += 1;
        let key = row.address.map(network);
        if row.session.is_none() {
            self.newest.insert((key, row.reason.clone()), self.serial);
        }
        self.bytes += row.weight() + TABLES_BYTES;
        self.rows.insert(self.serial, Arc::new(row));
        self.by_network.entry(key).or_default().push_back(self.serial);
        self.displace(key)
    }

    /// Keeps no more than this from now on; returns what goes.
    pub(super) fn change_limits(&mut self, limits: JournalLimits) -> Vec<Arc<EndRow>> {
        self.limits = limits;
        self.displace(None)
    }

    fn displace(&mut self, of_last: Option<IpAddr>) -> Vec<Arc<EndRow>> {
        let mut displaced = Vec::new();
        while self.rows.len() > self.limits.rows_max || self.bytes > self.limits.bytes_max {
            let own = self.by_network.get(&of_last).filter(|own| own.len() > self.rows.len() / NETWORK_PART);
            let oldest = own.and_then(|own| own.front().copied());
            let Some(serial) = oldest.or_else(|| self.rows.keys().next().copied()) else { break };
            displaced.extend(self.remove(serial));
        }
        displaced
    }

    /// Forgets a row that is the oldest of its network.
    fn remove(&mut self, serial: u64) -> Option<Arc<EndRow>> {
        let row = self.rows.remove(&serial)?;
        self.bytes -= row.weight() + TABLES_BYTES;
        let key = row.address.map(network);
        if let Some(own) = self.by_network.get_mut(&key) {
            own.pop_front();
            if own.is_empty() {
                self.by_network.remove(&key);
            }
        }
        let named = (key, row.reason.clone());
        if self.newest.get(&named) == Some(&serial) {
            self.newest.remove(&named);
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::goodbye::Goodbye;

    fn row(session: u64, address: [u8; 4]) -> EndRow {
        EndRow { address: Some(address.into()), ..EndRow::of_session(session, Goodbye::ClientClosed, "") }
    }

    #[test]
    fn a_network_that_comes_and_goes_hides_only_what_it_did_itself() {
        let mut shelf = EndShelf::new(JournalLimits { rows_max: 800, bytes_max: usize::MAX });
        for number in 0..700 {
            shelf.add(row(number, [10, 0, (number / 5) as u8, 1]));
        }
        for number in 0..100_000 {
            shelf.add(row(1000 + number, [192, 0, 2, 1]));
        }
        let others = shelf.after(0).filter(|(_, row)| row.session < Some(1000)).count();
        assert_eq!((others, shelf.rows.len()), (700, 800), "it has an eighth, and makes room itself");
        for number in 0..100 {
            shelf.add(row(number, [10, 1, number as u8, 1]));
        }
        assert_eq!(shelf.rows.len(), 800);
    }

    #[test]
    fn bytes_are_a_bound_and_nothing_is_left_of_what_is_displaced() {
        let weight = row(1, [10, 0, 0, 1]).weight() + TABLES_BYTES;
        let mut shelf = EndShelf::new(JournalLimits { rows_max: usize::MAX, bytes_max: 10 * weight });
        for number in 0..1000 {
            shelf.add(row(number, [10, 0, 0, (number % 7) as u8]));
            let refusal =
                EndRow::of_refusal("http", "draining", Some([10, 1, 0, (number % 7) as u8].into()), "stopping");
            shelf.add(refusal);
            assert!(shelf.bytes <= 10 * weight, "{number}");
        }
        assert!(shelf.newest.len() <= shelf.rows.len() && !shelf.rows.is_empty());
        shelf.change_limits(JournalLimits { rows_max: 0, bytes_max: 0 });
        let left = (shelf.rows.len(), shelf.by_network.len(), shelf.newest.len(), shelf.bytes);
        assert_eq!(left, (0, 0, 0, 0));
    }
}
