//! Takes a message from the upstream and says what it is; data is handed on to be published.
//!
//! No sockets and no clock: a function of the message, the time it came with and the messages before it. While the
//! topic is still to be guessed, data messages wait (32 messages, 4 MiB or a few seconds at most); they are published
//! then, in their order, with the time they came at.
//!
//! Payloads are copied out of the message once. A slice would be free, but it would keep the socket's whole read
//! buffer alive for as long as the last-value cache holds one small value from it.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::encode::{Payload, PayloadKind};
use crate::wire::json::{Element, Found, Pointers, Type, decode_string, is_json};
use crate::words::stamp::Stamp;
use crate::words::topic::TopicError;

use super::compile;
use super::guess::{FALLBACK_TOPIC, Guess, guess};
use super::naming::make_topic;
use super::profile::Profile;
use super::rule::{Class, Field, Naming, Rule, Rules, Test};
use super::template::{Template, Value};

/// Enough to see past a welcome and a few acknowledgements.
const GUESS_MESSAGES: usize = 32;
const GUESS_BYTES: usize = 4 << 20;
/// A guess is made this long after the first message, if there are at least `GUESS_MESSAGES_FEW`.
const GUESS_NS: u64 = 2_000_000_000;
const GUESS_MESSAGES_FEW: usize = 4;
/// On a slow feed a guess is made after this, however few messages there are.
const GUESS_SLOW_NS: u64 = 10_000_000_000;

/// Whether a WebSocket message came as text or as binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted {
    pub class: Class,
    /// Name of the rule that decided.
    pub rule: Option<Arc<str>>,
    /// What to answer.
    pub reply: Option<String>,
    /// Why the class is `Unmatched` or `Garbled`, or which elements of a batch could not be named.
    pub problem: Option<Unnamed>,
}

/// Why a message or an element has no topic. Shown to people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    #[error("expected a topic at `{pointer}`, found {found}")]
    Wanting { pointer: String, found: &'static str },
    #[error("expected a usable topic from the rule's template: {0}")]
    Unusable(#[from] TopicError),
    #[error("expected a message that a rule knows, found another; add a rule, if need be with `as = \"ignore\"`")]
    NoRule,
    #[error("expected JSON, found other text")]
    NoJson,
    #[error("expected JSON in UTF-8, found other bytes")]
    NoText,
}

/// Where the sorter puts what it finds.
pub trait Sink {
    /// One frame to publish, with the time its message came at.
    fn publish(&mut self, topic: &str, payload: Payload, received: Stamp);
    /// One message is sorted; called once for each, after its frames are published.
    fn note(&mut self, sorted: &Sorted, message: Incoming<'_>, received: Stamp);
}

/// The upstream's messages, sorted by a profile's rules. Lives as long as the upstream, across its connections.
pub struct Sorter {
    rules: Rules,
    rule_names: Vec<Arc<str>>,
    /// Messages that wait for the guess; empty once it is made, or if the profile needs none.
    waiting: Vec<(String, Stamp)>,
    waiting_bytes: usize,
    guess: Option<Guess>,
    /// Binary messages that are no JSON are published on the fallback topic.
    takes_binary: bool,
    scratch: Scratch,
}

/// Kept from message to message so that sorting allocates only what it publishes.
#[derive(Default)]
struct Scratch {
    found: Found,
    element_found: Found,
    elements: Vec<Element>,
    topic: String,
}

impl Sorter {
    pub fn new(profile: &Profile) -> Sorter {
        let rules = profile.rules.clone();
        Sorter {
            rule_names: rules.list.iter().map(|rule| rule.name.as_str().into()).collect(),
            rules,
            waiting: Vec::new(),
            waiting_bytes: 0,
            guess: None,
            takes_binary: profile.name == "generic",
            scratch: Scratch::default(),
        }
    }

    /// Sorts one message and publishes what it holds. None: the message waits for the guess.
    pub fn sort(&mut self, message: Incoming<'_>, received: Stamp, sink: &mut dyn Sink) -> Option<Sorted> {
        let (text, from_text) = match message {
            Incoming::Text(text) => (Some(text), true),
            Incoming::Binary(bytes) => (std::str::from_utf8(bytes).ok(), false),
        };
        let sorted = match text.map(|text| (text, is_json(text))) {
            Some((text, true)) => self.sort_text(text, true, received, sink)?,
            Some((text, false)) if from_text => self.sort_text(text, false, received, sink)?,
            _ => self.sort_binary(message, received, sink),
        };
        sink.note(&sorted, message, received);
        Some(sorted)
    }

    fn sort_binary(&mut self, message: Incoming<'_>, received: Stamp, sink: &mut dyn Sink) -> Sorted {
        match message {
            Incoming::Binary(bytes) if self.takes_binary => {
                let payload = Payload { bytes: Bytes::copy_from_slice(bytes), kind: PayloadKind::Binary };
                sink.publish(FALLBACK_TOPIC, payload, received);
                Sorted::unruled(Class::Data, None)
            }
            _ => Sorted::unruled(Class::Garbled, Some(Unnamed::NoText)),
        }
    }

    fn sort_text(&mut self, text: &str, json: bool, received: Stamp, sink: &mut dyn Sink) -> Option<Sorted> {
        self.rules.pointers.locate(if json { text } else { "" }, &mut self.scratch.found);
        let held = self.rules.list.iter().position(|rule| {
            // Without JSON only a rule that looks at the text may speak.
            (json || rule.when.iter().any(Test::looks_at_text)) && rule.holds(text, &self.scratch.found)
        });
        let Some(place) = held else {
            let (class, problem) =
                if json { (Class::Unmatched, Unnamed::NoRule) } else { (Class::Garbled, Unnamed::NoJson) };
            return Some(Sorted::unruled(class, Some(problem)));
        };
        let rule = &self.rules.list[place];
        let name = self.rule_names[place].clone();
        let mut sorted = Sorted { class: rule.class, rule: Some(name), reply: None, problem: None };
        match (&rule.topic, &rule.reply) {
            (Some(Naming::Guess), _) => {
                self.wait(text, received, sink);
                return None;
            }
            (Some(Naming::Template(topic)), _) => {
                let kind = if json { PayloadKind::Json } else { PayloadKind::Text };
                let message = Message { text, kind, received };
                let whole = &self.rules.pointers;
                (sorted.class, sorted.problem) = emit(rule, topic, whole, &mut self.scratch, message, sink);
            }
            (None, Some(reply)) => sorted.reply = Some(answer(reply, text, &self.scratch.found)),
            (None, None) => {}
        }
        Some(sorted)
    }

    fn wait(&mut self, text: &str, received: Stamp, sink: &mut dyn Sink) {
        self.waiting.push((text.to_string(), received));
        self.waiting_bytes += text.len();
        if self.waiting.len() >= GUESS_MESSAGES || self.waiting_bytes >= GUESS_BYTES {
            self.settle(sink);
        }
    }

    /// When `tick` wants to be called, on the monotonic clock in nanoseconds; none if it has nothing to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        let (_, first) = self.waiting.first()?;
        Some(first.mono_ns + if self.waiting.len() >= GUESS_MESSAGES_FEW { GUESS_NS } else { GUESS_SLOW_NS })
    }

    /// Makes the guess if its time has come.
    pub fn tick(&mut self, now: Stamp, sink: &mut dyn Sink) {
        if self.deadline_ns().is_some_and(|deadline| deadline <= now.mono_ns) {
            self.settle(sink);
        }
    }

    /// Makes the guess from what there is, says it aloud, and publishes what waited. Without messages nothing happens.
    pub fn settle(&mut self, sink: &mut dyn Sink) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let texts: Vec<&str> = waiting.iter().map(|(text, _)| text.as_str()).collect();
        let guess = guess(&texts);
        tracing::warn!("{guess}");
        self.adopt(&guess);
        self.guess = Some(guess);
        for (text, received) in &waiting {
            self.sort(Incoming::Text(text), *received, sink);
        }
    }

    /// The guess, once it was made.
    pub fn guess(&self) -> Option<&Guess> {
        self.guess.as_ref()
    }

    /// Puts the guessed topic into the rules that wait for it.
    fn adopt(&mut self, guess: &Guess) {
        let made = compile::topic_rules(&guess.template()).expect("the guess writes only pointers that can be read");
        let topic = made.list.first().and_then(|rule| rule.topic.clone());
        let Some(Naming::Template(template)) = topic else {
            unreachable!("topic_rules makes one rule with a template")
        };
        let template = template.map_sources(|field| match field {
            Field::Whole(slot) => Field::Whole(self.rules.pointers.add(made.pointers.pointer(*slot))),
            other => *other,
        });
        for rule in &mut self.rules.list {
            if matches!(rule.topic, Some(Naming::Guess)) {
                rule.topic = Some(Naming::Template(template.clone()));
            }
        }
    }
}

impl Sorted {
    fn unruled(class: Class, problem: Option<Unnamed>) -> Sorted {
        Sorted { class, rule: None, reply: None, problem }
    }
}

/// A text as it came.
#[derive(Clone, Copy)]
struct Message<'a> {
    text: &'a str,
    kind: PayloadKind,
    received: Stamp,
}

/// Publishes what a data rule finds in the message.
fn emit(
    rule: &Rule,
    topic: &Template<Field>,
    whole: &Pointers,
    scratch: &mut Scratch,
    message: Message<'_>,
    sink: &mut dyn Sink,
) -> (Class, Option<Unnamed>) {
    let Message { text, kind, received } = message;
    let Scratch { found, element_found, elements, topic: name } = scratch;
    let payload = |slice: &str| Payload { bytes: Bytes::copy_from_slice(slice.as_bytes()), kind };
    let Some(each) = &rule.each else {
        return match write_topic(topic, name, |field| lookup(field, whole, text, found)) {
            Ok(()) => {
                sink.publish(name, payload(text), received);
                (Class::Data, None)
            }
            Err(problem) => (Class::Unmatched, Some(problem)),
        };
    };
    elements.clear();
    each.locate(text, elements);
    let (mut published, mut problem) = (0, None);
    for element in elements.iter() {
        let slice = &text[element.range.clone()];
        rule.element.locate(slice, element_found);
        let named = write_topic(topic, name, |field| match field {
            Field::Whole(_) => lookup(field, whole, text, found),
            Field::Element(slot) => {
                string_at(element_found.get(slice, *slot), || format!(".{}", rule.element.pointer(*slot)))
            }
            Field::Key => string_at(element.key.clone().map(|key| &text[key]), || "#".to_string()),
        });
        match named {
            Ok(()) => {
                sink.publish(name, payload(if rule.emit_element { slice } else { text }), received);
                published += 1;
            }
            Err(unnamed) => problem = Some(unnamed),
        }
    }
    // An empty batch is data that happens to hold nothing.
    let class = if published == 0 && problem.is_some() { Class::Unmatched } else { Class::Data };
    (class, problem)
}

/// Fills the template into `name` and makes a topic of it.
fn write_topic<'a>(
    topic: &'a Template<Field>,
    name: &mut String,
    value: impl FnMut(&'a Field) -> Result<Value<'a>, Unnamed>,
) -> Result<(), Unnamed> {
    name.clear();
    topic.render(name, value)?;
    Ok(make_topic(name)?)
}

fn lookup<'a>(field: &Field, whole: &Pointers, text: &'a str, found: &Found) -> Result<Value<'a>, Unnamed> {
    let Field::Whole(slot) = field else {
        unreachable!("element fields are refused in rules without `each`");
    };
    string_at(found.get(text, *slot), || whole.pointer(*slot).to_string())
}

/// The text of a string token; anything else names nothing.
fn string_at<'a>(token: Option<&'a str>, pointer: impl FnOnce() -> String) -> Result<Value<'a>, Unnamed> {
    let found = match token {
        None => "nothing",
        Some(token) => match decode_string(token) {
            Some(text) if text.is_empty() => "an empty string",
            Some(text) => return Ok(Value::Text(text)),
            None => Type::of(token).a_name(),
        },
    };
    Err(Unnamed::Wanting { pointer: pointer(), found })
}

/// The reply to a ping: placeholders copy the raw token, so that no number is formatted anew. What is missing is null.
fn answer(reply: &Template<Field>, text: &str, found: &Found) -> String {
    let mut out = String::new();
    let rendered: Result<(), std::convert::Infallible> = reply.render(&mut out, |field| {
        let token = match field {
            Field::Whole(slot) => found.get(text, *slot),
            Field::Element(_) | Field::Key => None,
        };
        Ok(Value::Text(token.unwrap_or("null").into()))
    });
    match rendered {
        Ok(()) => out,
        Err(never) => match never {},
    }
}
