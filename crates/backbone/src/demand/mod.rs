//! What clients of all nodes want of the feed, and what they say to it: told to the ingester, over a network that loses
//! and repeats.
//!
//! All of it is soft: a new ingester has nothing of it, asks, and is told.

pub mod requests;
#[cfg(test)]
mod simulation;
pub mod want_board;
pub mod want_list;

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// From a node to the ingester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantMessage {
    pub node: u64,
    pub version: u64,
    pub news: WantNews,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantNews {
    /// All topics of this version, in one or more pieces.
    Whole { piece: u32, is_last: bool, topics: Vec<Arc<str>> },
    /// What has changed since the version before.
    Change { added: Vec<Arc<str>>, removed: Vec<Arc<str>> },
    /// Nothing. Whoever has another hash lacks something.
    Beat { hash: TopicsHash },
}

/// Of a set of topics: the same in any order, and quickly kept up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicsHash(pub u64);

impl TopicsHash {
    /// With a topic that was not in the set, or without one that was.
    pub fn toggled(self, topic: &str) -> TopicsHash {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&Sha256::digest(topic)[..8]);
        TopicsHash(self.0 ^ u64::from_le_bytes(bytes))
    }
}
