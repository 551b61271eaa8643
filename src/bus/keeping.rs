//! What a frame means for those who come later, and what may be said of a topic besides its frames.

use crate::wire::encode::Payload;
use crate::wire::notice::Notice;
use crate::words::ids::Offset;

/// What newcomers get of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is the whole value of its topic; as many of the newest as this are kept, at least 1 and at most
    /// `history::KEEP_MAX`. What the configuration says of the topic (`history.keep`) outranks it.
    Value { keep: usize },
    /// It starts the value of its topic over; changes follow.
    Start,
    /// It changes the value that the frames before it made.
    Change {
        /// The whole value after it, where it is at hand: newcomers get that instead of all the frames up to this one.
        /// Everyone gets it instead of the change if the topic has no start that the change belongs to.
        whole: Option<Payload>,
    },
    /// It is of the moment only: newcomers do not get it.
    Moment,
}

impl Keeping {
    /// The newest value only.
    pub const NEWEST: Keeping = Keeping::Value { keep: 1 };
}

/// Something to be told about one topic, in its place between the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
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
pub enum NoteKind {
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

impl NoteKind {
    pub const ALL: [NoteKind; 4] = [NoteKind::Gap, NoteKind::Stale, NoteKind::Live, NoteKind::Refused];

    /// Value of the `kind` label in metrics, and `op` of the notice.
    pub fn label(self) -> &'static str {
        match self {
            NoteKind::Gap => "gap",
            NoteKind::Stale => "stale",
            NoteKind::Live => "live",
            NoteKind::Refused => "refused",
        }
    }
}

impl Note {
    pub fn kind(&self) -> NoteKind {
        match self {
            Note::Gap { .. } => NoteKind::Gap,
            Note::Stale { .. } => NoteKind::Stale,
            Note::Live => NoteKind::Live,
            Note::Refused { .. } => NoteKind::Refused,
        }
    }

    /// The notice as clients get it, in JSON; `ts` is in milliseconds since the Unix epoch.
    pub fn text(&self, topic: &str, offset: Offset, ts: u64) -> Vec<u8> {
        let (topics, place) = ([topic], Some(offset));
        let notice = match self {
            Note::Gap { reason, missed } => Notice::Gap { topic, offset, ts, reason: reason.label(), missed: *missed },
            Note::Stale { since_ms, message } => {
                Notice::Stale { topics, reason: "topic_silent", message, since_ms: *since_ms, offset: place, ts }
            }
            Note::Live => Notice::Live { topics, offset: place, ts },
            Note::Refused { message } => Notice::Refused { topic, message, offset: place, ts },
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
                Note::Gap { reason: GapReason::Sequence, missed: Some(3) },
                r#"{"op":"gap","topic":"a.b","offset":7,"ts":9,"reason":"sequence","missed":3}"#,
            ),
            (
                Note::Gap { reason: GapReason::Reconnect, missed: None },
                r#"{"op":"gap","topic":"a.b","offset":7,"ts":9,"reason":"reconnect"}"#,
            ),
            (
                Note::Stale { since_ms: 5, message: "quiet".to_string() },
                r#"{"op":"stale","topics":["a.b"],"reason":"topic_silent","message":"quiet","since_ms":5,"offset":7,"ts":9}"#,
            ),
            (Note::Live, r#"{"op":"live","topics":["a.b"],"offset":7,"ts":9}"#),
            (
                Note::Refused { message: "unknown symbol".to_string() },
                r#"{"op":"refused","topic":"a.b","message":"unknown symbol","offset":7,"ts":9}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(note.text("a.b", Offset(7), 9)).as_deref(), Ok(expected));
            assert!(expected.contains(&format!(r#""op":"{}""#, note.kind().label())));
        }
    }
}
