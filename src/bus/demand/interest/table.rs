//! The table behind [`Interest`](crate::bus::demand::interest::Interest): what clients want, what of it the intake
//! knows, and its status.
//!
//! Each of its steps leaves it whole. A topic is forgotten when no client wants it and the intake knows that.

use std::collections::{BTreeMap, HashMap};

use crate::bus::demand::interest::{DemandStatus, InterestChange};

/// Statuses that are copied in one go: that takes less than a millisecond.
const STATUSES_MAX: usize = 1024;

/// At most twice as many entries as topics may be wanted: those that are wanted, and those that were and of which the
/// intake does not know yet.
#[derive(Default)]
pub(super) struct Table {
    topics: HashMap<Box<str>, Want>,
    /// Topics with a claim.
    wanted: usize,
    /// Topics whose demand the intake does not know yet, in the order of their changes: no client waits for later ones.
    fresh: BTreeMap<u64, Box<str>>,
    gone: BTreeMap<u64, Box<str>>,
    /// Number of the last entry in either of these two.
    turn: u64,
    /// Topics with a status, by its version.
    statuses: BTreeMap<u64, Box<str>>,
    version: u64,
}

#[derive(Default)]
struct Want {
    claims: u32,
    /// The intake knows that the topic is wanted.
    known: bool,
    /// Its place in `fresh` or `gone`.
    turn: u64,
    status: Option<(u64, DemandStatus)>,
}

impl Table {
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn is_wanted(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|want| want.claims > 0)
    }

    pub(super) fn all_wanted(&self) -> impl Iterator<Item = &Box<str>> {
        self.topics.iter().filter(|(_, want)| want.claims > 0).map(|(topic, _)| topic)
    }

    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    /// Entries, whatever they are for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn take(&mut self, topic: &str) {
        if let Some(want) = self.topics.get_mut(topic) {
            want.claims += 1;
            if want.claims > 1 {
                return;
            }
        } else {
            self.topics.insert(topic.into(), Want { claims: 1, ..Want::default() });
        }
        self.wanted += 1;
        self.compare(topic);
    }

    pub(super) fn give_back(&mut self, topic: &str) {
        let want = self.topics.get_mut(topic).expect("a claim gives back what it took");
        want.claims -= 1;
        if want.claims == 0 {
            self.wanted -= 1;
            self.compare(topic);
        }
    }

    /// Keeps the topic among the news if it is otherwise than the intake knows.
    fn compare(&mut self, topic: &str) {
        let Some(want) = self.topics.get_mut(topic) else { return };
        self.fresh.remove(&want.turn);
        self.gone.remove(&want.turn);
        let is_wanted = want.claims > 0;
        if is_wanted != want.known {
            self.turn += 1;
            want.turn = self.turn;
            let news = if is_wanted { &mut self.fresh } else { &mut self.gone };
            news.insert(self.turn, topic.into());
        } else if !is_wanted {
            self.forget(topic);
        }
    }

    /// The intake knows nothing any more: all that is wanted is news.
    pub(super) fn start_over(&mut self) {
        let topics: Vec<Box<str>> = self.topics.keys().cloned().collect();
        for topic in topics {
            if let Some(want) = self.topics.get_mut(&topic) {
                want.known = false;
            }
            self.compare(&topic);
        }
    }

    fn forget(&mut self, topic: &str) {
        self.clear_status(topic);
        self.topics.remove(topic);
    }

    /// All that are no longer wanted, and at most `fresh_max` of those that are wanted now; the intake knows of them
    /// from now on.
    pub(super) fn drain(&mut self, fresh_max: usize) -> Vec<InterestChange> {
        let mut changes = Vec::new();
        for topic in std::mem::take(&mut self.gone).into_values() {
            self.forget(&topic);
            changes.push(InterestChange { topic, wanted: false });
        }
        for _ in 0..fresh_max {
            let Some((_, topic)) = self.fresh.pop_first() else { break };
            if let Some(want) = self.topics.get_mut(&topic) {
                want.known = true;
            }
            changes.push(InterestChange { topic, wanted: true });
        }
        changes
    }

    /// Remembers the status of a topic, if a client wants it, as far as the intake knows; returns its version.
    pub(super) fn set_status(&mut self, topic: &str, status: DemandStatus) -> Option<u64> {
        let want = self.topics.get_mut(topic)?;
        self.version += 1;
        if let Some((before, _)) = want.status.replace((self.version, status)) {
            self.statuses.remove(&before);
        }
        self.statuses.insert(self.version, topic.into());
        Some(self.version)
    }

    /// Forgets the status of a topic. Whether it had one.
    pub(super) fn clear_status(&mut self, topic: &str) -> bool {
        let status = self.topics.get_mut(topic).and_then(|want| want.status.take());
        status.is_some_and(|(version, _)| self.statuses.remove(&version).is_some())
    }

    pub(super) fn status(&self, topic: &str) -> Option<&(u64, DemandStatus)> {
        self.topics.get(topic)?.status.as_ref()
    }

    /// The statuses after this version, oldest first, and the version of the last; at most `STATUSES_MAX`.
    pub(super) fn statuses_after(&self, version: u64) -> (u64, Vec<(Box<str>, DemandStatus)>) {
        let news = self.statuses.range(version + 1..).take(STATUSES_MAX);
        let last = news.clone().last().map(|(version, _)| *version);
        let statuses = news.filter_map(|(_, topic)| Some((topic.clone(), self.status(topic)?.1.clone())));
        let statuses: Vec<(Box<str>, DemandStatus)> = statuses.collect();
        (last.filter(|_| statuses.len() == STATUSES_MAX).unwrap_or(self.version), statuses)
    }
}
