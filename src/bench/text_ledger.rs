//! The text ledger: what the bench's feed has sent, as digests, so that clients can compare what they have inflated.
//!
//! A message is found by its timestamp. The feed enters a message before it writes it; the newest are kept.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::timestamp;

/// Messages that are kept: 16 MiB, and several seconds of the fastest feed.
const MESSAGES_MAX: usize = 1 << 20;

/// Timestamps and digests, in the order of sending. Its mutex is held for one batch or one comparison.
#[derive(Debug, Default)]
pub struct TextLedger(Mutex<VecDeque<(u64, u64)>>);

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextVerdict {
    Same,
    /// The feed has not sent this.
    Wrong,
    /// From before what is kept.
    Unknown,
}

impl TextLedger {
    /// Enters messages that end with a timestamp, oldest first.
    pub fn enter<'a>(&self, messages: impl Iterator<Item = &'a [u8]>) {
        let mut kept = self.lock();
        kept.extend(messages.filter_map(|text| Some((timestamp::find(text)?, digest(text)))));
        let excess = kept.len().saturating_sub(MESSAGES_MAX);
        kept.drain(..excess);
    }

    /// Compares a text, as the feed sends it.
    pub fn compare(&self, text: &[u8]) -> TextVerdict {
        let Some(sent_ns) = timestamp::find(text) else { return TextVerdict::Wrong };
        let kept = self.lock();
        if kept.front().is_none_or(|(oldest_ns, _)| sent_ns < *oldest_ns) {
            return TextVerdict::Unknown;
        }
        let first = kept.partition_point(|(noted_ns, _)| *noted_ns < sent_ns);
        // Messages of one nanosecond are neighbours.
        let mut noted = kept.range(first..).take_while(|(noted_ns, _)| *noted_ns == sent_ns);
        let found = digest(text);
        if noted.any(|(_, digest)| *digest == found) { TextVerdict::Same } else { TextVerdict::Wrong }
    }

    /// A thread that panicked leaves whole entries.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(text: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u64, sent_ns: u64) -> Vec<u8> {
        let mut text = format!(r#"{{"n":{number}}}"#).into_bytes();
        timestamp::put(&mut text, sent_ns);
        text
    }

    #[test]
    fn a_text_is_the_same_only_if_it_was_sent() {
        let ledger = TextLedger::default();
        assert_eq!(ledger.compare(&message(1, 10)), TextVerdict::Unknown);
        let sent = [message(1, 10), message(2, 20), message(3, 20), message(4, 30)];
        ledger.enter(sent.iter().map(Vec::as_slice));
        assert!(sent.iter().all(|text| ledger.compare(text) == TextVerdict::Same));
        for (text, verdict) in [
            (message(2, 10), TextVerdict::Wrong),
            (message(2, 21), TextVerdict::Wrong),
            (message(4, 40), TextVerdict::Wrong),
            (message(4, 9), TextVerdict::Unknown),
            (b"{}".to_vec(), TextVerdict::Wrong),
        ] {
            assert_eq!(ledger.compare(&text), verdict, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn the_newest_messages_are_kept() {
        let ledger = TextLedger::default();
        let texts: Vec<Vec<u8>> = (0..=MESSAGES_MAX as u64).map(|number| message(number, number)).collect();
        ledger.enter(texts.iter().map(Vec::as_slice));
        let verdicts = [0, 1, MESSAGES_MAX].map(|number| ledger.compare(&texts[number]));
        assert_eq!(verdicts, [TextVerdict::Unknown, TextVerdict::Same, TextVerdict::Same]);
    }
}
