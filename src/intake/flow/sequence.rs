//! Numbers in messages, and what they say about messages that are missing.

/// What follows what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// `last` is one more than the `last` before.
    Inc,
    /// `first` is one more than the `last` before.
    Range,
    /// `prev` is the `last` before.
    Prev,
    /// `last` is not less than the `last` before; numbers may be left out.
    Monotonic,
}

/// What to do about a gap, besides telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Tell it.
    Mark,
    /// Tell it, and ask the upstream for a new snapshot of the topic.
    Resubscribe,
    /// Tell it, and connect anew.
    Reconnect,
    /// Nothing, not even tell it.
    Ignore,
    /// What comes late is dropped; a gap is not told.
    DropOld,
}

/// How the numbers of a rule are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRule {
    pub follow: Follow,
    pub remedy: Remedy,
}

/// The numbers of one message; which are needed depends on the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub first: Option<i64>,
    pub prev: Option<i64>,
    pub last: Option<i64>,
}

/// What the numbers of a message say about those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There was no number before.
    First,
    /// It follows, or its numbers are too few to say anything.
    Next,
    /// It has the number of the one before.
    Duplicate,
    /// It is older than the one before.
    Old,
    /// Something is missing before it: so many messages, where the rule counts messages.
    Gap { missed: Option<u64> },
}

/// The newest number of a topic, or of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    last: Option<i64>,
}

impl Sequence {
    /// Takes the numbers of one message. After a gap it counts on from them, so that one gap is seen once; what is old
    /// does not turn it back.
    pub fn step(&mut self, follow: Follow, numbers: Numbers) -> Verdict {
        let Some(last) = numbers.last else { return Verdict::Next };
        let Some(before) = self.last else {
            self.last = Some(last);
            return Verdict::First;
        };
        let verdict = follow.judge(before, last, numbers);
        if matches!(verdict, Verdict::Next | Verdict::Gap { .. }) {
            self.last = Some(last);
        }
        verdict
    }

    pub fn newest(&self) -> Option<i64> {
        self.last
    }

    /// Counts on from these numbers, whatever was before. Without a number the next one may be anything.
    pub fn reset(&mut self, numbers: Option<Numbers>) {
        self.last = numbers.and_then(|numbers| numbers.last);
    }
}

impl Follow {
    /// Whether these numbers can show that nothing is missing.
    pub fn proves(self, numbers: Numbers) -> bool {
        numbers.last.is_some()
            && match self {
                Follow::Inc => true,
                Follow::Range => numbers.first.is_some(),
                Follow::Prev => numbers.prev.is_some(),
                Follow::Monotonic => false,
            }
    }

    fn judge(self, before: i64, last: i64, numbers: Numbers) -> Verdict {
        let next = before.saturating_add(1);
        match (self, numbers) {
            (Follow::Monotonic, _) if last >= before => Verdict::Next,
            // A message without a change repeats its number, and one that starts the numbers over names the old one.
            (Follow::Prev, Numbers { prev: Some(prev), .. }) if prev == before => Verdict::Next,
            _ if last == before => Verdict::Duplicate,
            _ if last < before => Verdict::Old,
            (Follow::Inc, _) if last > next => Verdict::Gap { missed: Some(last.abs_diff(next)) },
            // The numbers of these two count changes, not messages.
            (Follow::Range, Numbers { first: Some(first), .. }) if first > next => Verdict::Gap { missed: None },
            (Follow::Prev, Numbers { prev: Some(_), .. }) => Verdict::Gap { missed: None },
            _ => Verdict::Next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as `first, prev, last`.
    fn check(follow: Follow, steps: &[([Option<i64>; 3], Verdict)]) {
        let mut sequence = Sequence::default();
        for (place, ([first, prev, last], expected)) in steps.iter().enumerate() {
            let numbers = Numbers { first: *first, prev: *prev, last: *last };
            assert_eq!(sequence.step(follow, numbers), *expected, "{follow:?}, step {place}: {numbers:?}");
        }
    }

    #[test]
    fn what_follows_what_depends_on_the_rule() {
        let one = |last| [None, None, Some(last)];
        let inc = [
            (one(7), Verdict::First),
            (one(8), Verdict::Next),
            (one(8), Verdict::Duplicate),
            (one(3), Verdict::Old),
            (one(9), Verdict::Next),
            (one(13), Verdict::Gap { missed: Some(3) }),
            (one(14), Verdict::Next),
            ([None; 3], Verdict::Next),
            (one(15), Verdict::Next),
        ];
        check(Follow::Inc, &inc);
        let range = |first, last| [Some(first), None, Some(last)];
        let ranges = [
            (range(1, 4), Verdict::First),
            (range(5, 5), Verdict::Next),
            (range(4, 8), Verdict::Next),
            (range(2, 3), Verdict::Old),
            (range(10, 12), Verdict::Gap { missed: None }),
            (range(13, 13), Verdict::Next),
            (one(20), Verdict::Next),
        ];
        check(Follow::Range, &ranges);
        let prev = |prev, last| [None, Some(prev), Some(last)];
        let chain = [
            (prev(-1, 10), Verdict::First),
            (prev(10, 15), Verdict::Next),
            (prev(15, 15), Verdict::Next),
            (prev(10, 15), Verdict::Duplicate),
            (prev(15, 3), Verdict::Next),
            (prev(3, 4), Verdict::Next),
            (prev(6, 9), Verdict::Gap { missed: None }),
            (prev(9, 11), Verdict::Next),
            (prev(4, 6), Verdict::Old),
        ];
        check(Follow::Prev, &chain);
        let monotonic = [
            (one(5), Verdict::First),
            (one(5), Verdict::Next),
            (one(90), Verdict::Next),
            (one(89), Verdict::Old),
            (one(90), Verdict::Next),
        ];
        check(Follow::Monotonic, &monotonic);
    }

    #[test]
    fn no_number_is_too_large_or_too_small() {
        let ends = [
            ([None, None, Some(i64::MIN)], Verdict::First),
            ([None, None, Some(i64::MAX)], Verdict::Gap { missed: Some(u64::MAX - 1) }),
        ];
        check(Follow::Inc, &ends);
        let top = [
            ([None, None, Some(i64::MAX)], Verdict::First),
            ([Some(i64::MAX), None, Some(i64::MAX)], Verdict::Duplicate),
        ];
        check(Follow::Range, &top);
    }
}
