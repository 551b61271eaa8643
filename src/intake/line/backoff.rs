//! How long to wait before the next attempt: exponential with full jitter.
//!
//! Many instances that lose the same upstream at the same moment must not come back at the same moment, so each waits
//! a random part of the whole time. The caller resets it only after data has flowed for a while: a venue that accepts
//! a connection and cuts it at once must not be hammered.

use std::time::Duration;

use rand::{Rng, RngExt};

#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first wait is at most `min`, each further one at most twice as long, and none longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max: max.max(min), attempts: 0 }
    }

    /// The wait before the next attempt.
    pub fn wait(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.attempts.min(30)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        rng.random_range(Duration::ZERO..=ceiling)
    }

    /// Attempts since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_are_spread_over_it() {
        let seed = 3;
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut longest = [Duration::ZERO; 40];
        for _ in 0..200 {
            let mut backoff = Backoff::new(min, max);
            for longest in &mut longest {
                *longest = backoff.wait(&mut rng).max(*longest);
            }
        }
        for (attempt, longest) in longest.into_iter().enumerate() {
            let ceiling = min.saturating_mul(1 << attempt.min(30)).min(max);
            assert!(longest <= ceiling && longest > ceiling / 2, "seed {seed}: attempt {attempt} waited {longest:?}");
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
