//! The end of all sessions of a shard: some in each turn, each with a delay before its client reconnects.
//!
//! Sessions end as fast as turns allow, or in waves over a time: then each has the stream until its own wave.

use std::time::Duration;

/// Sessions that receive a goodbye in one turn: 256 of about 10 us (a write, a shutdown, a read) keep it below 3 ms,
/// and the others receive their frames in between.
pub(super) const DRAIN_PART: usize = 256;

pub struct Draining {
    /// Gives each its delay.
    reconnect_ms: Box<dyn FnMut() -> u64 + Send>,
    /// The session number that is next; a client that joins does not wait for it.
    next: usize,
    /// None once all are due.
    waves: Option<Waves>,
    /// Another process goes on with the clients.
    is_handover: bool,
}

/// As many sessions are due as the time that has passed.
struct Waves {
    spread_ns: u64,
    /// When they began, and how many sessions there were.
    begun: Option<(u64, usize)>,
    due: usize,
    ended: usize,
}

impl Draining {
    pub fn new(reconnect_ms: impl FnMut() -> u64 + Send + 'static) -> Draining {
        Draining { reconnect_ms: Box::new(reconnect_ms), next: 0, waves: None, is_handover: false }
    }

    /// In waves over this time, from the first tick on.
    pub fn in_waves(spread: Duration, reconnect_ms: impl FnMut() -> u64 + Send + 'static) -> Draining {
        let spread_ns = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        let waves = Waves { spread_ns, begun: None, due: 0, ended: 0 };
        Draining { waves: Some(waves), is_handover: true, ..Draining::new(reconnect_ms) }
    }

    pub fn is_handover(&self) -> bool {
        self.is_handover
    }

    /// Begins the next wave.
    pub fn tick(&mut self, sessions: usize, now_ns: u64) {
        let Some(waves) = &mut self.waves else { return };
        let (begun_ns, all) = *waves.begun.get_or_insert((now_ns, sessions));
        let passed_ns = now_ns.saturating_sub(begun_ns);
        if passed_ns >= waves.spread_ns {
            self.waves = None;
            return;
        }
        let due = all as u128 * u128::from(passed_ns) / u128::from(waves.spread_ns);
        waves.due = usize::try_from(due).unwrap_or(all);
    }

    /// Whether there is something to do for session numbers below `end`.
    pub fn is_before(&self, end: usize) -> bool {
        self.next < end && self.waves.as_ref().is_none_or(|waves| waves.ended < waves.due)
    }

    /// The next session number below `end`, if one is due.
    pub fn take_number(&mut self, end: usize) -> Option<usize> {
        let number = self.is_before(end).then_some(self.next)?;
        self.next += 1;
        Some(number)
    }

    /// A session was there, and leaves; its client comes back after this.
    pub fn reconnect_ms(&mut self) -> u64 {
        if let Some(waves) = &mut self.waves {
            waves.ended += 1;
        }
        (self.reconnect_ms)()
    }
}
