//! What members of messages are: where lists, times and numbers that count are.

use serde_json::Value;

use crate::intake::classify::change_hint::is_plain;
use crate::intake::classify::guess::{INSTRUMENTS, KINDS};

const TIMES: [&str; 9] = ["ts", "timestamp", "time", "E", "T", "time_ms", "timestamp_ms", "event_time", "t"];
const NUMBERS: [&str; 7] = ["sequence", "seq", "seqNum", "seq_num", "sequence_num", "nonce", "u"];
/// Numbers of the first and the last change, and of the change before and the last.
const RANGES: [[&str; 2]; 2] = [["U", "u"], ["first_seq", "last_seq"]];
const CHAINS: [[&str; 2]; 3] = [["prev_change_id", "change_id"], ["prevSeqId", "seqId"], ["pu", "u"]];
/// 2000 and 2100, in seconds since 1970.
const SECONDS: std::ops::Range<f64> = 946_684_800.0..4_102_444_800.0;

/// The value at a pointer, whose elements may be counted from the end.
pub(super) fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    pointer.split('/').skip(1).try_fold(value, |value, segment| match value {
        Value::Array(elements) => match segment.strip_prefix('-') {
            Some(from_end) => elements.len().checked_sub(from_end.parse().ok()?).and_then(|index| elements.get(index)),
            None => elements.get(segment.parse::<usize>().ok()?),
        },
        value => value.get(segment),
    })
}

/// The list whose elements name an instrument, and the names of the member and of one that names the element's kind.
pub(super) fn list(messages: &[&Value]) -> Option<(String, &'static str, Option<&'static str>)> {
    let places = objects(messages.first()?, true).into_iter().filter(|(_, value)| value.is_array());
    places.map(|(pointer, _)| pointer).find_map(|pointer| {
        let lists: Vec<&Vec<Value>> = messages.iter().filter_map(|message| at(message, &pointer)?.as_array()).collect();
        let has = |name: &&str| {
            let named = |element: &Value| element.get(*name).is_some_and(Value::is_string);
            lists.iter().copied().flatten().next().is_some() && lists.iter().copied().flatten().all(named)
        };
        let instrument = INSTRUMENTS.iter().find(|name| has(name))?;
        let kind = KINDS.iter().find(|name| has(name) && *name != instrument);
        (lists.len() == messages.len()).then(|| (pointer.clone(), *instrument, kind.copied()))
    })
}

/// The key of a rule for the venue's time.
pub(super) fn time(messages: &[&Value], each: Option<&str>) -> Option<String> {
    let (pointer, unit) = everywhere(messages, each, &TIMES, unit)?;
    Some(format!("time  = {{ at = \"{pointer}\", unit = \"{unit}\" }}"))
}

/// The key of a rule for numbers that count the messages of a topic; `name` tells the topics apart.
pub(super) fn numbers(messages: &[&Value], name: impl Fn(&Value) -> String) -> Option<String> {
    let pairs = |pairs: &[[&str; 2]]| {
        pairs.iter().find_map(|[first, last]| {
            let (first, _) = everywhere(messages, None, &[first], integer)?;
            let (last, _) = everywhere(messages, None, &[last], integer)?;
            Some((first, last))
        })
    };
    let follows = |first: &str, last: &str, step: i64| {
        let mut newest = std::collections::BTreeMap::new();
        let mut followed = 0;
        messages.iter().all(|message| {
            let of = |pointer| at(message, pointer).and_then(integer);
            let (Some(first), Some(last)) = (of(first), of(last)) else { return false };
            let before = newest.insert(name(message), last);
            followed += usize::from(before.is_some());
            before.is_none_or(|before| if step < 0 { first >= before } else { first == before + step })
        }) && followed > 1
    };
    if let Some((first, last)) = pairs(&RANGES).filter(|(first, last)| follows(first, last, 1)) {
        return Some(format!("seq   = {{ rule = \"range\", first = \"{first}\", last = \"{last}\" }}"));
    }
    if let Some((prev, last)) = pairs(&CHAINS).filter(|(prev, last)| follows(prev, last, 0)) {
        return Some(format!("seq   = {{ rule = \"prev\", prev = \"{prev}\", last = \"{last}\" }}"));
    }
    let (last, _) = everywhere(messages, None, &NUMBERS, integer)?;
    let rule = [("inc", 1), ("monotonic", -1)].into_iter().find(|(_, step)| follows(&last, &last, *step))?.0;
    Some(format!("seq   = {{ rule = \"{rule}\", last = \"{last}\" }}"))
}

/// The first of these members that all messages have, and what it is.
fn everywhere<T: PartialEq>(
    messages: &[&Value],
    each: Option<&str>,
    names: &[&str],
    read: impl Fn(&Value) -> Option<T>,
) -> Option<(String, T)> {
    let first = messages.first()?;
    let element = each.map(|list| format!("{list}/0"));
    let mut places: Vec<String> = match &element {
        Some(element) => vec![element.clone()],
        None => objects(first, false).into_iter().map(|(pointer, _)| pointer).collect(),
    };
    places.sort_by_key(|pointer| pointer.matches('/').count());
    for (place, name) in places.iter().flat_map(|place| names.iter().map(move |name| (place, name))) {
        let pointer = format!("{place}/{name}");
        let Some(found) = at(first, &pointer).and_then(&read) else { continue };
        if messages.iter().all(|message| at(message, &pointer).and_then(&read).is_some()) {
            let shown = if element.is_some() { format!("./{name}") } else { pointer };
            return Some((shown, found));
        }
    }
    None
}

/// The message and what is below it, to two levels: objects, or with `lists` the lists of objects.
fn objects(message: &Value, lists: bool) -> Vec<(String, &Value)> {
    let mut found = vec![(String::new(), message)];
    let mut next = 0;
    while let Some((pointer, value)) = found.get(next).cloned() {
        next += 1;
        let Value::Object(members) = value else { continue };
        let below = members.iter().filter(|(name, _)| pointer.matches('/').count() < 2 && is_plain(name));
        found.extend(
            below
                .filter(|(_, member)| member.is_object() || (lists && member.is_array()))
                .map(|(name, member)| (format!("{pointer}/{name}"), member)),
        );
    }
    found.retain(|(_, value)| value.is_object() || lists);
    found
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The unit of a time.
fn unit(value: &Value) -> Option<&'static str> {
    if let Some(text) = value.as_str()
        && humantime::parse_rfc3339(text).is_ok()
    {
        return Some("rfc3339");
    }
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    let units = [("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)];
    units.into_iter().find(|(_, of_second)| SECONDS.contains(&(number / of_second))).map(|(unit, _)| unit)
}
