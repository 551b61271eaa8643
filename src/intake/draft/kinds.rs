//! The kinds of messages of a feed: by a member that names the kind, or by a part of it.
//!
//! Messages of a kind have the same members. Of all members that may name kinds, the one is taken whose kinds have the
//! fewest forms; of these, the one with most kinds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::intake::classify::change_hint::{CHANGE, WHOLE, is_plain};
use crate::intake::classify::guess::{KINDS, STREAMS};
use crate::intake::draft::members::at;

/// More words than this are names of instruments.
const KINDS_MAX: usize = 16;
const DEPTH_MAX: usize = 3;
/// Between the parts of a name, and the parts that may say the kind.
const BETWEEN: [char; 6] = ['@', '.', ':', '/', '_', '-'];
const PARTS_MAX: usize = 3;

/// Where messages name their kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KindPlace {
    pub pointer: String,
    /// Which part of the name, and what stands between the parts; none: all of it.
    pub part: Option<(char, usize)>,
}

/// Messages of one kind.
pub(super) struct MessageKind {
    pub name: String,
    /// Tests of a rule; empty for what no other kind takes.
    pub when: String,
    /// The word of several that are of one kind is none of them.
    pub is_joined: bool,
    /// Indices of the messages.
    pub messages: Vec<usize>,
}

impl KindPlace {
    /// The place that tells the kinds apart best.
    pub(super) fn find(messages: &[Value]) -> Option<KindPlace> {
        let shapes: Vec<String> = messages.iter().map(shape).collect();
        let mut pointers = BTreeSet::new();
        messages.iter().for_each(|message| collect(message, String::new(), 0, &mut pointers));
        let parts = || BETWEEN.into_iter().flat_map(|between| (0..PARTS_MAX).map(move |part| Some((between, part))));
        let places = pointers.into_iter().flat_map(|pointer| {
            let place = move |part| KindPlace { pointer: pointer.clone(), part };
            std::iter::once(None).chain(parts()).map(place).collect::<Vec<_>>()
        });
        let ranked = places.filter_map(|place| {
            let words: Vec<Option<&str>> = messages.iter().map(|message| place.word(message)).collect();
            let distinct: BTreeSet<&str> = words.iter().flatten().copied().collect();
            let named = words.iter().flatten().count();
            if distinct.is_empty() || distinct.len() > KINDS_MAX || named * 10 < messages.len() * 6 {
                return None;
            }
            let is_mark = distinct.iter().any(|word| WHOLE.contains(word) || CHANGE.contains(word));
            let forms = words.iter().zip(&shapes).collect::<BTreeSet<_>>().len();
            Some((is_mark, forms, Reverse(distinct.len()), place.part.is_some(), place))
        });
        Some(ranked.min()?.4)
    }

    fn word<'v>(&self, message: &'v Value) -> Option<&'v str> {
        let name = at(message, &self.pointer)?.as_str().filter(|name| !name.is_empty() && !name.contains('\''))?;
        match self.part {
            None => Some(name),
            Some((between, part)) => name.split(between).nth(part).filter(|word| !word.is_empty()),
        }
    }

    /// The name is that of a whole stream, with its kind as a part.
    pub(super) fn is_stream(&self) -> bool {
        self.part.is_some() || STREAMS.iter().any(|name| self.pointer.ends_with(&format!("/{name}")))
    }

    fn test(&self, word: &str) -> String {
        let (pointer, word) = (&self.pointer, regex::escape(word));
        match self.part {
            None => format!("{pointer} == {}", Value::from(word.replace('\\', ""))),
            Some((between, part)) => {
                let between = regex::escape(&between.to_string());
                let before = if part == 0 { String::new() } else { format!("([^{between}]*{between}){{{part}}}") };
                format!("{pointer} ~= {}", Value::from(format!("^{before}{word}({between}|$)")))
            }
        }
    }
}

/// The kinds, in the order of their words; what has none comes last.
pub(super) fn kinds(messages: &[Value], place: Option<&KindPlace>) -> Vec<MessageKind> {
    let mut words: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut others = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match place.and_then(|place| place.word(message)) {
            Some(word) => words.entry(word).or_default().push(index),
            None => others.push(index),
        }
    }
    let mut found = Vec::new();
    if let Some(place) = place {
        let whole = words.keys().copied().find(|word| WHOLE.contains(word));
        let change = words.keys().copied().find(|word| CHANGE.iter().any(|part| word.contains(part)));
        if let (Some(whole), Some(change), None) = (whole, change, place.part) {
            let of = |word: &str| words[word].iter().copied();
            let mut both: Vec<usize> = of(whole).chain(of(change)).collect();
            both.sort_unstable();
            let when = format!("{} in {}", place.pointer, Value::from(vec![whole, change]));
            found.push(MessageKind { name: "book".to_string(), when, is_joined: true, messages: both });
            words.retain(|word, _| *word != whole && *word != change);
        }
        found.extend(words.into_iter().map(|(word, messages)| MessageKind {
            name: word.to_string(),
            when: place.test(word),
            is_joined: false,
            messages,
        }));
    }
    if !others.is_empty() {
        let (name, when) = (if found.is_empty() { "data" } else { "other" }.to_string(), String::new());
        found.push(MessageKind { name, when, is_joined: false, messages: others });
    }
    found
}

/// The members of a message and of what is directly below.
fn shape(message: &Value) -> String {
    let names = |value: &Value| match value {
        Value::Object(members) => members.keys().cloned().collect::<Vec<_>>().join(","),
        Value::Array(elements) if elements.first().is_some_and(Value::is_object) => "[]".to_string(),
        _ => String::new(),
    };
    let below: Vec<String> = match message {
        Value::Object(members) => members.values().map(names).collect(),
        Value::Array(elements) => elements.iter().map(names).collect(),
        _ => Vec::new(),
    };
    format!("{}|{}", names(message), below.join("|"))
}

/// Pointers to strings that may name a kind.
fn collect(value: &Value, pointer: String, depth: usize, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if depth < DEPTH_MAX => {
            for (name, member) in members.iter().filter(|(name, _)| is_plain(name)) {
                let below = format!("{pointer}/{name}");
                if member.is_string() && (KINDS.contains(&&**name) || STREAMS.contains(&&**name)) {
                    found.insert(below);
                } else {
                    collect(member, below, depth + 1, found);
                }
            }
        }
        Value::Array(elements) if depth == 0 => {
            // The last is an instrument, if a kind is before it.
            let mut last = elements.iter().rev().take(2).enumerate().filter(|(_, element)| element.is_string());
            found.extend(last.next_back().map(|(from_end, _)| format!("/-{}", from_end + 1)));
        }
        _ => {}
    }
}
