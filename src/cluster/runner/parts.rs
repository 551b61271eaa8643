//! What a runner has besides its node: the buses, the feed, and what it tells others.

use tokio::sync::watch;

use crate::bus::demand::ClientInput;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::node_status::SharedStatus;
use crate::words::ids::Epoch;
use crate::words::stamp::Stamp;

/// Gaps that a takeover tells at most, where not every topic needs one.
const GAPS_MAX: usize = 10_000;

/// What the feed is to do.
pub enum FeedOrder {
    /// Connect, publish here, and read what clients want and say there.
    Open(Box<Publisher>, ClientInput),
    Close,
}

/// Why a node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the connection to the log has ended")]
    Disconnected,
}

/// Has clients read this bus from now on, which is of another epoch.
pub type ShowEpoch = Box<dyn Fn(Reader) + Send>;

/// Makes the bus that clients read, and the one that the feed publishes into.
pub struct BusFactory {
    pub shown: Box<dyn Fn(Epoch) -> (Publisher, Reader) + Send>,
    pub staged: Box<dyn Fn() -> (Publisher, Reader) + Send>,
}

/// What is said while nobody answers for the log.
#[derive(Clone, Copy, Debug)]
pub struct CutOffWords {
    pub reason: StaleReason,
    /// To clients.
    pub message: &'static str,
    /// In the log.
    pub remedy: &'static str,
}

/// What the runner tells others of its node.
pub struct RunnerSigns {
    pub held: watch::Sender<Option<HeldFeed>>,
    /// Of the ingester; none if there is none.
    pub term: watch::Sender<Option<u64>>,
    pub status: SharedStatus,
}

/// What another node has published is as old as it is, and nobody knows what came since: a gap of each topic, or, where
/// they are very many, of those whose deltas could be applied to the wrong value.
pub(super) fn tell_silence(shown: &Publisher, feed: &mut Publisher, now: Stamp) {
    let topics = shown.topics_or_those_of_deltas(GAPS_MAX);
    if topics.is_empty() {
        return;
    }
    feed.publish_gaps(&topics, now);
    let message = "another server holds the feed now, and it has brought nothing yet".to_owned();
    feed.announce(FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: now.wall_ms, message });
}
