//! Makes a topic out of whatever an upstream calls its things.
//!
//! One rule: white space, control characters, `,`, `*` and `>` become `_`, and so does an empty token, so that
//! `XBT USD` is `XBT_USD` and `a..b` is `a._.b`. Names that differ only in such characters become one topic. A name
//! that is empty or longer than a topic may be is not made usable: cutting it could join what must stay apart.

use crate::words::topic::{TopicError, check_topic};

/// Changes `name` in place so that it is a topic.
pub fn make_topic(name: &mut String) -> Result<(), TopicError> {
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
