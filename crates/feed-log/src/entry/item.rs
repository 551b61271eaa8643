//! What a batch holds: frames, statuses and forgotten topics, which are numbered, and states and cursors of the feed,
//! which are not.
//!
//! A topic is the number of its place in the entry. The first time it is the next free number, and its name follows.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::entry::error::EntryError;
use crate::entry::fields::{Fields, LoggedText, put_blob, put_text};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedItem {
    Frame(LoggedFrame),
    Status(LoggedStatus),
    /// These topics are known no longer. Without any, the offset stands for nothing.
    Forgotten {
        received_ms: u64,
        topics: Vec<LoggedText>,
    },
    State(LoggedState),
    /// The feed's own cursor, for feeds that can go on.
    Cursor(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFrame {
    pub topic: LoggedText,
    pub role: FrameRole,
    pub received_ms: u64,
    /// The feed's own number of the message.
    pub venue_number: Option<u64>,
    pub payload: LoggedPayload,
    /// The whole value after a change, where it is at hand.
    pub whole: Option<LoggedPayload>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPayload {
    pub kind: PayloadForm,
    pub bytes: Bytes,
}

/// What a frame is to readers that join later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRole {
    /// The whole value; so many of the newest are kept.
    Value {
        keep: u16,
    },
    /// The whole value; changes follow.
    Start,
    Change,
    /// It matters only when it is published.
    Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    Json,
    Text,
    Binary,
}

/// The status of a topic in the words in which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedStatus {
    pub topic: LoggedText,
    pub kind: StatusForm,
    pub received_ms: u64,
    pub text: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    Gap,
    Stale,
    Live,
    Refused,
}

/// The state of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedState {
    pub label: LoggedText,
    pub reason: LoggedText,
    pub since_ms: u64,
    pub message: LoggedText,
}

const FRAME: u8 = 0;
const STATUS: u8 = 1;
const FORGOTTEN: u8 = 2;
const STATE: u8 = 3;
const CURSOR: u8 = 4;

const VALUE: u8 = 0;
const START: u8 = 1;
const CHANGE: u8 = 2;
const MOMENT: u8 = 3;

const WITH_NUMBER: u8 = 1;
const WITH_WHOLE: u8 = 2;

impl PayloadForm {
    const ALL: [PayloadForm; 3] = [PayloadForm::Json, PayloadForm::Text, PayloadForm::Binary];
}

impl StatusForm {
    const ALL: [StatusForm; 4] = [StatusForm::Gap, StatusForm::Stale, StatusForm::Live, StatusForm::Refused];
}

impl LoggedItem {
    /// Whether it has an offset.
    pub fn is_numbered(&self) -> bool {
        match self {
            LoggedItem::Frame(_) | LoggedItem::Status(_) | LoggedItem::Forgotten { .. } => true,
            LoggedItem::State(_) | LoggedItem::Cursor(_) => false,
        }
    }

    /// About the bytes that it takes in an entry.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 48;
        OVERHEAD
            + match self {
                LoggedItem::Frame(frame) => {
                    frame.payload.bytes.len() + frame.whole.as_ref().map_or(0, |whole| whole.bytes.len())
                }
                LoggedItem::Status(status) => status.text.len(),
                LoggedItem::Forgotten { topics, .. } => topics.iter().map(|topic| topic.as_str().len()).sum(),
                LoggedItem::State(state) => state.message.as_str().len(),
                LoggedItem::Cursor(cursor) => cursor.len(),
            }
    }
}

/// Writes items, with the topics that were named so far.
#[derive(Default)]
pub(super) struct ItemWriter {
    topics: HashMap<LoggedText, u16>,
}

impl ItemWriter {
    pub fn put(&mut self, item: &LoggedItem, out: &mut BytesMut) -> Result<(), EntryError> {
        match item {
            LoggedItem::Frame(frame) => self.put_frame(frame, out),
            LoggedItem::Status(status) => {
                out.put_u8(STATUS);
                self.put_topic(&status.topic, out)?;
                out.put_u8(status.kind as u8);
                out.put_u64_le(status.received_ms);
                put_blob(&status.text, out)
            }
            LoggedItem::Forgotten { received_ms, topics } => {
                out.put_u8(FORGOTTEN);
                out.put_u64_le(*received_ms);
                let count = u16::try_from(topics.len());
                out.put_u16_le(count.map_err(|_| EntryError::TooLong { what: "list of topics", bytes: topics.len() })?);
                topics.iter().try_for_each(|topic| self.put_topic(topic, out))
            }
            LoggedItem::State(state) => {
                out.put_u8(STATE);
                put_text("state", &state.label, out)?;
                put_text("reason", &state.reason, out)?;
                out.put_u64_le(state.since_ms);
                put_text("message", &state.message, out)
            }
            LoggedItem::Cursor(cursor) => {
                out.put_u8(CURSOR);
                put_blob(cursor, out)
            }
        }
    }

    fn put_frame(&mut self, frame: &LoggedFrame, out: &mut BytesMut) -> Result<(), EntryError> {
        out.put_u8(FRAME);
        self.put_topic(&frame.topic, out)?;
        let (role, keep) = match frame.role {
            FrameRole::Value { keep } => (VALUE, keep),
            FrameRole::Start => (START, 0),
            FrameRole::Change => (CHANGE, 0),
            FrameRole::Moment => (MOMENT, 0),
        };
        out.put_u8(role);
        out.put_u16_le(keep);
        let with_number = if frame.venue_number.is_some() { WITH_NUMBER } else { 0 };
        out.put_u8(with_number | if frame.whole.is_some() { WITH_WHOLE } else { 0 });
        out.put_u64_le(frame.received_ms);
        if let Some(number) = frame.venue_number {
            out.put_u64_le(number);
        }
        put_payload(&frame.payload, out)?;
        frame.whole.iter().try_for_each(|whole| put_payload(whole, out))
    }

    fn put_topic(&mut self, topic: &LoggedText, out: &mut BytesMut) -> Result<(), EntryError> {
        if let Some(number) = self.topics.get(topic) {
            out.put_u16_le(*number);
            return Ok(());
        }
        let topics = self.topics.len();
        let number =
            u16::try_from(topics).map_err(|_| EntryError::TooLong { what: "number of topics", bytes: topics })?;
        self.topics.insert(topic.clone(), number);
        out.put_u16_le(number);
        put_text("topic", topic, out)
    }
}

fn put_payload(payload: &LoggedPayload, out: &mut BytesMut) -> Result<(), EntryError> {
    out.put_u8(payload.kind as u8);
    put_blob(&payload.bytes, out)
}

/// Reads items, with the topics that were named so far.
#[derive(Default)]
pub(super) struct ItemReader {
    topics: Vec<LoggedText>,
}

impl ItemReader {
    pub fn next(&mut self, fields: &mut Fields) -> Result<LoggedItem, EntryError> {
        let tag = fields.u8()?;
        Ok(match tag {
            FRAME => LoggedItem::Frame(self.frame(fields)?),
            STATUS => {
                let topic = self.topic(fields)?;
                let kind = one_of(&StatusForm::ALL, |known| known as u8, "status", fields)?;
                LoggedItem::Status(LoggedStatus { topic, kind, received_ms: fields.u64()?, text: fields.blob()? })
            }
            FORGOTTEN => {
                let (received_ms, count) = (fields.u64()?, fields.u16()?);
                let topics = (0..count).map(|_| self.topic(fields)).collect::<Result<_, _>>()?;
                LoggedItem::Forgotten { received_ms, topics }
            }
            STATE => {
                let (label, reason, since_ms) = (fields.text()?, fields.text()?, fields.u64()?);
                LoggedItem::State(LoggedState { label, reason, since_ms, message: fields.text()? })
            }
            CURSOR => LoggedItem::Cursor(fields.blob()?),
            found => return Err(fields.unknown("item", found)),
        })
    }

    fn frame(&mut self, fields: &mut Fields) -> Result<LoggedFrame, EntryError> {
        let topic = self.topic(fields)?;
        let (role, keep) = (fields.u8()?, fields.u16()?);
        let role = match role {
            VALUE => FrameRole::Value { keep },
            START => FrameRole::Start,
            CHANGE => FrameRole::Change,
            MOMENT => FrameRole::Moment,
            found => return Err(fields.unknown("role of a frame", found)),
        };
        let with = fields.u8()?;
        if with & !(WITH_NUMBER | WITH_WHOLE) != 0 {
            return Err(fields.unknown("form of a frame", with));
        }
        let received_ms = fields.u64()?;
        let venue_number = (with & WITH_NUMBER != 0).then(|| fields.u64()).transpose()?;
        let payload = payload(fields)?;
        let whole = (with & WITH_WHOLE != 0).then(|| self::payload(fields)).transpose()?;
        Ok(LoggedFrame { topic, role, received_ms, venue_number, payload, whole })
    }

    fn topic(&mut self, fields: &mut Fields) -> Result<LoggedText, EntryError> {
        let number = fields.u16()?;
        if let Some(known) = self.topics.get(usize::from(number)) {
            return Ok(known.clone());
        }
        if usize::from(number) != self.topics.len() {
            return Err(EntryError::TopicNumber { found: number, known: self.topics.len() as u16 });
        }
        let topic = fields.text()?;
        self.topics.push(topic.clone());
        Ok(topic)
    }
}

fn payload(fields: &mut Fields) -> Result<LoggedPayload, EntryError> {
    let kind = one_of(&PayloadForm::ALL, |known| known as u8, "form of a payload", fields)?;
    Ok(LoggedPayload { kind, bytes: fields.blob()? })
}

fn one_of<T: Copy>(
    known: &[T],
    number: impl Fn(T) -> u8,
    what: &'static str,
    fields: &mut Fields,
) -> Result<T, EntryError> {
    let found = fields.u8()?;
    known.iter().copied().find(|known| number(*known) == found).ok_or_else(|| fields.unknown(what, found))
}
