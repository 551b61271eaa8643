//! Topic names, and patterns over them.
//!
//! A topic is 1 to 256 bytes: tokens separated by `.`, none empty, without white space, control characters,
//! `*`, `>` or `,`. In a pattern `*` matches any characters inside one token (at least one character if it is the
//! whole token), and a last token `>` matches one or more tokens.

use std::borrow::Borrow;
use std::fmt;

/// 256 bytes: the longest topic in 26 recorded feeds has 41; six times that leaves room for prefixes.
pub const TOPIC_BYTES_MAX: usize = 256;

/// Why a text is not a topic or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("expected a topic, found an empty text")]
    Empty,
    #[error("expected at most {TOPIC_BYTES_MAX} bytes, found {bytes}")]
    TooLong { bytes: usize },
    #[error("expected tokens separated by single dots, found an empty token in `{text}`")]
    EmptyToken { text: String },
    #[error("expected no white space, control character or comma, found {found:?} in `{text}`")]
    BadCharacter { text: String, found: char },
    #[error("expected a topic without wildcards, found `{text}`")]
    Wildcard { text: String },
    #[error("expected `>` only as the whole last token, found `{text}`; write `prefix.>` for everything below prefix")]
    MisplacedRest { text: String },
}

/// Checks that `text` may name a topic.
pub fn check_topic(text: &str) -> Result<(), TopicError> {
    check_tokens(text)?;
    if text.contains(['*', '>']) {
        return Err(TopicError::Wildcard { text: shown(text) });
    }
    Ok(())
}

/// A topic or a wildcard over topics. Equal texts are equal patterns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    pub fn parse(text: &str) -> Result<Pattern, TopicError> {
        check_tokens(text)?;
        let body = text.strip_suffix('>').map_or(text, |head| head.strip_suffix('.').unwrap_or(head));
        let rest_is_a_token = !text.ends_with('>') || text == ">" || text.ends_with(".>");
        if !rest_is_a_token || body.contains('>') {
            return Err(TopicError::MisplacedRest { text: shown(text) });
        }
        Ok(Pattern(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is a plain topic, so that it can be looked up instead of matched.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '>'])
    }

    pub fn matches(&self, topic: &str) -> bool {
        text_matches(&self.0, topic)
    }

    /// Whether a topic could match both. Its length is not considered.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let (mut mine, mut others) = (self.0.split('.').peekable(), other.0.split('.').peekable());
        loop {
            match (mine.next(), others.next()) {
                (None, None) => return true,
                (Some(token), Some(_)) if token == ">" && mine.peek().is_none() => return true,
                (Some(_), Some(token)) if token == ">" && others.peek().is_none() => return true,
                (Some(one), Some(two)) if tokens_overlap(one, two) => {}
                _ => return false,
            }
        }
    }
}

/// Whether a token could match both. With stars in both, all but their ends can be put one behind the other.
fn tokens_overlap(one: &str, two: &str) -> bool {
    match (one.contains('*'), two.contains('*')) {
        (false, _) => token_matches(two, one),
        (_, false) => token_matches(one, two),
        (true, true) => {
            let start = |text: &'_ str| text.find('*').unwrap_or(text.len());
            let end = |text: &'_ str| text.rfind('*').map_or(0, |star| star + 1);
            let (head, other_head) = (&one[..start(one)], &two[..start(two)]);
            let (tail, other_tail) = (&one[end(one)..], &two[end(two)..]);
            (head.starts_with(other_head) || other_head.starts_with(head))
                && (tail.ends_with(other_tail) || other_tail.ends_with(tail))
        }
    }
}

/// Equal texts are equal patterns, so a table of patterns can be searched by text.
impl Borrow<str> for Pattern {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn check_tokens(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    if let Some(found) = text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == ',') {
        return Err(TopicError::BadCharacter { text: shown(text), found });
    }
    if text.split('.').any(str::is_empty) {
        return Err(TopicError::EmptyToken { text: shown(text) });
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}

/// Whether the text of a pattern, or the tokens that are left of it, matches as many of a topic.
pub(super) fn text_matches(pattern: &str, topic: &str) -> bool {
    let mut topic_rest = Some(topic);
    let mut tokens = pattern.split('.').peekable();
    while let Some(token) = tokens.next() {
        let Some(rest) = topic_rest else { return false };
        if token == ">" && tokens.peek().is_none() {
            return true;
        }
        let (head, tail) = match rest.split_once('.') {
            Some((head, tail)) => (head, Some(tail)),
            None => (rest, None),
        };
        if !token_matches(token, head) {
            return false;
        }
        topic_rest = tail;
    }
    topic_rest.is_none()
}

/// Glob inside one token. Greedy with one point of return, so the cost is at most the product of the lengths.
pub(super) fn token_matches(pattern: &str, token: &str) -> bool {
    #[cfg(test)]
    tried::TOKENS.with(|tokens| tokens.set(tokens.get() + 1));
    if pattern == "*" || pattern == token {
        return true;
    }
    let (pattern, token) = (pattern.as_bytes(), token.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < token.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&token[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Tokens that this thread has tried on patterns: the work that tests bound.
#[cfg(test)]
pub mod tried {
    use std::cell::Cell;

    thread_local! {
        pub static TOKENS: Cell<usize> = const { Cell::new(0) };
    }

    /// Of this work.
    pub fn during(work: impl FnOnce()) -> usize {
        let before = TOKENS.get();
        work();
        TOKENS.get() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_token() {
        for (pattern, topic, expected) in [
            ("ticker.BTC-USD", "ticker.BTC-USD", true),
            ("ticker.BTC-USD", "ticker.BTC-USDT", false),
            ("ticker.*", "ticker.BTC-USD", true),
            ("ticker.*", "ticker", false),
            ("ticker.*", "ticker.a.b", false),
            ("*.BTC-USD", "trade.BTC-USD", true),
            ("*", "btcusdt@trade", true),
            ("*", "a.b", false),
            ("btc*@trade", "btcusdt@trade", true),
            ("btc*@trade", "btc@trade", true),
            ("*usdt@*", "ethusdt@depth", true),
            ("*usdt@*", "ethbtc@depth", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyybzz", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.>", "a.b", false),
            ("a.*.>", "a.b.c", true),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn patterns_overlap_if_a_topic_matches_both() {
        let texts = [
            "a", "b", "ab", "*", "a*", "*b", "a*b", "b*a", "*a*", ">", "a.b", "a.*", "*.b", "a.>", "b.>", "*.>",
            "a*.b", "a.*b", "a.b*", "a.b.>", "a.*.b", "*.*.*", "aab*", "*aab",
        ];
        let mut topics: Vec<String> = Vec::new();
        let tokens = ["a", "b", "ab", "ba", "aab", "aabab", "abaab", "aabaab", "baa", "c"];
        for first in tokens {
            topics.push(first.into());
            for second in tokens {
                topics.push(format!("{first}.{second}"));
                topics.extend(["a", "b"].map(|third| format!("{first}.{second}.{third}")));
            }
        }
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).expect(text)).collect();
        let mut overlapping = 0;
        for (one, two) in patterns.iter().flat_map(|one| patterns.iter().map(move |two| (one, two))) {
            let expected = topics.iter().any(|topic| one.matches(topic) && two.matches(topic));
            assert_eq!(one.overlaps(two), expected, "{one} and {two}");
            overlapping += usize::from(expected);
        }
        assert!((100..texts.len() * texts.len() - 100).contains(&overlapping), "{overlapping}");
    }

    #[test]
    fn wrong_patterns_are_refused_with_the_reason() {
        for (text, part) in [
            ("", "empty"),
            ("a..b", "empty token"),
            (".a", "empty token"),
            ("a b", "white space"),
            ("a,b", "comma"),
            ("a.>.b", "last token"),
            ("a.b>", "last token"),
            (">>", "last token"),
            (&"x".repeat(257), "257"),
        ] {
            let error = Pattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(check_topic("a.*").is_err());
        assert!(check_topic("btcusdt@depth@100ms").is_ok());
    }
}
