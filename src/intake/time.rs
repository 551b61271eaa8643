//! Durations as the intake counts and shows them.

use std::time::Duration;

/// Nanoseconds of the monotonic clock. At most 2^62, which are 146 years: the sum with any moment stays within 64 bits.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(1 << 62)
}

/// A setting in which 0 is never.
pub fn unless_zero(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

/// A duration as people say it: `1.2 s`.
pub fn in_s(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
