//! Durations in the intake: counted in nanoseconds, shown in seconds.

use std::time::Duration;

/// Nanoseconds of the monotonic clock. At most 2^62, or 146 years: the sum with any time stays within 64 bits.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(1 << 62)
}

/// A setting whose 0 means never.
pub(super) fn unless_zero(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

/// A duration for people: `1.2 s`.
pub(super) fn in_s(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
