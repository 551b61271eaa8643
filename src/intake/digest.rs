//! Names for the log: many of them become one line with the first few and how many there are, at most once in 10 s.
//!
//! Names may come from clients, and whoever sends names must not be able to fill the log.

use crate::words::stamp::Stamp;

/// A line is written at most this often.
const PAUSE_NS: u64 = 10_000_000_000;
/// Names that a line shows.
const SHOWN_MAX: usize = 5;
/// Characters of a name that a line shows.
const NAME_CHARS: usize = 80;

/// Names that the log was not told of yet.
#[derive(Debug, Default)]
pub(super) struct Digest {
    shown: Vec<String>,
    /// Names since the last line, those shown included; one that comes again counts again.
    count: u64,
    next_ns: u64,
}

impl Digest {
    pub fn add(&mut self, name: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            let shown: String = name.chars().take(NAME_CHARS).flat_map(char::escape_debug).collect();
            if !self.shown.contains(&shown) {
                self.shown.push(shown);
            }
        }
    }

    /// The names and their number, if there are any and it is time for a line.
    pub fn line(&mut self, now: Stamp) -> Option<(String, u64)> {
        if self.count == 0 || now.mono_ns < self.next_ns {
            return None;
        }
        self.next_ns = now.mono_ns.saturating_add(PAUSE_NS);
        let count = std::mem::take(&mut self.count);
        let shown: Vec<String> = self.shown.drain(..).map(|name| format!("`{name}`")).collect();
        let more = if (shown.len() as u64) < count { ", …" } else { "" };
        Some((shown.join(", ") + more, count))
    }

    /// When `line` will give something; none if there is nothing to give.
    pub fn deadline_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.next_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Stamp {
        Stamp { wall_ms: 0, mono_ns: s * 1_000_000_000 }
    }

    #[test]
    fn many_names_are_one_line_in_ten_seconds() {
        let mut digest = Digest::default();
        assert_eq!((digest.line(at(1)), digest.deadline_ns()), (None, None));
        digest.add("a\nb");
        assert_eq!(digest.line(at(1)), Some(("`a\\nb`".to_string(), 1)));
        (0..1000).for_each(|n| digest.add(&format!("n{n}")));
        assert_eq!((digest.line(at(10)), digest.deadline_ns()), (None, Some(at(11).mono_ns)));
        assert_eq!(digest.line(at(11)), Some(("`n0`, `n1`, `n2`, `n3`, `n4`, …".to_string(), 1000)));
        digest.add(&"x".repeat(1000));
        assert_eq!(digest.line(at(30)).map(|(names, _)| names.len()), Some(NAME_CHARS + 2));
    }
}
