//! Which exact topics clients want: delivery claims and gives back, the intake waits for changes and drains them.
//!
//! A claim is held by a shard for one topic that its clients name, so that thousands of clients on the same topics count
//! once per shard. It gives back what it took when it is dropped, exactly once. Wildcards claim nothing: which topics
//! the feed would have for them is unknown. There is no linger here: how long a topic stays
//! subscribed without a client is decided by the intake.
//!
//! The status of a topic that never had a message goes back the same way, to the clients that wait for it: names that
//! clients invent never become topics. It is remembered as long as a client wants the topic.

mod table;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::Notify;

use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::topic::Pattern;

use crate::bus::demand::interest::table::Table;

/// Counted over all shards. One lock guards it; it is taken when a shard's clients begin or cease to name a topic, and ten
/// times a second where a status is new.
pub struct Interest {
    bounds: InterestBounds,
    table: Mutex<Table>,
    /// Exact topics of each address' sessions, where that is bounded.
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// There is something to drain.
    news: Notify,
    /// Version of the newest status. Stored under the table's lock after the status is in it, loaded by shards without.
    status_version: AtomicU64,
    wanted: Gauge,
}

/// What clients may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestBounds {
    /// Topics at a time, of all clients; a claim beyond is refused.
    pub topics_max: usize,
    /// Exact topics of one session.
    pub per_session_max: usize,
    /// Exact topics of all sessions of one address; none: no bound.
    pub per_address_max: Option<usize>,
    /// The feed is asked for topics that one of these matches, and for no others.
    pub allowed: Vec<Pattern>,
}

/// What became of a topic since the last drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestChange {
    pub topic: Box<str>,
    /// A client wants it now; if not, none does any more.
    pub wanted: bool,
}

/// What clients receive that wait for a topic without a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemandStatus {
    /// The feed refuses it, or has not answered.
    Refused { message: String },
    /// The feed was asked for it at that time, in milliseconds since the Unix epoch, and has sent nothing.
    NothingYet { since_ms: u64, message: String },
}

/// Interest in one topic, held until it is dropped.
pub struct Claim {
    interest: Arc<Interest>,
    topic: Arc<str>,
}

/// Exact topics of one session, counted for its address until this is dropped.
pub struct AddressShare {
    interest: Arc<Interest>,
    address: IpAddr,
    count: usize,
}

/// A claim was refused, because too many topics are wanted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTopics {
    pub max: usize,
}

impl InterestBounds {
    /// This many topics, whichever clients want them.
    pub fn of(topics_max: usize) -> InterestBounds {
        let all = Pattern::parse(">").expect("a pattern");
        InterestBounds { topics_max, per_session_max: usize::MAX, per_address_max: None, allowed: vec![all] }
    }
}

impl Interest {
    /// Without any other bound than this one.
    pub fn new(topics_max: usize, meters: &Meters) -> Arc<Interest> {
        Interest::within(InterestBounds::of(topics_max), meters)
    }

    pub fn within(bounds: InterestBounds, meters: &Meters) -> Arc<Interest> {
        Arc::new(Interest {
            bounds,
            table: Mutex::default(),
            addresses: Mutex::default(),
            news: Notify::new(),
            status_version: AtomicU64::new(0),
            wanted: meters.gauge(&names::WANTED_TOPICS, &[]),
        })
    }

    pub fn bounds(&self) -> &InterestBounds {
        &self.bounds
    }

    /// Whether the feed is asked for the topic if a client wants it.
    pub fn allows(&self, topic: &str) -> bool {
        self.bounds.allowed.iter().any(|pattern| pattern.matches(topic))
    }

    /// Wants those of the topics that may be asked for, all or none; they must be without repeats. Gives a claim for each
    /// of these, and none for the others.
    pub fn claim(self: &Arc<Interest>, topics: &[Arc<str>]) -> Result<Vec<Option<Claim>>, TooManyTopics> {
        let allowed: Vec<Option<&Arc<str>>> =
            topics.iter().map(|topic| Some(topic).filter(|topic| self.allows(topic))).collect();
        let mut table = self.table();
        let fresh = allowed.iter().flatten().filter(|topic| !table.is_wanted(topic));
        if table.wanted() + fresh.count() > self.bounds.topics_max {
            return Err(TooManyTopics { max: self.bounds.topics_max });
        }
        allowed.iter().flatten().for_each(|topic| table.take(topic));
        self.notify(table);
        let claim = |topic: &Arc<str>| Claim { interest: self.clone(), topic: topic.clone() };
        Ok(allowed.into_iter().map(|topic| topic.map(claim)).collect())
    }

    /// The share of a session of this address, where that is bounded.
    pub fn share(self: &Arc<Interest>, address: IpAddr) -> Option<AddressShare> {
        self.bounds.per_address_max.map(|_| AddressShare { interest: self.clone(), address, count: 0 })
    }

    /// Waits until there is something to drain; at once if there is. For one caller at a time.
    pub async fn changed(&self) {
        while !self.table().has_news() {
            self.news.notified().await;
        }
    }

    /// The topics whose demand changed since the last drain, first come, first served; at most `fresh_max` of those
    /// that are wanted now. What changed twice in between is not among them.
    pub fn drain(&self, fresh_max: usize) -> Vec<InterestChange> {
        self.table().drain(fresh_max)
    }

    /// Another intake begins, which knows of no topic: all that is wanted is drained again.
    pub fn start_over(&self) {
        let mut table = self.table();
        table.start_over();
        self.notify(table);
    }

    /// Whether a client wants the topic by its name.
    pub fn is_wanted(&self, topic: &str) -> bool {
        self.table().is_wanted(topic)
    }

    /// All topics that are wanted now, in no order, whether they were drained or not.
    pub fn wanted(&self) -> Vec<Box<str>> {
        self.table().all_wanted().cloned().collect()
    }

    /// Sets the status of a topic, for the clients that want it.
    pub fn set_status(&self, topic: &str, status: DemandStatus) {
        let mut table = self.table();
        if let Some(version) = table.set_status(topic, status) {
            self.status_version.store(version, Ordering::Release);
        }
    }

    /// Data of the topic have arrived: its status does not hold any more. Whether it had one.
    pub fn clear_status(&self, topic: &str) -> bool {
        self.table().clear_status(topic)
    }

    /// Version of the newest status.
    pub fn status_version(&self) -> u64 {
        self.status_version.load(Ordering::Acquire)
    }

    /// The statuses after this version, oldest first, and the version of the last; not all at once, if there are many.
    pub fn statuses_after(&self, version: u64) -> (u64, Vec<(Box<str>, DemandStatus)>) {
        self.table().statuses_after(version)
    }

    /// The statuses of these topics up to this version.
    pub fn statuses_of<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
        version: u64,
    ) -> Vec<(&'t str, Option<DemandStatus>)> {
        let table = self.table();
        let status = |topic: &str| {
            let status = table.status(topic).filter(|(its, _)| *its <= version);
            status.map(|(_, status)| status.clone())
        };
        topics.map(|topic| (topic, status(topic))).collect()
    }

    fn notify(&self, table: MutexGuard<'_, Table>) {
        self.wanted.set(table.wanted() as f64);
        if table.has_news() {
            self.news.notify_one();
        }
    }

    /// Every step leaves the table consistent, so a poisoned lock still guards a valid one.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.interest.table();
        table.give_back(&self.topic);
        self.interest.notify(table);
    }
}

impl AddressShare {
    pub fn count(&self) -> usize {
        self.count
    }

    /// The session has this many exact topics now. The error: with them its address has too many, and nothing has changed.
    pub fn set(&mut self, count: usize) -> Result<(), TooManyTopics> {
        let mut addresses = self.interest.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let others = addresses.get(&self.address).copied().unwrap_or_default() - self.count;
        let max = self.interest.bounds.per_address_max.unwrap_or(usize::MAX);
        if count > self.count && others + count > max {
            return Err(TooManyTopics { max });
        }
        match others + count {
            0 => addresses.remove(&self.address),
            sum => addresses.insert(self.address, sum),
        };
        self.count = count;
        Ok(())
    }
}

impl Drop for AddressShare {
    fn drop(&mut self) {
        self.set(0).expect("nothing is never too much");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn topics(texts: &[&str]) -> Vec<Arc<str>> {
        texts.iter().map(|text| Arc::from(*text)).collect()
    }

    fn open(topics_max: usize) -> Arc<Interest> {
        Interest::new(topics_max, &Meters::unread())
    }

    fn drained(interest: &Interest) -> Vec<(String, bool)> {
        interest.drain(usize::MAX).into_iter().map(|change| (change.topic.into(), change.wanted)).collect()
    }

    #[test]
    fn a_topic_is_wanted_from_the_first_claim_to_the_last() {
        let interest = open(10);
        let first = interest.claim(&topics(&["a", "c"])).expect("room");
        let second = interest.claim(&topics(&["a"])).expect("room");
        assert_eq!(drained(&interest), [("a".to_string(), true), ("c".to_string(), true)]);
        drop(first);
        assert_eq!(drained(&interest), [("c".to_string(), false)]);
        assert_eq!(interest.wanted(), [Box::from("a")]);
        drop(second);
        assert_eq!(drained(&interest), [("a".to_string(), false)]);
        assert!(interest.table().len() == 0, "nothing is remembered of what nobody wants");
    }

    #[test]
    fn what_came_and_went_between_two_drains_is_no_change() {
        let interest = open(10);
        drop(interest.claim(&topics(&["a"])));
        assert!(interest.drain(usize::MAX).is_empty());
        assert!(interest.changed().now_or_never().is_none());
        let kept = interest.claim(&topics(&["a"])).expect("room");
        assert!(interest.changed().now_or_never().is_some(), "it is awaited as long as it is not drained");
        assert!(interest.changed().now_or_never().is_some());
        interest.drain(usize::MAX);
        let again = interest.claim(&topics(&["a", "b"])).expect("room");
        drop((kept, again));
        let _back = interest.claim(&topics(&["a"])).expect("room");
        assert!(interest.drain(usize::MAX).is_empty());
    }

    #[test]
    fn a_claim_beyond_the_limit_takes_nothing() {
        let interest = open(2);
        let held = interest.claim(&topics(&["a"])).expect("room");
        assert_eq!(interest.claim(&topics(&["a", "b", "c"])).err(), Some(TooManyTopics { max: 2 }));
        assert_eq!(interest.wanted(), [Box::from("a")]);
        let _both = interest.claim(&topics(&["a", "b"])).expect("room");
        drop(held);
        assert_eq!(interest.wanted().len(), 2);
    }

    #[test]
    fn a_claim_that_is_given_back_makes_room() {
        let interest = open(1);
        drop(interest.claim(&topics(&["a"])).expect("room"));
        assert!(interest.claim(&topics(&["b"])).is_ok(), "nobody wants `a` any more");
    }

    #[test]
    fn the_drains_always_add_up_to_what_is_wanted() {
        let mut rng = StdRng::seed_from_u64(7);
        let interest = open(20);
        let names: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
        let mut claims: Vec<Vec<Option<Claim>>> = Vec::new();
        let mut told = BTreeSet::new();
        for _ in 0..20_000 {
            match rng.random_range(0..10) {
                0..=4 => {
                    let some: Vec<&str> = names.iter().filter(|_| rng.random_bool(0.1)).map(|n| &**n).collect();
                    claims.extend(interest.claim(&topics(&some)));
                }
                5..=8 if !claims.is_empty() => drop(claims.swap_remove(rng.random_range(0..claims.len()))),
                _ => {
                    if rng.random_bool(0.1) {
                        interest.start_over();
                        told.clear();
                    }
                    for InterestChange { topic, wanted } in interest.drain(usize::MAX) {
                        assert!(if wanted { told.insert(topic) } else { told.remove(&topic) }, "news only");
                    }
                    let wanted: BTreeSet<Box<str>> = interest.wanted().into_iter().collect();
                    assert_eq!(told, wanted);
                    let held = claims.iter().flatten().flatten().map(|claim| Box::from(&*claim.topic));
                    assert_eq!(wanted, held.collect());
                }
            }
            assert!(interest.table().len() <= 40, "at most twice the limit is remembered");
        }
    }

    #[test]
    fn topics_are_drained_in_their_order_and_what_is_given_back_at_once() {
        let interest = open(100);
        let first: Vec<Vec<Option<Claim>>> =
            ["z", "y", "x"].map(|topic| interest.claim(&topics(&[topic])).expect("room")).into();
        let _last = interest.claim(&topics(&["a"])).expect("room");
        let drained = |max| {
            let changes = interest.drain(max).into_iter();
            changes
                .map(|change| format!("{}{}", if change.wanted { "+" } else { "-" }, change.topic))
                .collect::<Vec<_>>()
        };
        assert_eq!(drained(2), ["+z", "+y"]);
        drop(first);
        assert_eq!(drained(0), ["-z", "-y"], "x was never known");
        assert_eq!(drained(2), ["+a"]);
        assert!(interest.changed().now_or_never().is_none());
    }

    #[test]
    fn a_status_is_for_clients_that_want_the_topic_and_as_long_as_they_do() {
        let interest = open(10);
        let refused = |message: &str| DemandStatus::Refused { message: message.to_string() };
        interest.set_status("a", refused("nobody asked"));
        assert_eq!(interest.status_version(), 0);
        let claim = interest.claim(&topics(&["a", "b"])).expect("room");
        interest.set_status("a", refused("no"));
        interest.set_status("b", refused("no"));
        interest.set_status("a", refused("still no"));
        let (version, statuses) = interest.statuses_after(0);
        assert_eq!((version, interest.status_version()), (3, 3));
        assert_eq!(statuses, [("b".into(), refused("no")), ("a".into(), refused("still no"))]);
        assert_eq!(interest.statuses_after(2).1.len(), 1);
        let known: Vec<bool> =
            interest.statuses_of(["a", "b"].into_iter(), 2).into_iter().map(|(_, status)| status.is_some()).collect();
        assert_eq!(known, [false, true], "what is newer comes as news");
        assert!(interest.clear_status("b") && !interest.clear_status("b"));
        drop(claim);
        interest.drain(usize::MAX);
        assert_eq!((interest.statuses_after(0).1.len(), interest.table().len()), (0, 0));
    }

    #[test]
    fn topics_that_are_not_allowed_are_not_claimed() {
        let allowed = vec![Pattern::parse("chat.*").expect("a pattern")];
        let interest = Interest::within(InterestBounds { allowed, ..InterestBounds::of(1) }, &Meters::unread());
        let claim = interest.claim(&topics(&["chat.rust", "orders", "secrets"])).expect("only one counts");
        assert_eq!(drained(&interest), [("chat.rust".to_string(), true)]);
        drop(claim);
        assert_eq!(drained(&interest), [("chat.rust".to_string(), false)]);
    }

    #[test]
    fn an_address_has_a_bound_of_topics_over_all_its_sessions() {
        let interest =
            Interest::within(InterestBounds { per_address_max: Some(5), ..InterestBounds::of(100) }, &Meters::unread());
        let address = IpAddr::from([127, 0, 0, 1]);
        let share = |address| interest.share(address).expect("it is bounded");
        let (mut one, mut two) = (share(address), share(address));
        assert_eq!((one.set(3), two.set(3)), (Ok(()), Err(TooManyTopics { max: 5 })));
        assert_eq!((two.set(2), one.set(4), one.set(1)), (Ok(()), Err(TooManyTopics { max: 5 }), Ok(())));
        assert_eq!(share(IpAddr::from([127, 0, 0, 2])).set(5), Ok(()));
        drop(two);
        assert_eq!(one.set(5), Ok(()));
        drop(one);
        assert!(interest.addresses.lock().expect("no holder panics").is_empty());
    }
}
