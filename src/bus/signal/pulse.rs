//! Signs of life: when each part of the server was last at work.
//!
//! | field | stored by | loaded by | ordering |
//! |---|---|---|---|
//! | `beat_ns` | the part, once in each of its turns | `Vitals` | Relaxed: nothing else is read because of it |
//!
//! A part that waits must wake at least once a second to leave a sign.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bus::clock::Clock;
use crate::words::stamp::Stamp;

/// A part without a sign of life for longer than this is missing: far longer than any turn, and than the pauses of a
/// loaded machine.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// In place of a time: no more signs are to be expected.
const AT_REST: u64 = u64::MAX;

/// The sign of life of one part; clones are the same one. Before the first sign it counts from the moment at which
/// [`Vitals`] has it.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    beat_ns: Arc<AtomicU64>,
}

impl Pulse {
    pub fn beat(&self, now: Stamp) {
        self.beat_ns.store(now.mono_ns, Ordering::Relaxed);
    }

    /// The part is as alive as the one that it waits for.
    pub fn follow(&self, other: &Pulse) {
        self.beat_ns.store(other.beat_ns.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The part has ended, and that is right: it is not missed from now on.
    pub fn rest(&self) {
        self.beat_ns.store(AT_REST, Ordering::Relaxed);
    }

    /// Since the last sign; none if no more are expected.
    fn age(&self, now: Stamp) -> Option<Duration> {
        let beat_ns = self.beat_ns.load(Ordering::Relaxed);
        (beat_ns != AT_REST).then(|| Duration::from_nanos(now.mono_ns.saturating_sub(beat_ns)))
    }
}

/// The signs of life of all parts.
#[derive(Clone, Debug)]
pub struct Vitals {
    clock: Clock,
    parts: Arc<[(String, Pulse)]>,
}

impl Vitals {
    /// `clock` is the one that the parts' signs are stamped with.
    pub fn new(clock: Clock, parts: Vec<(String, Pulse)>) -> Vitals {
        // The clock may have run for long: a server of a cluster reads the log first.
        let unsigned = parts.iter().filter(|(_, pulse)| pulse.beat_ns.load(Ordering::Relaxed) == 0);
        unsigned.for_each(|(_, pulse)| pulse.beat(clock.now()));
        Vitals { clock, parts: parts.into() }
    }

    /// How long ago each part gave its last sign; those at rest gave it just now.
    pub fn ages(&self) -> impl Iterator<Item = (&str, Duration)> {
        let now = self.clock.now();
        self.parts.iter().map(move |(part, pulse)| (part.as_str(), pulse.age(now).unwrap_or_default()))
    }

    /// The parts without a sign for more than [`SILENCE_MAX`].
    pub fn missing(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.ages().filter(|(_, age)| *age > SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp { mono_ns: seconds * 1_000_000_000, ..Default::default() }
    }

    #[test]
    fn a_part_is_missed_unless_it_gives_signs_or_is_at_rest() {
        let pulse = Pulse::default();
        assert_eq!(pulse.age(at(7)), Some(Duration::from_secs(7)), "a part that never began is missed, too");
        pulse.beat(at(7));
        assert_eq!(pulse.clone().age(at(9)), Some(Duration::from_secs(2)));
        pulse.rest();
        assert_eq!(pulse.age(at(100)), None);
    }
}
