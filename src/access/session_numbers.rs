//! The numbers of sessions: one count for all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 2025-01-01, in milliseconds since the Unix epoch: numbers stay below 2^53 for 280 years, so that JavaScript reads them.
const BEGINNING_MS: u64 = 1_735_689_600_000;
/// A process that begins more than this many sessions a millisecond, all its life, could meet the numbers of the next one.
const NUMBERS_PER_MS: u64 = 1000;

/// Gives each session a number that no other session has, not even one of the process before.
///
/// | field | stored by | loaded by | ordering |
/// |---|---|---|---|
/// | the last number | `next`, any thread | `next` | relaxed: only told apart by it |
#[derive(Clone, Debug, Default)]
pub struct SessionNumbers(Arc<AtomicU64>);

impl SessionNumbers {
    /// Of a process that starts at this moment, in milliseconds since the Unix epoch.
    pub fn since(wall_ms: u64) -> SessionNumbers {
        let first = wall_ms.saturating_sub(BEGINNING_MS).saturating_mul(NUMBERS_PER_MS);
        SessionNumbers(Arc::new(AtomicU64::new(first)))
    }

    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_starts_later_gives_other_numbers_and_javascript_reads_them() {
        let (one, next) = (SessionNumbers::since(BEGINNING_MS + 1), SessionNumbers::since(BEGINNING_MS + 2));
        let last = (0..NUMBERS_PER_MS).map(|_| one.clone().next()).max();
        assert_eq!((last, next.next()), (Some(2000), 2001));
        let in_2100 = SessionNumbers::since(4_102_444_800_000).next();
        assert!(in_2100 < 1 << 53, "{in_2100}");
        assert_eq!(SessionNumbers::since(0).next(), 1);
    }
}
