//! The end of all sessions of a shard: some in each turn, each with a delay before its client reconnects.
//!
//! Sessions end as fast as turns allow, or in waves over a time: then each has the stream until its own wave.

use std::ops::Range;
use std::time::Duration;

/// Sessions that receive a goodbye in one turn: 256 of about 10 us (a write, a shutdown, a read) keep it below 3 ms,
/// and the others receive their frames in between.
pub(super) const DRAIN_PART: usize = 256;

pub struct Draining {
    /// Gives each its delay.
    reconnect_ms: Box<dyn FnMut() -> u64 + Send>,
    /// The session number that is next; a client that joins does not wait for it.
    next: usize,
    waves: Option<Waves>,
}

/// The sessions that are due grow with time.
struct Waves {
    begun_ns: Option<u64>,
    spread_ns: u64,
    /// Session numbers below it are due.
    due: usize,
}

impl Draining {
    pub fn new(reconnect_ms: impl FnMut() -> u64 + Send + 'static) -> Draining {
        Draining { reconnect_ms: Box::new(reconnect_ms), next: 0, waves: None }
    }

    /// In waves over this time, from the first tick on.
    pub fn in_waves(spread: Duration, reconnect_ms: impl FnMut() -> u64 + Send + 'static) -> Draining {
        let spread_ns = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        Draining { waves: Some(Waves { begun_ns: None, spread_ns, due: 0 }), ..Draining::new(reconnect_ms) }
    }

    /// Begins the next wave. `end` is the number of sessions.
    pub fn tick(&mut self, end: usize, now_ns: u64) {
        let Some(waves) = &mut self.waves else { return };
        let passed_ns = now_ns.saturating_sub(*waves.begun_ns.get_or_insert(now_ns));
        if passed_ns >= waves.spread_ns {
            self.waves = None;
            return;
        }
        let due = end as u128 * u128::from(passed_ns) / u128::from(waves.spread_ns);
        waves.due = usize::try_from(due).unwrap_or(end).min(end);
    }

    /// Whether session numbers below `end` are due.
    pub fn is_before(&self, end: usize) -> bool {
        self.next < self.due(end)
    }

    /// The session numbers of one turn.
    pub fn take_part(&mut self, end: usize) -> Range<usize> {
        let first = self.next;
        self.next = (first + DRAIN_PART).min(self.due(end)).max(first);
        first..self.next
    }

    pub fn reconnect_ms(&mut self) -> u64 {
        (self.reconnect_ms)()
    }

    fn due(&self, end: usize) -> usize {
        self.waves.as_ref().map_or(end, |waves| waves.due.min(end))
    }
}
