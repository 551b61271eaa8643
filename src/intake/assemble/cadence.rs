//! Cadence of a topic: how often it usually has a message, and since when it is silent for too long.
//!
//! The measure is the longest usual silence, not the mean: trades come in bursts, so that most gaps between them are
//! far shorter than harmless pauses. Therefore the estimate is a peak that falls slowly: a longer silence lifts it at
//! once, each shorter one lowers it by a 256th of the difference. Gaps within a burst do not count.

use std::time::Duration;

use crate::profile::rules::treatment::StaleAfter;
use crate::words::stamp::Stamp;

/// 250 ms: messages closer together are one burst.
const BURST_MS: u64 = 250;
/// 20 gaps: fewer are no cadence yet.
const GAPS_MIN: u8 = 20;
/// A silence of 4 times the usual longest one is unusual.
const FACTOR: u64 = 4;
/// 10 s: below that, a pause of the venue or network would be reported for a healthy topic.
const FLOOR_MS: u64 = 10_000;
/// 6 h: a topic that is often silent for a quarter of this or longer shows nothing by its silence, and is not checked.
const CEILING_MS: u64 = 6 * 3_600_000;
/// Each gap moves the estimate by this part of the difference. With a 64th a chat room with talks and pauses is called
/// stale 30 times in 44 hours, with a 256th twice at most.
const MEMORY: u64 = 256;

/// Evidence from one topic's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cadence {
    /// Arrival of the last message.
    last: Stamp,
    /// Arrival of the first message of the last burst.
    burst_ns: u64,
    /// The longest usual silence, in milliseconds.
    usual_ms: u64,
    gaps: u8,
    any: bool,
    stale: bool,
}

impl Cadence {
    /// An update has arrived. Returns whether that ends a reported silence. Time before `since_ns` does not count:
    /// there was no connection.
    pub(super) fn arrived(&mut self, now: Stamp, since_ns: u64) -> bool {
        let was_stale = std::mem::take(&mut self.stale);
        let first = !std::mem::replace(&mut self.any, true);
        let gap_ms = now.mono_ns.saturating_sub(self.burst_ns) / 1_000_000;
        if first || self.last.mono_ns < since_ns {
            self.burst_ns = now.mono_ns;
        } else if gap_ms >= BURST_MS {
            let silence_ms = now.ms_since(self.last);
            // A reported silence is not part of the cadence, or one long night would be.
            self.learn(if was_stale { silence_ms.min(FACTOR * self.usual_ms.max(FLOOR_MS)) } else { silence_ms });
            self.burst_ns = now.mono_ns;
        }
        self.last = now;
        was_stale
    }

    fn learn(&mut self, gap_ms: u64) {
        self.gaps = self.gaps.saturating_add(1);
        match gap_ms.checked_sub(self.usual_ms) {
            Some(_) => self.usual_ms = gap_ms,
            None => self.usual_ms -= (self.usual_ms - gap_ms) / MEMORY,
        }
    }

    /// Checks the silence up to now, counted from `since_ns` at the earliest. Returns since when, on the wall clock,
    /// and the sentence for it, if the topic is stale and was not reported before.
    pub(super) fn check(&mut self, now: Stamp, since_ns: u64, stale_after: StaleAfter) -> Option<(u64, String)> {
        let limit_ms = self.limit_ms(stale_after)?;
        let silent_ms = now.mono_ns.saturating_sub(self.last.mono_ns.max(since_ns)) / 1_000_000;
        if !self.any || self.stale || silent_ms < limit_ms {
            return None;
        }
        self.stale = true;
        let nothing = words(now.ms_since(self.last));
        let message = match stale_after {
            StaleAfter::Fixed(_) => {
                format!("no message for {nothing}; expected one within {}", words(limit_ms))
            }
            _ => format!(
                "no message for {nothing}; this topic is usually silent for at most {}",
                words(self.usual_ms.max(BURST_MS))
            ),
        };
        Some((self.last.wall_ms, message))
    }

    fn limit_ms(&self, stale_after: StaleAfter) -> Option<u64> {
        match stale_after {
            StaleAfter::Never => None,
            StaleAfter::Fixed(limit) => Some(limit.as_millis().try_into().unwrap_or(u64::MAX)),
            StaleAfter::Auto if self.gaps < GAPS_MIN => None,
            StaleAfter::Auto => Some((FACTOR * self.usual_ms).max(FLOOR_MS)).filter(|limit_ms| *limit_ms <= CEILING_MS),
        }
    }
}

/// A duration for people: in seconds, where it is longer than one.
fn words(ms: u64) -> String {
    let rounded = if ms < 1000 { Duration::from_millis(ms) } else { Duration::from_secs(ms / 1000) };
    humantime::format_duration(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// How often a topic was reported stale in `messages` messages, with `gap_ms` between two of them.
    fn reported(messages: usize, mut gap_ms: impl FnMut(&mut StdRng) -> f64) -> u32 {
        let (mut rng, mut cadence) = (StdRng::seed_from_u64(11), Cadence::default());
        let (mut now_ms, mut reported) = (0, 0);
        let at = |ms: u64| Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 };
        for _ in 0..messages {
            let next_ms = now_ms + gap_ms(&mut rng) as u64;
            for ms in (now_ms..next_ms).step_by(1000) {
                reported += u32::from(cadence.check(at(ms), 0, StaleAfter::Auto).is_some());
            }
            now_ms = next_ms;
            cadence.arrived(at(now_ms), 0);
        }
        reported
    }

    /// Chat comes in talks with pauses between them, a simulated market at random: neither may raise false reports.
    #[test]
    fn topics_that_are_irregular_by_nature_are_hardly_ever_called_stale() {
        let exponential = |rng: &mut StdRng, mean: f64| -mean * (1.0 - rng.random::<f64>()).ln();
        let simulated = reported(20_000, |rng| exponential(rng, 3_000.0));
        assert!(simulated <= 1, "{simulated} times in 16 hours of a symbol of the simulated market");
        let talks = reported(20_000, |rng| {
            let mean = if rng.random_bool(0.9) { 2_000.0 } else { 60_000.0 };
            exponential(rng, mean)
        });
        assert!(talks <= 5, "{talks} times in 43 hours of a chat room");
        let steady = reported(1_000, |_| 500.0);
        assert_eq!(steady, 0);
    }

    #[test]
    fn a_topic_that_falls_silent_is_reported_within_seconds() {
        let mut cadence = Cadence::default();
        let at = |ms: u64| Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 };
        for n in 0..240 {
            cadence.arrived(at(n * 50), 0);
        }
        let silent = (12_000..60_000).step_by(100).find(|ms| cadence.check(at(*ms), 0, StaleAfter::Auto).is_some());
        assert!(silent.is_some_and(|ms| ms < 23_000), "{silent:?}");
    }
}
