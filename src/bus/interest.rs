//! Which exact topics clients want: delivery claims and gives back, the intake waits for changes and drains them.
//!
//! A claim is held by a lane, the sessions of one shard with the same patterns, so that thousands of clients on the
//! same topics count once per shard. It gives back what it took when it is dropped, exactly once. Wildcards claim
//! nothing: nobody knows which topics the upstream would have for them. There is no linger here; how long a topic is
//! still asked for after nobody wants it is the intake's business.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::Notify;

use crate::words::metrics::{self as names, Meters};
use crate::words::topic::Pattern;

/// Counted over all shards. One lock guards it; it is taken when a lane with exact topics opens or closes.
pub struct Interest {
    /// Topics that may be wanted at a time; a claim beyond is refused.
    topics_max: usize,
    table: Mutex<Table>,
    /// There is something to drain.
    news: Notify,
    wanted: Gauge,
}

/// What became of a topic since the last drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub topic: Box<str>,
    /// Someone wants it now; if not, nobody does any more.
    pub wanted: bool,
}

/// Interest in the exact ones of some patterns, held until it is dropped.
pub struct Claim {
    interest: Arc<Interest>,
    patterns: Arc<[Pattern]>,
}

/// A claim was refused, because too many topics are wanted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTopics {
    pub max: usize,
}

/// At most twice `topics_max` entries: those that are wanted, and those that were and of which the intake knows.
#[derive(Default)]
struct Table {
    topics: HashMap<Box<str>, Want>,
    /// Topics with a claim.
    wanted: usize,
    /// Topics of which the intake was told otherwise than is so.
    news: BTreeSet<Box<str>>,
}

struct Want {
    claims: u32,
    /// The intake was told that the topic is wanted.
    told: bool,
}

impl Interest {
    pub fn new(topics_max: usize, meters: &Meters) -> Arc<Interest> {
        let wanted = meters.gauge(&names::WANTED_TOPICS, &[]);
        Arc::new(Interest { topics_max, table: Mutex::default(), news: Notify::new(), wanted })
    }

    /// Wants the exact ones of `patterns`, all or none; they must be without repeats.
    pub fn claim(self: &Arc<Interest>, patterns: Arc<[Pattern]>) -> Result<Claim, TooManyTopics> {
        let mut table = self.table();
        let fresh = exact(&patterns).filter(|topic| table.topics.get(*topic).is_none_or(|want| want.claims == 0));
        if table.wanted + fresh.count() > self.topics_max {
            return Err(TooManyTopics { max: self.topics_max });
        }
        for topic in exact(&patterns) {
            table.take(topic);
        }
        self.tell(table);
        Ok(Claim { interest: self.clone(), patterns })
    }

    /// Waits until there is something to drain; at once if there is. For one caller at a time.
    pub async fn changed(&self) {
        while self.table().news.is_empty() {
            self.news.notified().await;
        }
    }

    /// The topics that are wanted or not wanted otherwise than at the last drain, by name. What came and went in
    /// between is not among them.
    pub fn drain(&self) -> Vec<Change> {
        self.table().drain()
    }

    /// All topics that are wanted now, in no order, whether they were drained or not.
    pub fn wanted(&self) -> Vec<Box<str>> {
        let table = self.table();
        table.topics.iter().filter(|(_, want)| want.claims > 0).map(|(topic, _)| topic.clone()).collect()
    }

    fn tell(&self, table: MutexGuard<'_, Table>) {
        self.wanted.set(table.wanted as f64);
        if !table.news.is_empty() {
            self.news.notify_one();
        }
    }

    /// Whoever panicked with the lock held has left the table whole: each of its steps is.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("topics_max", &self.topics_max).finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.interest.table();
        for topic in exact(&self.patterns) {
            table.give_back(topic);
        }
        self.interest.tell(table);
    }
}

impl Table {
    fn take(&mut self, topic: &str) {
        if let Some(want) = self.topics.get_mut(topic) {
            want.claims += 1;
            if want.claims > 1 {
                return;
            }
        } else {
            self.topics.insert(topic.into(), Want { claims: 1, told: false });
        }
        self.wanted += 1;
        self.compare(topic);
    }

    fn give_back(&mut self, topic: &str) {
        let want = self.topics.get_mut(topic).expect("a claim gives back what it took");
        want.claims -= 1;
        if want.claims == 0 {
            self.wanted -= 1;
            self.compare(topic);
        }
    }

    /// Keeps the topic among the news if it is otherwise than the intake was told.
    fn compare(&mut self, topic: &str) {
        let Some(want) = self.topics.get(topic) else { return };
        if (want.claims > 0) != want.told {
            self.news.insert(topic.into());
            return;
        }
        self.news.remove(topic);
        if want.claims == 0 {
            self.topics.remove(topic);
        }
    }

    fn drain(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for topic in std::mem::take(&mut self.news) {
            let Some(want) = self.topics.get_mut(&topic) else { continue };
            let wanted = want.claims > 0;
            want.told = wanted;
            if !wanted {
                self.topics.remove(&topic);
            }
            changes.push(Change { topic, wanted });
        }
        changes
    }
}

fn exact(patterns: &[Pattern]) -> impl Iterator<Item = &str> {
    patterns.iter().filter(|pattern| pattern.is_exact()).map(Pattern::as_str)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn patterns(texts: &[&str]) -> Arc<[Pattern]> {
        texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
    }

    fn open(topics_max: usize) -> Arc<Interest> {
        Interest::new(topics_max, &Meters::unread())
    }

    fn drained(interest: &Interest) -> Vec<(String, bool)> {
        interest.drain().into_iter().map(|change| (change.topic.into(), change.wanted)).collect()
    }

    #[test]
    fn a_topic_is_wanted_from_the_first_claim_to_the_last() {
        let interest = open(10);
        let first = interest.claim(patterns(&["a", "b.*", "c"])).expect("room");
        let second = interest.claim(patterns(&["a"])).expect("room");
        assert_eq!(drained(&interest), [("a".to_string(), true), ("c".to_string(), true)]);
        drop(first);
        assert_eq!(drained(&interest), [("c".to_string(), false)]);
        assert_eq!(interest.wanted(), [Box::from("a")]);
        drop(second);
        assert_eq!(drained(&interest), [("a".to_string(), false)]);
        assert!(interest.table().topics.is_empty(), "nothing is remembered of what nobody wants");
    }

    #[test]
    fn what_came_and_went_between_two_drains_is_no_change() {
        let interest = open(10);
        drop(interest.claim(patterns(&["a"])));
        assert!(interest.drain().is_empty());
        assert!(interest.changed().now_or_never().is_none());
        let kept = interest.claim(patterns(&["a"])).expect("room");
        assert!(interest.changed().now_or_never().is_some(), "it is awaited as long as it is not drained");
        assert!(interest.changed().now_or_never().is_some());
        interest.drain();
        let again = interest.claim(patterns(&["a", "b"])).expect("room");
        drop((kept, again));
        let _back = interest.claim(patterns(&["a"])).expect("room");
        assert!(interest.drain().is_empty());
    }

    #[test]
    fn a_claim_beyond_the_limit_takes_nothing() {
        let interest = open(2);
        let held = interest.claim(patterns(&["a"])).expect("room");
        assert_eq!(interest.claim(patterns(&["a", "b", "c"])).err(), Some(TooManyTopics { max: 2 }));
        assert_eq!(interest.wanted(), [Box::from("a")]);
        let _both = interest.claim(patterns(&["a", "b", "x.>"])).expect("only exact topics count");
        drop(held);
        assert_eq!(interest.wanted().len(), 2);
    }

    #[test]
    fn the_drains_always_add_up_to_what_is_wanted() {
        let mut rng = StdRng::seed_from_u64(7);
        let interest = open(20);
        let names: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
        let mut claims: Vec<Claim> = Vec::new();
        let mut told = BTreeSet::new();
        for _ in 0..20_000 {
            match rng.random_range(0..10) {
                0..=4 => {
                    let mut some: Vec<&str> = names.iter().filter(|_| rng.random_bool(0.1)).map(|n| &**n).collect();
                    some.push("w.*");
                    claims.extend(interest.claim(patterns(&some)));
                }
                5..=8 if !claims.is_empty() => drop(claims.swap_remove(rng.random_range(0..claims.len()))),
                _ => {
                    for Change { topic, wanted } in interest.drain() {
                        assert!(if wanted { told.insert(topic) } else { told.remove(&topic) }, "news only");
                    }
                    let wanted: BTreeSet<Box<str>> = interest.wanted().into_iter().collect();
                    assert_eq!(told, wanted);
                    let held = claims.iter().flat_map(|claim| exact(&claim.patterns)).map(Box::from);
                    assert_eq!(wanted, held.collect());
                }
            }
            assert!(interest.table().topics.len() <= 40, "at most twice the limit is remembered");
        }
    }
}
