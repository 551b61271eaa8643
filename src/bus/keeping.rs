//! What a frame means for those who come later, and what may be said of a topic besides its frames.

use crate::wire::encode::Payload;

/// What newcomers get of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is the whole value of its topic; as many of the newest as this are kept, at least 1.
    Value { keep: usize },
    /// It starts the value of its topic over; changes follow.
    Start,
    /// It changes the value that the frames before it made.
    Change {
        /// The whole value after it, where it is at hand: newcomers get that instead of all the frames up to this one.
        whole: Option<Payload>,
    },
    /// It is of the moment only: newcomers do not get it.
    Moment,
}

impl Keeping {
    /// The newest value only.
    pub const NEWEST: Keeping = Keeping::Value { keep: 1 };
}

/// Something to be told about one topic, in its place between the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The upstream lost messages of this topic here.
    Gap { reason: GapReason, missed: Option<u64> },
    /// Nothing has come for longer than is usual for this topic.
    Stale { since_ms: u64, message: String },
    /// It comes again.
    Live,
    /// The upstream refuses to send this topic.
    Refused { message: String },
}

/// How it was seen that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Numbers in the messages do not follow each other.
    Sequence,
    /// There was no connection for a while.
    Reconnect,
    /// More changes followed a snapshot than are kept.
    Overflow,
}

impl GapReason {
    /// `reason` in a `gap` message.
    pub fn label(self) -> &'static str {
        match self {
            GapReason::Sequence => "sequence",
            GapReason::Reconnect => "reconnect",
            GapReason::Overflow => "overflow",
        }
    }
}
