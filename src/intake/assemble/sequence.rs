//! Sequence numbers of messages, and the gaps that they show.
//!
//! The newest number is not trusted for ever: a venue may restart its numbers, and a single wrong number would make
//! everything after it old. After `OLD_MAX` old ones in a row, or `OLD_NS` with only old ones, counting restarts.

use crate::profile::rules::numbers::{Continuity, Number, Numbers};

/// 8 in a row: a few repeated late messages are not a restart.
const OLD_MAX: u8 = 8;
/// 1 s: on a slow topic eight in a row would take too long.
const OLD_NS: u64 = 1_000_000_000;

/// The verdict of a message's numbers about those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapVerdict {
    /// The first number.
    First,
    /// It follows, or its numbers are too few for a verdict.
    Next,
    /// It has the number of the one before.
    Duplicate,
    /// It is older than the one before.
    Old,
    /// It is old as well, but so were those before it: the numbers restart with it.
    Restart,
    /// Messages are missing before it: this many, where the rule counts messages.
    Gap { missed: Option<u64> },
}

/// The newest number of a topic, or of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    last: Option<Number>,
    /// Old ones since the last that was not old, and the arrival of the first of them.
    old: u8,
    old_since_ns: u64,
}

impl Sequence {
    /// Takes the numbers of one message. After a gap it continues from them, so that one gap is reported once; old
    /// numbers do not turn it back, unless nothing else arrives. `now_ns` is the message's arrival on the monotonic
    /// clock.
    pub fn step(&mut self, follow: Continuity, numbers: Numbers, now_ns: u64) -> GapVerdict {
        let Some(last) = numbers.last else { return GapVerdict::Next };
        let Some(before) = self.last else {
            self.last = Some(last);
            return GapVerdict::First;
        };
        match verdict(follow, before, (last, numbers)) {
            GapVerdict::Old if self.is_alone(now_ns) => {
                self.reset(Some(numbers));
                GapVerdict::Restart
            }
            verdict @ (GapVerdict::Next | GapVerdict::Gap { .. }) => {
                self.reset(Some(numbers));
                verdict
            }
            verdict => verdict,
        }
    }

    /// Counts an old message. Returns whether there were only old ones for long enough.
    fn is_alone(&mut self, now_ns: u64) -> bool {
        if self.old == 0 {
            self.old_since_ns = now_ns;
        }
        self.old = self.old.saturating_add(1);
        self.old >= OLD_MAX || now_ns.saturating_sub(self.old_since_ns) >= OLD_NS
    }

    pub fn newest(&self) -> Option<Number> {
        self.last
    }

    /// The next message restarts the count, if its number is old.
    pub fn restart(&mut self) {
        self.old = OLD_MAX;
    }

    /// Continues from these numbers, whatever came before. Without a number the next one may be anything.
    pub fn reset(&mut self, numbers: Option<Numbers>) {
        *self = Sequence { last: numbers.and_then(|numbers| numbers.last), ..Sequence::default() };
    }
}

/// Whether these numbers can show that nothing is missing.
pub fn proves(follow: Continuity, numbers: Numbers) -> bool {
    numbers.last.is_some()
        && match follow {
            Continuity::Inc => true,
            Continuity::Range => numbers.first.is_some(),
            Continuity::Prev => numbers.prev.is_some(),
            Continuity::Monotonic => false,
        }
}

fn verdict(follow: Continuity, before: Number, (last, numbers): (Number, Numbers)) -> GapVerdict {
    let next = before + 1;
    match (follow, numbers) {
        (Continuity::Monotonic, _) if last >= before => GapVerdict::Next,
        // A message without a change repeats its number, and a restart of the numbers names the old one.
        (Continuity::Prev, Numbers { prev: Some(prev), .. }) if prev == before => GapVerdict::Next,
        _ if last == before => GapVerdict::Duplicate,
        _ if last < before => GapVerdict::Old,
        (Continuity::Inc, _) if last > next => GapVerdict::Gap { missed: u64::try_from(last - next).ok() },
        // The numbers of these two count changes, not messages.
        (Continuity::Range, Numbers { first: Some(first), .. }) if first > next => GapVerdict::Gap { missed: None },
        (Continuity::Prev, Numbers { prev: Some(_), .. }) => GapVerdict::Gap { missed: None },
        _ => GapVerdict::Next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as `first, prev, last`.
    fn check(follow: Continuity, steps: &[([Option<Number>; 3], GapVerdict)]) {
        let mut sequence = Sequence::default();
        for (place, ([first, prev, last], expected)) in steps.iter().enumerate() {
            let numbers = Numbers { first: *first, prev: *prev, last: *last };
            assert_eq!(sequence.step(follow, numbers, 0), *expected, "{follow:?}, step {place}: {numbers:?}");
        }
    }

    #[test]
    fn what_follows_what_depends_on_the_rule() {
        let one = |last| [None, None, Some(last)];
        let inc = [
            (one(7), GapVerdict::First),
            (one(8), GapVerdict::Next),
            (one(8), GapVerdict::Duplicate),
            (one(3), GapVerdict::Old),
            (one(9), GapVerdict::Next),
            (one(13), GapVerdict::Gap { missed: Some(3) }),
            (one(14), GapVerdict::Next),
            ([None; 3], GapVerdict::Next),
            (one(15), GapVerdict::Next),
        ];
        check(Continuity::Inc, &inc);
        let range = |first, last| [Some(first), None, Some(last)];
        let ranges = [
            (range(1, 4), GapVerdict::First),
            (range(5, 5), GapVerdict::Next),
            (range(4, 8), GapVerdict::Next),
            (range(2, 3), GapVerdict::Old),
            (range(10, 12), GapVerdict::Gap { missed: None }),
            (range(13, 13), GapVerdict::Next),
            (one(20), GapVerdict::Next),
        ];
        check(Continuity::Range, &ranges);
        let prev = |prev, last| [None, Some(prev), Some(last)];
        let chain = [
            (prev(-1, 10), GapVerdict::First),
            (prev(10, 15), GapVerdict::Next),
            (prev(15, 15), GapVerdict::Next),
            (prev(10, 15), GapVerdict::Duplicate),
            (prev(15, 3), GapVerdict::Next),
            (prev(3, 4), GapVerdict::Next),
            (prev(6, 9), GapVerdict::Gap { missed: None }),
            (prev(9, 11), GapVerdict::Next),
            (prev(4, 6), GapVerdict::Old),
        ];
        check(Continuity::Prev, &chain);
        let monotonic = [
            (one(5), GapVerdict::First),
            (one(5), GapVerdict::Next),
            (one(90), GapVerdict::Next),
            (one(89), GapVerdict::Old),
            (one(90), GapVerdict::Next),
        ];
        check(Continuity::Monotonic, &monotonic);
    }

    #[test]
    fn no_number_is_too_large_or_too_small() {
        let (least, most) = (Number::from(i64::MIN), Number::from(u64::MAX));
        let ends = [
            ([None, None, Some(least)], GapVerdict::First),
            ([None, None, Some(-1)], GapVerdict::Gap { missed: Some(i64::MAX as u64 - 1) }),
            ([None, None, Some(0)], GapVerdict::Next),
            ([None, None, Some(most)], GapVerdict::Gap { missed: Some(u64::MAX - 1) }),
        ];
        check(Continuity::Inc, &ends);
        let top =
            [([None, None, Some(most)], GapVerdict::First), ([Some(most), None, Some(most)], GapVerdict::Duplicate)];
        check(Continuity::Range, &top);
    }

    /// The numbers that a sequence accepts of these, which arrive `apart_ms` milliseconds apart.
    fn taken(apart_ms: u64, numbers: impl Iterator<Item = Number>) -> Vec<Number> {
        let mut sequence = Sequence::default();
        let fresh = numbers.enumerate().filter(|(place, number)| {
            let now_ns = *place as u64 * apart_ms * 1_000_000;
            let numbers = Numbers { last: Some(*number), ..Numbers::default() };
            sequence.step(Continuity::Monotonic, numbers, now_ns) != GapVerdict::Old
        });
        fresh.map(|(_, number)| number).collect()
    }

    #[test]
    fn one_number_out_of_line_holds_up_the_others_for_a_moment_only() {
        let wrong = 1_000_000_000_000;
        let numbers = || (1..=5).chain([wrong]).chain(6..=65);
        let fast = taken(50, numbers());
        assert_eq!((&fast[..7], fast.len()), (&[1, 2, 3, 4, 5, wrong, 13][..], 59), "eight in a row are enough");
        assert_eq!(taken(600, numbers())[5..8], [wrong, 8, 9], "or a second of them");
    }

    #[test]
    fn late_numbers_among_others_never_restart_the_count() {
        let mixed = (100..200).flat_map(|n| [n, n - 50]);
        assert_eq!(taken(50, mixed).len(), 100);
        assert_eq!(taken(2000, [5, 4, 6, 5, 7, 6].into_iter()), [5, 6, 7]);
    }
}
