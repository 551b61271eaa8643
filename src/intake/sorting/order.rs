//! The numbers of a whole connection: whether a message is missing before this one.

use super::ConnectionGap;
use crate::intake::flow::sequence::{Follow, Remedy};
use crate::intake::profile::rule::{ConnectionSequence, View};

/// What was last counted on this connection.
#[derive(Debug)]
pub struct Order {
    sequence: ConnectionSequence,
    last: Option<i64>,
}

impl Order {
    pub(crate) fn new(sequence: ConnectionSequence) -> Order {
        Order { sequence, last: None }
    }

    /// On a new connection the first number may be any.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// Takes the next message. One without a number is not counted; after a gap counting goes on from the new number.
    pub(crate) fn step(&mut self, view: &View<'_>) -> Option<ConnectionGap> {
        let number = |field: Option<_>| field.and_then(|field| view.number(field));
        let (numbers, rule) = (&self.sequence.numbers, self.sequence.rule);
        let last = number(numbers.last)?;
        let known = self.last.replace(last)?;
        let missed = match rule.follow {
            Follow::Inc => jump(known, last),
            Follow::Range => jump(known, number(numbers.first)?),
            Follow::Prev => (number(numbers.prev)? != known).then_some(None),
            Follow::Monotonic => None,
        }?;
        (rule.remedy != Remedy::Ignore).then_some(ConnectionGap { missed, remedy: rule.remedy })
    }
}

/// What lies between a number and the next: none if nothing; how many is not known if the numbers begin anew.
fn jump(known: i64, next: i64) -> Option<Option<u64>> {
    match next.checked_sub(known) {
        Some(0 | 1) => None,
        Some(step) => Some(u64::try_from(step - 1).ok()),
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_a_gap() {
        for (known, next, expected) in [
            (7, 8, None),
            (7, 7, None),
            (7, 10, Some(Some(2))),
            (7, 1, Some(None)),
            (-1, 0, None),
            (i64::MAX, i64::MIN, Some(None)),
            (i64::MIN, i64::MAX, Some(None)),
        ] {
            assert_eq!(jump(known, next), expected, "{known} {next}");
        }
    }
}
