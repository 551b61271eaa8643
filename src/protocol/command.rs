//! Commands of clients: one JSON object per text message (docs/PROTOCOL.md, "Commands").
//!
//! Strict on purpose: an unknown member or operation is refused with the nearest valid name, never ignored.
//! Reading takes time in proportion to the bytes, whatever they are, and keeps a bounded part of them: names, members
//! and patterns beyond what a good command can have are passed over, not gathered, compared or sorted.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::protocol::secret_token::SecretToken;
use crate::words::ids::{Cursor, Epoch, Offset};
use crate::words::topic::{Pattern, check_topic};

/// A client's `id`, as the JSON text that was received: a number or a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandId(pub Box<str>);

/// Longest `id`, in bytes of JSON text; it is repeated in the answer.
const ID_BYTES_MAX: usize = 66;

/// Longest name that is compared with the valid ones, in bytes: comparing costs the product of both lengths. The
/// longest valid name has 11.
const NAME_BYTES_MAX: usize = 32;
/// Members kept of one command. It can have 7; so among 16 is one that is unknown, and it is named.
const MEMBERS_MAX: usize = 16;

/// Paces that a client may ask for.
pub const EVERY_MIN: Duration = Duration::from_millis(10);
pub const EVERY_MAX: Duration = Duration::from_secs(60);

/// How long a client may let a request wait for the feed's answer, and the default.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a session does when it has fallen behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// A short lag is replayed; a long one is skipped, and the latest values follow.
    #[default]
    Conflate,
    /// Replay as long as the ring holds what was missed.
    Lossless,
    /// As conflate, but the session is ended instead of skipping anything.
    Disconnect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Subscribe {
        patterns: Vec<Pattern>,
        every: Option<Duration>,
        since: Option<Cursor>,
        policy: Option<Policy>,
        /// The answer need not list all patterns in force.
        brief: bool,
    },
    Unsubscribe {
        patterns: Vec<Pattern>,
        brief: bool,
    },
    /// A message for the feed; `data` is any JSON text.
    Send {
        topic: Box<str>,
        data: Box<str>,
    },
    /// A request that the feed is to answer within `timeout`; `data` is the text of a JSON object.
    Request {
        data: Box<str>,
        timeout: Duration,
    },
    /// Shows a credential: the first one of the session, or a fresh one of the same user.
    Auth {
        token: SecretToken,
    },
    Ping,
}

/// Why a command was refused: `code` for programs, `message` for people. The session continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRefusal {
    pub code: &'static str,
    pub message: String,
}

impl CommandRefusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> CommandRefusal {
        CommandRefusal { code, message: message.into() }
    }

    /// A session would have more patterns than `limits.patterns_max`.
    pub fn too_many_patterns(max: usize, found: impl fmt::Display) -> CommandRefusal {
        let message = format!(
            "expected at most {max} patterns in one session (limits.patterns_max), found {found}; use wildcards"
        );
        CommandRefusal::new("too_many_patterns", message)
    }
}

/// Reads one command, with at most `patterns_max` patterns. The id is given also for a refused one, if it could be read.
pub fn parse(text: &str, patterns_max: usize) -> (Option<CommandId>, Result<Command, CommandRefusal>) {
    let members: Members<'_> = match serde_json::from_str(text) {
        Ok(members) => members,
        Err(error) => {
            let found = match error.classify() {
                // serde_json's own words would repeat a string of any length.
                Category::Data => format!("found {}", kind_of(text)),
                _ => error.to_string(),
            };
            let message =
                format!("expected a JSON object such as {{\"op\":\"subscribe\",\"topics\":[\">\"]}}: {found}");
            return (None, Err(CommandRefusal::new("bad_json", message)));
        }
    };
    match id(&members) {
        Ok(id) => (id, command(&members, patterns_max)),
        Err(refusal) => (None, Err(refusal)),
    }
}

/// A pace given in milliseconds; 0 is none.
pub fn parse_every(every: Duration) -> Result<Option<Duration>, CommandRefusal> {
    if every.is_zero() {
        return Ok(None);
    }
    if (EVERY_MIN..=EVERY_MAX).contains(&every) {
        return Ok(Some(every));
    }
    let found = every.as_millis();
    let message = format!("expected a pace of 10 ms to 60000 ms, or 0 for every frame, found {found} ms");
    Err(CommandRefusal::new("bad_pace", message))
}

pub fn parse_policy(text: &str) -> Result<Policy, CommandRefusal> {
    match text {
        "conflate" => Ok(Policy::Conflate),
        "lossless" => Ok(Policy::Lossless),
        "disconnect" => Ok(Policy::Disconnect),
        other => {
            let message = format!("expected a policy `conflate`, `lossless` or `disconnect`, found `{}`", shown(other));
            Err(CommandRefusal::new("unknown_policy", message))
        }
    }
}

pub fn parse_pattern(text: &str) -> Result<Pattern, CommandRefusal> {
    Pattern::parse(text).map_err(|error| CommandRefusal::new("bad_pattern", format!("in `topics`: {error}")))
}

pub fn parse_cursor(text: &str) -> Result<Cursor, CommandRefusal> {
    text.parse().map_err(|error: crate::words::ids::CursorError| CommandRefusal::new("bad_cursor", error.to_string()))
}

/// Checks the number of wildcards among patterns.
pub fn check_wildcards(patterns: &[Pattern], max: usize) -> Result<(), CommandRefusal> {
    check_wildcard_count(patterns.iter().filter(|pattern| !pattern.is_exact()).count(), max)
}

/// Checks a number of wildcards.
pub fn check_wildcard_count(found: usize, max: usize) -> Result<(), CommandRefusal> {
    if found <= max {
        return Ok(());
    }
    let message = format!(
        "expected at most {max} wildcards (limits.wildcards_max), found {found}; name topics, or use fewer that match more"
    );
    Err(CommandRefusal::new("too_many_wildcards", message))
}

/// The offset after which a client that has seen everything up to `since` continues; none if the cursor is of another
/// epoch: then everything before is skipped.
pub fn resume_offset(since: Cursor, epoch: Epoch, head: Offset) -> Result<Option<Offset>, CommandRefusal> {
    if since.epoch != epoch {
        return Ok(None);
    }
    if since.offset > head {
        let message = format!("expected an offset up to {head}, the newest, found `{since}`, which is still to come");
        return Err(CommandRefusal::new("bad_cursor", message));
    }
    Ok(Some(since.offset))
}

/// The first members of a command, each name once; of several with the same name the last counts.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string, borrowed from the text where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandReader;

        impl<'de> Visitor<'de> for CommandReader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members(Vec::new());
                while members.0.len() < MEMBERS_MAX {
                    let Some((Text(name), value)) = map.next_entry()? else { return Ok(members) };
                    members.put(name, value);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(members)
            }
        }

        deserializer.deserialize_map(CommandReader)
    }
}

/// Reads an array of at most this many patterns. The outer error is of the JSON, the inner one of its content.
struct Patterns {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Patterns {
    type Value = Result<Vec<Pattern>, CommandRefusal>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Patterns {
    type Value = Result<Vec<Pattern>, CommandRefusal>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let max = self.max;
        let mut patterns = Vec::new();
        while let Some(Text(text)) = seq.next_element()? {
            let refusal = match parse_pattern(&text) {
                Ok(pattern) if patterns.len() < max => {
                    patterns.push(pattern);
                    continue;
                }
                Ok(_) => CommandRefusal::too_many_patterns(max, "more in `topics`"),
                Err(refusal) => refusal,
            };
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Err(refusal));
        }
        Ok(Ok(patterns))
    }
}

/// What a JSON text is that is no object. It is not repeated: it may be a token.
fn kind_of(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object of another kind",
        _ => "a number, `true`, `false` or `null`",
    }
}

fn command(members: &Members<'_>, patterns_max: usize) -> Result<Command, CommandRefusal> {
    let op: String = required(members, "op", "a string")?;
    let known: &[&str] = match op.as_str() {
        "subscribe" => &["op", "id", "topics", "every_ms", "since", "policy", "brief"],
        "unsubscribe" => &["op", "id", "topics", "brief"],
        "send" => &["op", "id", "topic", "data"],
        "request" => &["op", "id", "data", "timeout_ms"],
        "auth" => &["op", "id", "token"],
        "ping" => &["op", "id"],
        other => {
            let known = ["subscribe", "unsubscribe", "send", "request", "auth", "ping"];
            return Err(unknown("unknown_op", "op", other, &known));
        }
    };
    if let Some((member, _)) = members.0.iter().find(|(member, _)| !known.contains(&&**member)) {
        return Err(unknown("bad_request", "member", member, known));
    }
    match op.as_str() {
        "subscribe" => Ok(Command::Subscribe {
            patterns: patterns(members, patterns_max)?,
            every: every(members)?,
            since: optional::<String>(members, "since", "a string")?.map(|text| parse_cursor(&text)).transpose()?,
            policy: optional::<String>(members, "policy", "a string")?.map(|text| parse_policy(&text)).transpose()?,
            brief: brief(members)?,
        }),
        "unsubscribe" => {
            Ok(Command::Unsubscribe { patterns: patterns(members, patterns_max)?, brief: brief(members)? })
        }
        "send" => Ok(Command::Send { topic: topic(members)?, data: data(members, "any JSON")?.into() }),
        "request" => {
            let data = data(members, "a JSON object")?;
            if !data.starts_with('{') {
                let message = format!("expected a JSON object in `data`, found `{}`", shown(data));
                return Err(CommandRefusal::new("bad_request", message));
            }
            Ok(Command::Request { data: data.into(), timeout: timeout(members)? })
        }
        "auth" => Ok(Command::Auth { token: token(members)? }),
        _ => Ok(Command::Ping),
    }
}

/// What is there instead of a token is not repeated: it may be one.
fn token(members: &Members<'_>) -> Result<SecretToken, CommandRefusal> {
    let text = members.get("token").and_then(|raw| serde_json::from_str::<Box<str>>(raw.get()).ok());
    let refusal = || CommandRefusal::new("bad_request", "expected a token, as a string, in `token`");
    text.filter(|text| !text.is_empty()).map(SecretToken).ok_or_else(refusal)
}

fn every(members: &Members<'_>) -> Result<Option<Duration>, CommandRefusal> {
    let every: Option<u64> = optional(members, "every_ms", "a whole number of milliseconds")?;
    every.map(|ms| parse_every(Duration::from_millis(ms)).map(|pace| pace.unwrap_or_default())).transpose()
}

fn brief(members: &Members<'_>) -> Result<bool, CommandRefusal> {
    Ok(optional(members, "brief", "`true` or `false`")?.unwrap_or_default())
}

fn topic(members: &Members<'_>) -> Result<Box<str>, CommandRefusal> {
    let topic: String = required(members, "topic", "a topic")?;
    check_topic(&topic).map_err(|error| CommandRefusal::new("bad_request", format!("in `topic`: {error}")))?;
    Ok(topic.into())
}

/// The text of `data`, as the client wrote it.
fn data<'a>(members: &Members<'a>, expected: &str) -> Result<&'a str, CommandRefusal> {
    let data = members.get("data").map(|raw| raw.get());
    data.ok_or_else(|| CommandRefusal::new("bad_request", format!("expected {expected} in `data`, found nothing")))
}

fn timeout(members: &Members<'_>) -> Result<Duration, CommandRefusal> {
    let timeout: Option<u64> = optional(members, "timeout_ms", "a whole number of milliseconds")?;
    let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
        return Ok(timeout);
    }
    let (min, max, found) = (TIMEOUT_MIN.as_millis(), TIMEOUT_MAX.as_millis(), timeout.as_millis());
    Err(CommandRefusal::new("bad_request", format!("expected {min} to {max} in `timeout_ms`, found {found}")))
}

fn patterns(members: &Members<'_>, max: usize) -> Result<Vec<Pattern>, CommandRefusal> {
    let raw: &RawValue = required(members, "topics", "an array of strings")?;
    let read = Patterns { max }.deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
    let patterns = read.map_err(|_| unlike("topics", "an array of strings", raw))??;
    if patterns.is_empty() {
        return Err(CommandRefusal::new("bad_request", "expected at least one pattern in `topics`; `>` is everything"));
    }
    Ok(patterns)
}

fn id(members: &Members<'_>) -> Result<Option<CommandId>, CommandRefusal> {
    let Some(raw) = members.get("id").map(|raw| raw.get()) else { return Ok(None) };
    let is_scalar = raw.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    if !is_scalar || raw.len() > ID_BYTES_MAX {
        let message = "expected `id` to be a number or a string of at most 64 bytes";
        return Err(CommandRefusal::new("bad_request", message));
    }
    Ok(Some(CommandId(raw.into())))
}

fn required<'a, T: Deserialize<'a>>(members: &Members<'a>, name: &str, expected: &str) -> Result<T, CommandRefusal> {
    optional(members, name, expected)?
        .ok_or_else(|| CommandRefusal::new("bad_request", format!("expected {expected} in `{name}`, found nothing")))
}

fn optional<'a, T: Deserialize<'a>>(
    members: &Members<'a>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, CommandRefusal> {
    let Some(raw) = members.get(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| unlike(name, expected, raw))
}

fn unlike(name: &str, expected: &str, found: &RawValue) -> CommandRefusal {
    CommandRefusal::new("bad_request", format!("expected {expected} in `{name}`, found `{}`", shown(found.get())))
}

fn unknown(code: &'static str, what: &str, found: &str, known: &[&str]) -> CommandRefusal {
    let likeness = |name: &str| if found.len() > NAME_BYTES_MAX { 0.0 } else { strsim::jaro(found, name) };
    let scored = known.iter().map(|name| (likeness(name), name));
    let nearest = scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.7);
    let hint = nearest.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default();
    let list = known.join("`, `");
    CommandRefusal::new(code, format!("unknown {what} `{}`{hint} (known: `{list}`)", shown(found)))
}

/// Foreign text for a message: short and printable.
fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}

#[cfg(test)]
mod tests;
