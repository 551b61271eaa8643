//! The rule of one kind of messages.

use serde_json::Value;

use crate::intake::classify::change_hint::ChangeHint;
use crate::intake::classify::guess::{FALLBACK_TOPIC, INSTRUMENTS, guess};
use crate::intake::draft::control::free;
use crate::intake::draft::kinds::{KindPlace, MessageKind};
use crate::intake::draft::members::{at, list, numbers, time};

/// Parts of the names of kinds of which a client wants the last ones.
const EVENTS: [&str; 7] = ["trade", "match", "execution", "fill", "liquidation", "news", "chat"];

/// One message of this many is no kind of its own.
const RARE: usize = 20;

/// How the topics of a kind are named.
struct TopicNaming {
    topic: String,
    /// The list with an update in each element.
    each: Option<String>,
    is_found: bool,
}

/// A section of the profile. `folds`: changes are folded, if they look like some.
pub(super) fn write(
    kind: &MessageKind,
    place: Option<&KindPlace>,
    (texts, values): (&[&str], &[Value]),
    folds: bool,
    names: &mut Vec<String>,
) -> String {
    let texts: Vec<&str> = kind.messages.iter().map(|index| texts[*index]).collect();
    let own: Vec<&Value> = kind.messages.iter().map(|index| &values[*index]).collect();
    let cloned: Vec<Value> = own.iter().map(|value| (*value).clone()).collect();
    let hint = ChangeHint::of(&cloned);
    let naming = name(kind, place, &texts, &own, hint.is_some());
    let name = free(&kind.name, names);
    names.push(name.clone());
    let mut text = format!("\n[on.{name}]\n");
    if !kind.when.is_empty() {
        text += &format!("when  = ['{}']\n", kind.when);
    }
    if kind.when.is_empty() && texts.len() * RARE < values.len() {
        return text + "as = \"info\"                       # few messages, which no other rule takes\n";
    }
    if !naming.is_found {
        text += "# No member names an instrument: if one does, point to it, as in \"${/data/s}\".\n";
    }
    text += &format!("topic = \"{}\"\n", naming.topic);
    if let Some(list) = &naming.each {
        text += &format!("each  = \"{list}/*\"\nemit  = \"element\"\n");
    }
    let is_event = EVENTS.iter().any(|word| kind.name.to_ascii_lowercase().contains(word));
    match &hint {
        Some(hint) if folds && hint.has_snapshot() => text += &hint.lines(),
        Some(hint) => {
            let keys = hint.lines().trim_end().replace('\n', "\n#   ");
            text += &format!(
                "# These look like changes. If the feed sends or has snapshots (`[snapshot]`), fold them:\n#   {keys}\n\
                 mode  = \"none\"\n"
            );
        }
        None if is_event => text += "mode  = \"tail\"\ntail  = 50\n",
        None => {}
    }
    if naming.each.is_none() {
        let topic = |value: &Value| topic_of(&naming.topic, value);
        text += &numbers(&own, topic).map(|line| line + "\n").unwrap_or_default();
    }
    text += &time(&own, naming.each.as_deref()).map(|line| line + "\n").unwrap_or_default();
    text
}

fn name(
    kind: &MessageKind,
    place: Option<&KindPlace>,
    texts: &[&str],
    values: &[&Value],
    is_change: bool,
) -> TopicNaming {
    let found = |topic: String| TopicNaming { topic, each: None, is_found: true };
    let has_place = |place: &&KindPlace| values.iter().all(|value| at(value, &place.pointer).is_some());
    if let Some(place) = place.filter(|place| place.is_stream()).filter(has_place) {
        return found(format!("${{{}}}", place.pointer));
    }
    let guess = guess(texts);
    let word = topic_word(&kind.name);
    let instrument = guess.pointers.iter().rev().find(|pointer| {
        let member = pointer.rsplit('/').next().unwrap_or_default();
        INSTRUMENTS.contains(&member) || member == "-1"
    });
    // A name in a list's first element hides those of the others.
    let is_outside = instrument.is_some_and(|pointer| is_change || !pointer.contains("/0/"));
    if !is_outside && let Some((list, member, own_kind)) = list(values) {
        let kind = own_kind.filter(|_| kind.when.is_empty()).map_or(word, |kind| format!("${{./{kind}}}"));
        return TopicNaming { topic: format!("{kind}.${{./{member}}}"), each: Some(list), is_found: true };
    }
    match (&guess.pointers[..], instrument) {
        ([], _) => TopicNaming { topic: word, each: None, is_found: false },
        (_, Some(instrument)) if kind.is_joined => found(format!("{word}.${{{instrument}}}")),
        ([only], Some(_)) if !kind.when.is_empty() => found(format!("{word}.${{{only}}}")),
        _ => found(guess.template()),
    }
}

/// The kind, as a part of a topic.
fn topic_word(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if plain.is_empty() { FALLBACK_TOPIC.to_string() } else { plain }
}

/// Tells the topics of a template apart.
fn topic_of(template: &str, value: &Value) -> String {
    let pointers = template.split("${").skip(1).filter_map(|part| part.split('}').next());
    pointers.filter_map(|pointer| at(value, pointer)).map(ToString::to_string).collect()
}
