//! What is retained of a frame for clients that join later.

use crate::protocol::encoding::Payload;

/// What clients that join later receive of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is the whole value of its topic; this many of the newest are kept, at least 1 and at most
    /// `history::KEEP_MAX`. `history.keep` of the configuration outranks it.
    Value { keep: usize },
    /// It replaces the value of its topic; deltas follow.
    Snapshot,
    /// It changes the value that the frames before it built.
    Delta {
        /// The whole value after it, where it is at hand: clients that join receive that instead of all the frames up
        /// to this one. Everyone receives it instead of the delta if the topic has no snapshot that the delta belongs
        /// to.
        whole: Option<Payload>,
    },
    /// It matters only when it is published: clients that join later do not receive it.
    Transient,
}

impl Retention {
    /// The newest value only.
    pub const NEWEST: Retention = Retention::Value { keep: 1 };
}
