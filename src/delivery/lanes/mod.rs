//! The lanes of a shard: sessions that see the identical stream share its work.

pub(crate) mod lane;
pub(crate) mod opening;
pub(crate) mod paced;
pub mod topic_index;
pub mod window;
