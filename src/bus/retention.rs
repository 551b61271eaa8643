//! What a frame means for those who come later, and what may be said of a topic besides its frames.

use crate::protocol::encoding::Payload;
use crate::protocol::server_message::ServerMessage;
use crate::words::ids::Offset;

/// What newcomers get of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is the whole value of its topic; as many of the newest as this are kept, at least 1 and at most
    /// `history::KEEP_MAX`. What the configuration says of the topic (`history.keep`) outranks it.
    Value { keep: usize },
    /// It starts the value of its topic over; changes follow.
    Snapshot,
    /// It changes the value that the frames before it made.
    Delta {
        /// The whole value after it, where it is at hand: newcomers get that instead of all the frames up to this one.
        /// Everyone gets it instead of the change if the topic has no start that the change belongs to.
        whole: Option<Payload>,
    },
    /// It is of the moment only: newcomers do not get it.
    Transient,
}

impl Retention {
    /// The newest value only.
    pub const NEWEST: Retention = Retention::Value { keep: 1 };
}

/// Something to be told about one topic, in its place between the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicStatus {
    /// The upstream lost messages of this topic here.
    Gap { reason: GapReason, missed: Option<u64> },
    /// Nothing has come for longer than is usual for this topic.
    Stale { since_ms: u64, message: String },
    /// It comes again.
    Live,
    /// The upstream refuses to send this topic.
    Refused { message: String },
}

/// Which of them a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicStatusKind {
    Gap,
    Stale,
    Live,
    Refused,
}

/// How it was seen that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Numbers in the messages do not follow each other.
    Sequence,
    /// There was no connection for a while.
    Reconnect,
    /// More changes followed a snapshot than are kept.
    Overflow,
    /// Changes come, but the snapshot that they belong to has not.
    NoSnapshot,
}

impl TopicStatusKind {
    pub const ALL: [TopicStatusKind; 4] =
        [TopicStatusKind::Gap, TopicStatusKind::Stale, TopicStatusKind::Live, TopicStatusKind::Refused];

    /// Value of the `kind` label in metrics, and `op` of the notice.
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

    /// The notice as clients get it, in JSON; `ts` is in milliseconds since the Unix epoch.
    pub fn text(&self, topic: &str, offset: Offset, ts: u64) -> Vec<u8> {
        let (topics, place) = ([topic], Some(offset));
        let notice = match self {
            TopicStatus::Gap { reason, missed } => {
                ServerMessage::Gap { topic, offset, ts, reason: reason.label(), missed: *missed }
            }
            TopicStatus::Stale { since_ms, message } => {
                ServerMessage::Stale { topics, reason: "topic_silent", message, since_ms: *since_ms, offset: place, ts }
            }
            TopicStatus::Live => ServerMessage::Live { topics, offset: place, ts },
            TopicStatus::Refused { message } => ServerMessage::Refused { topic, message, offset: place, ts },
        };
        notice.text()
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_written_as_documented() {
        for (note, expected) in [
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
            assert_eq!(String::from_utf8(note.text("a.b", Offset(7), 9)).as_deref(), Ok(expected));
            assert!(expected.contains(&format!(r#""op":"{}""#, note.kind().label())));
        }
    }
}
