//! What is done when time has come, and what follows when a connection opens or ends.

use std::collections::HashMap;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::intake::flow::sequence::Remedy;
use crate::intake::line::asking::Outcome;
use crate::intake::line::connect::{Door, Target, TargetError};
use crate::intake::line::dialogue::{Dialogue, Step};
use crate::intake::line::link::Link;
use crate::intake::line::loss::{Loss, in_s};
use crate::intake::pool::roster::{LinkId, Order};
use crate::intake::profile::subscribe::{Change, Item};
use crate::intake::profile::words::Filling;
use crate::intake::sorting::{ConnectionGap, Sorter};
use crate::words::metrics as names;
use crate::words::stamp::Stamp;

use super::hear::Alone;
use super::member::{Member, Role};
use super::{Upstream, UpstreamError};

/// A successor takes over when its data flows, or this long after it was opened: some feeds are quiet.
const QUIET_SUCCESSOR_NS: u64 = 5_000_000_000;
/// How long copies of what an old connection has brought may still come.
const MERGING_NS: u64 = 10_000_000_000;
/// A venue that asks for a new connection sooner than this after the last one is not obeyed at once.
const ASKED_TOO_SOON_MS: u64 = 1000;
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
    next: HashMap<String, (u64, u64)>,
}

impl Renewals {
    /// Whether the topic may be asked for anew now.
    fn may(&mut self, topic: &str, now_ns: u64) -> bool {
        if self.next.len() >= RENEWALS_MAX {
            self.next.clear();
        }
        let (next_ns, wait_ns) = self.next.entry(topic.to_string()).or_insert((0, RENEWAL_NS));
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
    /// Everything that is due now.
    pub(super) fn act(&mut self, now: Stamp) {
        self.tick_sorters(now);
        self.share_guess();
        self.outlet.tick(now);
        self.mend(now);
        self.tick_wishes(now);
        for index in 0..self.members.len() {
            self.dial(index, now);
            self.speak(index, now);
            self.learn(index, now);
        }
        self.rotate_due(now);
        self.promote(now);
        self.judge_merging(now);
    }

    /// When `act` may have something to do although nothing has happened.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let of_member = |member: &Member| {
            let dial = member.dial_at_ns.map(|at| at.max(self.dials.as_ref().map_or(0, |dials| dials.ready_ns())));
            let dialogue = member.dialogue.as_ref().filter(|_| member.link.takes_more());
            let stuck = member.link.stuck_since().map(|since| since.mono_ns + self.patience_ns());
            let quiet = member.opened.filter(|_| member.role != Role::Regular);
            let quiet = quiet.map(|opened| opened.mono_ns + QUIET_SUCCESSOR_NS);
            let due = [
                dial.filter(|_| self.is_wanted()),
                dialogue.and_then(Dialogue::deadline_ns),
                stuck,
                quiet,
                member.rotate_at_ns,
                member.sorter.deadline_ns(),
            ];
            due.into_iter().flatten().min()
        };
        let merging = (self.merging_until_ns > 0).then_some(self.merging_until_ns);
        let members = self.members.iter().filter_map(of_member).min();
        [members, self.outlet.deadline_ns(), merging, self.wishes.deadline_ns()].into_iter().flatten().min()
    }

    fn patience_ns(&self) -> u64 {
        u64::try_from(self.script.timing.pong_timeout.as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Without anything to ask for there is no reason to connect, if the venue wants to be asked soon.
    fn is_wanted(&self) -> bool {
        !self.roster.is_empty() || self.script.subscribe.as_ref().is_none_or(|how| how.deadline.is_none())
    }

    fn dial(&mut self, index: usize, now: Stamp) {
        let is_wanted = self.is_wanted();
        let ready_ns = self.dials.as_ref().map_or(0, |dials| dials.ready_ns());
        let Some(member) = self.members.get(index) else { return };
        let is_due = member.dial_at_ns.is_some_and(|at| at.max(ready_ns) <= now.mono_ns);
        if !is_due || !is_wanted || !member.link.is_empty() {
            return;
        }
        let door = self.door(index, now);
        let member = &mut self.members[index];
        member.dial_at_ns = None;
        match door {
            Ok(door) => {
                member.link.dial(&self.dialer, door);
                self.dials.iter_mut().for_each(|dials| dials.take(now.mono_ns));
            }
            Err(error) => tracing::error!("upstream: {error}"),
        }
    }

    /// The address of a member, with everything filled in.
    fn door(&self, index: usize, now: Stamp) -> Result<Door, TargetError> {
        let member = &self.members[index];
        let items = self.items_for(member);
        let names: Vec<String> = items.iter().map(|item| item.venue.clone()).collect();
        let cursor = self.cursor.map(|cursor| {
            cursor.saturating_sub(self.profile.resume.as_ref().map_or(0, |resume| resume.rewind)).to_string()
        });
        let filling =
            Filling { items: &names, resume: cursor.as_deref(), ..Filling::plain(&self.script.secrets, now, 0) };
        let unfilled = |wanting: crate::intake::profile::words::Wanting| TargetError::Unreadable {
            found: self.urls[member.place].source().to_string(),
            error: wanting.to_string(),
        };
        let target = Target::parse(&filling.fill(&self.urls[member.place]).map_err(unfilled)?)?;
        let mut headers = Vec::new();
        for (name, value) in &self.profile.connect.headers {
            let value = filling.fill(value).map_err(unfilled)?;
            let header = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value).ok());
            headers.extend(header);
        }
        let subprotocol = self.profile.connect.subprotocol.as_ref();
        headers.extend(subprotocol.and_then(|name| Some((SEC_WEBSOCKET_PROTOCOL, HeaderValue::try_from(name).ok()?))));
        Ok(Door { target, headers })
    }

    pub(super) fn target(&self, place: usize) -> Result<Target, TargetError> {
        let unknown = Filling { resume: Some(""), ..Filling::plain(&self.script.secrets, Stamp::default(), 0) };
        let filled = unknown.fill(&self.urls[place]);
        Target::parse(&filled.unwrap_or_else(|_| self.urls[place].source().to_string()))
    }

    fn items_for(&self, member: &Member) -> Vec<std::sync::Arc<Item>> {
        match member.role {
            Role::Regular => self.roster.items_of(member.id),
            Role::Successor { of } => self.roster.items_of(of),
        }
    }

    pub(super) fn opened(&mut self, id: LinkId, now: Stamp) {
        let Some(index) = self.index_of(id) else { return };
        let items = self.items_for(&self.members[index]);
        let place = self.members[index].place;
        let shown = self.target(place).map(|target| target.shown()).unwrap_or_default();
        tracing::info!(profile = self.profile.name, connection = id.0, items = items.len(), "connected to {shown}");
        self.outlet.connected();
        self.lines += 1;
        let member = &mut self.members[index];
        member.line = self.lines;
        member.dialogue = Some(Dialogue::open(self.script.clone(), &items, now));
        member.opened = Some(now);
        member.sorter.reset(&mut Alone { outlet: &mut self.outlet, source: member.source() });
        member.rotate_at_ns = self.rotate_after.map(|after| now.mono_ns + in_ns(after));
        if member.role == Role::Regular {
            let orders = self.roster.opened(id);
            self.obey(orders);
        }
        self.count_open();
    }

    pub(super) fn lost(&mut self, id: LinkId, loss: Loss, now: Stamp) -> Result<(), UpstreamError> {
        let Some(index) = self.index_of(id) else { return Ok(()) };
        if let Loss::Closed { code: Some(code), reason } = &loss
            && self.profile.retry.fatal_codes.contains(code)
        {
            let (profile, message) = (self.profile.name.clone(), format!("closed with {code} `{reason}`"));
            return Err(UpstreamError::Refused { profile, rule: "backoff.fatal_codes".to_string(), message });
        }
        let member = &mut self.members[index];
        member.link = Link::Empty;
        let wait = member.lost(&loss, self.sustained, now, &mut rand::rng());
        let plan = format!("reconnecting in {} (attempt {})", in_s(wait), member.attempts());
        let role = member.role;
        let was_last = !self.members.iter().any(Member::is_open);
        self.outlet.lost(&loss, plan, was_last, now);
        self.abandon(id, role, now);
        Ok(())
    }

    /// The connection is gone: its successor, or the others of its leg, take over what it carried.
    fn abandon(&mut self, id: LinkId, role: Role, now: Stamp) {
        self.fail_requests(id);
        self.renew_orphans(id, now);
        self.count_open();
        if role != Role::Regular {
            return;
        }
        let successor = self.members.iter().position(|member| member.role == Role::Successor { of: id });
        match successor {
            Some(index) if self.members[index].is_open() => self.succeed(index, now),
            _ => {
                let orders = self.roster.lost(id);
                self.obey(orders);
            }
        }
    }

    /// Topics for which this connection was believed need a snapshot from another one.
    fn renew_orphans(&mut self, id: LinkId, now: Stamp) {
        for topic in self.outlet.merger().gone(id) {
            self.renew(&topic, now);
        }
    }

    pub(super) fn asked_to_reconnect(&mut self, id: LinkId, rule: &str, now: Stamp) -> Result<(), UpstreamError> {
        let Some(index) = self.index_of(id) else { return Ok(()) };
        let loss = Loss::Asked { rule: rule.to_string() };
        let is_early = self.members[index].opened.is_none_or(|opened| now.ms_since(opened) < ASKED_TOO_SOON_MS);
        if is_early || !self.has_room_for_successor() {
            return self.lost(id, loss, now);
        }
        tracing::info!("upstream: {loss}; a new connection takes over");
        self.members[index].rotate_at_ns = Some(now.mono_ns);
        Ok(())
    }

    fn has_room_for_successor(&self) -> bool {
        self.members.len() < self.connections_max
    }

    /// Begins to replace connections whose time has come.
    fn rotate_due(&mut self, now: Stamp) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.role != Role::Regular || member.rotate_at_ns.is_none_or(|at| at > now.mono_ns) {
                continue;
            }
            member.rotate_at_ns = None;
            let (id, leg) = (member.id, member.leg);
            let has_successor = self.members.iter().any(|member| member.role == Role::Successor { of: id });
            if has_successor {
                continue;
            }
            if self.has_room_for_successor() {
                self.join(leg, Role::Successor { of: id });
                self.judge_merging(now);
                self.outlet.merger().retires(id);
            } else {
                self.members[index].redial(now);
                self.outlet.merger().gone(id);
            }
        }
    }

    /// Successors that carry the stream take over.
    fn promote(&mut self, now: Stamp) {
        let ready = |member: &Member| {
            let is_settled = member.dialogue.as_ref().is_some_and(Dialogue::is_settled);
            let opened_ns = member.opened.map_or(u64::MAX, |opened| opened.mono_ns);
            let is_quiet = now.mono_ns >= opened_ns.saturating_add(QUIET_SUCCESSOR_NS);
            member.role != Role::Regular && is_settled && (member.data.is_some() || is_quiet)
        };
        while let Some(index) = self.members.iter().position(ready) {
            self.succeed(index, now);
        }
    }

    fn succeed(&mut self, index: usize, now: Stamp) {
        let Role::Successor { of } = std::mem::replace(&mut self.members[index].role, Role::Regular) else { return };
        let id = self.members[index].id;
        self.roster.replace(of, id);
        self.meters.counter(&names::UPSTREAM_ROTATIONS, &[]).increment(1);
        self.fail_requests(of);
        if let Some(old) = self.index_of(of) {
            let mut old = self.members.remove(old);
            old.link.close();
        }
        tracing::info!(connection = id.0, "upstream: a new connection has taken over");
        self.merging_until_ns = now.mono_ns + MERGING_NS;
        self.renew_orphans(of, now);
        self.count_open();
    }

    /// Whether copies of messages are to be expected.
    fn judge_merging(&mut self, now: Stamp) {
        let legs = self.members.iter().map(|member| member.leg).max().unwrap_or(0);
        let has_successor = self.members.iter().any(|member| member.role != Role::Regular);
        let overlaps = legs > 0 || has_successor || self.roster.is_moving();
        if overlaps {
            self.merging_until_ns = now.mono_ns + MERGING_NS;
        } else if self.merging_until_ns <= now.mono_ns {
            self.merging_until_ns = 0;
        }
        self.outlet.merge(self.merging_until_ns > 0);
    }

    /// Says what is to be said on a connection now.
    fn speak(&mut self, index: usize, now: Stamp) {
        let patience_ns = self.patience_ns();
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(dialogue) = member.dialogue.as_mut() else { return };
        if member.link.has_heard() {
            dialogue.alive();
        }
        let mut end = None;
        if member.link.stuck_since().is_some_and(|since| now.ns_since(since) >= patience_ns) {
            end = Some(Loss::Stuck { after: self.script.timing.pong_timeout });
        }
        let mut silent_since = None;
        while end.is_none() && member.link.takes_more() {
            match dialogue.next(now, &|item| bound_key(&member.sorter, item)) {
                None => break,
                Some(Step::Send(text)) => member.link.send(Message::text(text)),
                Some(Step::Ping) => member.link.send(Message::Ping(Default::default())),
                Some(Step::TellSilence { since }) => {
                    member.is_silent = true;
                    silent_since = Some(since);
                }
                Some(Step::End(loss)) => end = Some(loss),
            }
        }
        let id = member.id;
        if let Some(since) = silent_since {
            self.tell_silence(since);
        }
        if let Some(loss) = end {
            // No loss of this kind is for good.
            self.lost(id, loss, now).ok();
        }
    }

    /// One connection is silent; the feed is, if all others are as well.
    fn tell_silence(&mut self, since: Stamp) {
        let timeout = in_s(self.script.timing.idle_timeout.unwrap_or_default());
        let message = format!("no message for {timeout}; reconnecting after another {timeout} without one");
        if self.members.iter().all(|member| member.is_silent || !member.is_open()) {
            self.outlet.silent(since, message);
        } else {
            tracing::warn!("upstream: on one connection {message}");
        }
    }

    /// What became of the items of one connection.
    fn learn(&mut self, index: usize, now: Stamp) {
        let Some(member) = self.members.get_mut(index) else { return };
        let id = member.id;
        let outcomes = member.dialogue.as_mut().map(Dialogue::outcomes).unwrap_or_default();
        for outcome in outcomes {
            match outcome {
                Outcome::Confirmed(item) => {
                    let order = self.roster.arrived(&item.name, id);
                    self.obey(order.into_iter().collect());
                }
                Outcome::Refused { item, why } => {
                    self.meters.counter(&names::UPSTREAM_REFUSED, &[]).increment(1);
                    self.outlet.refuses(&item.name, why, now);
                }
            }
        }
    }

    /// Messages are missing on this connection, as its numbers say. Where another leg carries the same, it fills in.
    pub(super) fn connection_gap(&mut self, id: LinkId, gap: ConnectionGap, now: Stamp) {
        let Some(leg) = self.members.iter().find(|member| member.id == id).map(|member| member.leg) else { return };
        let is_covered = self.members.iter().any(|member| member.leg != leg && member.is_open());
        if !is_covered && gap.remedy != Remedy::Ignore {
            let topics = self.roster.items_of(id);
            self.outlet.gap(topics.iter().map(|item| item.name.clone()), gap.missed, now);
        }
        if gap.remedy == Remedy::Reconnect {
            // A gap is not for good.
            self.lost(id, Loss::Gap { topic: "the connection".to_string() }, now).ok();
        }
    }

    /// Brings what connections are asked for in line with the roster.
    pub(super) fn obey(&mut self, orders: Vec<Order>) {
        let now = self.clock.now();
        let is_live = self.script.subscribe.as_ref().is_none_or(|how| how.change != Change::Reconnect);
        for order in orders {
            match order {
                Order::Want(id, items) => {
                    self.ask(id, |dialogue| dialogue.asking.want(&items), is_live, now);
                }
                Order::Drop(id, items) => {
                    self.ask(id, |dialogue| dialogue.asking.unwant(&items), is_live, now);
                }
                Order::Add { leg } if self.has_room_for_successor() => {
                    self.join(leg, Role::Regular);
                }
                Order::Add { .. } => {
                    let max = self.connections_max;
                    tracing::error!("upstream: the items do not fit into {max} connections; subscribe to less");
                }
            }
        }
        self.meters.gauge(&names::UPSTREAM_ITEMS, &[]).set(self.roster.len() as f64);
    }

    /// Changes what a connection, and the one that is to succeed it, is asked for.
    fn ask(&mut self, id: LinkId, change: impl Fn(&mut Dialogue), is_live: bool, now: Stamp) {
        for member in &mut self.members {
            if member.id != id && member.role != (Role::Successor { of: id }) {
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
    fn mend(&mut self, now: Stamp) {
        for (topic, remedy) in self.outlet.remedies() {
            match remedy {
                Remedy::Resubscribe => self.renew(&topic, now),
                Remedy::Reconnect => {
                    for id in self.roster.links_of(&topic) {
                        // A gap is not for good.
                        self.lost(id, Loss::Gap { topic: topic.clone() }, now).ok();
                    }
                }
                Remedy::Mark | Remedy::Ignore | Remedy::DropOld => {}
            }
        }
    }

    /// Asks for one topic anew on every connection that carries it.
    fn renew(&mut self, topic: &str, now: Stamp) {
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
    fn share_guess(&mut self) {
        if self.members.len() < 2 {
            return;
        }
        let Some(guess) = self.members.iter().find_map(|member| member.sorter.guess()).cloned() else { return };
        for member in &mut self.members {
            if member.sorter.guess().is_none() {
                let source = member.source();
                member.sorter.adopt_guess(&guess, &mut Alone { outlet: &mut self.outlet, source });
            }
        }
    }

    fn count_open(&mut self) {
        let open = self.members.iter().filter(|member| member.is_open()).count();
        self.meters.gauge(&names::UPSTREAM_CONNECTIONS, &[]).set(open as f64);
        self.outlet.paused(open == 0);
    }

    fn index_of(&self, id: LinkId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }
}

/// What the venue calls the subscription of this item on this connection, if it has said so.
fn bound_key(sorter: &Sorter, item: &Item) -> Option<String> {
    sorter.bound_key(&[("channel", &item.channel), ("symbol", &item.symbol)]).map(str::to_string)
}

pub(super) fn in_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
