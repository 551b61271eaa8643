//! A frame of the live log that waits to be old enough.

use std::mem::size_of;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::frame::{Frame, Topic};
use crate::bus::publisher::republish::{FrameContent, GivenFrame};
use crate::bus::retention::Retention;
use crate::bus::topic_status::renumbered;
use crate::protocol::encoding::Payload;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Its payload is a copy: a slice of a received message would keep all of the message in memory.
#[derive(Debug)]
pub(super) struct WaitingFrame {
    pub offset: Offset,
    pub topic: Arc<Topic>,
    pub received: Stamp,
    pub content: FrameContent,
}

impl WaitingFrame {
    pub fn of(frame: &Frame) -> WaitingFrame {
        let content = copied(FrameContent::of(frame));
        WaitingFrame { offset: frame.offset, topic: frame.topic.clone(), received: frame.received, content }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        let held = match &self.content {
            FrameContent::Message { payload, retention } => payload.bytes.len() + whole_of(retention),
            FrameContent::Status { text, .. } => text.len(),
            FrameContent::Conflated => 0,
            FrameContent::Expired(topics) => topics.len() * size_of::<Arc<Topic>>(),
        };
        size_of::<WaitingFrame>() + held
    }

    /// The frame as it is published now, at this offset. Clients see the time of its receipt; durations begin now.
    pub fn given(&self, offset: Offset, now: Stamp) -> GivenFrame<'_> {
        let content = match &self.content {
            FrameContent::Status { kind, text } if offset != self.offset => {
                FrameContent::Status { kind: *kind, text: renumbered(text, offset) }
            }
            other => other.clone(),
        };
        let received = Stamp { wall_ms: self.received.wall_ms, mono_ns: now.mono_ns };
        GivenFrame { offset, topic: &self.topic, received, content }
    }
}

fn whole_of(retention: &Retention) -> usize {
    match retention {
        Retention::Delta { whole: Some(whole) } => whole.bytes.len(),
        Retention::Delta { whole: None } | Retention::Value { .. } | Retention::Snapshot | Retention::Transient => 0,
    }
}

fn copied(content: FrameContent) -> FrameContent {
    let copy = |payload: Payload| Payload { bytes: Bytes::copy_from_slice(&payload.bytes), kind: payload.kind };
    match content {
        FrameContent::Message { payload, retention } => {
            let retention = match retention {
                Retention::Delta { whole } => Retention::Delta { whole: whole.map(copy) },
                other => other,
            };
            FrameContent::Message { payload: copy(payload), retention }
        }
        other => other,
    }
}
