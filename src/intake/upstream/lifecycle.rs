//! What follows when a connection opens, ends, or is replaced by another one.

use std::time::Duration;

use crate::intake::connection::loss::{Loss, in_s};
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::transport::Transport;
use crate::intake::upstream::assignment::ConnectionId;
use crate::words::metrics as names;
use crate::words::stamp::Stamp;

use crate::intake::upstream::connections::{Connection, ConnectionRole};
use crate::intake::upstream::inbound::ClosedSink;
use crate::intake::upstream::tick::in_ns;
use crate::intake::upstream::{Upstream, UpstreamError};

/// A successor counts as carrying the stream when its data flows, or this long after it was opened: some feeds are quiet.
const QUIET_SUCCESSOR_NS: u64 = 5_000_000_000;
/// The old connection stays so much longer: what it still has on its way is not lost.
const OVERLAP_NS: u64 = 500_000_000;
/// How long copies of what an old connection has brought may still come.
const MERGING_NS: u64 = 10_000_000_000;
/// A venue that asks for a new connection sooner than this after the last one is not obeyed at once.
const ASKED_TOO_SOON_MS: u64 = 1000;

impl Upstream {
    pub(super) fn opened(&mut self, id: ConnectionId, now: Stamp) {
        let Some(index) = self.index_of(id) else { return };
        let items = self.items_for(&self.members[index]);
        let place = self.members[index].place;
        let shown = self.target(place).map(|target| target.shown()).unwrap_or_default();
        tracing::info!(profile = self.profile.name, connection = id.0, items = items.len(), "connected to {shown}");
        self.outlet.connected();
        self.lines += 1;
        let member = &mut self.members[index];
        member.line = self.lines;
        member.dialogue = Some(Protocol::open(self.script.clone(), &items, now));
        member.opened = Some(now);
        member.sorter.reset(&mut ClosedSink { outlet: &mut self.outlet, source: member.source() });
        member.rotate_at_ns = self.rotate_after.map(|after| now.mono_ns + in_ns(after));
        if self.script.subscribe.as_ref().is_some_and(|how| how.send.is_none()) {
            // They were asked for by the URL.
            items.iter().for_each(|item| self.await_data(&item.name, now));
        }
        if self.members[index].role == ConnectionRole::Regular {
            let orders = self.roster.opened(id);
            self.obey(orders, now);
        }
        self.count_open();
    }

    pub(super) fn lost(&mut self, id: ConnectionId, loss: Loss, now: Stamp) -> Result<(), UpstreamError> {
        let Some(index) = self.index_of(id) else { return Ok(()) };
        if self.members[index].role == ConnectionRole::Leaving {
            self.members.remove(index);
            return Ok(());
        }
        if let Loss::Closed { code: Some(code), reason } = &loss
            && self.profile.retry.fatal_codes.contains(code)
        {
            let (profile, message) = (self.profile.name.clone(), format!("closed with {code} `{reason}`"));
            return Err(UpstreamError::Refused { profile, rule: "backoff.fatal_codes".to_string(), message });
        }
        let loss = self.with_limit_named(loss);
        let member = &mut self.members[index];
        member.link = Transport::Empty;
        let place = member.place;
        let mut wait = member.lost(&loss, self.sustained, now, &mut rand::rng());
        if loss.is_ban() || loss.retry_after(now).is_some() {
            wait = self.hold_back(index, place, now);
        }
        let member = &self.members[index];
        let plan = format!("reconnecting in {} (attempt {})", in_s(wait), member.attempts());
        let role = member.role;
        let was_last = !self.members.iter().any(Connection::is_open);
        self.outlet.lost(&loss, plan, was_last, now);
        self.judge_outdated(false);
        self.abandon(id, role, now);
        Ok(())
    }

    /// The limit that was exceeded may be the profile's or the operator's.
    fn with_limit_named(&self, loss: Loss) -> Loss {
        match loss {
            Loss::TooBig { bytes, max, .. } => Loss::TooBig { bytes, max, setting: self.limit_setting },
            other => other,
        }
    }

    /// A connection was told to stay away from this address: so do all, at every address of the same host, because venues
    /// count attempts and lengthen bans by where they come from. Gives the wait of that connection.
    fn hold_back(&mut self, index: usize, place: usize, now: Stamp) -> Duration {
        let until_ns = self.members[index].retry_ns_at(place);
        let hosts: Vec<Option<String>> = (0..self.urls.len()).map(|place| self.host_at(place)).collect();
        for (other, held_ns) in self.held_ns.iter_mut().enumerate() {
            if hosts[other] == hosts[place] {
                *held_ns = until_ns.max(*held_ns);
            }
        }
        let mut wait = Duration::ZERO;
        for (number, member) in self.members.iter_mut().enumerate() {
            let held = member.hold(&self.held_ns, now);
            if number == index {
                wait = held;
            }
        }
        wait
    }

    fn host_at(&self, place: usize) -> Option<String> {
        self.target(place).ok().map(|target| target.host().to_string())
    }

    /// The connection is gone: its successor, or the others of its leg, take over what it carried.
    fn abandon(&mut self, id: ConnectionId, role: ConnectionRole, now: Stamp) {
        self.fail_requests(id);
        let successor = self.members.iter().position(|member| member.role == ConnectionRole::Successor { of: id });
        match successor.filter(|index| self.members[*index].is_open()) {
            Some(index) => self.succeed(index, now),
            None if role == ConnectionRole::Regular => {
                let orders = self.roster.lost(id);
                self.obey(orders, now);
            }
            None => {}
        }
        self.renew_orphans(id, now);
        self.count_open();
    }

    /// Topics for which this connection was believed need a snapshot from another one. Gives their names.
    pub(super) fn renew_orphans(&mut self, id: ConnectionId, now: Stamp) -> Vec<String> {
        let orphans = self.outlet.merger().gone(id);
        orphans.iter().for_each(|topic| self.renew(topic, now));
        orphans
    }

    pub(super) fn asked_to_reconnect(&mut self, id: ConnectionId, rule: &str, now: Stamp) -> Result<(), UpstreamError> {
        let Some(index) = self.index_of(id) else { return Ok(()) };
        let member = &mut self.members[index];
        let loss = Loss::Asked { rule: rule.to_string() };
        match member.role {
            ConnectionRole::Leaving => return Ok(()),
            ConnectionRole::Successor { .. } => return self.lost(id, loss, now),
            ConnectionRole::Regular => {}
        }
        if self.has_successor(id) {
            return Ok(());
        }
        let member = &self.members[index];
        let is_early = member.opened.is_none_or(|opened| now.ms_since(opened) < ASKED_TOO_SOON_MS);
        // One that was turned away at the log-in has nothing that a successor could take over.
        let is_open = member.dialogue.as_ref().is_some_and(Protocol::is_open);
        if is_early || !is_open || !self.has_room_for_one_more() {
            return self.lost(id, loss, now);
        }
        tracing::info!("upstream: {loss}; a new connection takes over");
        self.members[index].rotate_at_ns = Some(now.mono_ns);
        Ok(())
    }

    pub(super) fn has_room_for_one_more(&self) -> bool {
        self.members.len() < self.connections_max
    }

    fn has_successor(&self, id: ConnectionId) -> bool {
        self.members.iter().any(|member| member.role == ConnectionRole::Successor { of: id })
    }

    /// Begins to replace connections whose time has come.
    pub(super) fn rotate_due(&mut self, now: Stamp) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.role != ConnectionRole::Regular || member.rotate_at_ns.is_none_or(|at| at > now.mono_ns) {
                continue;
            }
            member.rotate_at_ns = None;
            let (id, leg) = (member.id, member.leg);
            if self.has_successor(id) {
                continue;
            }
            if self.has_room_for_one_more() {
                self.join(leg, ConnectionRole::Successor { of: id }, now);
            } else {
                self.members[index].redial(now);
                self.fail_requests(id);
                self.renew_orphans(id, now);
                self.count_open();
            }
        }
    }

    /// When a successor may take over; none if that is not known yet.
    pub(super) fn takes_over_ns(member: &Connection) -> Option<u64> {
        let dialogue = member.dialogue.as_ref().filter(|_| matches!(member.role, ConnectionRole::Successor { .. }))?;
        let quiet_ns = member.opened?.mono_ns.saturating_add(QUIET_SUCCESSOR_NS);
        let flows_ns = member.data.map_or(quiet_ns, |(first, _)| first.mono_ns.min(quiet_ns));
        dialogue.is_settled().then(|| flows_ns.saturating_add(OVERLAP_NS))
    }

    /// Successors that carry the stream take over.
    pub(super) fn promote(&mut self, now: Stamp) {
        let is_ready = |member: &Connection| Self::takes_over_ns(member).is_some_and(|at| at <= now.mono_ns);
        while let Some(index) = self.members.iter().position(is_ready) {
            self.succeed(index, now);
        }
    }

    fn succeed(&mut self, index: usize, now: Stamp) {
        let ConnectionRole::Successor { of } =
            std::mem::replace(&mut self.members[index].role, ConnectionRole::Regular)
        else {
            return;
        };
        let (id, line) = (self.members[index].id, self.members[index].line);
        let orders = self.roster.replace(of, id);
        self.meters.counter(&names::UPSTREAM_ROTATIONS, &[]).increment(1);
        self.fail_requests(of);
        let orphans = self.renew_orphans(of, now);
        self.let_go(orders, now);
        if let Some(old) = self.index_of(of) {
            if self.members[old].is_open() {
                let before = self.members[old].line;
                self.outlet.goes_on((before, line), &orphans);
            }
            self.members[old].leave();
            self.members.retain(|member| member.role != ConnectionRole::Leaving || !member.link.is_empty());
        }
        tracing::info!(connection = id.0, "upstream: a new connection has taken over");
        self.merging_until_ns = now.mono_ns + MERGING_NS;
        self.count_open();
    }

    /// Whether copies of messages are to be expected.
    pub(super) fn judge_merging(&mut self, now: Stamp) {
        let legs = self.members.iter().map(|member| member.leg).max().unwrap_or(0);
        let has_successor = self.members.iter().any(|member| matches!(member.role, ConnectionRole::Successor { .. }));
        let overlaps = legs > 0 || has_successor || self.roster.is_moving();
        if overlaps {
            self.merging_until_ns = now.mono_ns + MERGING_NS;
        } else if self.merging_until_ns <= now.mono_ns {
            self.merging_until_ns = 0;
        }
        self.outlet.merge(self.merging_until_ns > 0);
    }

    pub(super) fn count_open(&mut self) {
        let open = self.members.iter().filter(|member| member.is_open()).count();
        self.meters.gauge(&names::UPSTREAM_CONNECTIONS, &[]).set(open as f64);
        self.outlet.paused(open == 0);
    }

    fn index_of(&self, id: ConnectionId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }
}
