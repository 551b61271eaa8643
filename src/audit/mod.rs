//! The audit log: who was admitted, what they were shown and why they left, in lines that nobody changes unnoticed.
//!
//! Other rooms call [`AuditLog::record`](log::AuditLog::record) with an [`AuditEvent`](event::AuditEvent). One thread writes
//! the lines (`writer.rs`). Each line holds the SHA-256 of the line before it, so `verify.rs` finds what was changed,
//! removed or reordered. `usage.rs` counts subjects for a report. docs/AUDIT.md is the description for operators.

mod counting;
pub mod event;
pub mod files;
pub mod log;
mod queries;
pub mod record;
pub mod report;
mod unidentified;
pub mod usage;
pub mod verify;
mod writer;

pub use writer::OpenError;
