//! What comes out of a queue when it is old enough.

use std::sync::Arc;

use crate::bus::delay::slice::DelaySlice;
use crate::bus::delay::spool::record::BlockTopics;
use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::feed_state::FeedState;
use crate::words::ids::Offset;

pub(super) enum DueItem {
    Frame(WaitingFrame),
    Slice(DelaySlice),
    Feed(Arc<FeedState>),
    /// Frames of these topics up to this offset could not be read back.
    Lost {
        topics: BlockTopics,
        until: Offset,
    },
}
