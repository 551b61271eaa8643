//! Small values between threads: wake-ups, changes, signs of life.

pub mod doorbell;
pub mod pulse;
pub(crate) mod sync;
pub(crate) mod versioned;
