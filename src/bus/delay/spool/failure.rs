//! What can go wrong with a spool: counted by reason, and logged with the remedy.

use std::io;

use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// Why a block did not reach the disk, or did not come back.
#[derive(Debug)]
pub enum SpoolFailure {
    /// The files are as large as they may be.
    Full,
    /// The disk takes blocks more slowly than they arrive.
    Slow,
    Write(io::Error),
    Read(io::Error),
    /// Checksums do not fit.
    Damaged,
}

impl SpoolFailure {
    /// Values of the label `reason` in metrics, by `SpoolFailure::index`.
    pub const LABELS: [&str; 5] = ["full", "slow", "write", "read", "damaged"];

    pub fn index(&self) -> usize {
        match self {
            SpoolFailure::Full => 0,
            SpoolFailure::Slow => 1,
            SpoolFailure::Write(_) => 2,
            SpoolFailure::Read(_) => 3,
            SpoolFailure::Damaged => 4,
        }
    }

    /// Whether frames are lost. If not they are conflated.
    pub fn is_loss(&self) -> bool {
        matches!(self, SpoolFailure::Read(_) | SpoolFailure::Damaged)
    }
}

/// Log lines about the spool of one view: one of a kind in 10 s.
#[derive(Debug, Default)]
pub(in crate::bus::delay) struct FailureLog {
    limits: [RateLimitedLog; SpoolFailure::LABELS.len()],
}

impl FailureLog {
    pub fn write(&mut self, failure: &SpoolFailure, frames: usize, view: u8, now: Stamp) {
        if self.limits[failure.index()].take(now).is_none() {
            return;
        }
        match failure {
            SpoolFailure::Full => tracing::warn!(
                view,
                "the spool of a delayed view is as large as it may be, so messages are conflated and its clients skip; \
                 raise delay.spool_bytes_max"
            ),
            SpoolFailure::Slow => tracing::warn!(
                view,
                "the disk of delay.spool_dir is slower than the feed, so messages of a delayed view are conflated and \
                 its clients skip; choose a faster disk, or raise delay.bytes_max"
            ),
            SpoolFailure::Write(error) => tracing::error!(
                view,
                %error,
                "the spool of a delayed view cannot be written, so messages are conflated and its clients skip; \
                 make room on the disk of delay.spool_dir, or choose another directory"
            ),
            SpoolFailure::Read(error) => tracing::error!(
                view,
                %error,
                frames,
                "messages cannot be read back from the spool of a delayed view, so they are lost and its clients \
                 receive `gap`; check the disk of delay.spool_dir"
            ),
            SpoolFailure::Damaged => tracing::error!(
                view,
                frames,
                "the spool of a delayed view returned bytes that nobody wrote, so messages are lost and its clients \
                 receive `gap`; check the disk of delay.spool_dir"
            ),
        }
    }
}
