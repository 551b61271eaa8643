//! How much of a topic is kept for clients that join: its newest value, or its last messages.

use crate::words::topic::{Pattern, TopicError};

/// 1000 messages: more is an archive, which a broadcaster is not.
pub const KEEP_MAX: u16 = 1000;

/// Which topics keep more than their newest message. The first pattern that matches counts.
#[derive(Clone, Debug, Default)]
pub struct History {
    kept: Vec<(Pattern, u16)>,
}

/// Why an entry is invalid.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("expected `PATTERN=COUNT` with a count from 1 to {KEEP_MAX}, such as `chat.*=50`, found `{found}`")]
    Form { found: String },
    #[error("expected a pattern before `=` in `{found}`: {error}")]
    Pattern { found: String, error: TopicError },
}

impl History {
    /// Reads entries such as `chat.*=50`.
    pub fn parse(entries: &[String]) -> Result<History, HistoryError> {
        let parse = |entry: &String| {
            let form = || HistoryError::Form { found: entry.clone() };
            let (pattern, count) = entry.rsplit_once('=').ok_or_else(form)?;
            let count = count.parse().ok().filter(|count| (1..=KEEP_MAX).contains(count)).ok_or_else(form)?;
            let pattern =
                Pattern::parse(pattern).map_err(|error| HistoryError::Pattern { found: entry.clone(), error })?;
            Ok((pattern, count))
        };
        Ok(History { kept: entries.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Messages that are kept of this topic, at least 1; none if no pattern matches.
    pub fn of(&self, topic: &str) -> Option<u16> {
        self.kept.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let entries = ["chat.vip=100", "chat.*=50", ">=2"].map(String::from);
        let history = History::parse(&entries).expect("good entries");
        for (topic, count) in [("chat.vip", 100), ("chat.rust", 50), ("quote.AAPL", 2)] {
            assert_eq!(history.of(topic), Some(count), "{topic}");
        }
        assert_eq!(History::default().of("chat.rust"), None);
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for entry in ["chat.*", "chat.*=", "chat.*=0", "chat.*=1001", "chat.*=x", "a..b=5"] {
            let error = History::parse(&[entry.to_string()]).expect_err(entry).to_string();
            assert!(error.contains(&format!("`{entry}`")), "{error}");
        }
    }
}
