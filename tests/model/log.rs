//! The log of frames.

#[path = "../../src/bus/log/ring.rs"]
pub mod ring;
