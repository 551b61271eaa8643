//! Small values between threads: who wakes whom, what has changed, who is alive.

pub mod doorbell;
pub mod pulse;
pub(crate) mod sync;
pub(crate) mod versioned;
