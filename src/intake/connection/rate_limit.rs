//! A rate limit: at most a count in any interval of a length.
//!
//! The times of the last ones are remembered, so that no interval of that length holds more, wherever it begins. The
//! interval counts as 2 % longer than it is, because times between messages shrink on their way.

use std::collections::VecDeque;

use crate::intake::time::ns;
use crate::profile::section::RateRule;

#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    count: usize,
    period_ns: u64,
    /// Times of the last ones, oldest first; at most `count`.
    taken: VecDeque<u64>,
}

impl RateLimit {
    pub(crate) fn new(rate: RateRule) -> RateLimit {
        let period = rate.period + rate.period / 50;
        RateLimit { count: rate.count as usize, period_ns: ns(period), taken: VecDeque::new() }
    }

    /// Goes on where another one for the same stands.
    pub(crate) fn follow(&mut self, before: &RateLimit) {
        let skipped = before.taken.len().saturating_sub(self.count);
        self.taken = before.taken.iter().skip(skipped).copied().collect();
    }

    /// When the next one is allowed; 0 is at once.
    pub(crate) fn ready_ns(&self) -> u64 {
        match self.taken.front() {
            Some(oldest) if self.taken.len() >= self.count => oldest.saturating_add(self.period_ns),
            _ => 0,
        }
    }

    pub(crate) fn take(&mut self, now_ns: u64) {
        if self.taken.len() >= self.count {
            self.taken.pop_front();
        }
        self.taken.push_back(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_stretch_of_time_holds_more_than_allowed() {
        let mut allowance = RateLimit::new(RateRule { count: 4, period: Duration::from_secs(1) });
        let mut sent = Vec::new();
        let mut now_ns = 0;
        for _ in 0..40 {
            now_ns = allowance.ready_ns().max(now_ns + 1);
            allowance.take(now_ns);
            sent.push(now_ns);
        }
        for window in sent.windows(5) {
            assert!(window[4] - window[0] > 1_000_000_000, "five within a second: {window:?}");
        }
        assert!(sent[39] < 10_300_000_000, "it is no slower than needed: {}", sent[39]);
    }
}
