//! What each fuzz target checks of one input. The fuzzer calls these, and so does `tests/fuzz_findings.rs`, with the
//! committed inputs and without a fuzzer.
//!
//! A body takes any bytes and panics if fanline breaks a promise on them. The first bytes choose the settings, so that
//! the fuzzer varies them too.

mod client_address;
mod json;
mod record;
mod texts;
mod token;

pub use client_address::{forwarded, proxy_head};
pub use json::pointer;
pub use record::tls_record;
pub use texts::{command, pattern, profile, recording};
pub use token::token;

/// Checks one input.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("command", command),
    ("forwarded", forwarded),
    ("pattern", pattern),
    ("pointer", pointer),
    ("profile", profile),
    ("proxy_head", proxy_head),
    ("recording", recording),
    ("tls_record", tls_record),
    ("token", token),
];
