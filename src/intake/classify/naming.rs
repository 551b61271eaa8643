//! Topics from a feed's names.
//!
//! One rule: white space, control characters, `,`, `*` and `>` become `_`, and so does an empty token, so that `XBT
//! USD` is `XBT_USD` and `a..b` is `a._.b`. Names that differ only in such characters become one topic. A name that is
//! empty or too long for a topic stays invalid: cutting it could merge distinct topics.

use crate::words::topic::{TOPIC_BYTES_MAX, TopicError, check_topic};

/// Changes `name` in place so that it is a topic.
pub(super) fn make_topic(name: &mut String) -> Result<(), TopicError> {
    if is_plain(name) {
        return Ok(());
    }
    match check_topic(name) {
        Ok(()) => Ok(()),
        Err(error @ (TopicError::Empty | TopicError::TooLong { .. })) => Err(error),
        Err(_) => {
            let tokens: Vec<String> = name.split('.').map(usable_token).collect();
            *name = tokens.join(".");
            check_topic(name)
        }
    }
}

/// Whether the name is a valid topic in ASCII, as nearly all are; decided in one pass.
fn is_plain(name: &str) -> bool {
    let mut before = b'.';
    let fits = |byte: u8| {
        let empty_token = std::mem::replace(&mut before, byte) == b'.' && byte == b'.';
        byte.is_ascii_graphic() && !matches!(byte, b',' | b'*' | b'>') && !empty_token
    };
    name.len() <= TOPIC_BYTES_MAX && name.bytes().all(fits) && before != b'.'
}

fn usable_token(token: &str) -> String {
    if token.is_empty() {
        return "_".to_string();
    }
    let usable = |c: char| if c.is_whitespace() || c.is_control() || matches!(c, ',' | '*' | '>') { '_' } else { c };
    token.chars().map(usable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_a_topic() {
        for name in ["a", "a.b", "", ".", ".a", "a.", "a..b", "a b", "a,b", "*", "a.>", "é", "a\u{7f}", "#a@b/c-d!"] {
            assert_eq!(is_plain(name), check_topic(name).is_ok() && name.is_ascii(), "{name}");
        }
        assert!(is_plain(&"x".repeat(256)) && !is_plain(&"x".repeat(257)));
    }

    #[test]
    fn names_become_topics_by_one_rule() {
        for (name, expected) in [
            ("btcusdt@trade", Some("btcusdt@trade")),
            ("XBT USD", Some("XBT_USD")),
            ("a..b", Some("a._.b")),
            (".a.", Some("_.a._")),
            ("a,b*c>d\n", Some("a_b_c_d_")),
            ("chat.#rust", Some("chat.#rust")),
            ("", None),
            (&"x".repeat(257), None),
            (&" ".repeat(257), None),
        ] {
            let mut topic = name.to_string();
            let made = make_topic(&mut topic).is_ok().then_some(topic.as_str());
            assert_eq!(made, expected, "{name}");
        }
    }
}
