//! Demand: topics of clients are subscribed while some client wants them, and a while longer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::bus::demand::interest::Interest;
use crate::profile::Profile;
use crate::profile::subscribe::FeedItem;
use crate::words::stamp::Stamp;

use crate::intake::output::ItemRefusal;
use crate::intake::time::ns;
use crate::intake::upstream::Upstream;

/// New topics of clients that are subscribed per turn, and the time between turns: 2560 per second. A client that wants
/// more, or changes its mind all the time, holds up no other for long.
const FRESH_MAX: usize = 256;
const TURN_NS: u64 = 100_000_000;
/// Topics without any update that stay subscribed although no client wants them; further ones are dropped at once.
const UNKNOWN_LEFT_MAX: usize = 1024;

/// Obsolete entries that are never worth a cleanup.
const LEAVING_MIN: usize = 1024;

pub(super) struct UpstreamDemand {
    interest: Option<Arc<Interest>>,
    linger: Duration,
    /// Clients' demand is not read before this; none: it is read at once.
    resting_until_ns: Option<u64>,
    /// Subscribed whether a client wants them or not.
    pinned: HashSet<String>,
    /// Topics that no client wants, and until when they stay subscribed; oldest first.
    leaving: VecDeque<(u64, String)>,
    /// The same topics with the end that counts: one may have come back and left again.
    left: HashMap<String, u64>,
}

impl UpstreamDemand {
    pub(super) fn new(interest: Option<Arc<Interest>>, linger: Duration, pinned: &[String]) -> UpstreamDemand {
        UpstreamDemand {
            interest,
            linger,
            resting_until_ns: None,
            pinned: pinned.iter().cloned().collect(),
            leaving: VecDeque::new(),
            left: HashMap::new(),
        }
    }

    /// How long a topic stays from now on after its last client.
    pub(super) fn linger_for(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// From now on these are subscribed whether a client wants them or not. Returns those that are new, and those that are
    /// not among them any more.
    pub(super) fn pin(&mut self, names: &[String]) -> (Vec<String>, Vec<String>) {
        let pinned: HashSet<String> = names.iter().cloned().collect();
        let added = pinned.difference(&self.pinned).cloned().collect();
        let removed = self.pinned.difference(&pinned).cloned().collect();
        self.pinned = pinned;
        (added, removed)
    }

    /// Whether some client wants it.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.interest.as_ref().is_some_and(|interest| interest.is_wanted(name))
    }

    pub(super) fn interest(&self) -> Option<Arc<Interest>> {
        self.interest.clone()
    }

    /// Whether clients decide what is subscribed.
    pub(super) fn is_of_clients(&self) -> bool {
        self.interest.is_some()
    }

    pub(super) fn is_pinned(&self, name: &str) -> bool {
        self.pinned.contains(name)
    }

    /// Whether only the operator subscribes to it.
    pub(super) fn is_only_pinned(&self, name: &str) -> bool {
        self.is_pinned(name) && !self.is_wanted(name)
    }

    /// Whether clients' demand is read at once.
    pub(super) fn is_ready(&self) -> bool {
        self.resting_until_ns.is_none()
    }

    /// The topic stays subscribed for a while.
    fn leave(&mut self, topic: String, now: Stamp) {
        let until_ns = now.mono_ns + ns(self.linger);
        // Topics that come and go leave obsolete entries behind.
        if self.leaving.len() > 2 * self.left.len() + LEAVING_MIN {
            let left = &self.left;
            self.leaving.retain(|(until_ns, topic)| left.get(topic) == Some(until_ns));
        }
        self.left.insert(topic.clone(), until_ns);
        self.leaving.push_back((until_ns, topic));
    }

    /// Topics whose linger time is over.
    fn tick(&mut self, now: Stamp) -> Vec<String> {
        self.resting_until_ns.take_if(|until_ns| *until_ns <= now.mono_ns);
        let mut over = Vec::new();
        while let Some((until_ns, topic)) = self.leaving.pop_front_if(|(until_ns, _)| *until_ns <= now.mono_ns) {
            // One that came back and left again has a later entry.
            if self.left.get(&topic) == Some(&until_ns) {
                self.left.remove(&topic);
                over.push(topic);
            }
        }
        over
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let leaving = self.leaving.front().map(|(at, _)| *at);
        [leaving, self.resting_until_ns].into_iter().flatten().min()
    }

    /// Returns when clients' demand changes.
    pub(super) async fn changed(interest: &Option<Arc<Interest>>) {
        match interest {
            Some(interest) => interest.changed().await,
            None => std::future::pending().await,
        }
    }
}

impl Upstream {
    /// Subscribes to these as well.
    pub(super) fn want(&mut self, names: &[String], now: Stamp) {
        let Some(subscribe) = self.config.subscribe.clone() else { return };
        let items: Vec<Arc<FeedItem>> = names.iter().map(|name| Arc::new(subscribe.item(name))).collect();
        let changes = self.assignment.add(items);
        self.reassign(changes, now);
    }

    /// Subscribes to what is wanted now, and unsubscribes from the rest after a while.
    pub(super) fn follow_demand(&mut self, now: Stamp) {
        let Some(interest) = self.demand.interest() else { return };
        self.demand.resting_until_ns = Some(now.mono_ns + TURN_NS);
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for change in interest.drain(FRESH_MAX) {
            let topic = change.topic.to_string();
            if change.wanted {
                self.demand.left.remove(&topic);
                if self.assignment.has(&topic) {
                    self.pipeline.output.items.repeat(&topic);
                } else if let Some(right) = self.right_name(&topic) {
                    let message = format!("the feed writes this name in another case; subscribe to `{right}`");
                    self.pipeline.output.refuse((&topic, false), ItemRefusal::Own(message), now);
                } else {
                    wanted.push(topic);
                }
            } else if !self.assignment.has(&topic) {
                self.pipeline.output.items.forget(&topic);
            } else if !self.demand.is_pinned(&topic) {
                if self.demand.left.len() >= UNKNOWN_LEFT_MAX && !self.pipeline.output.knows(&topic) {
                    unwanted.push(topic);
                } else {
                    self.demand.leave(topic, now);
                }
            }
        }
        if !wanted.is_empty() {
            self.want(&wanted, now);
        }
        self.let_go_of(&unwanted, now);
    }

    /// The topic's right name, if this one is known to be wrong.
    fn right_name(&self, topic: &str) -> Option<String> {
        let right = self.config.subscribe.as_ref()?.renamed(topic)?;
        (!self.pipeline.output.knows(topic)).then_some(right)
    }

    /// Unsubscribes from these.
    pub(super) fn let_go_of(&mut self, topics: &[String], now: Stamp) {
        if topics.is_empty() {
            return;
        }
        let changes = self.assignment.remove(topics);
        self.reassign(changes, now);
        for topic in topics {
            self.awaited.forget(topic);
            self.pipeline.lapse(topic, now);
        }
    }

    /// Unsubscribes from what was unwanted for long enough.
    pub(super) fn tick_demand(&mut self, now: Stamp) {
        let over = self.demand.tick(now);
        self.let_go_of(&over, now);
    }
}

/// The operator's items, by the names of their topics.
pub(super) fn pinned(profile: &Profile, items: &[String]) -> Vec<String> {
    let right = |item: &String| {
        let right = profile.subscribe.as_ref().and_then(|subscribe| subscribe.renamed(item));
        if let Some(right) = &right {
            tracing::warn!(
                "upstream: subscribing to `{right}` instead of `{item}`: the feed writes the topic's name in this case"
            );
        }
        right.unwrap_or_else(|| item.clone())
    };
    items.iter().map(right).collect()
}
