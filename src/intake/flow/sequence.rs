//! Numbers in messages, and what they say about messages that are missing.

/// What follows what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// `last` is one more than the `last` before.
    Inc,
    /// `first` is one more than the `last` before.
    Range,
    /// `prev` is the `last` before.
    Prev,
    /// `last` is not less than the `last` before; numbers may be left out.
    Monotonic,
}

/// What to do about a gap, besides telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Tell it.
    Mark,
    /// Tell it, and ask the upstream for a new snapshot of the topic.
    Resubscribe,
    /// Tell it, and connect anew.
    Reconnect,
    /// Nothing, not even tell it.
    Ignore,
    /// What comes late is dropped; a gap is not told.
    DropOld,
}

/// How the numbers of a rule are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRule {
    pub follow: Follow,
    pub remedy: Remedy,
}

/// The numbers of one message; which are needed depends on the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub first: Option<i64>,
    pub prev: Option<i64>,
    pub last: Option<i64>,
}
