//! The simulation's venue: numbered messages to whoever is connected.

use std::collections::BTreeMap;

use rand::RngExt;

use crate::node::NodeEvent;
use crate::simulation::{ClusterSimulation, MS, SimEvent};

/// What the venue does when a second node connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondConnection {
    Allowed,
    Refused,
    ClosesTheFirst,
}

pub struct SimVenue {
    pub second: SecondConnection,
    pub newest: u64,
    /// By number, the node that has it.
    connections: BTreeMap<u64, usize>,
    next: u64,
}

impl SimVenue {
    pub fn new(second: SecondConnection) -> SimVenue {
        SimVenue { second, newest: 0, connections: BTreeMap::new(), next: 1 }
    }

    pub fn connect(&mut self, node: usize) -> Option<u64> {
        match self.second {
            SecondConnection::Refused if !self.connections.is_empty() => return None,
            SecondConnection::ClosesTheFirst => self.connections.clear(),
            _ => {}
        }
        let connection = self.next;
        self.next += 1;
        self.connections.insert(connection, node);
        Some(connection)
    }

    pub fn close(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    pub fn has(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    pub fn connections(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.connections.iter().map(|(connection, node)| (*connection, *node))
    }
}

/// What nodes and the venue do with each other.
impl ClusterSimulation {
    pub(super) fn connect_later(&mut self, node: usize) {
        let (life, delay) = (self.nodes[node].life, self.rng.random_range(5 * MS..80 * MS));
        self.after(delay, SimEvent::Connect { node, life });
    }

    pub(super) fn connect(&mut self, node: usize, life: u32) {
        let own = &self.nodes[node];
        let is_connected = own.connection.is_some_and(|connection| self.venue.has(connection));
        if own.life != life || !own.is_running() || !own.wants_feed || is_connected {
            return;
        }
        let connection = self.venue.connect(node);
        self.nodes[node].connection = connection;
        // It notices that way, too, when the venue has closed it.
        let delay = self.rng.random_range(100 * MS..300 * MS);
        self.after(delay, SimEvent::Connect { node, life });
    }

    pub(super) fn publish(&mut self) {
        self.venue.newest += 1;
        let number = self.venue.newest;
        let connections: Vec<(u64, usize)> = self.venue.connections().collect();
        for (connection, node) in connections {
            let delay = self.rng.random_range(100..MS);
            self.after(delay, SimEvent::VenueSays { connection, node, number });
        }
        let delay = self.rng.random_range(5 * MS..80 * MS);
        self.after(delay, SimEvent::VenuePublishes);
    }

    pub(super) fn hear_venue(&mut self, connection: u64, node: usize, number: u64) {
        let own = &mut self.nodes[node];
        if own.connection == Some(connection) && own.is_running() {
            own.receive(number, self.now);
            self.give(node, NodeEvent::Tick);
        }
    }
}
