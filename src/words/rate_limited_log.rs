//! Rate limits for log lines that could be many: one of a kind in 10 s, with a count of the others.

use crate::words::stamp::Stamp;

/// A line of a kind is written at most this often.
const INTERVAL_NS: u64 = 10_000_000_000;
/// Names that a line shows.
const SHOWN_MAX: usize = 5;
/// Characters of a name that a line shows.
const NAME_CHARS: usize = 80;

/// One kind of line.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimitedLog {
    next_ns: u64,
    suppressed: u64,
}

impl RateLimitedLog {
    /// Whether a line may be written now, and how many were suppressed since the last.
    pub fn take(&mut self, now: Stamp) -> Option<u64> {
        if now.mono_ns < self.next_ns {
            self.suppressed += 1;
            return None;
        }
        self.next_ns = now.mono_ns.saturating_add(INTERVAL_NS);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// One kind of line that names what it is about: the first few names and how many there are. Names may come from
/// clients, and a client that sends names must not be able to fill the log.
#[derive(Debug, Default)]
pub struct NameLog {
    limit: RateLimitedLog,
    shown: Vec<String>,
    /// Names since the last line, those shown included; a repeated name counts again.
    count: u64,
}

impl NameLog {
    pub fn add(&mut self, name: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            let shown: String = name.chars().take(NAME_CHARS).flat_map(char::escape_debug).collect();
            if !self.shown.contains(&shown) {
                self.shown.push(shown);
            }
        }
    }

    /// The names and their number, if there are any and a line is due.
    pub fn line(&mut self, now: Stamp) -> Option<(String, u64)> {
        if self.count == 0 {
            return None;
        }
        self.limit.take(now)?;
        let count = std::mem::take(&mut self.count);
        let shown: Vec<String> = self.shown.drain(..).map(|name| format!("`{name}`")).collect();
        let more = if (shown.len() as u64) < count { ", …" } else { "" };
        Some((shown.join(", ") + more, count))
    }

    /// When the next line is due; none if there are no names.
    pub fn deadline_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.limit.next_ns)
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
        let mut log = NameLog::default();
        assert_eq!((log.line(at(1)), log.deadline_ns()), (None, None));
        log.add("a\nb");
        assert_eq!(log.line(at(1)), Some(("`a\\nb`".to_string(), 1)));
        (0..1000).for_each(|n| log.add(&format!("n{n}")));
        assert_eq!((log.line(at(10)), log.deadline_ns()), (None, Some(at(11).mono_ns)));
        assert_eq!(log.line(at(11)), Some(("`n0`, `n1`, `n2`, `n3`, `n4`, …".to_string(), 1000)));
        log.add(&"x".repeat(1000));
        assert_eq!(log.line(at(30)).map(|(names, _)| names.len()), Some(NAME_CHARS + 2));
    }

    #[test]
    fn a_flood_is_sampled_and_the_rest_counted() {
        let mut log = RateLimitedLog::default();
        let at = |mono_ns| Stamp { wall_ms: 0, mono_ns };
        assert_eq!(log.take(at(0)), Some(0));
        assert_eq!(log.take(at(1)), None);
        assert_eq!(log.take(at(INTERVAL_NS - 1)), None);
        assert_eq!(log.take(at(INTERVAL_NS)), Some(2));
    }
}
