//! A profile's ordered rules: the first whose tests all hold says what a message is.
//!
//! A test is one line: an operand (`/pointer`, or `text` for the message as a whole), an operator, and for most
//! operators a JSON literal: `/type == "ticker"`, `/id exists`, `/code in [1,2]`, `text ^= "PING"`, `/data is array`.

use crate::wire::json::{Each, Found, Pointer, Pointers, Type, decode_string};

use crate::intake::flow::Treatment;

use super::section::{did_you_mean, one_of};
use super::template::Template;

/// What a message is, and so what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Published.
    Data,
    /// A request was accepted.
    Ack,
    /// A request was refused: told in the log.
    Nack,
    /// Shows that the upstream is there.
    Heartbeat,
    /// Asks for an answer, which the rule's `reply` gives.
    Ping,
    /// Answers our ping.
    Pong,
    /// Something to know, not to publish.
    Info,
    /// Known and not wanted.
    Ignore,
    /// The upstream's first words.
    Greeting,
    /// A log-in was accepted.
    AuthOk,
    /// The upstream asks to be connected to anew.
    Reconnect,
    /// Connecting again is of no use before something has changed.
    Fatal,
    /// No rule holds, or the rule's topic is not there. Never published.
    Unmatched,
    /// No JSON where JSON is expected. Never published.
    Garbled,
}

impl Class {
    pub const ALL: [Class; 14] = [
        Class::Data,
        Class::Ack,
        Class::Nack,
        Class::Heartbeat,
        Class::Ping,
        Class::Pong,
        Class::Info,
        Class::Ignore,
        Class::Greeting,
        Class::AuthOk,
        Class::Reconnect,
        Class::Fatal,
        Class::Unmatched,
        Class::Garbled,
    ];
    /// What a rule may say; the rest is what is left when no rule says anything.
    const NAMES: [&'static str; 12] = [
        "data",
        "ack",
        "nack",
        "heartbeat",
        "ping",
        "pong",
        "info",
        "ignore",
        "greeting",
        "auth_ok",
        "reconnect",
        "fatal",
    ];

    /// Value of the `class` label of `fanline_upstream_messages_total`, and of `as` in a rule.
    pub fn label(self) -> &'static str {
        match self {
            Class::Data => "data",
            Class::Ack => "ack",
            Class::Nack => "nack",
            Class::Heartbeat => "heartbeat",
            Class::Ping => "ping",
            Class::Pong => "pong",
            Class::Info => "info",
            Class::Ignore => "ignore",
            Class::Greeting => "greeting",
            Class::AuthOk => "auth_ok",
            Class::Reconnect => "reconnect",
            Class::Fatal => "fatal",
            Class::Unmatched => "unmatched",
            Class::Garbled => "garbled",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Class, String> {
        let known = Class::ALL.into_iter().find(|class| Class::NAMES.contains(&text) && class.label() == text);
        known.ok_or_else(|| {
            format!("expected {}, found `{text}`{}", one_of(&Class::NAMES), did_you_mean(text, &Class::NAMES))
        })
    }
}

/// What a placeholder in a topic or a reply stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `/a/b`: a slot of the rules' pointers.
    Whole(usize),
    /// `./a`: a slot of the rule's own pointers, which start at the element.
    Element(usize),
    /// `#`: the element's key.
    Key,
}

/// Where a rule's topic comes from.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    Template(Template<Field>),
    /// `${guess}`: the first messages decide.
    Guess,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub name: String,
    pub class: Class,
    pub when: Vec<Test>,
    /// In rules of class `data` only, and always there.
    pub topic: Option<Naming>,
    pub each: Option<Each>,
    /// What `./` placeholders look for in each element.
    pub element: Pointers,
    /// Of what the rule finds; in rules of class `data` only.
    pub treatment: Treatment,
    /// In rules of class `ping` only, and always there.
    pub reply: Option<Template<Field>>,
}

/// The rules of a profile, and all that they look for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub pointers: Pointers,
    pub list: Vec<Rule>,
}

impl Rule {
    /// Whether all its tests hold; `found` is what the rules' pointers found in `text`.
    pub fn holds(&self, text: &str, found: &Found) -> bool {
        self.when.iter().all(|test| test.holds(text, found))
    }
}

/// One condition of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    operand: Operand,
    operator: Operator,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Text,
    Slot(usize),
}

#[derive(Clone, Debug)]
enum Operator {
    Exists,
    Absent,
    Equals(Literal),
    Differs(Literal),
    In(Vec<Literal>),
    Prefix(String),
    Is(Type),
}

#[derive(Clone, Debug)]
enum Literal {
    Text(String),
    /// Anything but a string, as JSON.
    Token(String),
}

const OPERATORS: [&str; 7] = ["exists", "absent", "==", "!=", "in", "^=", "is"];
const OPERATORS_LATER: [&str; 2] = ["~=", "len"];

impl Test {
    /// Reads a test; its pointer becomes a slot of `pointers`.
    pub fn parse(text: &str, pointers: &mut Pointers) -> Result<Test, String> {
        let mut parts = text.trim().splitn(3, char::is_whitespace);
        let (operand, operator) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let literal = parts.next().unwrap_or_default().trim();
        let operand = match operand {
            "text" => Operand::Text,
            pointer if pointer.starts_with('/') => {
                Operand::Slot(pointers.add(&Pointer::parse(pointer).map_err(|error| error.to_string())?))
            }
            other => return Err(format!("expected a `/pointer` or `text` to test, found `{other}`")),
        };
        Ok(Test { operand, operator: Operator::parse(operator, literal)? })
    }

    /// Whether the test is about the message as a whole, so that it can hold for a text that is no JSON.
    pub fn looks_at_text(&self) -> bool {
        matches!(self.operand, Operand::Text)
    }

    /// Whether the test holds. A text that is no JSON has nothing at any pointer.
    fn holds(&self, text: &str, found: &Found) -> bool {
        match self.operand {
            Operand::Text => self.operator.holds_for_text(text),
            Operand::Slot(slot) => self.operator.holds_for_token(found.get(text, slot)),
        }
    }
}

impl Operator {
    fn parse(operator: &str, literal: &str) -> Result<Operator, String> {
        let alone = |parsed: Operator| match literal {
            "" => Ok(parsed),
            more => Err(format!("expected nothing after `{operator}`, found `{more}`")),
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
            "^=" => match Literal::parse(literal)? {
                Literal::Text(prefix) => Ok(Operator::Prefix(prefix)),
                Literal::Token(other) => Err(format!("expected a string after `^=`, found `{other}`")),
            },
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
            later if OPERATORS_LATER.contains(&later) => Err(format!(
                "expected an operator that this version understands, found `{later}`, which it does not yet"
            )),
            other => Err(format!("expected {}, found `{other}`", one_of(&OPERATORS))),
        }
    }

    fn holds_for_token(&self, token: Option<&str>) -> bool {
        let Some(token) = token else { return matches!(self, Operator::Absent | Operator::Differs(_)) };
        match self {
            Operator::Exists => true,
            Operator::Absent => false,
            Operator::Equals(literal) => literal.is_token(token),
            Operator::Differs(literal) => !literal.is_token(token),
            Operator::In(list) => list.iter().any(|literal| literal.is_token(token)),
            Operator::Prefix(prefix) => decode_string(token).is_some_and(|text| text.starts_with(&**prefix)),
            Operator::Is(kind) => Type::of(token) == *kind,
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
            Operator::Is(kind) => Type::of(text) == *kind,
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
            Literal::Text(text) => decode_string(token).is_some_and(|decoded| decoded == **text),
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

    fn holds(test: &str, text: &str) -> Result<bool, String> {
        let mut pointers = Pointers::default();
        let test = Test::parse(test, &mut pointers)?;
        let mut found = Found::default();
        pointers.locate(text, &mut found);
        Ok(test.holds(text, &found))
    }

    #[test]
    fn tests_hold_as_they_read() {
        let message = r#"{"type":"ticker","n":1.0,"ok":false,"none":null,"data":[1],"s":"!mini"}"#;
        for (test, expected) in [
            ("/type exists", true),
            ("/none exists", true),
            ("/gone exists", false),
            ("/gone absent", true),
            (r#"/type == "ticker""#, true),
            (r#"/type != "ticker""#, false),
            (r#"/gone != "ticker""#, true),
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
            (r#"text ^= "{\"type\"""#, true),
            (r#"text == "x""#, false),
        ] {
            assert_eq!(holds(test, message), Ok(expected), "{test}");
        }
        assert_eq!(holds(r#"text == "pong""#, "pong"), Ok(true));
    }

    #[test]
    fn wrong_tests_are_refused_with_the_reason() {
        for (test, part) in [
            ("type exists", "`/pointer` or `text`"),
            ("/type", "expected one of `exists`"),
            ("/type = \"x\"", "found `=`"),
            ("/type == x", "JSON literal"),
            ("/type in 3", "JSON array"),
            ("/type is strng", "did you mean `string`?"),
            ("/type exists now", "expected nothing after `exists`"),
            ("/type ~= \"x\"", "does not yet"),
            ("=channel == \"x\"", "found `=channel`"),
        ] {
            let error = holds(test, "{}").expect_err(test);
            assert!(error.contains(part), "{test}: {error}");
        }
    }
}
