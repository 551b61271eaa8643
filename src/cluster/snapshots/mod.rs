//! What is retained of all topics, from a server that has it to one that joins: over NATS, or from a parent to a relay.
//!
//! | subject | carries |
//! |---|---|
//! | `fanline.NAME.snapshot.follower` | asks any follower for an offer; "no responders" says that there is none |
//! | `fanline.NAME.snapshot.ingester` | the same, asked where there is no follower |
//! | `fanline.NAME.snapshot.NODE` | asks this node for its offer, or for a piece of what it has offered |
//!
//! Whoever takes a snapshot asks for each piece, so a slow one holds nothing up. A server makes one at a time, on a
//! thread of its own, and gives it to all that ask meanwhile. `backbone` decides whether it counts.

pub mod giver;
pub mod maker;
mod offer;
pub mod taker;

use backbone::follower::snapshot::SnapshotPlace;

use crate::bus::feed_state::FeedState;
use crate::bus::retained_topic::RetainedTopic;

/// Of a snapshot, as it is sent and as it was before it was deflated.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// A snapshot of another server.
pub struct PeerSnapshot {
    pub place: SnapshotPlace,
    pub feed: FeedState,
    pub topics: Vec<RetainedTopic>,
}

/// What a snapshot is made after, as the runner of a node that has joined knows it.
#[derive(Clone, Debug)]
pub struct SnapshotBasis {
    /// Its offset is the newest that is shown; that of the snapshot may be further.
    pub place: SnapshotPlace,
    pub feed: FeedState,
}
