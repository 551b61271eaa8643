//! One connection to the feed over its whole life: dialed, open, lost, dialed again, perhaps at another address.

mod answers;
pub(crate) mod attempt;
pub(crate) mod backoff;
#[cfg(test)]
mod dead;
pub(crate) mod dial;
pub(crate) mod established;
pub(crate) mod feed_tls;
pub(crate) mod inflating;
pub(crate) mod lease;
pub(crate) mod loss;
pub(crate) mod protocol;
pub(crate) mod protocol_config;
pub(crate) mod proxy;
mod race;
pub(crate) mod rate_limit;
#[cfg(test)]
mod recordings;
pub(crate) mod redirect;
pub(crate) mod resolve;
pub(crate) mod retry_after;
pub(crate) mod subscriptions;
#[cfg(test)]
mod tests;
pub(crate) mod transport;
pub(crate) mod upstream_line;
mod venue_call;

use std::ops::Range;
use std::time::Duration;

use rand::Rng;

use crate::words::stamp::Stamp;

use crate::intake::classify::Classifier;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::established::Established;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::transport::Transport;
use crate::intake::time::ns;
use crate::intake::update::{ConnectionId, Generation, UpdateSource};

/// The part of a feed that a connection carries: a share of one copy, from one of its URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FeedPart {
    pub leg: usize,
    /// 0 is the feed's own URL.
    pub branch: usize,
}

pub(crate) struct Connection {
    id: ConnectionId,
    part: FeedPart,
    role: ConnectionRole,
    /// Generation of its last opening.
    generation: Generation,
    pub transport: Transport,
    pub classifier: Classifier,
    /// While it is open.
    pub established: Option<Established>,
    /// When to dial; none while it is dialed or open, or if it is not wanted.
    pub dial_at_ns: Option<u64>,
    /// Index of its current or next address.
    address: usize,
    /// The first of its addresses, which follow each other.
    first_address: usize,
    addresses: Vec<AddressState>,
    /// Of the terms that it was made by.
    pub version: u32,
}

/// Role of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionRole {
    Regular,
    /// The successor of this one.
    Successor {
        of: ConnectionId,
    },
    /// Replaced by its successor; it is being closed, and is then forgotten.
    Leaving,
}

/// State of one address.
#[derive(Clone)]
struct AddressState {
    backoff: Backoff,
    /// Not to be dialed before this.
    retry_ns: u64,
}

impl Connection {
    /// `addresses` are those of its branch; each leg begins at another one.
    pub(crate) fn new(
        id: ConnectionId,
        (part, role): (FeedPart, ConnectionRole),
        (addresses, backoff): (Range<usize>, Backoff),
        classifier: Classifier,
    ) -> Connection {
        Connection {
            id,
            part,
            role,
            generation: Generation::default(),
            transport: Transport::Empty,
            classifier,
            established: None,
            dial_at_ns: Some(0),
            address: addresses.start + part.leg % addresses.len(),
            first_address: addresses.start,
            addresses: vec![AddressState { backoff, retry_ns: 0 }; addresses.len()],
            version: 0,
        }
    }

    /// It has other addresses from now on, not to be dialed before these times; what is open stays open.
    pub(crate) fn readdress(&mut self, (addresses, backoff): (Range<usize>, Backoff), held_ns: &[u64]) {
        self.address = addresses.start + self.part.leg % addresses.len();
        self.first_address = addresses.start;
        let held_ns = held_ns.get(addresses).unwrap_or_default().iter();
        self.addresses = held_ns.map(|held_ns| AddressState { backoff: backoff.clone(), retry_ns: *held_ns }).collect();
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn part(&self) -> FeedPart {
        self.part
    }

    pub(crate) fn role(&self) -> ConnectionRole {
        self.role
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn address(&self) -> usize {
        self.address
    }

    pub(crate) fn is_successor(&self) -> bool {
        matches!(self.role, ConnectionRole::Successor { .. })
    }

    /// The source of its updates, its classifier, and its open state, while it is open.
    pub(crate) fn parts(&mut self) -> (UpdateSource, &Classifier, Option<&mut Established>) {
        let source = UpdateSource { connection: self.id, leg: self.part.leg, generation: self.generation };
        (source, &self.classifier, self.established.as_mut())
    }

    /// The connection whose items it subscribes to.
    pub(crate) fn carries_for(&self) -> ConnectionId {
        match self.role {
            ConnectionRole::Successor { of } => of,
            ConnectionRole::Regular | ConnectionRole::Leaving => self.id,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.established.is_some()
    }

    pub(crate) fn protocol(&mut self) -> Option<&mut Protocol> {
        self.established.as_mut().map(|established| &mut established.protocol)
    }

    /// It is open.
    pub(crate) fn open(&mut self, generation: Generation, established: Established) {
        self.generation = generation;
        self.established = Some(established);
    }

    /// It has replaced the one whose successor it was. Returns that one.
    pub(crate) fn succeed(&mut self) -> Option<ConnectionId> {
        match std::mem::replace(&mut self.role, ConnectionRole::Regular) {
            ConnectionRole::Successor { of } => Some(of),
            ConnectionRole::Regular | ConnectionRole::Leaving => None,
        }
    }

    /// It has ended, or could not be opened. Decides when and where to retry; returns the wait.
    pub(crate) fn lost(&mut self, loss: &Loss, sustained: Duration, now: Stamp, rng: &mut impl Rng) -> Duration {
        let flowed = self.established.as_ref().map_or(Duration::ZERO, Established::flowed);
        let address = &mut self.addresses[self.address - self.first_address];
        if flowed >= sustained {
            address.backoff.reset();
        }
        let wait = address.backoff.wait_after(loss, now, rng);
        // Another connection may have learnt that the venue demands a longer wait.
        address.retry_ns = address.retry_ns.max(now.mono_ns.saturating_add(ns(wait)));
        self.transport = Transport::Empty;
        self.established = None;
        self.choose(1, now)
    }

    /// Its addresses must not be dialed before these times, as another connection has learnt. Returns the wait.
    pub(crate) fn hold(&mut self, until_ns: &[u64], now: Stamp) -> Duration {
        for (address, until_ns) in self.addresses.iter_mut().zip(until_ns.iter().skip(self.first_address)) {
            address.retry_ns = address.retry_ns.max(*until_ns);
        }
        if self.dial_at_ns.is_some() { self.choose(0, now) } else { Duration::ZERO }
    }

    /// When an address may be dialed again.
    pub(crate) fn retry_ns_at(&self, address: usize) -> u64 {
        self.addresses[address - self.first_address].retry_ns
    }

    /// Moves to the address that may be dialed soonest, the first in turn from `first` after this one. Returns the wait.
    fn choose(&mut self, first: usize, now: Stamp) -> Duration {
        let count = self.addresses.len();
        let in_turn = (first..first + count).map(|step| (self.address - self.first_address + step) % count);
        let soonest = in_turn.min_by_key(|place| self.addresses[*place].retry_ns.max(now.mono_ns));
        self.address = soonest.map_or(self.address, |place| self.first_address + place);
        let at_ns = self.retry_ns_at(self.address).max(now.mono_ns);
        self.dial_at_ns = Some(at_ns);
        Duration::from_nanos(at_ns - now.mono_ns)
    }

    /// Ends it from our side, to be dialed again as soon as that is done.
    pub(crate) fn redial(&mut self, now: Stamp) {
        self.transport.close();
        self.established = None;
        self.dial_at_ns = Some(self.retry_ns_at(self.address).max(now.mono_ns));
    }

    /// Ends it from our side, permanently.
    pub(crate) fn leave(&mut self) {
        self.transport.close();
        self.established = None;
        self.role = ConnectionRole::Leaving;
        self.dial_at_ns = None;
    }

    /// Attempts in a row, at all addresses.
    pub(crate) fn attempts(&self) -> u32 {
        self.addresses.iter().map(|address| address.backoff.attempts()).sum()
    }
}
