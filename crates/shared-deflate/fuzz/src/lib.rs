//! What each fuzz target checks of one input. The fuzzer calls these, and so does `tests/fuzz_findings.rs`, with the
//! committed inputs and without a fuzzer.
//!
//! A body takes any bytes and panics if the crate breaks a promise on them. The first bytes choose the settings, so
//! that the fuzzer varies them too.

mod bits;
mod compression;
mod frames;
mod negotiation;
mod receiver;
mod strict_inflater;
mod tokens;
mod window;

pub use compression::{deflate, inflate};
pub use frames::{frames, messages};
pub use negotiation::negotiate;
pub use tokens::{Happened, happened_with, tokens};
pub use window::window;

/// Checks one input.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("messages", messages),
    ("inflate", inflate),
    ("deflate", deflate),
    ("negotiate", negotiate),
    ("window", window),
    ("tokens", tokens),
];
