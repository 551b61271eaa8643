//! Floor 0: the vocabulary every room shares.
//!
//! Nothing here does input or output, reads a clock or starts a thread.

pub mod goodbye;
pub mod ids;
pub mod metrics;
pub mod patterns;
pub mod stamp;
pub mod topic;
