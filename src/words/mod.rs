//! Floor 0: the vocabulary every room shares.
//!
//! Nothing here does input or output, reads a clock or starts a thread.

mod globs;
pub mod goodbye;
pub mod grant;
pub mod ids;
pub mod metrics;
pub mod nearest;
pub mod patterns;
pub mod process;
pub mod rate_limited_log;
pub mod size;
pub mod stamp;
pub mod topic;
