//! All connections of the feed: their number, their states, their events.

use std::task::Poll;
use std::time::Duration;

use crate::bus::clock::Clock;
use crate::profile::Profile;
use crate::words::stamp::Stamp;

use crate::intake::classify::{Classifier, Guess};
use crate::intake::connection::attempt::EndpointValues;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::established::Established;
use crate::intake::connection::lease::Lease;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::transport::Event;
use crate::intake::connection::{Connection, ConnectionRole, FeedPart};
use crate::intake::time::{in_s, ns};
use crate::intake::update::{ConnectionId, Generation};
use crate::intake::upstream::addresses::FeedAddresses;

/// Events of one connection taken in one go, before deadlines, other connections and the stop signal get their turn:
/// about 100 us of work.
const BATCH_EVENTS: usize = 256;

pub(super) struct Connections {
    list: Vec<Connection>,
    pub addresses: FeedAddresses,
    rules: ConnectionRules,
    /// Connections ever made.
    count: u32,
    /// Generation of the newest opening.
    generation: u32,
    events: Vec<ConnectionEvent>,
    /// When all connections were last polled: what had arrived by then was gathered.
    polled: Stamp,
}

/// An event of a connection, and its time.
pub(super) type ConnectionEvent = (ConnectionId, Event, Stamp);

/// Rules shared by all connections.
pub(super) struct ConnectionRules {
    /// Connections at a time.
    pub max: usize,
    pub backoff: Backoff,
    /// Data for this long prove a connection.
    pub sustained: Duration,
    /// Age at which a connection is replaced.
    pub rotate_after: Option<Duration>,
}

impl Connections {
    pub(super) fn new(addresses: FeedAddresses, rules: ConnectionRules) -> Connections {
        Connections {
            list: Vec::new(),
            addresses,
            rules,
            count: 0,
            generation: 0,
            events: Vec::new(),
            polled: Stamp::default(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.list.iter_mut()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.list.iter().find(|connection| connection.id() == id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.list.iter_mut().find(|connection| connection.id() == id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.list.iter().map(Connection::id).collect()
    }

    pub(super) fn max(&self) -> usize {
        self.rules.max
    }

    pub(super) fn polled(&self) -> Stamp {
        self.polled
    }

    pub(super) fn change_rules(&mut self, rules: ConnectionRules) {
        self.rules = rules;
    }

    /// From now on the connection has the addresses that are in force, and no history with them.
    pub(super) fn readdress(&mut self, id: ConnectionId) {
        let Connections { list, addresses, rules, .. } = self;
        if let Some(connection) = list.iter_mut().find(|connection| connection.id() == id) {
            let own = addresses.of_branch(connection.part().branch);
            connection.readdress((own, rules.backoff.clone()), addresses.held_ns());
        }
    }

    /// Adds a connection by these terms; the next turn dials it.
    pub(super) fn add(
        &mut self,
        part: FeedPart,
        role: ConnectionRole,
        (profile, version): (&Profile, u32),
        now: Stamp,
    ) -> ConnectionId {
        let id = ConnectionId(self.count);
        self.count += 1;
        let addresses = (self.addresses.of_branch(part.branch), self.rules.backoff.clone());
        let classifier = Classifier::of_branch(profile, part.branch);
        let mut connection = Connection::new(id, (part, role), addresses, classifier);
        connection.version = version;
        connection.hold(self.addresses.held_ns(), now);
        self.list.push(connection);
        id
    }

    /// Waits for events on any connection and gathers them, or until one of them has sent its queue and can take more.
    pub(super) async fn gather(&mut self, clock: Clock) {
        let Connections { list, events, polled, .. } = self;
        std::future::poll_fn(|cx| {
            *polled = clock.now();
            let mut has_written = false;
            for connection in list.iter_mut() {
                let takes_more = connection.transport.takes_more();
                for _ in 0..BATCH_EVENTS {
                    let Poll::Ready(event) = connection.transport.poll(cx, clock.now()) else { break };
                    events.push((connection.id(), event, clock.now()));
                }
                has_written |= !takes_more && connection.transport.takes_more();
            }
            if events.is_empty() && !has_written { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// The gathered events. `recycle` takes the memory back.
    pub(super) fn take_events(&mut self) -> Vec<ConnectionEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn recycle(&mut self, events: Vec<ConnectionEvent>) {
        self.events = events;
    }

    pub(super) fn dial(&mut self, id: ConnectionId, values: EndpointValues, now: Stamp) {
        let Connections { list, addresses, .. } = self;
        if let Some(connection) = list.iter_mut().find(|connection| connection.id() == id) {
            connection.dial_at_ns = None;
            let address = connection.address();
            addresses.dial(&mut connection.transport, address, values, now);
        }
    }

    /// The connection is open, with this protocol and these values.
    pub(super) fn opened(&mut self, id: ConnectionId, (protocol, lease): (Protocol, Lease), now: Stamp) {
        self.generation += 1;
        let generation = Generation(self.generation);
        let rotate_at_ns = self.rules.rotate_after.map(|after| now.mono_ns + ns(after));
        if let Some(connection) = self.get_mut(id) {
            connection.open(generation, Established::new((protocol, lease), now, rotate_at_ns));
        }
    }

    /// The connection has ended, or could not be opened. Returns the plan for the log.
    pub(super) fn lost(&mut self, id: ConnectionId, loss: &Loss, now: Stamp) -> String {
        let sustained = self.rules.sustained;
        let Some(connection) = self.get_mut(id) else { return String::new() };
        let address = connection.address();
        let mut wait = connection.lost(loss, sustained, now, &mut rand::rng());
        let (attempts, retry_ns) = (connection.attempts(), connection.retry_ns_at(address));
        if loss.is_ban() || loss.retry_after(now).is_some() {
            self.addresses.hold(address, retry_ns);
            for connection in &mut self.list {
                let held = connection.hold(self.addresses.held_ns(), now);
                if connection.id() == id {
                    wait = held;
                }
            }
        }
        format!("reconnecting in {} (attempt {attempts})", in_s(wait))
    }

    /// Whether the connection is to be dialed again: its earlier events no longer matter.
    pub(super) fn is_given_up(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.dial_at_ns.is_some())
    }

    /// Forgets a connection that its successor replaced and that is closed.
    pub(super) fn forget_left(&mut self, id: ConnectionId) {
        self.list.retain(|connection| connection.id() != id || connection.role() != ConnectionRole::Leaving);
    }

    /// Closes a connection that its successor replaced. Returns its generation, if it was open.
    pub(super) fn leave(&mut self, id: ConnectionId) -> Option<Generation> {
        let connection = self.get_mut(id)?;
        let generation = connection.is_open().then(|| connection.generation());
        connection.leave();
        if connection.transport.is_empty() {
            self.forget_left(id);
        }
        generation
    }

    pub(super) fn has_room(&self) -> bool {
        self.list.len() < self.rules.max
    }

    pub(super) fn open_count(&self) -> usize {
        self.list.iter().filter(|connection| connection.is_open()).count()
    }

    /// The successor of this connection.
    pub(super) fn successor_of(&self, id: ConnectionId) -> Option<&Connection> {
        self.list.iter().find(|connection| connection.role() == ConnectionRole::Successor { of: id })
    }

    /// This connection and its successor.
    pub(super) fn with_successor(&mut self, id: ConnectionId) -> impl Iterator<Item = &mut Connection> {
        let successor = ConnectionRole::Successor { of: id };
        self.list.iter_mut().filter(move |connection| connection.id() == id || connection.role() == successor)
    }

    /// Whether several connections carry the same.
    pub(super) fn overlap(&self) -> bool {
        self.list.iter().any(|connection| connection.part().leg > 0 || connection.is_successor())
    }

    /// Whether another leg carries the same as this connection.
    pub(super) fn is_covered(&self, id: ConnectionId) -> bool {
        let Some(FeedPart { leg, branch }) = self.get(id).map(Connection::part) else { return false };
        let others = self.list.iter().filter(|connection| connection.part().branch == branch);
        others.filter(|connection| connection.part().leg != leg).any(Connection::is_open)
    }

    /// Whether no connection delivers.
    pub(super) fn are_silent(&self) -> bool {
        self.established().all(|established| established.is_silent)
    }

    /// When the first of them was opened.
    pub(super) fn opened_since(&self) -> Option<Stamp> {
        self.established().map(Established::opened).min_by_key(|opened| opened.mono_ns)
    }

    /// Since when the feed is outdated, if all connections that deliver say so.
    pub(super) fn outdated_since_ms(&self) -> Option<u64> {
        let speaking = || self.established().filter(|established| !established.is_silent);
        let is_outdated = speaking().all(|established| established.outdated_since_ms().is_some());
        speaking().filter_map(Established::outdated_since_ms).min().filter(|_| is_outdated)
    }

    fn established(&self) -> impl Iterator<Item = &Established> {
        self.list.iter().filter_map(|connection| connection.established.as_ref())
    }

    /// Whether no connection has received a message that could name topics.
    pub(super) fn are_untouched(&self) -> bool {
        self.list.iter().all(|connection| connection.classifier.is_untouched())
    }

    /// The first guess of any connection.
    pub(super) fn guess(&self) -> Option<&Guess> {
        self.list.iter().find_map(|connection| connection.classifier.guess())
    }

    /// From now on messages are classified by this profile.
    pub(super) fn classify_by(&mut self, profile: &Profile) {
        for connection in &mut self.list {
            connection.classifier = Classifier::of_branch(profile, connection.part().branch);
        }
    }

    /// Closes all of them.
    pub(super) async fn close(&mut self) {
        futures_util::future::join_all(self.list.iter_mut().map(|connection| connection.transport.closed())).await;
    }
}
