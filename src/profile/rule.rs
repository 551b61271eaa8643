//! A profile's ordered rules: the first whose tests all hold decides what a message is.
//!
//! Tests, templates and sequence numbers share one way to look into a message: a [`Field`] is a place, a [`View`] what
//! is there.

use crate::json::{FoundTokens, Pointer, Pointers, Type, decode_string};

use crate::profile::decode::Decode;
use crate::profile::rules::numbers::{Number, Numbers, SequenceRule, read_number};
use crate::profile::rules::treatment::Treatment;
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::Template;
use crate::profile::test::Test;

/// What a message is, which decides what fanline does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageClass {
    /// Published.
    Data,
    /// A request was accepted.
    Ack,
    /// A request was refused: shown in the log.
    Nack,
    /// A sign of life of the feed.
    Heartbeat,
    /// Expects an answer, the rule's `reply`.
    Ping,
    /// Answers our ping.
    Pong,
    /// The feed is ready for messages.
    Greeting,
    /// The login succeeded.
    AuthOk,
    /// Information that is not published.
    Info,
    /// Known and of no use.
    Ignore,
    /// The feed asks for a new connection.
    Reconnect,
    /// Reconnecting does not help until something changes.
    Fatal,
    /// The feed reports that its values, or those of one topic, may be outdated.
    Stale,
    /// They are current again.
    Live,
    /// The feed reports that messages are missing here.
    Gap,
    /// No rule holds, or the rule's topic is missing. Published only by a profile's `unmatched`.
    Unmatched,
    /// Not JSON although JSON is expected. Published only by a profile's `unmatched`.
    Garbled,
}

impl MessageClass {
    pub const ALL: [MessageClass; 17] = [
        MessageClass::Data,
        MessageClass::Ack,
        MessageClass::Nack,
        MessageClass::Heartbeat,
        MessageClass::Ping,
        MessageClass::Pong,
        MessageClass::Greeting,
        MessageClass::AuthOk,
        MessageClass::Info,
        MessageClass::Ignore,
        MessageClass::Reconnect,
        MessageClass::Fatal,
        MessageClass::Stale,
        MessageClass::Live,
        MessageClass::Gap,
        MessageClass::Unmatched,
        MessageClass::Garbled,
    ];
    /// Classes that a rule may name; the others apply when no rule does.
    const NAMES: [&'static str; 15] = [
        "data",
        "ack",
        "nack",
        "heartbeat",
        "ping",
        "pong",
        "greeting",
        "auth_ok",
        "info",
        "ignore",
        "reconnect",
        "fatal",
        "stale",
        "live",
        "gap",
    ];

    /// Value of the `class` label of `fanline_upstream_messages_total`, and of `as` in a rule.
    pub fn label(self) -> &'static str {
        match self {
            MessageClass::Data => "data",
            MessageClass::Ack => "ack",
            MessageClass::Nack => "nack",
            MessageClass::Heartbeat => "heartbeat",
            MessageClass::Ping => "ping",
            MessageClass::Pong => "pong",
            MessageClass::Greeting => "greeting",
            MessageClass::AuthOk => "auth_ok",
            MessageClass::Info => "info",
            MessageClass::Ignore => "ignore",
            MessageClass::Reconnect => "reconnect",
            MessageClass::Fatal => "fatal",
            MessageClass::Stale => "stale",
            MessageClass::Live => "live",
            MessageClass::Gap => "gap",
            MessageClass::Unmatched => "unmatched",
            MessageClass::Garbled => "garbled",
        }
    }

    /// Whether messages of this class change the state of published values.
    pub(crate) fn is_state(self) -> bool {
        matches!(self, MessageClass::Stale | MessageClass::Live | MessageClass::Gap)
    }

    /// Whether no rule knows what to do with such a message.
    pub(crate) fn is_misfit(self) -> bool {
        matches!(self, MessageClass::Unmatched | MessageClass::Garbled)
    }

    pub(crate) fn parse(text: &str) -> Result<MessageClass, String> {
        let known =
            MessageClass::ALL.into_iter().find(|class| MessageClass::NAMES.contains(&text) && class.label() == text);
        known.ok_or_else(|| {
            format!(
                "expected {}, found `{text}`{}",
                one_of(&MessageClass::NAMES),
                did_you_mean(text, &MessageClass::NAMES)
            )
        })
    }
}

/// A place in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `text`: the message as received.
    Text,
    /// `/a/b`: a slot of the rules' pointers.
    Whole(usize),
    /// `./a`: a slot of the pointers that start at the elements of the rule's `each`.
    Element(usize),
    /// `number:/a` and `number:./a`: the same, and a whole number names a topic as well as a string does.
    WholeNumber(usize),
    ElementNumber(usize),
    /// The first slot, or the second if nothing is there. Narrow, so that all places are as small as one slot.
    Either(u32, u32),
    /// `#`: the element's key.
    Key,
    /// `=name`: the variable with this number, in the binding of the message's key.
    Bound(usize),
}

impl Field {
    /// The place at which a number is as good as a string; none if there is no token.
    pub(crate) fn as_number(self) -> Option<Field> {
        match self {
            Field::Whole(slot) => Some(Field::WholeNumber(slot)),
            Field::Element(slot) => Some(Field::ElementNumber(slot)),
            _ => None,
        }
    }

    /// This place, or the other if nothing is there; none if one of them is not a pointer into the whole message.
    pub(crate) fn or(self, other: Field) -> Option<Field> {
        match (self, other) {
            (Field::Whole(slot), Field::Whole(other)) => {
                Some(Field::Either(u32::try_from(slot).ok()?, u32::try_from(other).ok()?))
            }
            _ => None,
        }
    }

    /// Whether this token, which is no string, names a topic.
    pub(crate) fn takes_number(self, token: &str) -> bool {
        let is_whole = token.strip_prefix('-').unwrap_or(token).bytes().all(|byte| byte.is_ascii_digit());
        is_whole && matches!(self, Field::WholeNumber(_) | Field::ElementNumber(_))
    }
}

/// The binding of a key: the value of each variable by its number.
pub(crate) type Variables = [Option<Box<str>>];

/// One message, or one element of it, as rules see it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// As received.
    pub text: &'a str,
    /// The JSON form that was searched; empty if there is none.
    pub json: &'a str,
    pub found: &'a FoundTokens,
    pub bound: Option<&'a Variables>,
    /// The path of the rule's `each`, and the index of the element.
    pub element: Option<(usize, usize)>,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    /// A JSON token.
    Token(&'a str),
    Text(&'a str),
}

impl<'a> View<'a> {
    pub(crate) fn look(&self, field: Field) -> Option<FieldValue<'a>> {
        match (field, self.element) {
            (Field::Text, _) => Some(FieldValue::Text(self.text)),
            (Field::Whole(slot) | Field::WholeNumber(slot), _) => {
                self.found.get(self.json, slot).map(FieldValue::Token)
            }
            (Field::Either(slot, other), _) => {
                let token = |slot: u32| self.found.get(self.json, slot as usize);
                token(slot).or_else(|| token(other)).map(FieldValue::Token)
            }
            (Field::Bound(number), _) => self.bound?.get(number)?.as_deref().map(FieldValue::Text),
            (Field::Element(slot) | Field::ElementNumber(slot), Some((path, index))) => {
                self.found.inside(self.json, path, index, slot).map(FieldValue::Token)
            }
            (Field::Key, Some((path, index))) => self.found.key(self.json, path, index).map(FieldValue::Token),
            (Field::Element(_) | Field::ElementNumber(_) | Field::Key, None) => None,
        }
    }

    /// The whole number there, in digits or in a string of digits. An error: it is something else.
    pub(crate) fn number(&self, field: Field) -> Result<Option<Number>, ()> {
        let Some(FieldValue::Token(text) | FieldValue::Text(text)) = self.look(field) else { return Ok(None) };
        match text.trim_matches('"') {
            "" | "null" => Ok(None),
            digits => read_number(digits).map(Some).ok_or(()),
        }
    }
}

impl<'a> FieldValue<'a> {
    /// The value as a key or variable: a text, a number, a bool.
    pub(crate) fn scalar(self) -> Option<std::borrow::Cow<'a, str>> {
        match self {
            FieldValue::Text(text) => Some(text.into()),
            FieldValue::Token(token) => match Type::of(token) {
                Type::String => decode_string(token),
                Type::Number | Type::Bool => Some(token.into()),
                Type::Array | Type::Null | Type::Object => None,
            },
        }
    }
}

/// Origin of a rule's topic.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    Template(Template<Field>),
    /// `${guess}`: the first messages decide.
    Guess,
}

/// Places of the numbers; none for those that the rule does not use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberFields {
    pub first: Option<Field>,
    pub prev: Option<Field>,
    pub last: Option<Field>,
}

impl NumberFields {
    /// The numbers found, and whether something else stands where one should be.
    pub(crate) fn read(&self, view: &View<'_>) -> (Numbers, bool) {
        let mut unread = false;
        let mut number = |field: Option<Field>| match view.number(field?) {
            Ok(number) => number,
            Err(()) => {
                unread = true;
                None
            }
        };
        let numbers = Numbers { first: number(self.first), prev: number(self.prev), last: number(self.last) };
        (numbers, unread)
    }
}

/// The binding that an acknowledgement begins.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub key: Template<Field>,
    /// Number of each variable, and where its value is.
    pub set: Vec<(usize, Field)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub name: String,
    pub class: MessageClass,
    pub when: Vec<Test>,
    /// In rules of class `data`, and always there; in those of `stale`, `live` and `gap` that are about one topic.
    pub topic: Option<Naming>,
    /// Number of the path among those of the rules' pointers.
    pub each: Option<usize>,
    /// The elements are published from the last to the first.
    pub newest_first: bool,
    /// Later rules are tried as well: the message is of several kinds. In rules of class `data` only.
    pub continues: bool,
    pub snapshot_when: Vec<Test>,
    pub numbers: NumberFields,
    /// Treatment of the updates; in rules of class `data` only.
    pub treatment: Treatment,
    /// In rules of class `ping` only, and always there.
    pub reply: Option<Template<Field>>,
    /// In rules of class `ack` only.
    pub bind: Option<Bind>,
    pub unbind: Option<Template<Field>>,
    /// In rules of class `stale` and `gap` only: `since`, `missed` or `until`.
    pub number: Option<Field>,
    /// In rules of class `gap` with `until` only: where data have their number.
    pub data_number: Option<Pointer>,
}

/// The numbers of a whole connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSequenceRule {
    pub rule: SequenceRule,
    pub numbers: NumberFields,
}

/// The rules of a profile, and all pointers they use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub decode: Decode,
    pub pointers: Pointers,
    /// Names of the variables that a `bind` sets.
    pub variables: Vec<String>,
    pub bind_via: Option<Template<Field>>,
    pub sequence: Option<ConnectionSequenceRule>,
    pub list: Vec<Rule>,
    /// Topic of messages that no rule matches.
    pub unmatched: Option<String>,
}

impl Rule {
    /// A rule with a name and a class only.
    pub(crate) fn new(name: &str, class: MessageClass) -> Rule {
        Rule {
            name: name.to_string(),
            class,
            when: Vec::new(),
            topic: None,
            each: None,
            newest_first: false,
            continues: false,
            snapshot_when: Vec::new(),
            numbers: NumberFields::default(),
            treatment: Treatment::default(),
            reply: None,
            bind: None,
            unbind: None,
            number: None,
            data_number: None,
        }
    }

    /// Whether all its tests hold.
    pub(crate) fn holds(&self, view: &View<'_>) -> bool {
        self.when.iter().all(|test| test.holds(view))
    }

    /// Whether the rule can hold for a text that is not JSON.
    pub(crate) fn looks_at_text(&self) -> bool {
        self.when.iter().any(Test::looks_at_text)
    }

    /// Whether the element is a snapshot.
    pub(crate) fn is_snapshot(&self, view: &View<'_>) -> bool {
        !self.snapshot_when.is_empty() && self.snapshot_when.iter().all(|test| test.holds(view))
    }
}
