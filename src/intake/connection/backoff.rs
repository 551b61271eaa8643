//! The wait before the next attempt: exponential with full jitter, and longer where the venue demands it.
//!
//! Many instances that lose the same feed at the same time must not return at the same time, so each waits a random
//! part of the bound. The caller resets it only after data has flowed for a while: a venue that accepts a connection
//! and cuts it at once must not be hammered.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::words::stamp::Stamp;

use crate::intake::connection::loss::Loss;

/// A ban of unknown length begins with this wait: venues that count attempts do so over seconds to minutes, and
/// lengthen the ban for each that comes too early.
const BAN_MIN: Duration = Duration::from_secs(5);
const BAN_MAX: Duration = Duration::from_secs(300);
/// A venue's `Retry-After` is obeyed up to this. A day: a longer one is more likely a mistake.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
    bans: u32,
}

impl Backoff {
    /// The first wait is at most `min`, each further one at most twice as long, and none longer than `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max: max.max(min), attempts: 0, bans: 0 }
    }

    /// The wait before the next attempt.
    pub(crate) fn wait(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.attempts.min(30)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        rng.random_range(Duration::ZERO..=ceiling)
    }

    /// As `wait`, after a loss: at least as long as the venue demands, and never at once after a ban.
    pub(crate) fn wait_after(&mut self, loss: &Loss, now: Stamp, rng: &mut impl Rng) -> Duration {
        let wait = self.wait(rng);
        let wanted = match loss.retry_after(now) {
            Some(wanted) => wanted.min(RETRY_AFTER_MAX),
            None if loss.is_ban() => {
                let ban = BAN_MIN.saturating_mul(1 << self.bans.min(30)).min(BAN_MAX);
                self.bans = self.bans.saturating_add(1);
                ban + rng.random_range(Duration::ZERO..=ban / 4)
            }
            None => Duration::ZERO,
        };
        wait.max(wanted)
    }

    /// Attempts since the last reset.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn reset(&mut self) {
        (self.attempts, self.bans) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::intake::connection::retry_after::RetryAfter;

    fn refused(status: u16, retry_after: Option<RetryAfter>) -> Loss {
        Loss::NotWebSocket { url: String::new(), status, remedy: String::new(), retry_after }
    }

    #[test]
    fn a_ban_without_a_time_begins_at_seconds_and_grows() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(5);
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
        for status in [429, 418] {
            backoff.reset();
            for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
                let wait = backoff.wait_after(&refused(status, None), Stamp::default(), &mut rng);
                let least = Duration::from_secs(seconds);
                assert!(wait >= least && wait <= least + least / 4 + Duration::from_millis(2), "{wait:?}: {seconds}");
            }
        }
        assert!(backoff.wait_after(&refused(503, None), Stamp::default(), &mut rng) <= Duration::from_millis(2));
    }

    #[test]
    fn an_upstream_that_wants_to_be_left_alone_is() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(6);
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
        let now = Stamp { wall_ms: 1_767_225_600_000, mono_ns: 0 };
        for (status, after, seconds) in [
            (429, RetryAfter::In(Duration::from_secs(120)), 120),
            (503, RetryAfter::At(now.wall_ms + 30_000), 30),
            (429, RetryAfter::In(Duration::from_secs(1 << 40)), 24 * 3600),
        ] {
            let wait = backoff.wait_after(&refused(status, Some(after)), now, &mut rng);
            assert_eq!(wait, Duration::from_secs(seconds), "{status} {after:?}");
        }
        let at_once = refused(429, Some(RetryAfter::In(Duration::ZERO)));
        assert!(backoff.wait_after(&at_once, now, &mut rng) <= Duration::from_millis(2), "it says so");
    }

    #[test]
    fn waits_grow_to_the_limit_and_are_spread_over_it() {
        let seed = 3;
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut extremes = [(max, Duration::ZERO); 40];
        for _ in 0..200 {
            let mut backoff = Backoff::new(min, max);
            for (shortest, longest) in &mut extremes {
                let wait = backoff.wait(&mut rng);
                (*shortest, *longest) = (wait.min(*shortest), wait.max(*longest));
            }
        }
        for (attempt, (shortest, longest)) in extremes.into_iter().enumerate() {
            let ceiling = min.saturating_mul(1 << attempt.min(30)).min(max);
            assert!(longest <= ceiling && longest > ceiling / 2, "seed {seed}: attempt {attempt} waited {longest:?}");
            assert!(shortest < ceiling / 2, "seed {seed}: attempt {attempt} waited {shortest:?} at least");
        }
    }

    #[test]
    fn after_a_reset_waits_are_short_again() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(4);
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        for _ in 0..10 {
            backoff.wait(&mut rng);
        }
        backoff.reset();
        assert!(backoff.wait(&mut rng) <= Duration::from_millis(1));
        assert_eq!(backoff.attempts(), 1);
    }
}
