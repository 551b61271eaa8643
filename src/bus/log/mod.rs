//! The log of frames, and what it makes exact.

pub(crate) mod ring;
pub mod snapshot;
