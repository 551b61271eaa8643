//! What a view needs of its publisher besides `publish`: frames of another log, in the words and at the offsets that they
//! have there; and leaps, where some of that log is not here.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::publisher::{PublishError, Publisher};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus, TopicStatusKind};
use crate::protocol::encoding::Payload;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// What a frame of another log says, without the number of its topic there.
#[derive(Clone, Debug)]
pub enum FrameContent {
    Message {
        payload: Payload,
        retention: Retention,
    },
    /// The message to clients as it was, its offset included.
    Status {
        kind: TopicStatusKind,
        text: Bytes,
    },
    /// Messages of the topic are missing here that the other log has.
    Conflated,
    /// These topics are forgotten.
    Expired(Box<[Arc<Topic>]>),
}

/// A frame to be published at an offset that was given elsewhere.
#[derive(Debug)]
pub struct GivenFrame<'t> {
    pub offset: Offset,
    pub topic: &'t Arc<Topic>,
    pub received: Stamp,
    pub content: FrameContent,
}

impl FrameContent {
    pub fn of(frame: &Frame) -> FrameContent {
        let payload = frame.payload.clone();
        match &frame.kind {
            FrameKind::Value { keep } => {
                FrameContent::Message { payload, retention: Retention::Value { keep: usize::from(*keep) } }
            }
            FrameKind::Snapshot => FrameContent::Message { payload, retention: Retention::Snapshot },
            FrameKind::Delta { whole } => {
                let whole = whole.as_ref().map(|whole| whole.payload.clone());
                FrameContent::Message { payload, retention: Retention::Delta { whole } }
            }
            FrameKind::Transient => FrameContent::Message { payload, retention: Retention::Transient },
            FrameKind::Status(kind) => FrameContent::Status { kind: *kind, text: payload.bytes },
            FrameKind::Expired(topics) => FrameContent::Expired(topics.clone()),
        }
    }
}

impl Publisher {
    /// The newest offset.
    pub fn head(&self) -> Offset {
        self.head
    }

    /// Publishes a frame of another log.
    ///
    /// # Errors
    /// As [`Publisher::append`].
    pub fn republish(&mut self, given: GivenFrame<'_>) -> Result<Offset, PublishError> {
        let GivenFrame { offset, topic, received, content } = given;
        match content {
            FrameContent::Message { payload, retention } => {
                self.append(offset, &topic.name, payload, retention, received)
            }
            FrameContent::Expired(topics) => {
                self.check_sequence(offset)?;
                Ok(self.republish_expired(offset, topic, &topics, received))
            }
            FrameContent::Status { .. } | FrameContent::Conflated => {
                self.check_sequence(offset)?;
                let frame = self.restated(offset, topic, content, received)?;
                Ok(self.push(frame))
            }
        }
    }

    /// Continues after `offset`, which is ahead of the head, without the frames up to there. What they leave, these
    /// frames, is remembered of each topic: readers are overrun, and start over from it.
    pub fn leap(&mut self, frames: Vec<GivenFrame<'_>>, offset: Offset) {
        for GivenFrame { offset: own, topic, received, content } in frames {
            let frame = match content {
                FrameContent::Message { payload, retention } => {
                    self.message(own, &topic.name, (payload, retention), received)
                }
                FrameContent::Expired(topics) => {
                    let known = self.take_known(&topics);
                    self.forget_until(&known, offset);
                    continue;
                }
                FrameContent::Status { .. } | FrameContent::Conflated => self.restated(own, topic, content, received),
            };
            // A topic that is refused is counted; the others are not to suffer for it.
            if let Ok(frame) = frame {
                self.shared.latest.remember(Arc::new(frame));
            }
        }
        self.shared.ring.leap(offset);
        (self.head, self.ring_frames, self.ring_bytes) = (offset, 0, 0);
        self.ring_doorbells();
    }

    /// The known topics; of more than `max`, those whose value is built of snapshots and deltas.
    pub fn topics_or_those_of_deltas(&self, max: usize) -> Vec<Box<str>> {
        let topics = self.topics.iter().flatten().map(|topic| &topic.name);
        topics.filter(|name| self.living <= max || self.shared.latest.holds_deltas(name)).cloned().collect()
    }

    /// Nobody knows what came of these topics since their newest messages: a gap of each.
    pub fn publish_gaps(&mut self, topics: &[Box<str>], now: Stamp) {
        let gap = TopicStatus::Gap { reason: GapReason::Reconnect, missed: None };
        for topic in topics {
            // A topic that is known is not refused.
            let _ = self.publish_status(topic, gap.clone(), now);
        }
    }

    /// The known topics that are not among these.
    pub fn topics_besides(&self, living: &[Arc<Topic>]) -> Vec<Arc<Topic>> {
        let living: HashSet<&str> = living.iter().map(|topic| &*topic.name).collect();
        self.topics.iter().flatten().filter(|topic| !living.contains(&*topic.name)).cloned().collect()
    }

    pub(super) fn republish_expired(
        &mut self,
        offset: Offset,
        topic: &Arc<Topic>,
        topics: &[Arc<Topic>],
        received: Stamp,
    ) -> Offset {
        let known = self.take_known(topics);
        // The other log had nothing else of them in its ring; this one may still have.
        let newest = known.iter().filter_map(|topic| self.shared.latest.get(&topic.name));
        let newest = newest.map(|current| current.retained.newest().offset).max().unwrap_or_default();
        while self.ring_frames > 0 && self.shared.ring.tail() <= newest {
            self.drop_oldest();
        }
        if known.is_empty() {
            return self.push_hole(Frame::hole(offset, topic.clone(), received));
        }
        self.forget(&known, received);
        offset
    }

    fn push_hole(&mut self, hole: Frame) -> Offset {
        self.make_room(0);
        self.store(Arc::new(hole))
    }

    /// These topics of another log as they are known here, and from now on not any more.
    fn take_known(&mut self, topics: &[Arc<Topic>]) -> Vec<Arc<Topic>> {
        let known: Vec<Arc<Topic>> = topics.iter().filter_map(|topic| self.shared.latest.topic(&topic.name)).collect();
        for topic in &known {
            self.topics[topic.id.index()] = None;
        }
        known
    }

    pub(super) fn restated(
        &mut self,
        offset: Offset,
        topic: &Arc<Topic>,
        content: FrameContent,
        received: Stamp,
    ) -> Result<Frame, PublishError> {
        let topic = self.topic(&topic.name)?;
        let FrameContent::Status { kind, text } = content else {
            let gap = TopicStatus::Gap { reason: GapReason::Conflated, missed: None };
            return Ok(Frame::status(offset, topic, received, &gap));
        };
        Ok(Frame::restated(offset, topic, received, kind, text))
    }
}
