//! Subscriptions of connections: as the assignment changes, and again where something is missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::profile::rules::numbers::GapRemedy;
use crate::profile::subscribe::{FeedItem, ItemChange};
use crate::words::rate_limited_log::NameLog;
use crate::words::stamp::Stamp;

use crate::intake::classify::ConnectionGap;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::subscriptions::{ItemOutcome, ItemSubscriptions};
use crate::intake::connection::{Connection, ConnectionRole};
use crate::intake::output::ItemRefusal;
use crate::intake::update::ConnectionId;
use crate::intake::upstream::Upstream;
use crate::intake::upstream::assignment::Reassign;

/// Changes of items that need a new connection wait for others, so that one serves them all.
const CHANGE_NS: u64 = 500_000_000;
/// Time between the first two renewals of a topic; it doubles each time, up to the longest.
const RENEWAL_NS: u64 = 5_000_000_000;
const RENEWAL_MAX_NS: u64 = 300_000_000_000;
/// Topics whose renewals are remembered; with more, the memory is cleared.
const RENEWALS_MAX: usize = 100_000;

/// Times of renewals, so that a broken topic does not flood the venue.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// When each may be renewed again, and the wait until then.
    next: HashMap<String, (u64, u64)>,
    /// Topics that need it again before that time, and when they get it.
    put_off: BTreeSet<(u64, String)>,
    log: NameLog,
}

impl Renewals {
    /// Whether the topic may be renewed now. If not, it is due later.
    fn may(&mut self, topic: &str, now_ns: u64) -> bool {
        if self.next.len() >= RENEWALS_MAX {
            self.next.clear();
        }
        let Some((next_ns, wait_ns)) = self.next.get_mut(topic) else {
            self.next.insert(topic.to_string(), (now_ns + RENEWAL_NS, RENEWAL_NS));
            return true;
        };
        if *next_ns > now_ns {
            self.put_off.insert((*next_ns, topic.to_string()));
            return false;
        }
        // Long after the last time it is a new problem.
        let is_new = next_ns.saturating_add(RENEWAL_MAX_NS) < now_ns;
        *wait_ns = if is_new { RENEWAL_NS } else { (*wait_ns * 2).min(RENEWAL_MAX_NS) };
        *next_ns = now_ns + *wait_ns;
        true
    }

    /// The next topic that was put off until now.
    fn due(&mut self, now_ns: u64) -> Option<String> {
        self.deadline_ns().filter(|at_ns| *at_ns <= now_ns)?;
        self.put_off.pop_first().map(|(_, topic)| topic)
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.put_off.first().map(|(at_ns, _)| *at_ns)
    }
}

impl Upstream {
    /// Outcomes of the items of one connection.
    pub(super) fn take_outcomes(&mut self, id: ConnectionId, now: Stamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let opened_ns = connection.established.as_ref().map_or(0, |established| established.opened().mono_ns);
        let outcomes = connection.protocol().map(Protocol::outcomes).unwrap_or_default();
        for outcome in outcomes {
            match outcome {
                ItemOutcome::Confirmed(item) => self.granted(&item, id, now),
                ItemOutcome::Refused { item, why } => self.refused(&item, id, ItemRefusal::Upstream(why), now),
                ItemOutcome::Unclaimed(answer) => self.pipeline.output.unclaimed(&answer, now),
                // Some venues send before the subscription, or do not answer for what flows already.
                ItemOutcome::Unanswered(item) if self.pipeline.output.came_since(&item.name, opened_ns) => {
                    let protocol = self.connections.get_mut(id).and_then(Connection::protocol);
                    protocol.into_iter().for_each(|protocol| protocol.subscriptions.grant(&item.name));
                    self.granted(&item, id, now);
                }
                ItemOutcome::Unanswered(item) => self.refused(&item, id, ItemRefusal::Unanswered, now),
            }
        }
    }

    fn granted(&mut self, item: &FeedItem, id: ConnectionId, now: Stamp) {
        self.await_data(&item.name, now);
        let change = self.assignment.arrived(&item.name, id);
        self.let_go(change, now);
    }

    fn refused(&mut self, item: &FeedItem, id: ConnectionId, why: ItemRefusal, now: Stamp) {
        self.meters.refused.increment(1);
        match self.assignment.refused(&item.name, id) {
            Some(change) => self.reassign(vec![change], now),
            None => {
                self.awaited.forget(&item.name);
                let is_pinned = self.demand.is_pinned(&item.name);
                self.pipeline.output.refuse((&item.name, is_pinned), why, now);
            }
        }
    }

    /// Unsubscribes items on connections whose items others have taken over.
    pub(super) fn let_go(&mut self, changes: impl IntoIterator<Item = Reassign>, now: Stamp) {
        for change in changes {
            let mut orphans = Vec::new();
            if let Reassign::Drop(from, items) = &change {
                let left = items.iter().filter(|item| self.pipeline.topic_left(&item.name, *from));
                orphans.extend(left.map(|item| item.name.clone()));
            }
            self.reassign(vec![change], now);
            orphans.iter().for_each(|topic| self.renew(topic, now));
        }
    }

    /// Messages are missing on this connection, by its numbers. Another leg that carries the same fills in.
    pub(super) fn connection_gap(&mut self, id: ConnectionId, gap: ConnectionGap, now: Stamp) {
        if !self.connections.is_covered(id) && gap.remedy != GapRemedy::Ignore {
            let topics = self.assignment.items_of(id);
            let names = topics.iter().map(|item| item.name.clone());
            self.pipeline.output.connection_gap(names, (id, gap.missed), now);
        }
        if gap.remedy == GapRemedy::Reconnect {
            self.replace_incomplete(id, now);
        }
    }

    /// Brings the subscriptions of connections in line with the assignment.
    pub(super) fn reassign(&mut self, changes: Vec<Reassign>, now: Stamp) {
        for change in changes {
            match change {
                Reassign::Want(id, items) => {
                    self.change_subscriptions(id, |subscriptions| subscriptions.want(&items), now)
                }
                Reassign::Drop(id, items) => {
                    self.change_subscriptions(id, |subscriptions| subscriptions.unwant(&items), now)
                }
                Reassign::Add { part, .. } if self.connections.has_room() => {
                    self.join(part, ConnectionRole::Regular, now);
                }
                Reassign::Add { items, .. } => self.turn_away(&items, now),
            }
        }
        self.meters.items.set(self.assignment.item_count() as f64);
    }

    /// These items fit on none of the permitted connections.
    fn turn_away(&mut self, items: &[Arc<FeedItem>], now: Stamp) {
        let max = self.connections.max();
        for item in items {
            self.meters.refused.increment(1);
            let why = format!("the items do not fit into {max} connections to the feed; subscribe to fewer");
            let is_pinned = self.demand.is_pinned(&item.name);
            self.pipeline.output.refuse((&item.name, is_pinned), ItemRefusal::Own(why), now);
        }
    }

    /// Changes the subscriptions of a connection and of its successor.
    fn change_subscriptions(&mut self, id: ConnectionId, change: impl Fn(&mut ItemSubscriptions), now: Stamp) {
        let is_live = self.config.subscribe.as_ref().is_none_or(|how| how.change != ItemChange::Reconnect);
        // A connection that is not open subscribes when it opens.
        let open = self.connections.with_successor(id).filter_map(|connection| connection.established.as_mut());
        for established in open {
            match is_live {
                true => change(&mut established.protocol.subscriptions),
                false => established.rotate_at_ns = Some(now.mono_ns + CHANGE_NS),
            }
        }
    }

    /// Applies the assembler's remedies for gaps.
    pub(super) fn remedy_gaps(&mut self, now: Stamp) {
        for (topic, remedy) in self.pipeline.output.remedies() {
            match remedy {
                GapRemedy::Resubscribe => self.renew(&topic, now),
                GapRemedy::Fetch => self.want_snapshot(&topic, now),
                GapRemedy::Reconnect => {
                    let incomplete = self.assignment.connections_of(&topic);
                    incomplete.into_iter().for_each(|id| self.replace_incomplete(id, now));
                }
                GapRemedy::Mark | GapRemedy::Ignore | GapRemedy::DropOld => {}
            }
        }
    }

    /// Renews the topics that were put off until now.
    pub(super) fn renew_due(&mut self, now: Stamp) {
        while let Some(topic) = self.renewals.due(now.mono_ns) {
            self.renew(&topic, now);
        }
    }

    /// Renews one topic on every connection that carries it; later, if it was renewed a moment ago.
    pub(super) fn renew(&mut self, topic: &str, now: Stamp) {
        if !self.renewals.may(topic, now.mono_ns) {
            return;
        }
        self.renewals.log.add(topic);
        if let Some((names, count)) = self.renewals.log.line(now) {
            tracing::info!(count, "upstream: subscribed to again, because messages are missing: {names}");
        }
        self.meters.renewals.increment(1);
        for id in self.assignment.connections_of(topic) {
            if let Some(protocol) = self.connections.get_mut(id).and_then(Connection::protocol) {
                protocol.subscriptions.renew(topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_renewed_less_and_less_often() {
        let mut renewals = Renewals::default();
        let times: Vec<u64> = (0..100).filter(|s| renewals.may("t", s * 1_000_000_000)).collect();
        assert_eq!(times, [0, 5, 15, 35, 75]);
        renewals.put_off.clear();
        assert!(renewals.may("other", 0));
        assert!(renewals.may("t", 1_000_000_000_000), "long after the last time");
        assert!(renewals.may("t", 1_005_000_000_000), "it begins with the shortest wait again");
    }
    #[test]
    fn a_topic_that_was_renewed_a_moment_ago_is_renewed_later_and_once() {
        let mut renewals = Renewals::default();
        assert!(renewals.may("t", 0) && renewals.deadline_ns().is_none());
        assert!(!renewals.may("t", 3_000_000_000) && !renewals.may("t", 4_000_000_000));
        assert_eq!((renewals.deadline_ns(), renewals.due(4_999_999_999)), (Some(RENEWAL_NS), None));
        assert_eq!(renewals.due(RENEWAL_NS).as_deref(), Some("t"));
        assert!(renewals.may("t", RENEWAL_NS) && renewals.deadline_ns().is_none());
    }
}
