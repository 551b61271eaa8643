//! What all nodes want, as the ingester knows it, and so what the feed is to be asked for.
//!
//! A node that is not heard of for 15 seconds wants nothing any more. A message that does not fit what is known of its
//! node is not applied: the node is asked for all of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::demand::want_list::BEAT_EVERY;
use crate::demand::{TopicsHash, WantMessage, WantNews};

/// Three beats.
pub const FORGOTTEN_AFTER: Duration = BEAT_EVERY.saturating_mul(3);
/// A node is not asked twice for all within this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const NODES_MAX: usize = 1024;
/// What all nodes want together may be so many times the topics that one may want: each of so many nodes may want all.
pub(super) const NODES_PER_TOPIC: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantChange {
    /// The first node wants it.
    Wanted(Arc<str>),
    /// The last node wants it no longer.
    Unwanted(Arc<str>),
    /// A node wants it, and there is no room for it.
    LeftOut(Arc<str>),
    /// This node shall tell all of it.
    Ask { node: u64 },
}

#[derive(Debug)]
pub struct WantBoard {
    /// Of one node, and of all together; what is beyond is left out, and the node asked again and again.
    topics_max: usize,
    /// Sum of what the nodes want, each for itself.
    wants: usize,
    nodes: HashMap<u64, NodeWants>,
    /// How many nodes want a topic.
    counts: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct NodeWants {
    version: u64,
    topics: HashSet<Arc<str>>,
    hash: TopicsHash,
    heard_at: Duration,
    asked_at: Option<Duration>,
    /// Pieces that came, of this version.
    pieces: Option<(u64, u32, Vec<Arc<str>>)>,
}

impl WantBoard {
    pub fn new(topics_max: usize) -> WantBoard {
        WantBoard { topics_max, wants: 0, nodes: HashMap::new(), counts: HashMap::new() }
    }

    pub fn wanted(&self) -> impl Iterator<Item = &Arc<str>> {
        self.counts.keys()
    }

    /// Sum of what the nodes want, each for itself.
    pub fn wants(&self) -> usize {
        self.wants
    }

    pub fn hear(&mut self, message: WantMessage, now: Duration) -> Vec<WantChange> {
        let WantMessage { node, version, news } = message;
        if !self.nodes.contains_key(&node) && self.nodes.len() >= NODES_MAX {
            return Vec::new();
        }
        let wants = self.nodes.entry(node).or_insert_with(|| NodeWants {
            version: 0,
            topics: HashSet::new(),
            hash: TopicsHash::default(),
            heard_at: now,
            asked_at: None,
            pieces: None,
        });
        wants.heard_at = now;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let is_known = match news {
            _ if version < wants.version => true,
            WantNews::Beat { hash } => version == wants.version && hash == wants.hash,
            WantNews::Change { .. } if version == wants.version => true,
            WantNews::Change { added: more, removed: less } if version == wants.version + 1 => {
                (added, removed) = (more, less);
                true
            }
            WantNews::Change { .. } => false,
            WantNews::Whole { piece, is_last, topics } => {
                match wants.take_piece(version, (piece, is_last), topics, self.topics_max) {
                    Some(all) => {
                        removed = wants.topics.difference(&all).cloned().collect();
                        added = all.difference(&wants.topics).cloned().collect();
                        true
                    }
                    None => wants.pieces.is_some(),
                }
            }
        };
        let is_applied = !added.is_empty() || !removed.is_empty();
        let mut changes = Vec::new();
        for topic in removed.into_iter().filter(|topic| wants.topics.remove(topic)) {
            self.wants -= 1;
            wants.hash = wants.hash.toggled(&topic);
            lower(&mut self.counts, topic, &mut changes);
        }
        for topic in added {
            if wants.topics.contains(&topic) {
                continue;
            }
            // The same text in memory for all nodes.
            let known = self.counts.get_key_value(&topic).map(|(known, _)| known.clone());
            let has_room = wants.topics.len() < self.topics_max && self.wants < self.topics_max * NODES_PER_TOPIC;
            if !has_room || (known.is_none() && self.counts.len() >= self.topics_max) {
                changes.push(WantChange::LeftOut(topic));
                continue;
            }
            let topic = known.unwrap_or(topic);
            wants.topics.insert(topic.clone());
            self.wants += 1;
            wants.hash = wants.hash.toggled(&topic);
            raise(&mut self.counts, topic, &mut changes);
        }
        if is_applied || (is_known && wants.pieces.is_none()) {
            wants.version = wants.version.max(version);
        }
        let may_ask = wants.asked_at.is_none_or(|at| now >= at + ASK_AGAIN);
        if !is_known && may_ask {
            wants.asked_at = Some(now);
            changes.push(WantChange::Ask { node });
        }
        changes
    }

    /// Nodes that are gone want nothing.
    pub fn tick(&mut self, now: Duration) -> Vec<WantChange> {
        let mut changes = Vec::new();
        let is_gone = |wants: &NodeWants| now.saturating_sub(wants.heard_at) > FORGOTTEN_AFTER;
        for (_, wants) in self.nodes.extract_if(|_, wants| is_gone(wants)) {
            self.wants -= wants.topics.len();
            wants.topics.into_iter().for_each(|topic| lower(&mut self.counts, topic, &mut changes));
        }
        changes
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.nodes.values().map(|wants| wants.heard_at + FORGOTTEN_AFTER).min()
    }
}

impl NodeWants {
    /// Gives all topics with the last piece.
    fn take_piece(
        &mut self,
        version: u64,
        (piece, is_last): (u32, bool),
        topics: Vec<Arc<str>>,
        topics_max: usize,
    ) -> Option<HashSet<Arc<str>>> {
        let (of, next, mut held) = self.pieces.take().unwrap_or((version, 0, Vec::new()));
        let (next, held) = match piece {
            0 => (1, topics),
            _ if of == version && next == piece => {
                let room = topics_max.saturating_sub(held.len());
                held.extend(topics.into_iter().take(room));
                (next + 1, held)
            }
            _ => return None,
        };
        if is_last {
            return Some(held.into_iter().collect());
        }
        self.pieces = Some((version, next, held));
        None
    }
}

fn raise(counts: &mut HashMap<Arc<str>, u32>, topic: Arc<str>, changes: &mut Vec<WantChange>) {
    let count = counts.entry(topic.clone()).or_default();
    *count += 1;
    if *count == 1 {
        changes.push(WantChange::Wanted(topic));
    }
}

fn lower(counts: &mut HashMap<Arc<str>, u32>, topic: Arc<str>, changes: &mut Vec<WantChange>) {
    let Some(count) = counts.get_mut(&topic) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(&topic);
        changes.push(WantChange::Unwanted(topic));
    }
}
