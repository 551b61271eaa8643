//! What each fuzz target checks of one input. The fuzzer calls these, and so does `tests/fuzz_findings.rs`, with the
//! committed inputs and without a fuzzer.
//!
//! A body takes any bytes and panics if fanline breaks a promise on them. The first bytes choose the settings, so that
//! the fuzzer varies them too.

mod bits;
mod compression;
mod json;
mod texts;
mod wire;

pub use compression::{deflate, inflate};
pub use json::pointer;
pub use texts::{command, negotiate, pattern, profile, recording};
pub use wire::{frames, messages};

/// Checks one input.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("messages", messages),
    ("inflate", inflate),
    ("deflate", deflate),
    ("command", command),
    ("negotiate", negotiate),
    ("pattern", pattern),
    ("pointer", pointer),
    ("profile", profile),
    ("recording", recording),
];
