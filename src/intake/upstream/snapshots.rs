//! Snapshots over HTTP: they are asked for when deltas wait for them, and go the way of a message of the feed.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::profile::placeholders::Context;
use crate::profile::snapshot::SnapshotRule;
use crate::profile::subscribe::FeedItem;
use crate::words::stamp::Stamp;

use crate::intake::classify::FeedFrame;
use crate::intake::connection::Connection;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::time::ns;
use crate::intake::upstream::Upstream;

/// Requests under way.
const RUNNING_MAX: usize = 4;
/// Before the same topic is asked for again; it doubles with each attempt, up to the longest.
const WAIT_NS: u64 = 250_000_000;
const WAIT_MAX_NS: u64 = 30_000_000_000;
/// Topics that are remembered; further ones wait until there is room.
const TOPICS_MAX: usize = 100_000;

type SnapshotFuture = Pin<Box<dyn Future<Output = (String, Result<String, Loss>)> + Send>>;

#[derive(Default)]
pub(super) struct Snapshots {
    topics: HashMap<String, Wanted>,
    /// When to ask for which topic, soonest first.
    wanted: BTreeSet<(u64, String)>,
    running: FuturesUnordered<SnapshotFuture>,
    rate: Option<RateLimit>,
}

#[derive(Default)]
struct Wanted {
    /// False: it is not wanted, or its answer is awaited.
    is_wanted: bool,
    /// When it was last asked for, and the wait after it.
    asked_ns: u64,
    wait_ns: u64,
}

impl Snapshots {
    pub(super) fn new(rule: Option<&SnapshotRule>) -> Snapshots {
        Snapshots { rate: rule.and_then(|rule| rule.rate).map(RateLimit::new), ..Snapshots::default() }
    }

    /// From now on by this rule.
    pub(super) fn change(&mut self, rule: Option<&SnapshotRule>) {
        self.rate = rule.and_then(|rule| rule.rate).map(RateLimit::new);
    }

    fn want(&mut self, topic: &str, now: Stamp) {
        if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(topic) {
            return;
        }
        let wanted = self.topics.entry(topic.to_string()).or_default();
        // Long after the last time it is a new problem.
        if now.mono_ns.saturating_sub(wanted.asked_ns) > WAIT_MAX_NS {
            wanted.wait_ns = 0;
        }
        let at_ns = wanted.asked_ns.saturating_add(wanted.wait_ns).max(now.mono_ns);
        if !std::mem::replace(&mut wanted.is_wanted, true) {
            self.wanted.insert((at_ns, topic.to_string()));
        }
    }

    /// The next topic to ask for.
    fn due(&mut self, now: Stamp) -> Option<String> {
        self.deadline_ns().filter(|at| *at <= now.mono_ns)?;
        let (_, topic) = self.wanted.pop_first()?;
        let wanted = self.topics.get_mut(&topic)?;
        wanted.is_wanted = false;
        wanted.asked_ns = now.mono_ns;
        wanted.wait_ns = (wanted.wait_ns * 2).clamp(WAIT_NS, WAIT_MAX_NS);
        self.rate.iter_mut().for_each(|rate| rate.take(now.mono_ns));
        Some(topic)
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        if self.running.len() >= RUNNING_MAX {
            return None;
        }
        let (soonest, _) = self.wanted.first()?;
        Some((*soonest).max(self.rate.as_ref().map_or(0, RateLimit::ready_ns)))
    }

    /// The next answer.
    pub(super) async fn next(&mut self) -> (String, Result<String, Loss>) {
        match self.running.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

impl Upstream {
    /// The deltas of this topic wait for a snapshot.
    pub(super) fn want_snapshot(&mut self, topic: &str, now: Stamp) {
        self.snapshots.want(topic, now);
    }

    /// Asks for what is due.
    pub(super) fn ask_for_snapshots(&mut self, now: Stamp) {
        let profile = self.profile.clone();
        let Some(rule) = &profile.snapshot else { return };
        while let Some(topic) = self.snapshots.due(now) {
            let item = self.snapshot_item(&topic);
            let taken = self.connections.iter().find_map(|connection| connection.established.as_ref());
            let taken = taken.map(|established| established.lease.taken.clone()).unwrap_or_default();
            let leaser = self.connections.addresses.leaser.clone();
            let call = rule.call.clone();
            self.snapshots.running.push(Box::pin(async move {
                let answer = leaser.snapshot(&call, &item, &taken).await;
                (topic, answer)
            }));
        }
    }

    /// An answer has come, or none.
    pub(super) fn snapshot_answered(&mut self, topic: &str, answer: Result<String, Loss>, now: Stamp) {
        let profile = self.profile.clone();
        let Some(rule) = &profile.snapshot else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(loss) => {
                let problem = self.hidden.mask(&loss.to_string()).into_owned();
                tracing::warn!("upstream: no snapshot of `{topic}`: {problem}; trying again");
                if let Some(wait) = loss.retry_after(now)
                    && let Some(wanted) = self.snapshots.topics.get_mut(topic)
                {
                    wanted.wait_ns = wanted.wait_ns.max(ns(wait));
                }
                return self.want_snapshot(topic, now);
            }
        };
        let item = self.snapshot_item(topic);
        let (items, symbols) = ([item.name.clone()], [item.symbol.clone()]);
        let context = Context {
            items: &items,
            symbols: &symbols,
            channel: &item.channel,
            data: Some(&answer),
            ..Context::plain(&self.config.secrets, now, 0)
        };
        let Ok(text) = context.fill(&rule.message) else { return };
        let carriers = self.assignment.connections_of(topic);
        let is_open = |connection: &&mut Connection| connection.is_open();
        let id = carriers.iter().copied().find(|id| self.connections.get(*id).is_some_and(Connection::is_open));
        let connection = match id {
            Some(id) => self.connections.get_mut(id),
            None => self.connections.iter_mut().find(is_open),
        };
        if let Some(connection) = connection {
            self.pipeline.receive(connection, FeedFrame::Text(&text), now);
        }
    }

    fn snapshot_item(&self, topic: &str) -> FeedItem {
        match &self.config.subscribe {
            Some(subscribe) => subscribe.item(topic),
            None => FeedItem {
                name: topic.to_string(),
                branch: 0,
                venue: topic.to_string(),
                channel: String::new(),
                symbol: topic.to_string(),
                params: None,
                known: None,
            },
        }
    }
}
