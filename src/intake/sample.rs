//! Samples of messages for the log: one of a kind at a time, short, on one line; the others are counted.

use crate::words::stamp::Stamp;

use crate::intake::classify::Incoming;

/// A class is sampled in the log at most this often.
const SAMPLE_NS: u64 = 10_000_000_000;
/// Characters of a message that the log shows.
const SAMPLE_CHARS: usize = 200;

/// When a class was last shown in the log, and how many were not shown since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    next_ns: u64,
    hidden: u64,
}

impl Sample {
    /// Whether one may be shown now, and how many were hidden since the last.
    pub fn take(&mut self, now: Stamp) -> Option<u64> {
        if now.mono_ns < self.next_ns {
            self.hidden += 1;
            return None;
        }
        self.next_ns = now.mono_ns + SAMPLE_NS;
        Some(std::mem::take(&mut self.hidden))
    }
}

/// The beginning of a message, fit for a log line.
pub(super) fn excerpt(message: Incoming<'_>) -> String {
    match message {
        Incoming::Text(text) => shortened(text),
        Incoming::Binary(bytes) => shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(SAMPLE_CHARS)])),
    }
}

fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(SAMPLE_CHARS).map(clean).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_and_the_rest_counted() {
        let mut sample = Sample::default();
        let at = |mono_ns| Stamp { wall_ms: 0, mono_ns };
        assert_eq!(sample.take(at(0)), Some(0));
        assert_eq!(sample.take(at(1)), None);
        assert_eq!(sample.take(at(SAMPLE_NS - 1)), None);
        assert_eq!(sample.take(at(SAMPLE_NS)), Some(2));
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(excerpt(Incoming::Text("a\nb")), "a b");
        let long = "é".repeat(SAMPLE_CHARS + 1);
        assert_eq!(excerpt(Incoming::Text(&long)).chars().count(), SAMPLE_CHARS + 1);
        assert_eq!(excerpt(Incoming::Binary(&[0xFF])), "\u{FFFD}");
    }
}
