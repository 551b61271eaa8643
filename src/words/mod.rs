//! The vocabulary that every room shares: names, numbers, metrics.
//!
//! Pure: no input or output, no clock, no threads.

mod globs;
pub mod goodbye;
pub mod ids;
pub mod metrics;
pub mod nearest;
pub mod patterns;
pub mod process;
pub mod rate_limited_log;
pub mod size;
pub mod stamp;
pub mod topic;
