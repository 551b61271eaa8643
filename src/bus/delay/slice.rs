//! What a second leaves of each topic, where a view cannot hold every frame: conflation.
//!
//! Of values the newest is left. Deltas are dropped, and a gap stands in their place: a client that has the value before
//! them must not apply later ones to it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::frame::Topic;
use crate::bus::publisher::republish::FrameContent;
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatusKind;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Length of a slice, if there is room for more slices.
const SLICE_NS: u64 = 1_000_000_000;

pub(super) struct DelaySlice {
    /// By the topic's name.
    topics: HashMap<Box<str>, Vec<WaitingFrame>>,
    /// The topics there were at its end, where some may have been forgotten unseen.
    living: Option<Vec<Arc<Topic>>>,
    begun: Stamp,
    /// The newest receipt of a frame in it.
    newest: Stamp,
    until: Offset,
    bytes: usize,
}

impl DelaySlice {
    pub fn begin(received: Stamp) -> DelaySlice {
        let (until, topics) = (Offset::START, HashMap::new());
        DelaySlice { topics, living: None, begun: received, newest: received, until, bytes: 0 }
    }

    /// A frame that was received then may still be added.
    pub fn is_open(&self, received: Stamp) -> bool {
        received.ns_since(self.begun) < SLICE_NS
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the newest frame of it was received: all of it is as old as it must be when that is.
    pub fn newest(&self) -> Stamp {
        self.newest
    }

    /// All offsets up to here are in it.
    pub fn until(&self) -> Offset {
        self.until
    }

    pub fn living(&self) -> Option<&[Arc<Topic>]> {
        self.living.as_deref()
    }

    /// Takes the next frame, and drops what it outdates.
    pub fn take(&mut self, frame: WaitingFrame) {
        self.extend(frame.offset, frame.received);
        if let FrameContent::Expired(topics) = &frame.content {
            for topic in topics {
                let expired = FrameContent::Expired([topic.clone()].into());
                let alone = WaitingFrame { topic: topic.clone(), content: expired, ..frame_at(&frame) };
                self.replace(alone, |_| false);
            }
            return;
        }
        match &frame.content {
            FrameContent::Message { retention: Retention::Transient, .. } => {}
            FrameContent::Message { retention: Retention::Delta { whole: None }, .. } => {
                let gap = WaitingFrame { content: FrameContent::Conflated, ..frame_at(&frame) };
                self.replace(gap, |kept| !is_gap(kept) && !is_mark(kept));
            }
            FrameContent::Message { .. } => self.replace(frame, is_expiry),
            FrameContent::Status { kind: TopicStatusKind::Gap, .. } => self.replace(frame, |kept| !is_gap(kept)),
            FrameContent::Status { .. } => self.replace(frame, |kept| !is_mark(kept)),
            FrameContent::Conflated | FrameContent::Expired(_) => {}
        }
    }

    /// Continues after a part of the log that is lost: what is kept of it has been taken, and these topics are left.
    pub fn bridge(&mut self, until: Offset, now: Stamp, living: Vec<Arc<Topic>>) {
        self.extend(until, now);
        self.bytes += living.len() * size_of::<Arc<Topic>>();
        self.living = Some(living);
    }

    /// What is left, in the order of offsets.
    pub fn into_frames(self) -> Vec<WaitingFrame> {
        let mut frames: Vec<WaitingFrame> = self.topics.into_values().flatten().collect();
        frames.sort_by_key(|frame| frame.offset);
        frames
    }

    fn extend(&mut self, until: Offset, received: Stamp) {
        self.until = self.until.max(until);
        if received.mono_ns > self.newest.mono_ns {
            self.newest = received;
        }
    }

    /// Puts the frame behind those of its topic that stay.
    fn replace(&mut self, frame: WaitingFrame, stays: impl Fn(&WaitingFrame) -> bool) {
        let kept = match self.topics.get_mut(&frame.topic.name) {
            Some(kept) => kept,
            None => {
                self.bytes += size_of::<Vec<WaitingFrame>>() + 2 * frame.topic.name.len();
                self.topics.entry(frame.topic.name.clone()).or_default()
            }
        };
        let before: usize = kept.iter().map(WaitingFrame::bytes).sum();
        kept.retain(stays);
        kept.push(frame);
        let after: usize = kept.iter().map(WaitingFrame::bytes).sum();
        self.bytes = self.bytes + after - before;
    }
}

fn frame_at(frame: &WaitingFrame) -> WaitingFrame {
    WaitingFrame { content: FrameContent::Conflated, topic: frame.topic.clone(), ..*frame }
}

fn is_gap(frame: &WaitingFrame) -> bool {
    matches!(frame.content, FrameContent::Conflated | FrameContent::Status { kind: TopicStatusKind::Gap, .. })
}

/// The state of a topic, which the next message ends.
fn is_mark(frame: &WaitingFrame) -> bool {
    matches!(&frame.content, FrameContent::Status { kind, .. } if *kind != TopicStatusKind::Gap)
}

fn is_expiry(frame: &WaitingFrame) -> bool {
    matches!(frame.content, FrameContent::Expired(_))
}
