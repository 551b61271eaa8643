//! What connections are asked for: as the roster changes, and anew where something is missing.

use std::collections::HashMap;

use crate::intake::assemble::sequence::GapRemedy;
use crate::intake::classify::ConnectionGap;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::subscriptions::ItemOutcome;
use crate::intake::update_sink::ItemRefusal;
use crate::intake::upstream::assignment::{ConnectionId, Reassign};
use crate::profile::subscribe::{FeedItem, ItemChange};
use crate::words::metrics as names;
use crate::words::stamp::Stamp;

use crate::intake::upstream::Upstream;
use crate::intake::upstream::connections::ConnectionRole;
use crate::intake::upstream::inbound::ClosedSink;

/// Changes of items that only a new connection can bring wait for others, so that one serves them all.
const CHANGE_NS: u64 = 500_000_000;
/// Between two renewals of a topic, at first; it doubles each time, up to the longest.
const RENEWAL_NS: u64 = 5_000_000_000;
const RENEWAL_MAX_NS: u64 = 300_000_000_000;
/// Topics whose renewals are remembered; more at a time and the memory begins anew.
const RENEWALS_MAX: usize = 100_000;

/// When topics were asked for anew, so that a broken one does not flood the venue.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// When each may be again, and how long it had to wait for that.
    next: HashMap<String, (u64, u64)>,
}

impl Renewals {
    /// Whether the topic may be asked for anew now.
    fn may(&mut self, topic: &str, now_ns: u64) -> bool {
        if self.next.len() >= RENEWALS_MAX {
            self.next.clear();
        }
        let Some((next_ns, wait_ns)) = self.next.get_mut(topic) else {
            self.next.insert(topic.to_string(), (now_ns + RENEWAL_NS, RENEWAL_NS));
            return true;
        };
        if *next_ns > now_ns {
            return false;
        }
        // Long after the last time it is a new trouble.
        let is_new = next_ns.saturating_add(RENEWAL_MAX_NS) < now_ns;
        *wait_ns = if is_new { RENEWAL_NS } else { (*wait_ns * 2).min(RENEWAL_MAX_NS) };
        *next_ns = now_ns + *wait_ns;
        true
    }
}

impl Upstream {
    /// What became of the items of one connection.
    pub(super) fn learn(&mut self, index: usize, now: Stamp) {
        let Some(member) = self.members.get_mut(index) else { return };
        let (id, opened_ns) = (member.id, member.opened.map_or(0, |opened| opened.mono_ns));
        let outcomes = member.dialogue.as_mut().map(Protocol::outcomes).unwrap_or_default();
        for outcome in outcomes {
            match outcome {
                ItemOutcome::Confirmed(item) => self.granted(&item, id, now),
                ItemOutcome::Refused { item, why } => self.refused(&item, id, why, now),
                // Some venues send before they were asked, or do not answer for what flows already.
                ItemOutcome::Unanswered(item) if self.outlet.came_since(&item.name, opened_ns) => {
                    let member = self.members.get_mut(index).and_then(|member| member.dialogue.as_mut());
                    member.into_iter().for_each(|dialogue| dialogue.asking.grant(&item.name));
                    self.granted(&item, id, now);
                }
                ItemOutcome::Unanswered(item) => {
                    self.refused(&item, id, "the upstream has not answered".to_string(), now)
                }
            }
        }
    }

    fn granted(&mut self, item: &FeedItem, id: ConnectionId, now: Stamp) {
        self.await_data(&item.name, now);
        let order = self.roster.arrived(&item.name, id);
        self.let_go(order, now);
    }

    fn refused(&mut self, item: &FeedItem, id: ConnectionId, why: String, now: Stamp) {
        self.meters.counter(&names::UPSTREAM_REFUSED, &[]).increment(1);
        match self.roster.refused(&item.name, id) {
            Some(order) => self.obey(vec![order], now),
            None => {
                self.awaited.forget(&item.name);
                let is_pinned = self.wishes.is_pinned(&item.name);
                self.outlet.refuses((&item.name, is_pinned), ItemRefusal::Upstream(why), now);
            }
        }
    }

    /// Takes items off connections that others have taken over from.
    pub(super) fn let_go(&mut self, orders: impl IntoIterator<Item = Reassign>, now: Stamp) {
        for order in orders {
            let mut orphans = Vec::new();
            if let Reassign::Drop(from, items) = &order {
                let left = items.iter().filter(|item| self.outlet.merger().leaves(&item.name, *from));
                orphans.extend(left.map(|item| item.name.clone()));
            }
            self.obey(vec![order], now);
            orphans.iter().for_each(|topic| self.renew(topic, now));
        }
    }

    /// Messages are missing on this connection, as its numbers say. Where another leg carries the same, it fills in.
    pub(super) fn connection_gap(&mut self, id: ConnectionId, gap: ConnectionGap, now: Stamp) {
        let Some(leg) = self.members.iter().find(|member| member.id == id).map(|member| member.leg) else { return };
        let is_covered = self.members.iter().any(|member| member.leg != leg && member.is_open());
        if !is_covered && gap.remedy != GapRemedy::Ignore {
            let topics = self.roster.items_of(id);
            self.outlet.gap(topics.iter().map(|item| item.name.clone()), gap.missed, now);
        }
        if gap.remedy == GapRemedy::Reconnect {
            // A gap is not for good.
            self.lost(id, Loss::Gap { topic: "the connection".to_string() }, now).ok();
        }
    }

    /// Brings what connections are asked for in line with the roster.
    pub(super) fn obey(&mut self, orders: Vec<Reassign>, now: Stamp) {
        let is_live = self.script.subscribe.as_ref().is_none_or(|how| how.change != ItemChange::Reconnect);
        for order in orders {
            match order {
                Reassign::Want(id, items) => {
                    self.ask(id, |dialogue| dialogue.asking.want(&items), is_live, now);
                }
                Reassign::Drop(id, items) => {
                    self.ask(id, |dialogue| dialogue.asking.unwant(&items), is_live, now);
                }
                Reassign::Add { leg, .. } if self.has_room_for_one_more() => {
                    self.join(leg, ConnectionRole::Regular, now);
                }
                Reassign::Add { items, .. } => self.turn_away(&items, now),
            }
        }
        self.meters.gauge(&names::UPSTREAM_ITEMS, &[]).set(self.roster.item_count() as f64);
    }

    /// There is no room for these items on all connections that there may be.
    fn turn_away(&mut self, items: &[std::sync::Arc<FeedItem>], now: Stamp) {
        let max = self.connections_max;
        for item in items {
            self.meters.counter(&names::UPSTREAM_REFUSED, &[]).increment(1);
            let why = format!("the items do not fit into {max} connections to the upstream; subscribe to less");
            let is_pinned = self.wishes.is_pinned(&item.name);
            self.outlet.refuses((&item.name, is_pinned), ItemRefusal::Own(why), now);
        }
    }

    /// Changes what a connection, and the one that is to succeed it, is asked for.
    fn ask(&mut self, id: ConnectionId, change: impl Fn(&mut Protocol), is_live: bool, now: Stamp) {
        for member in &mut self.members {
            if member.id != id && member.role != (ConnectionRole::Successor { of: id }) {
                continue;
            }
            match &mut member.dialogue {
                Some(dialogue) if is_live => change(dialogue),
                Some(_) => member.rotate_at_ns = Some(now.mono_ns + CHANGE_NS),
                // What is wanted is asked for when it opens.
                None => {}
            }
        }
    }

    /// Does what the flow wants done about gaps.
    pub(super) fn mend(&mut self, now: Stamp) {
        for (topic, remedy) in self.outlet.remedies() {
            match remedy {
                GapRemedy::Resubscribe => self.renew(&topic, now),
                GapRemedy::Reconnect => {
                    for id in self.roster.links_of(&topic) {
                        // A gap is not for good.
                        self.lost(id, Loss::Gap { topic: topic.clone() }, now).ok();
                    }
                }
                GapRemedy::Mark | GapRemedy::Ignore | GapRemedy::DropOld => {}
            }
        }
    }

    /// Asks for one topic anew on every connection that carries it.
    pub(super) fn renew(&mut self, topic: &str, now: Stamp) {
        if !self.renewals.may(topic, now.mono_ns) {
            return;
        }
        self.meters.counter(&names::UPSTREAM_RENEWALS, &[]).increment(1);
        for id in self.roster.links_of(topic) {
            let member = self.members.iter_mut().find(|member| member.id == id);
            if let Some(dialogue) = member.and_then(|member| member.dialogue.as_mut()) {
                dialogue.asking.renew(topic);
            }
        }
    }

    /// Connections that are still to guess how topics are named take over the guess of another one.
    pub(super) fn share_guess(&mut self) {
        if self.members.len() < 2 {
            return;
        }
        let Some(guess) = self.members.iter().find_map(|member| member.sorter.guess()).cloned() else { return };
        for member in &mut self.members {
            if member.sorter.guess().is_none() {
                let source = member.source();
                member.sorter.adopt_guess(&guess, &mut ClosedSink { outlet: &mut self.outlet, source });
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
        assert!(renewals.may("other", 0));
        assert!(renewals.may("t", 1_000_000_000_000), "long after the last time");
        assert!(renewals.may("t", 1_005_000_000_000), "it begins with the shortest wait again");
    }
}
