//! A condition of a rule: an operand, an operator, and for most operators a JSON literal.
//!
//! | test | holds if |
//! |---|---|
//! | `/id exists`, `/id absent` | something, or nothing, is there |
//! | `/type == "x"`, `/type != "x"` | the value is, or is not, this literal; a missing value differs from everything |
//! | `/code in [1,2]` | the value is one of these |
//! | `/stream ^= "!"` | a string begins this way |
//! | `/ch ~= "^book"` | the regular expression matches somewhere in the string, or in the token of another value |
//! | `/data is array` | the value is of this type |
//! | `/h len 5` | an array or object has this many elements, a string this many characters |
//!
//! Operands are `/pointer`, `text` for the message as received, `=name` for a value bound to its key, and in
//! `snapshot_when` of a rule with `each` also `./pointer` for the element.

use std::cmp::Ordering;

use regex::Regex;

use crate::json::{Type, count, decode_string};
use crate::profile::rule::{Field, FieldValue, View};
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::regex;

#[derive(Clone, Debug)]
pub(crate) struct Test {
    operand: Field,
    operator: Operator,
}

#[derive(Clone, Debug)]
enum Operator {
    Exists,
    Absent,
    Equals(Literal),
    Differs(Literal),
    In(Vec<Literal>),
    Prefix(String),
    Matches(Regex),
    Is(Type),
    Len(usize),
}

#[derive(Clone, Debug)]
enum Literal {
    Text(String),
    /// Anything but a string, as JSON.
    Token(String),
}

const OPERATORS: [&str; 9] = ["exists", "absent", "==", "!=", "in", "^=", "~=", "is", "len"];

impl Test {
    /// Reads a test; `field` reads its operand.
    pub(crate) fn parse(text: &str, field: impl FnOnce(&str) -> Result<Field, String>) -> Result<Test, String> {
        let mut parts = text.trim().splitn(3, char::is_whitespace);
        let (operand, operator) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let literal = parts.next().unwrap_or_default().trim();
        Ok(Test { operand: field(operand)?, operator: Operator::parse(operator, literal)? })
    }

    /// Whether the test uses the message as received, so that it can hold for a text that is not JSON.
    pub(crate) fn looks_at_text(&self) -> bool {
        self.operand == Field::Text
    }

    pub(crate) fn holds(&self, view: &View<'_>) -> bool {
        match view.look(self.operand) {
            None => matches!(self.operator, Operator::Absent | Operator::Differs(_)),
            Some(FieldValue::Token(token)) => self.operator.holds_for_token(token),
            Some(FieldValue::Text(text)) => self.operator.holds_for_text(text),
        }
    }
}

impl Operator {
    fn parse(operator: &str, literal: &str) -> Result<Operator, String> {
        let alone = |parsed: Operator| match literal {
            "" => Ok(parsed),
            more => Err(format!("expected nothing after `{operator}`, found `{more}`")),
        };
        let string = || match Literal::parse(literal)? {
            Literal::Text(text) => Ok(text),
            Literal::Token(other) => Err(format!("expected a string after `{operator}`, found `{other}`")),
        };
        match operator {
            "exists" => alone(Operator::Exists),
            "absent" => alone(Operator::Absent),
            "==" => Ok(Operator::Equals(Literal::parse(literal)?)),
            "!=" => Ok(Operator::Differs(Literal::parse(literal)?)),
            "in" => match serde_json::from_str(literal) {
                Ok(serde_json::Value::Array(list)) => Ok(Operator::In(list.into_iter().map(Literal::of).collect())),
                _ => Err(format!("expected a JSON array after `in`, found `{literal}`")),
            },
            "^=" => Ok(Operator::Prefix(string()?)),
            "~=" => Ok(Operator::Matches(regex(&string()?)?)),
            "len" => {
                let len =
                    literal.parse().map_err(|_| format!("expected a whole number after `len`, found `{literal}`"));
                Ok(Operator::Len(len?))
            }
            "is" => {
                let names = Type::ALL.map(Type::name);
                let known = Type::ALL.into_iter().find(|kind| kind.name() == literal);
                known.map(Operator::Is).ok_or_else(|| {
                    format!(
                        "expected {} after `is`, found `{literal}`{}",
                        one_of(&names),
                        did_you_mean(literal, &names)
                    )
                })
            }
            other => Err(format!("expected {}, found `{other}`", one_of(&OPERATORS))),
        }
    }

    fn holds_for_token(&self, token: &str) -> bool {
        match self {
            Operator::Exists => true,
            Operator::Absent => false,
            Operator::Equals(literal) => literal.is_token(token),
            Operator::Differs(literal) => !literal.is_token(token),
            Operator::In(list) => list.iter().any(|literal| literal.is_token(token)),
            Operator::Prefix(prefix) => decode_string(token).is_some_and(|text| text.starts_with(&**prefix)),
            Operator::Matches(regex) => regex.is_match(decode_string(token).as_deref().unwrap_or(token)),
            Operator::Is(kind) => Type::of(token) == *kind,
            Operator::Len(len) => {
                let found = decode_string(token).map(|text| text.chars().count()).or_else(|| count(token));
                found == Some(*len)
            }
        }
    }

    fn holds_for_text(&self, text: &str) -> bool {
        match self {
            Operator::Exists => true,
            Operator::Absent => false,
            Operator::Equals(literal) => literal.is_text(text),
            Operator::Differs(literal) => !literal.is_text(text),
            Operator::In(list) => list.iter().any(|literal| literal.is_text(text)),
            Operator::Prefix(prefix) => text.starts_with(&**prefix),
            Operator::Matches(regex) => regex.is_match(text),
            Operator::Is(kind) => Type::of(text) == *kind,
            Operator::Len(len) => text.chars().count() == *len,
        }
    }
}

impl Literal {
    fn parse(text: &str) -> Result<Literal, String> {
        serde_json::from_str(text).map(Literal::of).map_err(|_| {
            format!("expected a JSON literal such as `\"ticker\"`, `7` or `true` after the operator, found `{text}`")
        })
    }

    fn of(value: serde_json::Value) -> Literal {
        match value {
            serde_json::Value::String(text) => Literal::Text(text),
            other => Literal::Token(other.to_string()),
        }
    }

    /// Numbers are compared as written first, then by value, so that `1` is also `1.0`.
    fn is_token(&self, token: &str) -> bool {
        match self {
            Literal::Text(text) => {
                let inner = token.strip_prefix('"').and_then(|token| token.strip_suffix('"'));
                // An escape is longer than what it stands for.
                inner.is_some_and(|inner| match inner.len().cmp(&text.len()) {
                    Ordering::Less => false,
                    Ordering::Equal => inner == text && !inner.contains('\\'),
                    Ordering::Greater => inner.contains('\\') && decode_string(token).is_some_and(|it| it == **text),
                })
            }
            Literal::Token(literal) => {
                literal == token
                    || matches!((literal.parse::<f64>(), token.parse::<f64>()), (Ok(one), Ok(other)) if one == other)
            }
        }
    }

    fn is_text(&self, text: &str) -> bool {
        match self {
            Literal::Text(literal) | Literal::Token(literal) => literal == text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::FoundTokens;
    use crate::profile::compile::Scope;

    fn holds(test: &str, text: &str) -> Result<bool, String> {
        let mut scope = Scope::default();
        scope.rules.variables = vec!["channel".to_string(), "symbol".to_string()];
        let test = scope.test(test, None)?;
        let mut found = FoundTokens::default();
        let json = if scope.rules.pointers.locate(text, &mut found) { text } else { "" };
        let bound = [Some("book".into()), None];
        Ok(test.holds(&View { text, json, found: &found, bound: Some(&bound), element: None }))
    }

    #[test]
    fn tests_hold_as_they_read() {
        let message =
            r#"{"type":"ticker","n":1.0,"ok":false,"none":null,"data":[1],"s":"!mini","e":"\u0041","m":{"a":1}}"#;
        for (test, expected) in [
            ("/type exists", true),
            ("/none exists", true),
            ("/gone exists", false),
            ("/gone absent", true),
            (r#"/type == "ticker""#, true),
            (r#"/type == "ticke""#, false),
            (r#"/type != "ticker""#, false),
            (r#"/gone != "ticker""#, true),
            (r#"/e == "A""#, true),
            ("/n == 1", true),
            ("/n in [2, 1.0]", true),
            (r#"/type in ["a b", "ticker"]"#, true),
            (r#"/type in ["a"]"#, false),
            ("/ok == false", true),
            (r#"/ok == "false""#, false),
            ("/none is null", true),
            ("/data is array", true),
            ("/data is object", false),
            (r#"/s ^= "!""#, true),
            (r#"/n ^= "1""#, false),
            (r#"/s ~= "^!m""#, true),
            (r#"/s ~= "^m""#, false),
            (r#"/n ~= "^\\d\\.\\d$""#, true),
            (r#"/gone ~= "x""#, false),
            ("/data len 1", true),
            ("/data len 2", false),
            ("/m len 1", true),
            ("/s len 5", true),
            ("/e len 1", true),
            ("/n len 3", false),
            ("/gone len 0", false),
            (r#"=channel == "book""#, true),
            (r#"=channel ^= "bo""#, true),
            (r#"=channel in ["ticker"]"#, false),
            ("=channel exists", true),
            ("=symbol exists", false),
            (r#"=symbol != "x""#, true),
            (r#"text ^= "{\"type\"""#, true),
            (r#"text ~= "\"n\":1\\.0""#, true),
            (r#"text == "x""#, false),
        ] {
            assert_eq!(holds(test, message), Ok(expected), "{test}");
        }
        for (test, text, expected) in [
            (r#"text == "pong""#, "pong", true),
            (r#"text ~= "^PING|PONG$""#, "PING :x", true),
            ("text len 4", "pöng", true),
            ("/a absent", "pong", true),
        ] {
            assert_eq!(holds(test, text), Ok(expected), "{test}");
        }
    }

    #[test]
    fn wrong_tests_are_refused_with_the_reason() {
        for (test, part) in [
            ("type exists", "expected `/pointer`, `=name` or `text`, found `type`"),
            ("/type", "expected one of `exists`"),
            ("/type = \"x\"", "found `=`"),
            ("/type == x", "JSON literal"),
            ("/type in 3", "JSON array"),
            ("/type is strng", "did you mean `string`?"),
            ("/type exists now", "expected nothing after `exists`"),
            ("/type ~= \"(\"", "expected a regular expression, found `(`: unclosed group"),
            ("/type ~= 3", "expected a string after `~=`, found `3`"),
            ("/type len x", "expected a whole number after `len`, found `x`"),
            (
                "=chanel == \"x\"",
                "expected one of `channel`, `symbol` after `=`, found `chanel`; did you mean `channel`?",
            ),
            ("./x exists", "expected `each` beside `./x`"),
        ] {
            let error = holds(test, "{}").expect_err(test);
            assert!(error.contains(part), "{test}: {error}");
        }
    }
}
