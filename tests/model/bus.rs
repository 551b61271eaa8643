//! The files under check, as they are.
#![allow(dead_code)]

// The checks are in here because the ring and the versioned values are private to the bus.
#[path = "checks.rs"]
mod checks;
#[path = "log.rs"]
pub mod log;
#[path = "signal.rs"]
pub mod signal;
