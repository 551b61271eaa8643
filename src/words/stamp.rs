//! A moment, on both clocks: one to show, one to measure with.

use std::time::Duration;

/// When something happened. Only `Clock` (in `bus`) makes one from the real clocks; tests make their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch: what clients see as `ts`.
    pub wall_ms: u64,
    /// Nanoseconds on the monotonic clock since the process started its clock: for durations only.
    pub mono_ns: u64,
}

impl Stamp {
    /// On the monotonic clock.
    pub fn mono(self) -> Duration {
        Duration::from_nanos(self.mono_ns)
    }

    /// Nanoseconds from `earlier` to this moment; 0 if `earlier` is later.
    pub fn ns_since(self, earlier: Stamp) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns)
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    pub fn ms_since(self, earlier: Stamp) -> u64 {
        self.ns_since(earlier) / 1_000_000
    }
}
