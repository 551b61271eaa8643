//! The topics that clients of one node want, as it tells them to the ingester.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::demand::{TopicsHash, WantMessage, WantNews};

/// A node says this often that it is there.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Names in one message, which takes at most twice as much: the smallest that a server of NATS refuses has a MiB.
const PIECE_BYTES: usize = 256 << 10;
/// What a name takes besides its letters.
const NAME_BYTES: usize = 4;

#[derive(Debug)]
pub struct WantList {
    node: u64,
    version: u64,
    topics: BTreeSet<Arc<str>>,
    hash: TopicsHash,
    beat_at: Duration,
}

impl WantList {
    pub fn new(node: u64, now: Duration) -> WantList {
        WantList { node, version: 0, topics: BTreeSet::new(), hash: TopicsHash::default(), beat_at: now }
    }

    pub fn node(&self) -> u64 {
        self.node
    }

    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter()
    }

    /// Clients want topics, or want them no longer. Gives what to tell, if there is anything new.
    pub fn change(
        &mut self,
        added: impl IntoIterator<Item = Arc<str>>,
        removed: impl IntoIterator<Item = Arc<str>>,
    ) -> Vec<WantMessage> {
        let added: Vec<Arc<str>> = added.into_iter().filter(|topic| self.topics.insert(topic.clone())).collect();
        let removed: Vec<Arc<str>> = removed.into_iter().filter(|topic| self.topics.remove(topic)).collect();
        if added.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        for topic in added.iter().chain(&removed) {
            self.hash = self.hash.toggled(topic);
        }
        self.version += 1;
        let bytes: usize = added.iter().chain(&removed).map(|topic| topic.len() + NAME_BYTES).sum();
        if bytes > PIECE_BYTES {
            return self.whole();
        }
        vec![self.message(WantNews::Change { added, removed })]
    }

    /// The ingester asks for all of it.
    pub fn whole(&self) -> Vec<WantMessage> {
        let (mut pieces, mut bytes) = (vec![Vec::new()], 0);
        for topic in &self.topics {
            bytes += topic.len() + NAME_BYTES;
            if bytes > PIECE_BYTES {
                pieces.push(Vec::new());
                bytes = topic.len() + NAME_BYTES;
            }
            pieces.last_mut().expect("there is one from the beginning").push(topic.clone());
        }
        let last = pieces.len() - 1;
        let pieces = pieces.into_iter().enumerate();
        let news =
            pieces.map(|(piece, topics)| WantNews::Whole { piece: piece as u32, is_last: piece == last, topics });
        news.map(|news| self.message(news)).collect()
    }

    pub fn deadline(&self) -> Duration {
        self.beat_at
    }

    pub fn tick(&mut self, now: Duration) -> Option<WantMessage> {
        if now < self.beat_at {
            return None;
        }
        self.beat_at = now + BEAT_EVERY;
        Some(self.message(WantNews::Beat { hash: self.hash }))
    }

    fn message(&self, news: WantNews) -> WantMessage {
        WantMessage { node: self.node, version: self.version, news }
    }
}
