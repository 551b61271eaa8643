//! All shards of all views, as they find each other.

use std::sync::Arc;

use crate::access::rights::ViewId;
use crate::bus::signal::pulse::Pulse;
use crate::delivery::shard::mailbox::ShardSender;
use crate::delivery::shard::placement::{ShardLoad, place};

pub struct ShardHandle {
    pub view: ViewId,
    pub sender: ShardSender,
    pub load: Arc<ShardLoad>,
    pub pulse: Pulse,
}

/// Clones are the same one.
#[derive(Clone)]
pub struct ShardDirectory {
    shards: Arc<[ShardHandle]>,
    /// The setting `shards.spread_after`.
    spread_after: usize,
}

impl ShardDirectory {
    pub fn new(shards: Vec<ShardHandle>, spread_after: usize) -> ShardDirectory {
        ShardDirectory { shards: shards.into(), spread_after }
    }

    pub fn iter(&self) -> impl Iterator<Item = &ShardHandle> {
        self.shards.iter()
    }

    /// The shard for a further session of the view; none if no shard of it is left.
    pub fn place(&self, view: ViewId) -> Option<&ShardHandle> {
        let of_view: Vec<&ShardHandle> = self.iter().filter(|shard| shard.view == view).collect();
        let number = place(of_view.iter().map(|shard| &*shard.load), self.spread_after)?;
        Some(of_view[number])
    }
}
