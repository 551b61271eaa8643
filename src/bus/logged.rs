//! Frames as items of the log, and back.

use std::sync::Arc;

use bytes::Bytes;
use feed_log::entry::item::{FrameRole, LoggedFrame, LoggedItem, LoggedPayload, LoggedStatus, PayloadForm, StatusForm};
use feed_log::entry::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, LoggedText};

use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::publisher::republish::{FrameContent, GivenFrame};
use crate::bus::publisher::{PublishError, Publisher};
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{TopicStatusKind, renumbered};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// A frame of the archive or of the cluster's log: what it is published with, but for its offset.
pub(crate) struct ArchivedFrame {
    pub topic: Arc<Topic>,
    pub received_ms: u64,
    pub content: FrameContent,
}

impl ArchivedFrame {
    /// Clients see the time of its receipt; durations begin now.
    pub fn given(&self, offset: Offset, now: Stamp) -> GivenFrame<'_> {
        let received = Stamp { wall_ms: self.received_ms, mono_ns: now.mono_ns };
        GivenFrame { offset, topic: &self.topic, received, content: self.content.clone() }
    }

    /// The frame, at another place than its log had when it was made.
    pub fn renumbered(mut self, offset: Offset) -> ArchivedFrame {
        if let FrameContent::Status { text, .. } = &mut self.content {
            *text = renumbered(text, offset);
        }
        self
    }
}

pub(crate) fn item_of(frame: &Frame) -> LoggedItem {
    let (topic, received_ms) = (LoggedText::from(&*frame.topic.name), frame.received.wall_ms);
    let message = |role| {
        let whole = match &frame.kind {
            FrameKind::Delta { whole } => whole.as_ref().map(|whole| logged(&whole.payload)),
            _ => None,
        };
        let (topic, payload) = (topic.clone(), logged(&frame.payload));
        LoggedItem::Frame(LoggedFrame { topic, role, received_ms, venue_number: None, payload, whole })
    };
    match &frame.kind {
        FrameKind::Value { keep } => message(FrameRole::Value { keep: *keep }),
        FrameKind::Snapshot => message(FrameRole::Start),
        FrameKind::Delta { .. } => message(FrameRole::Change),
        FrameKind::Transient => message(FrameRole::Moment),
        FrameKind::Status(kind) => {
            let (kind, text) = (status_form(*kind), frame.payload.bytes.clone());
            LoggedItem::Status(LoggedStatus { topic, kind, received_ms, text })
        }
        FrameKind::Expired(topics) => {
            let topics = topics.iter().map(|topic| LoggedText::from(&*topic.name)).collect();
            LoggedItem::Forgotten { received_ms, topics }
        }
    }
}

/// The frames after a cursor, up to `until`, as many as fit into an entry; empty if there is none, or if the next one is
/// gone.
pub(crate) fn items_after(reader: &Reader, cursor: Offset, until: Offset) -> Vec<LoggedItem> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut offset = cursor;
    while offset < until && items.len() < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX {
        let FrameLookup::Hot(frame) = reader.frame(offset.next()) else { break };
        let item = item_of(&frame);
        bytes += item.bytes();
        items.push(item);
        offset = frame.offset;
    }
    items
}

/// None of what has no offset. Payloads are copies: a slice would keep all of its entry in memory.
pub(crate) fn frame_of(item: LoggedItem) -> Option<ArchivedFrame> {
    Some(match item {
        LoggedItem::Frame(frame) => {
            let retention = match frame.role {
                FrameRole::Value { keep } => Retention::Value { keep: usize::from(keep) },
                FrameRole::Start => Retention::Snapshot,
                FrameRole::Change => Retention::Delta { whole: frame.whole.as_ref().map(payload_of) },
                FrameRole::Moment => Retention::Transient,
            };
            let content = FrameContent::Message { payload: payload_of(&frame.payload), retention };
            ArchivedFrame { topic: named(&frame.topic), received_ms: frame.received_ms, content }
        }
        LoggedItem::Status(status) => {
            let (kind, text) = (status_kind(status.kind), Bytes::copy_from_slice(&status.text));
            let content = FrameContent::Status { kind, text };
            ArchivedFrame { topic: named(&status.topic), received_ms: status.received_ms, content }
        }
        LoggedItem::Forgotten { received_ms, topics } => {
            let topics: Box<[Arc<Topic>]> = topics.iter().map(named).collect();
            let topic = topics.first().cloned().unwrap_or_else(nameless);
            ArchivedFrame { topic, received_ms, content: FrameContent::Expired(topics) }
        }
        LoggedItem::State(_) | LoggedItem::Cursor(_) => return None,
    })
}

/// Publishes a frame at an offset that was given to it.
pub(crate) fn publish_logged(publisher: &mut Publisher, offset: Offset, frame: &ArchivedFrame, now: Stamp) {
    place(publisher, (offset, frame, now), Publisher::republish);
}

/// The same, of a frame that may be older than what is retained of its topic.
pub(crate) fn refill_logged(publisher: &mut Publisher, offset: Offset, frame: &ArchivedFrame, now: Stamp) {
    place(publisher, (offset, frame, now), Publisher::refill);
}

fn place(
    publisher: &mut Publisher,
    (offset, frame, now): (Offset, &ArchivedFrame, Stamp),
    give: impl Fn(&mut Publisher, GivenFrame<'_>) -> Result<Offset, PublishError>,
) {
    let given = match give(publisher, frame.given(offset, now)) {
        // There is no room for its topic here, and for nothing there is.
        Err(PublishError::BadTopic(_) | PublishError::TooManyTopics { .. }) => {
            give(publisher, hole().given(offset, now))
        }
        given => given,
    };
    if given.is_err() {
        publisher.leap(Vec::new(), offset);
    }
}

/// What stands at an offset that is for nobody.
pub(crate) fn hole() -> ArchivedFrame {
    ArchivedFrame { topic: nameless(), received_ms: 0, content: FrameContent::Expired(Box::default()) }
}

/// As another log names it: the number is given where it is published.
fn named(name: &LoggedText) -> Arc<Topic> {
    Arc::new(Topic { id: TopicId(0), keep: None, name: name.as_str().into() })
}

fn nameless() -> Arc<Topic> {
    Arc::new(Topic { id: TopicId(0), keep: None, name: "".into() })
}

fn logged(payload: &Payload) -> LoggedPayload {
    let kind = match payload.kind {
        PayloadKind::Json => PayloadForm::Json,
        PayloadKind::Text => PayloadForm::Text,
        PayloadKind::Binary => PayloadForm::Binary,
    };
    LoggedPayload { kind, bytes: payload.bytes.clone() }
}

fn payload_of(payload: &LoggedPayload) -> Payload {
    let kind = match payload.kind {
        PayloadForm::Json => PayloadKind::Json,
        PayloadForm::Text => PayloadKind::Text,
        PayloadForm::Binary => PayloadKind::Binary,
    };
    Payload { bytes: Bytes::copy_from_slice(&payload.bytes), kind }
}

fn status_form(kind: TopicStatusKind) -> StatusForm {
    match kind {
        TopicStatusKind::Gap => StatusForm::Gap,
        TopicStatusKind::Stale => StatusForm::Stale,
        TopicStatusKind::Live => StatusForm::Live,
        TopicStatusKind::Refused => StatusForm::Refused,
    }
}

fn status_kind(form: StatusForm) -> TopicStatusKind {
    match form {
        StatusForm::Gap => TopicStatusKind::Gap,
        StatusForm::Stale => TopicStatusKind::Stale,
        StatusForm::Live => TopicStatusKind::Live,
        StatusForm::Refused => TopicStatusKind::Refused,
    }
}
