//! Messages that wait for the guess of how the feed's topics are named.

use crate::intake::classify::classified::ConnectionGap;
use crate::intake::classify::guess::{Guess, guess, is_control};
use crate::words::stamp::Stamp;

/// Enough to show what most messages have in common; messages about the connection do not count. Where they do not show
/// it, the guess is tried again at twice as many, and so on.
const TELLING_ENOUGH: usize = 32;
/// Messages that wait at most, including those about the connection.
const WAITING_MAX: usize = 512;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The guess is made this long after the first message, if there are at least `TELLING_FEW`.
pub(super) const GUESS_NS: u64 = 2_000_000_000;
const TELLING_FEW: usize = 4;
/// On a slow feed the guess is made after this, however few messages there are.
pub(super) const GUESS_SLOW_NS: u64 = 10_000_000_000;

/// A message that cannot be classified yet.
pub(super) struct Waiting {
    pub text: String,
    pub received: Stamp,
    pub gap: Option<ConnectionGap>,
}

/// The first messages of a feed whose topic names are unknown.
#[derive(Default)]
pub(super) struct FirstMessages {
    messages: Vec<Waiting>,
    bytes: usize,
    /// Messages among them that are not about the connection.
    telling: usize,
}

impl FirstMessages {
    /// Adds a message; gives the guess if it is clear now, or if no more may wait.
    pub(super) fn push(&mut self, waiting: Waiting) -> Option<Guess> {
        let is_telling = !is_control(&waiting.text);
        self.bytes += waiting.text.len();
        self.telling += usize::from(is_telling);
        self.messages.push(waiting);
        let is_full = self.messages.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX;
        let is_due = is_telling && self.telling >= TELLING_ENOUGH && self.telling.is_power_of_two();
        (is_full || is_due).then(|| self.guess()).filter(|guess| is_full || guess.is_clear())
    }

    /// The guess from the messages at hand.
    pub(super) fn guess(&self) -> Guess {
        let texts = self.messages.iter().map(|waiting| waiting.text.as_str());
        guess(&texts.filter(|text| !is_control(text)).collect::<Vec<_>>())
    }

    /// When a guess is due, on the monotonic clock in nanoseconds; none if nothing waits.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let first = self.messages.first()?.received;
        Some(first.mono_ns.saturating_add(if self.telling >= TELLING_FEW { GUESS_NS } else { GUESS_SLOW_NS }))
    }

    pub(super) fn take(&mut self) -> Vec<Waiting> {
        std::mem::take(self).messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
