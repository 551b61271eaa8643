//! What the simulation has published, and the state that results: kept in another way than the server does it.

use std::collections::HashMap;

use crate::access::rights::GrantedTopics;
use crate::bus::retained::DELTAS_MAX;
use crate::bus::topic_status::TopicStatusKind;

/// Everything published, by topic and by offset.
#[derive(Default)]
pub struct Model {
    topics: HashMap<&'static str, PublishedTopic>,
    /// Of offset 1, 2, …
    published: Vec<ModelItem>,
    /// How often topics were forgotten.
    pub expired: usize,
    /// What tiers allow now, and what they allowed before as long as not all sessions may know; none without identities.
    pub tiers: HashMap<String, Vec<GrantedTopics>>,
    /// Subjects that are revoked, and all sessions know.
    pub revoked: Vec<String>,
    pub now_ms: u64,
}

/// What one offset is.
#[derive(Clone, Copy, Debug)]
pub struct ModelItem {
    pub topic: &'static str,
    pub what: ModelKind,
    /// The topic's folded state after it; none if its deltas have no snapshot.
    pub state: Option<u32>,
    /// More deltas have followed the snapshot than are kept.
    pub overflowed: bool,
    /// The offset at which the topic was last forgotten.
    pub began: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    Value,
    Snapshot,
    Delta,
    Transient,
    Status(TopicStatusKind),
    /// Topics are forgotten; for shards only.
    Expired,
}

/// The state of one topic after everything published of it.
#[derive(Clone, Debug, Default)]
pub struct PublishedTopic {
    /// The newest value, if no snapshot has followed.
    pub value: Option<u64>,
    pub state: Option<u32>,
    /// The newest snapshot or delta; 0 if there is none.
    pub last: u64,
    /// Gaps since the snapshot; of several between two deltas the newest.
    pub gaps: Vec<u64>,
    /// Deltas since the snapshot.
    followers: usize,
    /// The offset at which the topic was last forgotten: all this is newer.
    pub began: u64,
    /// The `stale` or `refused` that holds.
    pub mark: Option<u64>,
}

/// Applies one delta. The order matters, and none may be missing.
pub fn changed(state: u32, add: u32) -> u32 {
    state.wrapping_mul(1_000_003).wrapping_add(add)
}

impl Model {
    pub fn next_offset(&self) -> u64 {
        self.published.len() as u64 + 1
    }

    /// Whether somebody of the tier may be sent the topic now.
    pub fn allows(&self, tier: &str, topic: &str) -> bool {
        self.tiers.is_empty() || self.tiers.get(tier).is_some_and(|granted| granted.iter().any(|it| it.allows(topic)))
    }

    pub fn topic(&self, topic: &str) -> PublishedTopic {
        self.topics.get(topic).cloned().unwrap_or_default()
    }

    pub fn item(&self, offset: u64) -> ModelItem {
        self.published[offset as usize - 1]
    }

    /// Offsets of a topic, oldest first.
    pub fn offsets<'m>(&'m self, topic: &'m str) -> impl Iterator<Item = (u64, ModelKind)> + 'm {
        (1..)
            .zip(&self.published)
            .filter(move |(_, item)| item.topic == topic)
            .map(|(offset, item)| (offset, item.what))
    }

    /// These are forgotten, and that has the next offset.
    pub fn expire<'t>(&mut self, topics: impl Iterator<Item = &'t str>) {
        let began = self.next_offset();
        for topic in topics {
            let published = self.topics.get_mut(topic).expect("it was published");
            *published = PublishedTopic { began, ..PublishedTopic::default() };
        }
        let what = ModelKind::Expired;
        self.published.push(ModelItem { topic: "", what, state: None, overflowed: false, began });
        self.expired += 1;
    }

    /// Adds what has the next offset. `state` is that of a snapshot, or what a delta adds; with `has_whole` the whole
    /// value is at hand beside the delta.
    pub fn add(&mut self, topic: &'static str, what: ModelKind, state: u32, has_whole: bool) {
        let offset = self.next_offset();
        let published = self.topics.entry(topic).or_default();
        let began = published.began;
        match what {
            ModelKind::Value => *published = PublishedTopic { value: Some(offset), began, ..PublishedTopic::default() },
            ModelKind::Snapshot => {
                *published = PublishedTopic { state: Some(state), last: offset, began, ..PublishedTopic::default() }
            }
            ModelKind::Delta => {
                published.last = offset;
                if let Some(before) = published.state {
                    published.state = Some(changed(before, state));
                    published.followers += 1;
                    published.mark = None;
                }
                if has_whole {
                    *published =
                        PublishedTopic { state: published.state, last: offset, began, ..PublishedTopic::default() };
                }
            }
            ModelKind::Transient | ModelKind::Expired => {}
            ModelKind::Status(TopicStatusKind::Gap) => {
                published.gaps.retain(|gap| *gap < published.last);
                published.gaps.push(offset);
            }
            ModelKind::Status(TopicStatusKind::Live) => published.mark = None,
            ModelKind::Status(TopicStatusKind::Stale | TopicStatusKind::Refused) => published.mark = Some(offset),
        }
        let (state, overflowed) = (published.state, published.overflowed());
        self.published.push(ModelItem { topic, what, state, overflowed, began });
    }
}

impl PublishedTopic {
    pub fn overflowed(&self) -> bool {
        self.state.is_some() && self.followers > DELTAS_MAX
    }
}
