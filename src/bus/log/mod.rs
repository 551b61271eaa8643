//! The log of frames.

pub(crate) mod ring;
