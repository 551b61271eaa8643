//! What is reported about a topic besides its frames: gaps, silence, refusals.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::protocol::server_message::ServerMessage;
use crate::words::ids::Offset;

/// The state of one topic, reported in its place between the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicStatus {
    /// Messages of this topic are missing here.
    Gap { reason: GapReason, missed: Option<u64> },
    /// This topic has been silent for unusually long.
    Stale { since_ms: u64, message: String },
    /// Data arrive again.
    Live,
    /// The feed refuses this topic.
    Refused { message: String },
}

/// Which state that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicStatusKind {
    Gap,
    Stale,
    Live,
    Refused,
}

/// How the gap was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Numbers in the messages do not follow each other.
    Sequence,
    /// There was no connection for a while.
    Reconnect,
    /// More deltas followed a snapshot than are kept.
    Overflow,
    /// Deltas arrive, but the snapshot that they belong to has not.
    NoSnapshot,
    /// The feed's checksum is not that of the value that its messages have led to.
    Checksum,
    /// Nothing has come for so long that the topic is forgotten, and with it what further deltas would be applied to.
    Forgotten,
    /// A delayed view could not hold all messages; the deltas among those that it dropped are missing.
    Conflated,
}

impl TopicStatusKind {
    pub const ALL: [TopicStatusKind; 4] =
        [TopicStatusKind::Gap, TopicStatusKind::Stale, TopicStatusKind::Live, TopicStatusKind::Refused];

    /// Value of the `kind` label in metrics, and `op` of the message.
    pub fn label(self) -> &'static str {
        match self {
            TopicStatusKind::Gap => "gap",
            TopicStatusKind::Stale => "stale",
            TopicStatusKind::Live => "live",
            TopicStatusKind::Refused => "refused",
        }
    }
}

impl TopicStatus {
    pub fn kind(&self) -> TopicStatusKind {
        match self {
            TopicStatus::Gap { .. } => TopicStatusKind::Gap,
            TopicStatus::Stale { .. } => TopicStatusKind::Stale,
            TopicStatus::Live => TopicStatusKind::Live,
            TopicStatus::Refused { .. } => TopicStatusKind::Refused,
        }
    }

    /// The message as clients receive it, in JSON; `ts` is in milliseconds since the Unix epoch.
    pub fn text(&self, topic: &str, offset: Offset, ts: u64) -> Vec<u8> {
        let (topics, place) = ([topic], Some(offset));
        let message = match self {
            TopicStatus::Gap { reason, missed } => {
                ServerMessage::Gap { topic, offset, ts, reason: reason.label(), missed: *missed }
            }
            TopicStatus::Stale { since_ms, message } => {
                ServerMessage::Stale { topics, reason: "topic_silent", message, since_ms: *since_ms, offset: place, ts }
            }
            TopicStatus::Live => ServerMessage::Live { topics, offset: place, ts },
            TopicStatus::Refused { message } => ServerMessage::Refused { topic, message, offset: place, ts },
        };
        message.text()
    }
}

impl GapReason {
    /// `reason` in a `gap` message.
    pub fn label(self) -> &'static str {
        match self {
            GapReason::Sequence => "sequence",
            GapReason::Reconnect => "reconnect",
            GapReason::Overflow => "overflow",
            GapReason::NoSnapshot => "no_snapshot",
            GapReason::Checksum => "checksum",
            GapReason::Conflated => "conflated",
            GapReason::Forgotten => "forgotten",
        }
    }
}

/// The message of a status, with its place in another log.
pub fn renumbered(text: &Bytes, offset: Offset) -> Bytes {
    let Ok(mut message) = serde_json::from_slice::<Map<String, Value>>(text) else { return text.clone() };
    if message.get("offset").and_then(Value::as_u64) == Some(offset.0) {
        return text.clone();
    }
    message.insert("offset".into(), offset.0.into());
    Value::Object(message).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_written_as_documented() {
        for (status, expected) in [
            (
                TopicStatus::Gap { reason: GapReason::Sequence, missed: Some(3) },
                r#"{"op":"gap","topic":"a.b","offset":7,"ts":9,"reason":"sequence","missed":3}"#,
            ),
            (
                TopicStatus::Gap { reason: GapReason::Reconnect, missed: None },
                r#"{"op":"gap","topic":"a.b","offset":7,"ts":9,"reason":"reconnect"}"#,
            ),
            (
                TopicStatus::Stale { since_ms: 5, message: "quiet".to_string() },
                r#"{"op":"stale","topics":["a.b"],"reason":"topic_silent","message":"quiet","since_ms":5,"offset":7,"ts":9}"#,
            ),
            (TopicStatus::Live, r#"{"op":"live","topics":["a.b"],"offset":7,"ts":9}"#),
            (
                TopicStatus::Refused { message: "unknown symbol".to_string() },
                r#"{"op":"refused","topic":"a.b","message":"unknown symbol","offset":7,"ts":9}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(status.text("a.b", Offset(7), 9)).as_deref(), Ok(expected));
            assert!(expected.contains(&format!(r#""op":"{}""#, status.kind().label())));
        }
    }
}
