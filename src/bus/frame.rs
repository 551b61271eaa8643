//! One message of one topic, or a status of the topic, with each of its encodings made at most once.

use std::iter::successors;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::history::KEEP_MAX;
use crate::bus::log::ring::Numbered;
use crate::bus::retention::Retention;
use crate::bus::topic_status::{TopicStatus, TopicStatusKind};
use crate::protocol::encoding::{Encoded, Encoder, Encoding, Envelope, EnvelopeKind, Payload, PayloadKind, References};
use crate::protocol::encodings::Encodings;
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;
use shared_deflate::token::{REFERENCES_MAX, Tokens};

/// A topic's name and number; one per topic, shared by all its frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Box<str>,
    /// Values that the configuration keeps for clients that join, at least 1; none if it does not name the topic.
    pub keep: Option<u16>,
}

/// What a frame is to clients that join later.
#[derive(Debug)]
pub enum FrameKind {
    /// The whole value of its topic; this many of the newest are kept, at least 1.
    Value { keep: u16 },
    /// It replaces the value of its topic; deltas follow.
    Snapshot,
    /// It changes the value that the frames before it built. Where the whole value after it is at hand, that is a frame
    /// of its own, with encodings of its own, for clients without the frames before.
    Delta { whole: Option<Box<Frame>> },
    /// It matters only when it is published.
    Transient,
    /// Not a message of the feed, but the state of the topic; the payload is the message to clients.
    Status(TopicStatusKind),
    /// These topics, perhaps none, are forgotten: they were silent for long, and the ring holds nothing else of them. It is
    /// for tables of topics; no client receives it. Its own topic is the first of them.
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
    pub kind: FrameKind,
    /// The message of its topic before it; `Offset::START` if there was none.
    before: Offset,
    encodings: Encodings,
}

impl Frame {
    pub fn new(offset: Offset, topic: Arc<Topic>, received: Stamp, payload: Payload, retention: Retention) -> Frame {
        let kind = match retention {
            Retention::Value { keep } => {
                let asked = || u16::try_from(keep).unwrap_or(KEEP_MAX).clamp(1, KEEP_MAX);
                FrameKind::Value { keep: topic.keep.unwrap_or_else(asked) }
            }
            Retention::Snapshot => FrameKind::Snapshot,
            Retention::Delta { whole } => {
                let whole = whole.map(|whole| Frame::with(offset, topic.clone(), received, whole, FrameKind::Snapshot));
                FrameKind::Delta { whole: whole.map(Box::new) }
            }
            Retention::Transient => FrameKind::Transient,
        };
        Frame::with(offset, topic, received, payload, kind)
    }

    pub fn status(offset: Offset, topic: Arc<Topic>, received: Stamp, status: &TopicStatus) -> Frame {
        let text = status.text(&topic.name, offset, received.wall_ms);
        let payload = Payload { bytes: text.into(), kind: PayloadKind::Json };
        Frame::with(offset, topic, received, payload, FrameKind::Status(status.kind()))
    }

    /// A status in the words of another log.
    pub fn restated(offset: Offset, topic: Arc<Topic>, received: Stamp, kind: TopicStatusKind, text: Bytes) -> Frame {
        let payload = Payload { bytes: text, kind: PayloadKind::Json };
        Frame::with(offset, topic, received, payload, FrameKind::Status(kind))
    }

    /// Nothing for anyone: its offset was given elsewhere, and what it was for is unknown here.
    pub fn hole(offset: Offset, topic: Arc<Topic>, received: Stamp) -> Frame {
        let payload = Payload { bytes: Bytes::new(), kind: PayloadKind::Json };
        Frame::with(offset, topic, received, payload, FrameKind::Expired(Box::default()))
    }

    /// Reports that topics, at least one, are forgotten.
    pub fn expired(offset: Offset, topics: Vec<Arc<Topic>>, received: Stamp) -> Frame {
        let payload = Payload { bytes: Default::default(), kind: PayloadKind::Json };
        let topic = topics[0].clone();
        Frame::with(offset, topic, received, payload, FrameKind::Expired(topics.into()))
    }

    fn with(offset: Offset, topic: Arc<Topic>, received: Stamp, payload: Payload, kind: FrameKind) -> Frame {
        let (before, encodings) = (Offset::START, Encodings::default());
        Frame { offset, topic, received, payload, kind, before, encodings }
    }

    /// The frame, with the offset of the message of its topic before it.
    pub fn after(mut self, before: Offset) -> Frame {
        self.before = before;
        self
    }

    /// The offset of the message of its topic before it; `Offset::START` if there was none.
    pub fn before(&self) -> Offset {
        self.before
    }

    /// The complete frame of the wire in this encoding, made at most once, also when several shards need it at the same
    /// moment. Empty for a status in a raw encoding.
    pub fn encoded(&self, encoding: Encoding, encoder: &mut Encoder) -> &Encoded {
        self.encodings.get_or_make(encoding, || {
            if self.is_status() {
                Encoded::message(encoding, self.offset, &self.payload.bytes)
            } else {
                encoder.encode(encoding, &self.envelope())
            }
        })
    }

    /// The tokens of its text in this encoding, which has no compression, made at most once. They refer to the messages
    /// of its topic before it, as far as `look_up` finds them. None for a text that tokens cannot express. Not for statuses.
    pub fn tokens(
        &self,
        plain: Encoding,
        references: References,
        look_up: impl Fn(Offset) -> Option<Arc<Frame>>,
        encoder: &mut Encoder,
    ) -> Option<&Tokens> {
        self.encodings.tokens_or_make((plain.format, references), || {
            let max = match references {
                References::All => REFERENCES_MAX,
                References::Newest => 1,
            };
            let first = look_up(self.before);
            let before: Vec<Arc<Frame>> = successors(first, |frame| look_up(frame.before)).take(max).collect();
            let texts: Vec<&[u8]> = before.iter().map(|frame| frame.encoded(plain, encoder).text()).collect();
            let text = self.encoded(plain, encoder).text();
            encoder.tokens(text, &texts)
        })
    }

    /// The contents of the envelope. Not for statuses.
    pub fn envelope(&self) -> Envelope<'_> {
        let kind = match self.kind {
            FrameKind::Snapshot => Some(EnvelopeKind::Snapshot),
            FrameKind::Delta { .. } => Some(EnvelopeKind::Delta),
            FrameKind::Value { .. } | FrameKind::Transient | FrameKind::Status(_) | FrameKind::Expired(_) => None,
        };
        let (topic, offset, ts_ms) = (&*self.topic.name, self.offset, self.received.wall_ms);
        Envelope { topic, offset, ts_ms, kind, payload: &self.payload }
    }

    /// The frame for clients without the frames before: the whole value, where there is one.
    pub fn whole(&self) -> &Frame {
        match &self.kind {
            FrameKind::Delta { whole: Some(whole) } => whole,
            _ => self,
        }
    }

    pub fn is_status(&self) -> bool {
        matches!(self.kind, FrameKind::Status(_))
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
