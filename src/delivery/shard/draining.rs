//! The end of all sessions of a shard: some in each turn, each with a delay before its client reconnects.

use std::ops::Range;

/// Sessions that receive a goodbye in one turn: 256 of about 10 us (a write, a shutdown, a read) keep it below 3 ms,
/// and the others receive their frames in between.
pub(super) const DRAIN_PART: usize = 256;

pub struct Draining {
    /// Gives each its delay.
    reconnect_ms: Box<dyn FnMut() -> u64 + Send>,
    /// The session number that is next; a client that joins does not wait for it.
    next: usize,
}

impl Draining {
    pub fn new(reconnect_ms: impl FnMut() -> u64 + Send + 'static) -> Draining {
        Draining { reconnect_ms: Box::new(reconnect_ms), next: 0 }
    }

    /// Whether session numbers below `end` are left.
    pub fn is_before(&self, end: usize) -> bool {
        self.next < end
    }

    /// The session numbers of one turn.
    pub fn take_part(&mut self, end: usize) -> Range<usize> {
        let first = self.next;
        self.next = (first + DRAIN_PART).min(end).max(first);
        first..self.next
    }

    pub fn reconnect_ms(&mut self) -> u64 {
        (self.reconnect_ms)()
    }
}
