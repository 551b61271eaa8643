//! What threads share besides the log.

#[path = "../../src/bus/signal/doorbell.rs"]
pub mod doorbell;
#[path = "../../src/bus/signal/sync.rs"]
pub mod sync;
#[path = "../../src/bus/signal/versioned.rs"]
pub mod versioned;
