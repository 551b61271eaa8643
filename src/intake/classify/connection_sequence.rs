//! Sequence numbers of a whole connection: whether messages are missing before this one.

use crate::intake::assemble::sequence::{GapVerdict, Sequence};
use crate::intake::classify::classified::ConnectionGap;
use crate::profile::rule::{ConnectionSequenceRule, View};
use crate::profile::rules::numbers::{Continuity, GapRemedy};
use crate::words::stamp::Stamp;

/// Sequence state of this connection.
#[derive(Debug)]
pub(super) struct ConnectionSequence {
    rule: ConnectionSequenceRule,
    sequence: Sequence,
    /// An unreadable number was logged.
    logged: bool,
}

impl ConnectionSequence {
    pub(crate) fn new(rule: ConnectionSequenceRule) -> ConnectionSequence {
        ConnectionSequence { rule, sequence: Sequence::default(), logged: false }
    }

    /// On a new connection the first number may be any.
    pub(super) fn reset(&mut self) {
        self.sequence.reset(None);
    }

    /// Takes the next message. One without a number is not counted; after a gap counting continues from the new number.
    pub(crate) fn step(&mut self, view: &View<'_>, received: Stamp) -> Option<ConnectionGap> {
        let (numbers, unread) = self.rule.numbers.read(view);
        if unread && !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(
                "upstream: expected a whole number below 2^64 where `seq` of the profile points, found something \
                 else; such messages count as unnumbered"
            );
        }
        let (follow, remedy) = (self.rule.rule.follow, self.rule.rule.remedy);
        let missed = match self.sequence.step(follow, numbers, received.mono_ns) {
            GapVerdict::Gap { missed } => missed,
            // Messages of one connection never overtake each other: the feed restarted its count.
            GapVerdict::Old | GapVerdict::Restart if follow != Continuity::Monotonic => {
                self.sequence.reset(Some(numbers));
                None
            }
            _ => return None,
        };
        (remedy != GapRemedy::Ignore).then_some(ConnectionGap { missed, remedy })
    }
}
