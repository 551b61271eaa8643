//! What others answer to a shard about one of its sessions, from any thread.

use std::sync::Arc;

use crate::delivery::sessions::pending_requests::Reply;
use crate::delivery::sessions::verification::Verdict;

pub enum Mail {
    /// At most as many as clients may have requests open.
    Answer(Reply),
    /// At most one for each session.
    Verdict(Verdict),
}

/// Puts mail into the shard's mailbox and wakes the shard; called from any thread.
pub type Mailbox = Arc<dyn Fn(Mail) + Send + Sync>;
