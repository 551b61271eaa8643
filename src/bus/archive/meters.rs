//! The meters of the archive.

use metrics::{Counter, Gauge};

use crate::words::metrics::{self as names, Meters};

/// What the disk refused.
#[derive(Clone, Copy)]
pub(super) enum ArchiveFailure {
    Write,
    Sync,
    Reserve,
    Remove,
}

#[derive(Clone)]
pub(super) struct ArchiveMeters {
    pub bytes: Gauge,
    pub waiting: Gauge,
    pub lost: Counter,
    /// By `ArchiveFailure as usize`.
    failures: [Counter; 4],
}

impl ArchiveMeters {
    pub fn new(meters: &Meters) -> ArchiveMeters {
        let failure = |reason| meters.counter(&names::ARCHIVE_FAILURES, &[("reason", reason)]);
        ArchiveMeters {
            bytes: meters.gauge(&names::ARCHIVE_BYTES, &[]),
            waiting: meters.gauge(&names::ARCHIVE_WAITING, &[]),
            lost: meters.counter(&names::ARCHIVE_LOST, &[]),
            failures: ["write", "sync", "reserve", "remove"].map(failure),
        }
    }

    pub fn failed(&self, failure: ArchiveFailure) {
        self.failures[failure as usize].increment(1);
    }
}
