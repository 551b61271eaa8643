//! The meters of one delay line.

use metrics::{Counter, Gauge};

use crate::bus::delay::spool::failure::SpoolFailure;
use crate::words::metrics::{self as names, Meters};

pub(super) struct LineMeters {
    pub frames: Gauge,
    pub bytes: Gauge,
    pub spool_bytes: Gauge,
    pub conflated: Counter,
    pub head: Gauge,
    lost: Counter,
    /// By `SpoolFailure::index`.
    failures: [Counter; SpoolFailure::LABELS.len()],
}

impl LineMeters {
    pub fn new(meters: &Meters, view: u8) -> LineMeters {
        let view = view.to_string();
        let labels = [("view", view.as_str())];
        let failure =
            |reason| meters.counter(&names::VIEW_SPOOL_FAILURES, &[("view", view.as_str()), ("reason", reason)]);
        LineMeters {
            frames: meters.gauge(&names::VIEW_WAITING_FRAMES, &labels),
            bytes: meters.gauge(&names::VIEW_WAITING_BYTES, &labels),
            spool_bytes: meters.gauge(&names::VIEW_SPOOL_BYTES, &labels),
            conflated: meters.counter(&names::VIEW_CONFLATED, &labels),
            head: meters.gauge(&names::VIEW_HEAD_OFFSET, &labels),
            lost: meters.counter(&names::VIEW_LOST, &labels),
            failures: SpoolFailure::LABELS.map(failure),
        }
    }

    /// A block with so many frames was refused or is lost.
    pub fn failed(&self, failure: &SpoolFailure, frames: usize) {
        self.failures[failure.index()].increment(1);
        let counter = if failure.is_loss() { &self.lost } else { &self.conflated };
        counter.increment(frames as u64);
    }
}
