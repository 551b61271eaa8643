//! The simulation's venue: numbered messages to whoever is connected.

use std::collections::BTreeMap;

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
