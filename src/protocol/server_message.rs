//! Messages of the server besides frames: answers, statuses and the goodbye (docs/PROTOCOL.md, "Messages from the server").

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::protocol::command::CommandId;
use crate::protocol::encoding::{Encoding, Format, MessageMarks};
use crate::protocol::event_stream::FINAL_RETRY_MS;
use crate::words::ids::{Epoch, Offset};
use crate::words::topic::Pattern;

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    Welcome {
        protocol: &'a str,
        #[serde(serialize_with = "text")]
        epoch: Epoch,
        #[serde(serialize_with = "number")]
        offset: Offset,
        ts: u64,
        heartbeat_ms: u64,
        /// The number of the session: whoever asks why it has ended names it.
        session: u64,
        /// The prices are invented; left out for a real feed.
        #[serde(skip_serializing_if = "is_false")]
        simulated: bool,
        /// Of a client without a credential; left out where the feed is live, or the client must show one first.
        #[serde(skip_serializing_if = "Option::is_none")]
        delay_ms: Option<&'a DelayMs>,
    },
    Subscribed {
        #[serde(flatten)]
        answer: Subscriptions<'a>,
    },
    Unsubscribed {
        #[serde(flatten)]
        answer: Subscriptions<'a>,
    },
    /// The credential is good: who the client is, and what it has.
    Authenticated {
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
        id: Option<&'a CommandId>,
        sub: &'a str,
        tier: &'a str,
        /// Until the token expires.
        expires_ms: u64,
        /// The fastest pace, if it is bounded.
        #[serde(skip_serializing_if = "Option::is_none")]
        every_ms: Option<u64>,
        /// How late its messages are; none if they are live.
        #[serde(skip_serializing_if = "Option::is_none")]
        delay_ms: Option<&'a DelayMs>,
        #[serde(flatten)]
        within: Within<'a>,
    },
    TokenExpiring {
        /// Until it expires.
        expires_ms: u64,
        ts: u64,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
        id: Option<&'a CommandId>,
        ts: u64,
    },
    Sent {
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
        id: Option<&'a CommandId>,
    },
    Response {
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
        id: Option<&'a CommandId>,
        data: &'a RawValue,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
        id: Option<&'a CommandId>,
        code: &'a str,
        message: &'a str,
    },
    Skipped {
        #[serde(serialize_with = "number")]
        from: Offset,
        #[serde(serialize_with = "number")]
        to: Offset,
        reason: &'a str,
    },
    Stale {
        topics: [&'a str; 1],
        reason: &'a str,
        message: &'a str,
        since_ms: u64,
        /// Only of one topic that had a message: its place in the stream.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "place")]
        offset: Option<Offset>,
        ts: u64,
    },
    Live {
        topics: [&'a str; 1],
        /// As in `Stale`.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "place")]
        offset: Option<Offset>,
        ts: u64,
    },
    Gap {
        topic: &'a str,
        #[serde(serialize_with = "number")]
        offset: Offset,
        ts: u64,
        reason: &'a str,
        /// How many messages are missing, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
    Refused {
        topic: &'a str,
        message: &'a str,
        /// None for a topic without a message: it has no place in the stream.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "place")]
        offset: Option<Offset>,
        ts: u64,
    },
    /// From here on the session sees another view of the feed.
    View {
        #[serde(serialize_with = "text")]
        epoch: Epoch,
        #[serde(serialize_with = "number")]
        offset: Offset,
        #[serde(skip_serializing_if = "Option::is_none")]
        delay_ms: Option<&'a DelayMs>,
        ts: u64,
    },
    Heartbeat {
        #[serde(serialize_with = "number")]
        offset: Offset,
        ts: u64,
    },
    Goodbye {
        code: &'a str,
        message: &'a str,
        reconnect_ms: u64,
    },
    /// What a close frame says, where there are none.
    Close {
        code: u16,
        reason: &'a str,
    },
}

/// The answer to `subscribe` and `unsubscribe`.
#[derive(Debug, Serialize)]
pub struct Subscriptions<'a> {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw")]
    pub id: Option<&'a CommandId>,
    #[serde(flatten)]
    pub in_force: InForce<'a>,
    #[serde(serialize_with = "number")]
    pub offset: Offset,
    /// Exact topics of the command without a message yet; none without `upstream.demand`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "patterns")]
    pub pending: Option<&'a [Pattern]>,
    #[serde(flatten)]
    pub bounds: RightsBounds<'a>,
}

/// What wildcards are narrowed to. Nothing of it where all topics are allowed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Within<'a> {
    /// Topics must match one of these, which the tier allows.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "patterns")]
    pub within: Option<&'a [Pattern]>,
    /// And one of these, if the token names topics.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "patterns")]
    pub named: Option<&'a [Pattern]>,
}

/// What the client's rights leave of a subscription. Nothing of it where everything is allowed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RightsBounds<'a> {
    /// Patterns that no allowed topic matches: they are not in force, or not any more.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "patterns")]
    pub forbidden: Option<&'a [Pattern]>,
    #[serde(flatten)]
    pub within: Within<'a>,
    /// The pace in force, where the rights bound it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// How much later than received its messages are sent; none if they are live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<&'a DelayMs>,
    /// Why it is told without a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// How much later than received messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelayMs {
    Every(u64),
    /// By pattern, of which the first that matches counts.
    ByPattern(Vec<(Box<str>, u64)>),
}

impl Serialize for DelayMs {
    /// A number, or an object whose members have the order of the patterns.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DelayMs::Every(ms) => serializer.serialize_u64(*ms),
            DelayMs::ByPattern(pairs) => serializer.collect_map(pairs.iter().map(|(pattern, ms)| (pattern, ms))),
        }
    }
}

/// The patterns in force: all in no order, or how many there are.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InForce<'a> {
    Topics(&'a [&'a str]),
    Count(usize),
}

impl ServerMessage<'_> {
    /// Appends the message, as clients with this encoding read it: never compressed, and nothing in the raw format.
    pub fn put(&self, encoding: Encoding, out: &mut Vec<u8>) {
        if encoding.format == Format::Envelope {
            encoding.framing.put_message(&self.text(), self.marks(), out);
        }
    }

    /// Of `subscribed` and `view`, `offset` is no cursor: values follow.
    fn marks(&self) -> MessageMarks {
        let (offset, retry_ms) = match self {
            ServerMessage::Heartbeat { offset, .. } => (Some(*offset).filter(|offset| *offset > Offset::START), None),
            ServerMessage::Goodbye { reconnect_ms, .. } => (None, Some(*reconnect_ms)),
            ServerMessage::Close { code, .. } => (None, is_final(*code).then_some(FINAL_RETRY_MS)),
            _ => (None, None),
        };
        MessageMarks { offset, retry_ms }
    }

    /// The message as JSON.
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("messages hold strings and numbers only")
    }
}

/// Whether a client that comes back unasked, with what it has, would only be sent away again.
fn is_final(close_code: u16) -> bool {
    matches!(close_code, 1008 | 4401 | 4500..4600)
}

fn number<S: Serializer>(offset: &Offset, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(offset.0)
}

fn is_false(value: &bool) -> bool {
    !value
}

fn place<S: Serializer>(offset: &Option<Offset>, serializer: S) -> Result<S::Ok, S::Error> {
    offset.map(|offset| offset.0).serialize(serializer)
}

fn text<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(epoch)
}

fn patterns<S: Serializer>(patterns: &Option<&[Pattern]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(patterns.unwrap_or_default().iter().map(Pattern::as_str))
}

fn raw<S: Serializer>(id: &Option<&CommandId>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = id.map_or("null", |id| &id.0);
    let raw = RawValue::from_string(text.to_string()).map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_as_documented_and_not_at_all_in_the_raw_format() {
        let id = CommandId("\"q\"".into());
        let pattern = [Pattern::parse("a.*").expect("a pattern")];
        let bounds = RightsBounds::default();
        let of = |in_force, pending| Subscriptions { id: Some(&id), in_force, offset: Offset(7), pending, bounds };
        let forbidden = RightsBounds { forbidden: Some(&pattern), reason: Some("forbidden"), ..bounds };
        let left = Subscriptions { id: None, bounds: forbidden, ..of(InForce::Topics(&[]), None) };
        let answer = |pending| of(InForce::Topics(&["a.*"]), pending);
        let welcome = |simulated| {
            let (epoch, offset) = (Epoch(16), Offset(2));
            let (protocol, delay_ms) = ("fanline.v1", None);
            ServerMessage::Welcome { protocol, epoch, offset, ts: 3, heartbeat_ms: 4, session: 5, simulated, delay_ms }
        };
        let delays = DelayMs::ByPattern(vec![("b.x".into(), 0), ("a.*".into(), 900_000)]);
        let data: Box<RawValue> = serde_json::from_str(r#"{"p": 1.50}"#).expect("JSON");
        for (message, expected) in [
            (
                ServerMessage::Subscribed { answer: answer(None) },
                r#"{"op":"subscribed","id":"q","topics":["a.*"],"offset":7}"#,
            ),
            (
                ServerMessage::Subscribed { answer: answer(Some(&pattern)) },
                r#"{"op":"subscribed","id":"q","topics":["a.*"],"offset":7,"pending":["a.*"]}"#,
            ),
            (
                ServerMessage::Unsubscribed { answer: of(InForce::Count(3), None) },
                r#"{"op":"unsubscribed","id":"q","count":3,"offset":7}"#,
            ),
            (
                ServerMessage::Unsubscribed { answer: left },
                r#"{"op":"unsubscribed","topics":[],"offset":7,"forbidden":["a.*"],"reason":"forbidden"}"#,
            ),
            (
                ServerMessage::Authenticated {
                    id: None,
                    sub: "alice",
                    tier: "free",
                    expires_ms: 5,
                    every_ms: Some(1000),
                    delay_ms: Some(&DelayMs::Every(900_000)),
                    within: Within { within: Some(&pattern), named: None },
                },
                r#"{"op":"authenticated","sub":"alice","tier":"free","expires_ms":5,"every_ms":1000,"delay_ms":900000,"within":["a.*"]}"#,
            ),
            (
                ServerMessage::View { epoch: Epoch(16), offset: Offset(2), delay_ms: Some(&delays), ts: 3 },
                r#"{"op":"view","epoch":"0000000000000010","offset":2,"delay_ms":{"b.x":0,"a.*":900000},"ts":3}"#,
            ),
            (
                ServerMessage::View { epoch: Epoch(16), offset: Offset(2), delay_ms: Some(&DelayMs::Every(5)), ts: 3 },
                r#"{"op":"view","epoch":"0000000000000010","offset":2,"delay_ms":5,"ts":3}"#,
            ),
            (ServerMessage::TokenExpiring { expires_ms: 5, ts: 1 }, r#"{"op":"token_expiring","expires_ms":5,"ts":1}"#),
            (ServerMessage::Sent { id: Some(&id) }, r#"{"op":"sent","id":"q"}"#),
            (
                ServerMessage::Response { id: Some(&id), data: &data },
                r#"{"op":"response","id":"q","data":{"p": 1.50}}"#,
            ),
            (
                welcome(false),
                r#"{"op":"welcome","protocol":"fanline.v1","epoch":"0000000000000010","offset":2,"ts":3,"heartbeat_ms":4,"session":5}"#,
            ),
            (
                welcome(true),
                r#"{"op":"welcome","protocol":"fanline.v1","epoch":"0000000000000010","offset":2,"ts":3,"heartbeat_ms":4,"session":5,"simulated":true}"#,
            ),
            (
                ServerMessage::Error { id: None, code: "bad_json", message: "no \"x\"" },
                r#"{"op":"error","code":"bad_json","message":"no \"x\""}"#,
            ),
            (
                ServerMessage::Skipped { from: Offset(1), to: Offset(2), reason: "slow" },
                r#"{"op":"skipped","from":1,"to":2,"reason":"slow"}"#,
            ),
            (ServerMessage::Live { topics: [">"], offset: None, ts: 1 }, r#"{"op":"live","topics":[">"],"ts":1}"#),
        ] {
            let mut out = Vec::new();
            message.put(Encoding::websocket(Format::Raw, true), &mut out);
            assert!(out.is_empty());
            message.put(Encoding::websocket(Format::Envelope, true), &mut out);
            assert_eq!(out[0], 0x81);
            // From 126 bytes on the length has two bytes of its own.
            let header = if out[1] == 126 { 4 } else { 2 };
            assert_eq!(std::str::from_utf8(&out[header..]), Ok(expected));
        }
    }
}
