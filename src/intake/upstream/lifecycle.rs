//! Lifecycle of connections: opening, end, replacement.

use crate::words::stamp::Stamp;

use crate::intake::classify::Classifier;
use crate::intake::connection::established::Established;
use crate::intake::connection::lease::Lease;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::{Connection, ConnectionRole, FeedPart};
use crate::intake::update::ConnectionId;
use crate::intake::upstream::{Upstream, UpstreamError};

/// A successor carries the stream when its data flows, or this long after its opening: some feeds are quiet.
const QUIET_SUCCESSOR_NS: u64 = 5_000_000_000;
/// The old connection stays this much longer, so that messages on their way are not lost.
const OVERLAP_NS: u64 = 500_000_000;
/// How long copies of an old connection's messages may still arrive.
const COPIES_NS: u64 = 10_000_000_000;
/// A request for a new connection sooner than this after the last one is not obeyed at once.
const ASKED_TOO_SOON_MS: u64 = 1000;

/// A connection on which messages are missing is replaced no sooner than this after its opening: a feed that loses
/// messages all the time is not dialed for each of them.
const INCOMPLETE_NS: u64 = 5_000_000_000;

impl Upstream {
    /// Adds a connection; the next turn dials it.
    pub(super) fn join(&mut self, part: FeedPart, role: ConnectionRole, now: Stamp) {
        let id = self.connections.add(part, role, (&self.profile, self.version), now);
        if role == ConnectionRole::Regular {
            let changes = self.assignment.add_connection(part, id);
            self.reassign(changes, now);
        }
        self.check_overlap(now);
    }

    pub(super) fn opened(&mut self, id: ConnectionId, lease: Lease, now: Stamp) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        // Messages that waited for a key of the old connection wait no longer.
        connection.classifier.reset();
        self.pipeline.receive_waited(connection);
        if connection.version != self.version {
            connection.classifier = Classifier::of_branch(&self.profile, connection.part().branch);
            connection.version = self.version;
        }
        let role = connection.role();
        let items = self.assignment.items_of(connection.carries_for());
        let address = connection.address();
        let shown = self.connections.addresses.shown(address);
        tracing::info!(profile = self.profile.name, connection = id.0, items = items.len(), "connected to {shown}");
        self.pipeline.output.connected();
        let protocol = Protocol::open((self.config.clone(), lease.taken.clone()), &items, now);
        self.connections.opened(id, (protocol, lease), now);
        if self.config.subscribe.as_ref().is_some_and(|how| !how.sends()) {
            // The URL subscribed to them.
            items.iter().for_each(|item| self.await_data(&item.name, now));
        }
        if role == ConnectionRole::Regular {
            let changes = self.assignment.opened(id);
            self.reassign(changes, now);
        }
        self.count_open();
    }

    pub(super) fn lost(&mut self, id: ConnectionId, loss: Loss, now: Stamp) -> Result<(), UpstreamError> {
        let Some(role) = self.connections.get(id).map(Connection::role) else { return Ok(()) };
        if role == ConnectionRole::Leaving {
            self.connections.forget_left(id);
            return Ok(());
        }
        if let Loss::Closed { code: Some(code), reason } = &loss
            && self.profile.retry.fatal_codes.contains(code)
        {
            let (profile, message) = (self.profile.name.clone(), format!("closed with {code} `{reason}`"));
            return Err(UpstreamError::Refused { profile, rule: "backoff.fatal_codes".to_string(), message });
        }
        let loss = loss.with_limit_of(self.limit_setting);
        let plan = self.connections.lost(id, &loss, now);
        let was_last = self.connections.open_count() == 0;
        self.pipeline.output.lost(&loss, plan, was_last, now);
        self.check_outdated(false);
        self.abandon(id, role, now);
        Ok(())
    }

    /// The connection is lost, for a reason that may pass.
    pub(super) fn give_up(&mut self, id: ConnectionId, loss: Loss, now: Stamp) {
        self.lost(id, loss, now).ok();
    }

    /// The connection is gone: its successor, or the others of its leg, take over what it carried.
    fn abandon(&mut self, id: ConnectionId, role: ConnectionRole, now: Stamp) {
        self.requests.connection_lost(id);
        match self.connections.successor_of(id).filter(|successor| successor.is_open()).map(Connection::id) {
            Some(successor) => self.succeed(successor, now),
            None if role == ConnectionRole::Regular => {
                let changes = self.assignment.lost(id);
                self.reassign(changes, now);
            }
            None => {}
        }
        self.renew_orphans(id, now);
        self.count_open();
    }

    /// Topics that this connection owned need a snapshot from another one. Returns their names.
    pub(super) fn renew_orphans(&mut self, id: ConnectionId, now: Stamp) -> Vec<String> {
        let orphans = self.pipeline.connection_lost(id);
        orphans.iter().for_each(|topic| self.renew(topic, now));
        orphans
    }

    pub(super) fn reconnect_requested(
        &mut self,
        id: ConnectionId,
        rule: &str,
        now: Stamp,
    ) -> Result<(), UpstreamError> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let loss = Loss::Asked { rule: rule.to_string() };
        match connection.role() {
            ConnectionRole::Leaving => return Ok(()),
            ConnectionRole::Successor { .. } => return self.lost(id, loss, now),
            ConnectionRole::Regular if self.connections.successor_of(id).is_some() => return Ok(()),
            ConnectionRole::Regular => {}
        }
        // A connection that failed at the login has nothing that a successor could take over.
        let carries = |established: &Established| {
            now.ms_since(established.opened()) >= ASKED_TOO_SOON_MS && established.protocol.is_open()
        };
        let has_room = self.connections.has_room();
        let established = self.connections.get_mut(id).and_then(|connection| connection.established.as_mut());
        match established.filter(|established| has_room && carries(established)) {
            None => self.lost(id, loss, now),
            Some(established) => {
                tracing::info!("upstream: {loss}; a new connection takes over");
                established.rotate_at_ns = Some(now.mono_ns);
                Ok(())
            }
        }
    }

    /// Messages are missing on this connection. It goes on until a new one has taken over.
    pub(super) fn replace_incomplete(&mut self, id: ConnectionId, now: Stamp) {
        if self.connections.successor_of(id).is_some() {
            return;
        }
        let established = self.connections.get_mut(id).and_then(|connection| connection.established.as_mut());
        let Some(established) = established else { return };
        let due_ns = now.mono_ns.max(established.opened().mono_ns + INCOMPLETE_NS);
        if established.rotate_at_ns.is_none_or(|at| at > due_ns) {
            established.rotate_at_ns = Some(due_ns);
            tracing::info!(connection = id.0, "upstream: messages are missing; a new connection takes over");
            self.pipeline.output.count_reconnect(Loss::GAP);
        }
    }

    /// Begins to replace connections that are due.
    pub(super) fn rotate_due(&mut self, now: Stamp) {
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let (part, is_regular) = (connection.part(), connection.role() == ConnectionRole::Regular);
            let established = connection.established.as_mut().filter(|_| is_regular);
            let due = established.and_then(|established| established.rotate_at_ns.take_if(|at| *at <= now.mono_ns));
            if due.is_none() || self.connections.successor_of(id).is_some() {
                continue;
            }
            if self.connections.has_room() {
                self.join(part, ConnectionRole::Successor { of: id }, now);
            } else if let Some(connection) = self.connections.get_mut(id) {
                connection.redial(now);
                self.requests.connection_lost(id);
                self.renew_orphans(id, now);
                self.count_open();
            }
        }
    }

    /// Successors that carry the stream take over.
    pub(super) fn promote(&mut self, now: Stamp) {
        let is_ready = |connection: &&Connection| takes_over_ns(connection).is_some_and(|at| at <= now.mono_ns);
        loop {
            let Some(id) = self.connections.iter().find(is_ready).map(Connection::id) else { return };
            self.succeed(id, now);
        }
    }

    fn succeed(&mut self, id: ConnectionId, now: Stamp) {
        let Some(successor) = self.connections.get_mut(id) else { return };
        let Some(of) = successor.succeed() else { return };
        let generation = successor.generation();
        let changes = self.assignment.replace(of, id);
        self.meters.rotations.increment(1);
        self.requests.connection_lost(of);
        let orphans = self.renew_orphans(of, now);
        self.let_go(changes, now);
        if let Some(before) = self.connections.leave(of) {
            self.pipeline.hand_over((before, generation), &orphans);
        }
        tracing::info!(connection = id.0, "upstream: a new connection has taken over");
        self.copies_until_ns = now.mono_ns + COPIES_NS;
        self.count_open();
    }

    /// Whether copies of messages are expected.
    pub(super) fn check_overlap(&mut self, now: Stamp) {
        if self.connections.overlap() || self.assignment.is_moving() {
            self.copies_until_ns = now.mono_ns + COPIES_NS;
        } else if self.copies_until_ns <= now.mono_ns {
            self.copies_until_ns = 0;
        }
        self.pipeline.overlap(self.copies_until_ns > 0);
    }

    pub(super) fn count_open(&mut self) {
        let open = self.connections.open_count();
        self.meters.connections.set(open as f64);
        self.pipeline.paused(open == 0);
    }
}

/// When a successor may take over; none if unknown yet.
pub(super) fn takes_over_ns(connection: &Connection) -> Option<u64> {
    let established = connection.established.as_ref().filter(|_| connection.is_successor())?;
    let quiet_ns = established.opened().mono_ns.saturating_add(QUIET_SUCCESSOR_NS);
    let flows_ns = established.first_update().map_or(quiet_ns, |first| first.mono_ns.min(quiet_ns));
    established.protocol.is_settled().then(|| flows_ns.saturating_add(OVERLAP_NS))
}
