//! What the canary has seen, and since when it lacks a message that was published for it. No socket and no clock.

use std::time::Duration;

use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// A message that is missing for longer does not come late, it does not come: a client that skips is sent the newest
/// values within `slow.replay_max`, by default 2 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct CanarySight {
    /// The newest offset that has arrived.
    seen: Offset,
    /// The oldest message that was noticed and has not arrived: its offset, and when it was received of the feed.
    missed: Option<(Offset, Stamp)>,
    /// Anything has ever arrived.
    has_seen: bool,
}

impl CanarySight {
    /// A connection begins: what was published up to `head` need not arrive any more. But if too much was missed before,
    /// only a message that arrives shows that this is over.
    pub fn begin(&mut self, head: Offset, now: Stamp) {
        self.seen = self.seen.max(head);
        if !self.is_blind(now) {
            self.missed = None;
        }
    }

    /// A message has arrived. Whether it is of after the beginning, and not an older one that is current.
    pub fn saw(&mut self, offset: Offset) -> bool {
        self.has_seen = true;
        let is_new = offset > self.seen;
        self.seen = self.seen.max(offset);
        // Of one topic nothing is missing before what has arrived.
        self.missed.take_if(|(missed, _)| *missed <= offset);
        is_new
    }

    /// This is the newest message that was published for it.
    pub fn expect(&mut self, offset: Offset, received: Stamp) {
        if offset > self.seen && self.missed.is_none() {
            self.missed = Some((offset, received));
        }
    }

    /// Nothing is expected: nobody is served at the moment.
    pub fn rest(&mut self) {
        self.missed = None;
    }

    /// How old the oldest message is that has not arrived; zero if none is missing.
    pub fn silence(&self, now: Stamp) -> Duration {
        self.missed.map_or(Duration::ZERO, |(_, received)| Duration::from_nanos(now.ns_since(received)))
    }

    pub fn is_blind(&self, now: Stamp) -> bool {
        self.silence(now) > SILENCE_MAX
    }

    /// It does not see what it has seen before. One that has never seen anything may be at fault itself, by its settings
    /// or its way to the listener, and no reason to restart the server.
    pub fn is_lost(&self, now: Stamp) -> bool {
        self.has_seen && self.is_blind(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp { mono_ns: seconds * 1_000_000_000, ..Stamp::default() }
    }

    #[test]
    fn what_was_published_and_does_not_arrive_is_missed_since_it_was_received() {
        let mut sight = CanarySight::default();
        sight.begin(Offset(10), at(0));
        assert!(!sight.saw(Offset(7)), "a current value of before");
        sight.expect(Offset(10), at(1));
        assert_eq!(sight.silence(at(9)), Duration::ZERO, "it was before the beginning");
        sight.expect(Offset(12), at(2));
        sight.expect(Offset(15), at(4));
        assert_eq!(sight.silence(at(6)), Duration::from_secs(4), "the oldest counts");
        assert!(!sight.is_blind(at(7)) && sight.is_blind(at(8)) && sight.is_lost(at(8)));
        assert!(sight.saw(Offset(15)), "it comes after all");
        assert_eq!((sight.silence(at(9)), sight.is_lost(at(9))), (Duration::ZERO, false));
    }

    #[test]
    fn a_silent_topic_misses_nothing_and_a_new_connection_begins_anew() {
        let mut sight = CanarySight::default();
        sight.begin(Offset(3), at(0));
        assert_eq!(sight.silence(at(1_000)), Duration::ZERO);
        sight.expect(Offset(4), at(1_000));
        sight.begin(Offset(4), at(1_002));
        assert_eq!(sight.silence(at(1_010)), Duration::ZERO);
        sight.expect(Offset(5), at(1_010));
        assert!(sight.is_blind(at(1_020)) && !sight.is_lost(at(1_020)), "it has never seen anything");
        sight.begin(Offset(6), at(1_020));
        assert!(sight.is_blind(at(1_021)), "to be connected is not to see");
        sight.saw(Offset(4));
        assert!(sight.is_lost(at(1_021)), "what is older than what is missing proves nothing");
        sight.rest();
        assert_eq!(sight.silence(at(1_030)), Duration::ZERO);
    }
}
