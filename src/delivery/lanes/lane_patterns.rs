//! The patterns of a lane: topics by their names' ids, wildcards by their texts.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::delivery::lanes::names::{NameId, Names};
use crate::words::topic::Pattern;

/// Lanes of one shard with the same patterns have equal ones. A copy shares the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanePatterns {
    /// Sorted, without repeats.
    names: Arc<[NameId]>,
    /// Sorted, without repeats.
    wildcards: Arc<[Pattern]>,
    /// The sum of `Names::mixed`: so the hash of a long list costs no more than that of its change.
    mixed: u64,
    totals: PatternTotals,
}

/// What the limits of a session bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatternTotals {
    pub patterns: usize,
    pub wildcards: usize,
    /// Of the texts, and of the wildcards' among them.
    pub bytes: usize,
    pub wildcard_bytes: usize,
    /// Topics that the feed may be asked for; 0 without `upstream.demand`.
    pub wanted: usize,
}

/// A topic more or less on a lane, in bytes of a message that are as costly to read.
pub const PATTERN_WORK: usize = 160;

/// Patterns that a session is to have, or not to have any more. Nothing is in it that changes nothing, and nothing twice.
#[derive(Debug, Default)]
pub struct PatternChange {
    /// Sorted, as all of these.
    pub added: Vec<NameId>,
    pub removed: Vec<NameId>,
    /// Topics that no lane of the shard names yet.
    pub fresh: Vec<Pattern>,
    pub added_wildcards: Vec<Pattern>,
    pub removed_wildcards: Vec<Pattern>,
    /// Of all patterns that are in force after it.
    pub totals: PatternTotals,
}

impl LanePatterns {
    pub fn names(&self) -> &Arc<[NameId]> {
        &self.names
    }

    pub fn wildcards(&self) -> &[Pattern] {
        &self.wildcards
    }

    pub fn totals(&self) -> PatternTotals {
        self.totals
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.wildcards.is_empty()
    }

    pub fn has_name(&self, name: NameId) -> bool {
        self.names.binary_search(&name).is_ok()
    }

    /// The patterns after the change, which has no fresh topics any more.
    pub fn changed(&self, change: &PatternChange, names: &Names) -> LanePatterns {
        let mixed = |ids: &[NameId]| ids.iter().fold(0, |sum: u64, id| sum.wrapping_add(names.mixed(*id)));
        LanePatterns {
            names: merged(&self.names, &change.added, &change.removed),
            wildcards: merged(&self.wildcards, &change.added_wildcards, &change.removed_wildcards),
            mixed: self.mixed.wrapping_add(mixed(&change.added)).wrapping_sub(mixed(&change.removed)),
            totals: change.totals,
        }
    }
}

impl PatternTotals {
    /// The approximate memory of a lane with these patterns, without its seats on topics, and without the names, which
    /// all lanes share. Measured (docs/operations/memory.md): 2330 bytes with 100 topics, 13 for each of them.
    pub fn lane_bytes(&self) -> usize {
        const LANE_BYTES: usize = 1024;
        const WILDCARD_BYTES: usize = 160;
        LANE_BYTES + WILDCARD_BYTES * self.wildcards + 2 * self.wildcard_bytes
    }

    pub(super) fn add(&mut self, topic: &str, is_wanted: bool) {
        self.patterns += 1;
        self.bytes += topic.len();
        self.wanted += usize::from(is_wanted);
    }

    pub(super) fn remove(&mut self, topic: &str, is_wanted: bool) {
        self.patterns -= 1;
        self.bytes -= topic.len();
        self.wanted -= usize::from(is_wanted);
    }

    pub(super) fn add_wildcard(&mut self, wildcard: &str) {
        self.add(wildcard, false);
        self.wildcards += 1;
        self.wildcard_bytes += wildcard.len();
    }

    pub(super) fn remove_wildcard(&mut self, wildcard: &str) {
        self.remove(wildcard, false);
        self.wildcards -= 1;
        self.wildcard_bytes -= wildcard.len();
    }
}

impl Hash for LanePatterns {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mixed.hash(state);
        self.wildcards.hash(state);
    }
}

impl PatternChange {
    /// What it costs to change a lane so, in bytes of a message that are as costly to read.
    pub fn work(&self) -> usize {
        PATTERN_WORK * self.names()
    }

    pub fn is_empty(&self) -> bool {
        self.names() == 0 && self.added_wildcards.is_empty() && self.removed_wildcards.is_empty()
    }

    /// Topics that come or go.
    pub fn names(&self) -> usize {
        self.added.len() + self.fresh.len() + self.removed.len()
    }
}

/// A sorted list after others were added, which it does not have, and some removed, which it has.
fn merged<T: Ord + Clone>(list: &Arc<[T]>, added: &[T], removed: &[T]) -> Arc<[T]> {
    if added.is_empty() && removed.is_empty() {
        return list.clone();
    }
    let mut merged = Vec::with_capacity(list.len() + added.len() - removed.len());
    let (mut rest, mut changes) = (&list[..], (added, removed));
    // The parts between two changes are copied as a whole.
    loop {
        let (add, remove) = (changes.0.first(), changes.1.first());
        let adds = add.filter(|add| remove.is_none_or(|remove| *add < remove));
        let Some(next) = adds.or(remove) else { break };
        let (before, behind) = rest.split_at(rest.partition_point(|item| item < next));
        merged.extend_from_slice(before);
        if adds.is_some() {
            merged.push(next.clone());
            (rest, changes.0) = (behind, &changes.0[1..]);
        } else {
            (rest, changes.1) = (&behind[1..], &changes.1[1..]);
        }
    }
    merged.extend_from_slice(rest);
    merged.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn a_list_after_a_change_is_what_a_set_would_hold() {
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..2000 {
            let old: BTreeSet<u8> = (0..rng.random_range(0..20)).map(|_| rng.random_range(0..30)).collect();
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            for item in 0..30 {
                match (rng.random_bool(0.2), old.contains(&item)) {
                    (true, true) => removed.push(item),
                    (true, false) => added.push(item),
                    (false, _) => {}
                }
            }
            let list: Arc<[u8]> = old.iter().copied().collect();
            let expected = old.iter().filter(|item| !removed.contains(item)).chain(&added);
            let expected: BTreeSet<u8> = expected.copied().collect();
            assert_eq!(*merged(&list, &added, &removed), *expected.into_iter().collect::<Vec<u8>>());
        }
    }
}
