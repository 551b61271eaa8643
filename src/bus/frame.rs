//! One upstream message of one topic, or a note about the topic, with each of its encodings made at most once.

use std::sync::Arc;

use crate::bus::history::KEEP_MAX;
use crate::bus::log::ring::Numbered;
use crate::bus::retention::{Retention, TopicStatus, TopicStatusKind};
use crate::protocol::encoding::{Encoded, Encoder, Encoding, Encodings, Envelope, EnvelopeKind, Payload, PayloadKind};
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// A topic's name and number; one per topic, shared by all its frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Box<str>,
    /// Values that the configuration keeps for newcomers, at least 1; none if it says nothing of the topic.
    pub keep: Option<u16>,
}

/// What a frame is to those who come later.
#[derive(Debug)]
pub enum FrameKind {
    /// The whole value of its topic; so many of the newest are kept, at least 1.
    Value { keep: u16 },
    /// It starts the value of its topic over; changes follow.
    Snapshot,
    /// It changes the value that the frames before it made. Where the whole value after it is at hand, that is a frame
    /// of its own, with encodings of its own, for those who have not got the frames before.
    Delta { whole: Option<Box<Frame>> },
    /// It is of the moment only.
    Transient,
    /// No message of the upstream, but something said about the topic; the payload is the notice.
    Status(TopicStatusKind),
    /// These topics are forgotten: they were silent for long, and the ring holds nothing else of them. It is for those who
    /// keep tables of topics; nobody is sent it. Its own topic is the first of them.
    Expired(Box<[Arc<Topic>]>),
}

/// Immutable but for its encodings, which are filled in by the first reader that needs one.
#[derive(Debug)]
pub struct Frame {
    pub offset: Offset,
    pub topic: Arc<Topic>,
    /// When the upstream message was received.
    pub received: Stamp,
    pub payload: Payload,
    pub role: FrameKind,
    encodings: Encodings,
}

impl Frame {
    pub fn new(offset: Offset, topic: Arc<Topic>, received: Stamp, payload: Payload, keeping: Retention) -> Frame {
        let role = match keeping {
            Retention::Value { keep } => {
                let wanted = || u16::try_from(keep).unwrap_or(KEEP_MAX).clamp(1, KEEP_MAX);
                FrameKind::Value { keep: topic.keep.unwrap_or_else(wanted) }
            }
            Retention::Snapshot => FrameKind::Snapshot,
            Retention::Delta { whole } => {
                let whole = whole.map(|whole| Frame::with(offset, topic.clone(), received, whole, FrameKind::Snapshot));
                FrameKind::Delta { whole: whole.map(Box::new) }
            }
            Retention::Transient => FrameKind::Transient,
        };
        Frame::with(offset, topic, received, payload, role)
    }

    pub fn note(offset: Offset, topic: Arc<Topic>, received: Stamp, note: &TopicStatus) -> Frame {
        let text = note.text(&topic.name, offset, received.wall_ms);
        let payload = Payload { bytes: text.into(), kind: PayloadKind::Json };
        Frame::with(offset, topic, received, payload, FrameKind::Status(note.kind()))
    }

    /// Word that topics, of which there is one at least, are forgotten.
    pub fn expired(offset: Offset, topics: Vec<Arc<Topic>>, received: Stamp) -> Frame {
        let payload = Payload { bytes: Default::default(), kind: PayloadKind::Json };
        let topic = topics[0].clone();
        Frame::with(offset, topic, received, payload, FrameKind::Expired(topics.into()))
    }

    fn with(offset: Offset, topic: Arc<Topic>, received: Stamp, payload: Payload, role: FrameKind) -> Frame {
        Frame { offset, topic, received, payload, role, encodings: Default::default() }
    }

    /// The complete WireFrame in this encoding; made at most once, however many ask, also at the same moment. Empty for
    /// a note in a raw encoding.
    pub fn encoded(&self, encoding: Encoding, encoder: &mut Encoder) -> &Encoded {
        self.encodings.get_or_make(encoding, || {
            if self.is_note() {
                Encoded::message(encoding, &self.payload.bytes)
            } else {
                encoder.encode(encoding, &self.envelope())
            }
        })
    }

    /// What the envelope says. Not for notes.
    pub fn envelope(&self) -> Envelope<'_> {
        let kind = match self.role {
            FrameKind::Snapshot => Some(EnvelopeKind::Snapshot),
            FrameKind::Delta { .. } => Some(EnvelopeKind::Delta),
            FrameKind::Value { .. } | FrameKind::Transient | FrameKind::Status(_) | FrameKind::Expired(_) => None,
        };
        let (topic, offset, ts_ms) = (&*self.topic.name, self.offset, self.received.wall_ms);
        Envelope { topic, offset, ts_ms, kind, payload: &self.payload }
    }

    /// The frame as those get it who have not got the frames before: as the whole value, where there is one.
    pub fn whole(&self) -> &Frame {
        match &self.role {
            FrameKind::Delta { whole: Some(whole) } => whole,
            _ => self,
        }
    }

    pub fn is_note(&self) -> bool {
        matches!(self.role, FrameKind::Status(_))
    }

    /// Payload bytes that it holds in memory, those of the whole value included.
    pub fn held_bytes(&self) -> usize {
        let whole = self.whole();
        let apart = if std::ptr::eq(whole, self) { 0 } else { whole.payload.bytes.len() };
        self.payload.bytes.len() + apart
    }
}

impl Numbered for Frame {
    fn offset(&self) -> Offset {
        self.offset
    }
}
