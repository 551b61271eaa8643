//! A guess of how a feed names its topics, from its first messages.
//!
//! A candidate is a pointer (at most 3 segments) to strings that could be topics. In this order of preference:
//!  1. one that names the whole stream in most messages (`/stream`, `/topic`, `/params/channel`);
//!  2. a kind and an instrument (`/type` and `/product_id`), or the instrument alone;
//!  3. a kind alone;
//!  4. a string of any name in nearly all messages that has few values.
//!
//! Messages about the connection (acknowledgements, heartbeats, greetings) are left out. If nothing fits, everything is
//! the topic `feed`. A guess is clear if it names a stream or an instrument, and nearly all messages; one that is not
//! waits for more messages. It is made once and logged, because it may be wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde_json::Value;

use crate::intake::classify::change_hint::ChangeHint;
use crate::intake::classify::naming::make_topic;
use crate::json::pointer_part;

/// The topic of everything if nothing names topics.
pub(crate) const FALLBACK_TOPIC: &str = "feed";

/// Names that hold a whole stream's name, best first.
pub(crate) const STREAMS: [&str; 5] = ["stream", "topic", "subject", "room", "ch"];
/// Names that hold a kind of message, best first.
pub(crate) const KINDS: [&str; 13] =
    ["channel", "channel_name", "type", "event_type", "event", "ev", "kind", "e", "T", "feed", "table", "ty", "method"];
/// Names that hold an instrument, best first.
pub(crate) const INSTRUMENTS: [&str; 20] = [
    "symbol",
    "product_id",
    "instId",
    "instrument_id",
    "instrument_name",
    "instrument",
    "currency_pair",
    "pair",
    "market",
    "marketId",
    "asset_id",
    "asset",
    "coin",
    "sym",
    "ticker",
    "user",
    "s",
    "S",
    "id",
    "name",
];

/// 64 bytes: the longest name in 26 recorded feeds has 41; a longer string is text, not a name.
const NAME_BYTES_MAX: usize = 64;
const SEGMENTS_MAX: usize = 3;
/// Percent of the messages that a clear guess names.
const CLEAR_PERCENT: usize = 95;
/// Names that the log shows.
const NAMES_SHOWN: usize = 3;
/// From the end of an array message: `[id, payload, "book-1000", "XBT/CHF"]`.
const ARRAY_NAMES_MAX: usize = 3;

/// Members that mark a message about the connection, and how their values begin.
pub(crate) const CONTROL_MEMBERS: [&str; 6] = ["event", "type", "method", "op", "channel", "action"];
const CONTROL_VALUES: [&str; 14] = [
    "ack",
    "bts:sub",
    "conf",
    "connected",
    "heartbeat",
    "hello",
    "info",
    "login",
    "ping",
    "pong",
    "status",
    "subscri",
    "system",
    "welcome",
];

/// Members of answers, beside the number of the request.
const ANSWER_MEMBERS: [&str; 3] = ["result", "success", "error"];

/// Whether the message is about the connection, and so shows nothing about names.
pub(crate) fn is_control(text: &str) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_str::<Value>(text) else { return false };
    let says = |name: &&str| members.get(*name).and_then(Value::as_str).map(str::to_ascii_lowercase);
    // JSON-RPC calls its data messages "subscription".
    let control = |says: String| says != "subscription" && CONTROL_VALUES.iter().any(|begin| says.starts_with(begin));
    let has = |name: &str| members.contains_key(name);
    // An answer to a request: its number names no topic.
    let is_answer = has("id") && ANSWER_MEMBERS.iter().any(|name| has(name)) && !has("params");
    is_answer || CONTROL_MEMBERS.iter().filter_map(says).any(control)
}

/// Places of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// None, one, or a kind and an instrument.
    pub pointers: Vec<String>,
    /// Messages examined.
    pub messages: usize,
    /// Messages among them that the pointers name.
    pub named: usize,
    /// Some messages have a kind and no instrument: the kind alone names them.
    pub is_part_optional: bool,
    /// Some of the names.
    pub names: Vec<String>,
    /// What the messages say if they look like changes.
    pub changes: Option<ChangeHint>,
}

impl Guess {
    /// Whether more messages would hardly change it.
    pub(super) fn is_clear(&self) -> bool {
        let last = |pointer: &String| pointer.rsplit('/').next().unwrap_or_default().to_string();
        let says = self
            .pointers
            .iter()
            .map(last)
            .any(|name| STREAMS.contains(&&*name) || INSTRUMENTS.contains(&&*name) || name == "-1");
        says && self.named >= share(self.messages, CLEAR_PERCENT)
    }

    /// The template for topics.
    pub fn template(&self) -> String {
        if self.pointers.is_empty() {
            return FALLBACK_TOPIC.to_string();
        }
        if let [kind, instrument] = &self.pointers[..]
            && self.is_part_optional
        {
            return format!("${{{kind}}}${{{instrument}?.${{{instrument}}}}}");
        }
        let places: Vec<String> = self.pointers.iter().map(|pointer| format!("${{{pointer}}}")).collect();
        places.join(".")
    }
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guess { messages, named, names, .. } = self;
        match self.pointers.is_empty() {
            true => write!(
                f,
                "found no topic name in the first {messages} messages: everything is topic `{FALLBACK_TOPIC}`; \
                 point to the name with `--topic /data/s`, or let `fanline profile new` draft a profile"
            ),
            false => write!(
                f,
                "guessed that topics are named `{}`, which names {named} of the first {messages} messages: `{}`, …; \
                 if that is wrong, point to the name with `--topic /data/s`, or `--topic '${{/type}}.${{/symbol}}'`; \
                 `fanline profile new` drafts a profile",
                self.template(),
                names.join("`, `")
            ),
        }
    }
}

/// Evidence about one pointer.
#[derive(Debug, Default)]
struct Candidate {
    /// Its value by number of message.
    values: BTreeMap<usize, String>,
    /// Some message has another type there, or an array of another length on the way.
    spoilt: bool,
}

/// Guesses from these messages, each one JSON value and none about the connection.
pub(crate) fn guess(messages: &[&str]) -> Guess {
    let mut candidates: BTreeMap<String, Candidate> = BTreeMap::new();
    let values: Vec<Value> = messages.iter().map(|text| serde_json::from_str(text).unwrap_or_default()).collect();
    for (number, value) in values.iter().enumerate() {
        collect(value, number, String::new(), 0, &mut candidates);
    }
    candidates.retain(|_, candidate| !candidate.spoilt);
    let chosen = choose(&candidates, messages.len());
    let has = |pointer: &String, number: usize| candidates[pointer].values.contains_key(&number);
    let is_part_optional = match &chosen[..] {
        [kind, instrument] => (0..messages.len()).any(|number| has(kind, number) && !has(instrument, number)),
        _ => false,
    };
    let required = if is_part_optional { &chosen[..1] } else { &chosen[..] };
    let is_named = |number: &usize| !chosen.is_empty() && required.iter().all(|pointer| has(pointer, *number));
    let named: Vec<usize> = (0..messages.len()).filter(is_named).collect();
    let name = |number: &usize| {
        let parts = chosen.iter().filter_map(|pointer| candidates[*pointer].values.get(number));
        parts.map(String::as_str).collect::<Vec<_>>().join(".").escape_debug().to_string()
    };
    let names: BTreeSet<String> = named.iter().map(name).collect();
    Guess {
        messages: messages.len(),
        named: named.len(),
        is_part_optional,
        names: names.into_iter().take(NAMES_SHOWN).collect(),
        changes: ChangeHint::of(&values),
        pointers: chosen.into_iter().cloned().collect(),
    }
}

fn collect(value: &Value, number: usize, pointer: String, depth: usize, candidates: &mut BTreeMap<String, Candidate>) {
    match value {
        Value::String(text) if depth > 0 && is_name(text) => {
            candidates.entry(pointer).or_default().values.insert(number, text.clone());
        }
        Value::Object(members) if depth < SEGMENTS_MAX => {
            for (name, member) in members {
                let escaped = pointer_part(name);
                // A placeholder cannot hold these.
                if !escaped.contains(['|', '{', '}', '?', '\\']) {
                    collect(member, number, format!("{pointer}/{escaped}"), depth + 1, candidates);
                }
            }
        }
        Value::Array(elements) if depth == 0 => {
            for (from_end, element) in elements.iter().rev().take(ARRAY_NAMES_MAX).enumerate() {
                if element.is_string() {
                    collect(element, number, format!("/-{}", from_end + 1), 1, candidates);
                }
            }
        }
        Value::Array(elements) if depth < SEGMENTS_MAX && elements.first().is_some_and(Value::is_object) => {
            let pointer = format!("{pointer}/0");
            collect(&elements[0], number, pointer.clone(), depth + 1, candidates);
            if elements.len() > 1 {
                // A name from a batch's first element would hide the others.
                let below = format!("{pointer}/");
                let spoil = |(_, candidate): (&String, &mut Candidate)| candidate.spoilt = true;
                candidates.iter_mut().filter(|(known, _)| known.starts_with(&below)).for_each(spoil);
            }
        }
        _ => {}
    }
}

/// Short, usable as a topic, and neither a number nor a time.
fn is_name(text: &str) -> bool {
    let numeric = text.parse::<f64>().is_ok();
    let time = text.len() >= 10 && text.bytes().take(4).all(|b| b.is_ascii_digit()) && text.contains([':', 'T']);
    text.len() <= NAME_BYTES_MAX && !numeric && !time && make_topic(&mut text.to_string()).is_ok()
}

fn choose(candidates: &BTreeMap<String, Candidate>, messages: usize) -> Vec<&String> {
    if let Some(stream) = best(candidates, &STREAMS, share(messages, 60)) {
        return vec![stream];
    }
    let Some(instrument) = best(candidates, &INSTRUMENTS, share(messages, 50)) else {
        let alone = best(candidates, &KINDS, share(messages, 60));
        return alone.or_else(|| any(candidates, messages)).into_iter().collect();
    };
    let named = &candidates[instrument];
    // A kind helps only if it is there wherever the instrument is.
    let beside: BTreeMap<String, Candidate> = candidates
        .iter()
        .filter(|(pointer, candidate)| {
            let both = named.values.keys().filter(|number| candidate.values.contains_key(number)).count();
            *pointer != instrument && both >= share(named.values.len(), 90)
        })
        .map(|(pointer, candidate)| (pointer.clone(), Candidate { values: candidate.values.clone(), spoilt: false }))
        .collect();
    let array_kind = instrument.as_str() == "/-1" && beside.contains_key("/-2");
    let kind = if array_kind { Some("/-2") } else { best(&beside, &KINDS, 1).map(String::as_str) };
    let Some((kind, values)) = kind.and_then(|kind| candidates.get_key_value(kind)) else { return vec![instrument] };
    let says_it_all = values.values.iter().all(|(number, kind)| {
        named.values.get(number).is_none_or(|instrument| plain(kind).contains(&plain(instrument)))
    });
    if says_it_all { vec![kind] } else { vec![kind, instrument] }
}

/// The best candidate with one of these names that is in at least `least` messages: most messages first (in tenths),
/// then the better name, then the shallower pointer.
fn best<'a>(candidates: &'a BTreeMap<String, Candidate>, names: &[&str], least: usize) -> Option<&'a String> {
    let ranked = candidates.iter().filter_map(|(pointer, candidate)| {
        let name = pointer.rsplit('/').next().unwrap_or_default();
        let in_array = *names == INSTRUMENTS && pointer == "/-1";
        let rank = names.iter().position(|known| *known == name).or(in_array.then_some(0))?;
        let count = candidate.values.len();
        let enough = count >= least.max(1);
        enough
            .then(|| (std::cmp::Reverse(count * 10 / (least.max(1) * 2)), rank, pointer.matches('/').count(), pointer))
    });
    ranked.min().map(|(.., pointer)| pointer)
}

/// A string of any name that nearly all messages have, with few values.
fn any(candidates: &BTreeMap<String, Candidate>, messages: usize) -> Option<&String> {
    let ranked = candidates.iter().filter_map(|(pointer, candidate)| {
        let distinct = candidate.values.values().collect::<HashSet<_>>().len();
        let fits = candidate.values.len() >= share(messages, 80) && distinct >= 2 && distinct <= messages.div_ceil(3);
        fits.then(|| (pointer.matches('/').count(), pointer))
    });
    ranked.min().map(|(_, pointer)| pointer)
}

fn share(of: usize, percent: usize) -> usize {
    (of * percent).div_ceil(100)
}

fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &[&str], expected: &str) {
        assert_eq!(guess(messages).template(), expected, "{messages:?}");
    }

    #[test]
    fn names_are_found_where_feeds_keep_them() {
        check(&[r#"{"stream":"a@trade","data":{"e":"trade","s":"A"}}"#], "${/stream}");
        check(&[r#"{"type":"ticker","product_id":"BTC-USD","price":"1.0","side":"buy"}"#], "${/type}.${/product_id}");
        check(
            &[r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"data":[{"x":1}]}"#],
            "${/arg/channel}.${/arg/instId}",
        );
        check(&[r#"[1,{"a":1},"book-10","XBT/USD"]"#], "${/-2}.${/-1}");
        check(&[r#"{"channel":"ticker","data":[{"symbol":"BTC/USD"}]}"#], "${/channel}.${/data/0/symbol}");
        check(
            &[r#"{"params":{"channel":"ticker.BTC-1.raw","data":{"instrument_name":"BTC-1"}}}"#],
            "${/params/channel}",
        );
        check(&[r#"{"feed":"book","product_id":"PI_XBTUSD","side":"sell","price":1}"#], "${/feed}.${/product_id}");
        check(&[r#"{"table":"quote","action":"insert","data":[{"symbol":"XBTUSD"}]}"#], "${/table}.${/data/0/symbol}");
        // A kind alone names what has no instrument.
        check(
            &[r#"{"type":"t","symbol":"A"}"#, r#"{"type":"t","symbol":"B"}"#, r#"{"type":"mids","mids":{}}"#],
            "${/type}${/symbol?.${/symbol}}",
        );
        check(&[r#"{"symbol":"EURUSD","bid":1,"ts":"1614076641"}"#], "${/symbol}");
        check(&[r#"{"e":"trade","s":"A"}"#, r#"{"u":1,"s":"A"}"#], "${/s}");
        check(&[r#"{"color":"red"}"#, r#"{"color":"blue"}"#, r#"{"color":"red"}"#, r#"{"color":"red"}"#], "${/color}");
    }

    #[test]
    fn without_a_name_everything_is_one_topic() {
        check(&[], "feed");
        check(&["[1,[2,3]]", "17", "\"x\""], "feed");
        check(&[r#"{"price":"1.5","time":"2026-01-01T00:00:00Z"}"#], "feed");
        check(&[r#"{"data":[{"s":"A"},{"s":"B"}]}"#], "feed");
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(65));
        check(&[&long], "feed");
        assert!(guess(&[]).to_string().contains("--topic /data/s"));
    }

    #[test]
    fn messages_about_the_connection_are_known() {
        for (text, expected) in [
            (r#"{"event":"subscriptionStatus","pair":"XBT/EUR"}"#, true),
            (r#"{"id":7,"result":null}"#, true),
            (r#"{"id":"7","success":true}"#, true),
            (r#"{"id":7,"price":1}"#, false),
            (r#"{"method":"x","params":{},"id":1,"result":2}"#, false),
            (r#"{"type":"subscriptions","channels":[]}"#, true),
            (r#"{"channel":"heartbeat"}"#, true),
            (r#"{"method":"subscription","params":{"channel":"a"}}"#, false),
            (r#"{"type":"ticker","product_id":"BTC-USD"}"#, false),
            ("[1,2]", false),
        ] {
            assert_eq!(is_control(text), expected, "{text}");
        }
    }

    #[test]
    fn the_guess_reports_how_much_it_names() {
        let guess = guess(&[r#"{"type":"t","symbol":"A"}"#, r#"{"type":"t","symbol":"B"}"#, r#"{"type":"welcome"}"#]);
        assert_eq!((guess.named, guess.messages), (3, 3));
        let part =
            "`${/type}${/symbol?.${/symbol}}`, which names 3 of the first 3 messages: `t.A`, `t.B`, `welcome`, …;";
        assert!(guess.to_string().contains(part), "{guess}");
    }

    #[test]
    fn a_guess_is_clear_if_it_names_an_instrument_of_nearly_all() {
        let (pair, other, kind) = (r#"{"type":"t","symbol":"A"}"#, r#"{"x":1}"#, r#"{"type":"t"}"#);
        for (messages, expected) in [
            (vec![], false),
            (vec![pair; 20], true),
            (vec![r#"{"stream":"a@trade"}"#; 20], true),
            (vec![r#"[1,{"a":1},"book-10","XBT/USD"]"#; 20], true),
            (vec![kind; 20], false),
            (vec![other; 20], false),
            ([vec![pair; 19], vec![other]].concat(), true),
            ([vec![pair; 18], vec![other; 2]].concat(), false),
            ([vec![pair; 18], vec![kind; 2]].concat(), true),
        ] {
            assert_eq!(guess(&messages).is_clear(), expected, "{messages:?}");
        }
    }
}
