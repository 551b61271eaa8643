//! Fills a rule's templates from a message: the topics of what it publishes, the reply to a ping.

use std::convert::Infallible;

use crate::intake::flow::Piece;
use crate::wire::encode::PayloadKind;
use crate::wire::json::{Element, Found, Pointers, Type, decode_string};
use crate::words::stamp::Stamp;

use super::naming::make_topic;
use super::{Sink, Unnamed};
use crate::intake::profile::rule::{Class, Field, Rule};
use crate::intake::profile::template::{Template, Value};

/// Kept from message to message so that sorting allocates only what it publishes.
#[derive(Default)]
pub struct Scratch {
    /// What the rules' pointers found in the whole message.
    pub found: Found,
    element_found: Found,
    elements: Vec<Element>,
    topic: String,
}

/// A text as it came.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    pub text: &'a str,
    pub kind: PayloadKind,
    pub received: Stamp,
}

/// Publishes what a data rule finds in the message.
pub fn emit(
    rule: &Rule,
    topic: &Template<Field>,
    whole: &Pointers,
    scratch: &mut Scratch,
    message: Message<'_>,
    sink: &mut dyn Sink,
) -> (Class, Option<Unnamed>) {
    let Message { text, kind, received } = message;
    let Scratch { found, element_found, elements, topic: name } = scratch;
    let treatment = &rule.treatment;
    let piece = Piece {
        treatment,
        topic: "",
        message: text.as_bytes(),
        kind,
        element: text.as_bytes(),
        numbers: None,
        snapshot: false,
        received,
    };
    let Some(each) = &rule.each else {
        return match write_topic(topic, name, |field| lookup(field, whole, text, found)) {
            Ok(()) => {
                sink.piece(&Piece { topic: name, ..piece });
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
                sink.piece(&Piece { topic: name, element: slice.as_bytes(), ..piece });
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
pub fn answer(reply: &Template<Field>, text: &str, found: &Found) -> String {
    let mut out = String::new();
    let rendered: Result<(), Infallible> = reply.render(&mut out, |field| {
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
