//! Arbitration: one stream from several connections that carry the same. First copy wins, order is restored.

pub mod arbiter;
pub(crate) mod pending;
pub(crate) mod topic_track;
