//! What nodes say of themselves, and what is known of the others by it.

use std::collections::HashMap;
use std::time::Duration;

use feed_log::chain::Chain;
use sha2::{Digest, Sha256};

use crate::position::LogPosition;

/// A node says hello this often.
pub const HELLO_EVERY: Duration = Duration::from_secs(2);
/// A node counts as alive for three hellos.
const ALIVE: Duration = Duration::from_secs(6);
/// More nodes than any backbone has. Further ones are not remembered.
const NODES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHello {
    pub node: u64,
    pub priority: u32,
    pub term: u64,
    /// The ingester of the term.
    pub ingester: u64,
    pub epoch: u64,
    pub next_offset: u64,
    pub chain: Chain,
    /// It has applied entries as they were committed, in this life.
    pub is_witness: bool,
    /// It takes over if it must.
    pub is_candidate: bool,
}

/// Other nodes, by what they said last.
#[derive(Debug, Default)]
pub struct Peers {
    heard: HashMap<u64, (NodeHello, Duration)>,
    /// The furthest in an epoch that any node ever said to be, perhaps one that is gone.
    furthest: Option<(u64, u64)>,
    /// The latest term that any node ever knew.
    term: u64,
}

impl Peers {
    pub fn hear(&mut self, hello: NodeHello, now: Duration) {
        if hello.term > 0 {
            let reached = (hello.epoch, hello.next_offset);
            match &mut self.furthest {
                Some((epoch, offset)) if *epoch == reached.0 => *offset = reached.1.max(*offset),
                furthest => *furthest = Some(reached),
            }
        }
        self.term = self.term.max(hello.term);
        self.heard.retain(|_, (_, at)| now.saturating_sub(*at) <= ALIVE);
        if self.heard.len() < NODES_MAX || self.heard.contains_key(&hello.node) {
            self.heard.insert(hello.node, (hello, now));
        }
    }

    pub fn is_alive(&self, node: u64, now: Duration) -> bool {
        self.heard.get(&node).is_some_and(|(_, at)| now.saturating_sub(*at) <= ALIVE)
    }

    /// The latest term that any node was known to know.
    pub fn term(&self) -> u64 {
        self.term
    }

    fn alive(&self, now: Duration) -> impl Iterator<Item = &NodeHello> {
        self.heard.values().filter(move |(_, at)| now.saturating_sub(*at) <= ALIVE).map(|(hello, _)| hello)
    }

    /// Whether a node was known to be further than this.
    pub fn any_is_ahead_of(&self, position: &LogPosition) -> bool {
        let LogPosition { term, epoch, next_offset, .. } = *position;
        self.term > term || self.furthest.is_some_and(|(of, reached)| of == epoch && reached > next_offset)
    }

    /// Whether a witness that is alive has exactly this tail.
    pub fn any_certifies(&self, epoch: u64, next_offset: u64, is_known: impl Fn(Chain) -> bool, now: Duration) -> bool {
        self.alive(now).any(|hello| {
            hello.is_witness && hello.epoch == epoch && hello.next_offset == next_offset && is_known(hello.chain)
        })
    }

    /// How many nodes go before this one when a term is to be begun.
    pub fn rank(&self, own: (u64, u32), term: u64, now: Duration) -> u32 {
        let place = |node: u64, priority: u32| (u32::MAX - priority, lot(node, term));
        let candidates = self.alive(now).filter(|hello| hello.is_candidate && hello.node != own.0);
        candidates.filter(|hello| place(hello.node, hello.priority) < place(own.0, own.1)).count() as u32
    }
}

/// Another order of the nodes in each term.
fn lot(node: u64, term: u64) -> [u8; 8] {
    first_bytes(&[node, term])
}

/// A number for a new epoch. No other node and no other term gives the same.
pub fn new_epoch(node: u64, term: u64, before: u64) -> u64 {
    u64::from_le_bytes(first_bytes(&[node, term, before]))
}

fn first_bytes(numbers: &[u64]) -> [u8; 8] {
    let mut hash = Sha256::new();
    numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    bytes
}
