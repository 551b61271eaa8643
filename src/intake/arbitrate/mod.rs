//! Several connections that carry the same become one stream: first copy wins, order restored.

pub mod arbiter;
pub(crate) mod pending;
pub(crate) mod topic_track;
