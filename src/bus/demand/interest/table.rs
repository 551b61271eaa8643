//! The table behind [`Interest`](crate::bus::demand::interest::Interest): who wants what, what of it the intake knows, what was said of it.
//!
//! Each of its steps leaves it whole. Nothing is remembered of a topic that nobody wants and of which the intake knows that.

use std::collections::{BTreeMap, HashMap};

use crate::bus::demand::interest::{DemandStatus, InterestChange};

/// Sayings that are told in one go: copying them takes less than a millisecond.
const SAID_MAX: usize = 1024;

/// At most twice as many entries as topics may be wanted: those that are, and those that were and of which the intake
/// was not told otherwise yet.
#[derive(Default)]
pub(super) struct Table {
    topics: HashMap<Box<str>, Want>,
    /// Topics with a claim.
    wanted: usize,
    /// Topics of which the intake was told otherwise than is so, in the order in which that became so: nobody's wishes
    /// wait for later ones of others.
    fresh: BTreeMap<u64, Box<str>>,
    gone: BTreeMap<u64, Box<str>>,
    /// Number of the last that came into one of these two.
    turn: u64,
    /// Topics that something was said of, by the version of that.
    sayings: BTreeMap<u64, Box<str>>,
    version: u64,
}

#[derive(Default)]
struct Want {
    claims: u32,
    /// The intake was told that the topic is wanted.
    told: bool,
    /// Its place in `fresh` or `gone`.
    turn: u64,
    said: Option<(u64, DemandStatus)>,
}

impl Table {
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    pub fn is_wanted(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|want| want.claims > 0)
    }

    pub fn all_wanted(&self) -> impl Iterator<Item = &Box<str>> {
        self.topics.iter().filter(|(_, want)| want.claims > 0).map(|(topic, _)| topic)
    }

    pub fn has_news(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    /// Entries, whatever they are for.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn take(&mut self, topic: &str) {
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

    pub fn give_back(&mut self, topic: &str) {
        let want = self.topics.get_mut(topic).expect("a claim gives back what it took");
        want.claims -= 1;
        if want.claims == 0 {
            self.wanted -= 1;
            self.compare(topic);
        }
    }

    /// Keeps the topic among the news if it is otherwise than the intake was told.
    fn compare(&mut self, topic: &str) {
        let Some(want) = self.topics.get_mut(topic) else { return };
        self.fresh.remove(&want.turn);
        self.gone.remove(&want.turn);
        let is_wanted = want.claims > 0;
        if is_wanted != want.told {
            self.turn += 1;
            want.turn = self.turn;
            let news = if is_wanted { &mut self.fresh } else { &mut self.gone };
            news.insert(self.turn, topic.into());
        } else if !is_wanted {
            self.forget(topic);
        }
    }

    fn forget(&mut self, topic: &str) {
        self.unsay(topic);
        self.topics.remove(topic);
    }

    /// Those that are wanted no more, and of those that are wanted now so many; the intake knows of them from now on.
    pub fn drain(&mut self, fresh_max: usize) -> Vec<InterestChange> {
        let mut changes = Vec::new();
        for topic in std::mem::take(&mut self.gone).into_values() {
            self.forget(&topic);
            changes.push(InterestChange { topic, wanted: false });
        }
        for _ in 0..fresh_max {
            let Some((_, topic)) = self.fresh.pop_first() else { break };
            if let Some(want) = self.topics.get_mut(&topic) {
                want.told = true;
            }
            changes.push(InterestChange { topic, wanted: true });
        }
        changes
    }

    /// Remembers what is said of a topic, if someone wants it, as far as the intake knows; gives the version that this has.
    pub fn say(&mut self, topic: &str, saying: DemandStatus) -> Option<u64> {
        let want = self.topics.get_mut(topic)?;
        self.version += 1;
        if let Some((before, _)) = want.said.replace((self.version, saying)) {
            self.sayings.remove(&before);
        }
        self.sayings.insert(self.version, topic.into());
        Some(self.version)
    }

    /// Forgets what was said of a topic. Whether anything was.
    pub fn unsay(&mut self, topic: &str) -> bool {
        let said = self.topics.get_mut(topic).and_then(|want| want.said.take());
        said.is_some_and(|(version, _)| self.sayings.remove(&version).is_some())
    }

    pub fn saying(&self, topic: &str) -> Option<&(u64, DemandStatus)> {
        self.topics.get(topic)?.said.as_ref()
    }

    /// What was said after this version, oldest first, and the version of the last; not more than is told in a turn.
    pub fn said_after(&self, version: u64) -> (u64, Vec<(Box<str>, DemandStatus)>) {
        let news = self.sayings.range(version + 1..).take(SAID_MAX);
        let last = news.clone().last().map(|(version, _)| *version);
        let told = news.filter_map(|(_, topic)| Some((topic.clone(), self.saying(topic)?.1.clone())));
        let told: Vec<(Box<str>, DemandStatus)> = told.collect();
        (last.filter(|_| told.len() == SAID_MAX).unwrap_or(self.version), told)
    }
}
