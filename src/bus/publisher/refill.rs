//! What a server that joins a cluster needs of its publisher: another server's retained values in the place of its own,
//! and the frames from before them, for the ring.
//!
//! A frame that is older than what is retained of its topic enters the ring and nothing else. Messages are what the log
//! says they are, since what made a change a snapshot elsewhere may be unknown here.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::bus::frame::{Frame, Topic};
use crate::bus::latest::Current;
use crate::bus::logged::ArchivedFrame;
use crate::bus::publisher::republish::{FrameContent, GivenFrame};
use crate::bus::publisher::{PublishError, Publisher};
use crate::bus::retained::Retained;
use crate::bus::retained_topic::RetainedTopic;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

impl Publisher {
    /// From now on this is retained of these topics. It may be newer than the head: the frames up to there are to come by
    /// [`Publisher::refill`], and nobody may read before.
    pub fn restore(&mut self, topics: Vec<RetainedTopic>, now: Stamp) {
        for topic in topics {
            // A topic that is refused is counted; the others are not to suffer for it.
            if let Ok(known) = self.topic(&topic.name)
                && !self.retain(&known, topic, now)
                && self.shared.latest.topic(&known.name).is_none()
            {
                self.unadmit(&known);
            }
        }
    }

    /// The same, without the frames from before `offset`, which is ahead of the head: readers are overrun, and start over
    /// from what is retained. Topics that are not among these are forgotten.
    pub fn leap_to(&mut self, topics: Vec<RetainedTopic>, offset: Offset, now: Stamp) {
        let names: HashSet<&str> = topics.iter().map(|topic| &*topic.name).collect();
        let known = self.topics.iter().flatten();
        let gone: Vec<Arc<Topic>> = known.filter(|topic| !names.contains(&*topic.name)).cloned().collect();
        for topic in &gone {
            self.topics[topic.id.index()] = None;
        }
        if !gone.is_empty() {
            self.forget_until(&gone, offset);
        }
        self.restore(topics, now);
        self.leap(Vec::new(), offset);
    }

    /// Publishes a frame of another log, which may be older than what is retained of its topic.
    ///
    /// # Errors
    /// As [`Publisher::append`].
    pub fn refill(&mut self, given: GivenFrame<'_>) -> Result<Offset, PublishError> {
        let GivenFrame { offset, topic, received, content } = given;
        self.check_sequence(offset)?;
        let frame = match content {
            FrameContent::Message { payload, retention } => {
                let topic = self.topic(&topic.name)?;
                let before = std::mem::replace(&mut self.newest[topic.id.index()], offset);
                Frame::new(offset, topic, received, payload, retention).after(before)
            }
            FrameContent::Expired(topics) => {
                let is_older = |topic: &&Arc<Topic>| !self.retains_newer(&topic.name, offset);
                let older: Vec<Arc<Topic>> = topics.iter().filter(is_older).cloned().collect();
                return Ok(self.republish_expired(offset, topic, &older, received));
            }
            FrameContent::Status { .. } | FrameContent::Conflated => self.restated(offset, topic, content, received)?,
        };
        if !self.retains_newer(&frame.topic.name, offset) {
            return Ok(self.push(frame));
        }
        let frame = Arc::new(frame);
        self.make_room(frame.held_bytes());
        Ok(self.store(frame))
    }

    /// What is retained of the topic has this offset in it already.
    fn retains_newer(&self, topic: &str, offset: Offset) -> bool {
        self.shared.latest.newest_offset(topic).is_some_and(|newest| newest >= offset)
    }

    /// Whether frames can be retained so.
    fn retain(&self, known: &Arc<Topic>, topic: RetainedTopic, now: Stamp) -> bool {
        let RetainedTopic { count, builds_up, had_events, kept, besides, .. } = topic;
        let transient = besides.iter().filter(|(_, frame)| RetainedTopic::is_transient(frame)).map(|(at, _)| *at).max();
        let frame = |(offset, archived): (Offset, ArchivedFrame)| {
            let GivenFrame { received, content, .. } = archived.given(offset, now);
            Some(Arc::new(match content {
                FrameContent::Message { payload, retention } => {
                    Frame::new(offset, known.clone(), received, payload, retention)
                }
                FrameContent::Status { kind, text } => Frame::restated(offset, known.clone(), received, kind, text),
                FrameContent::Expired(_) | FrameContent::Conflated => return None,
            }))
        };
        let Some(kept) = kept.into_iter().map(frame).collect::<Option<VecDeque<Arc<Frame>>>>() else { return false };
        let Some(besides) = besides.into_iter().map(frame).collect::<Option<Vec<Arc<Frame>>>>() else { return false };
        let transient = besides.iter().find(|frame| Some(frame.offset) == transient).cloned();
        let Some(newest) = kept.iter().chain(&besides).max_by_key(|frame| frame.offset).cloned() else { return false };
        let Some(retained) = Retained::restored(newest, kept, transient, had_events) else { return false };
        self.shared.latest.replace(Current::restored(retained, count, builds_up));
        true
    }

    /// A topic of which nothing can be retained.
    fn unadmit(&mut self, topic: &Topic) {
        self.topics[topic.id.index()] = None;
        self.free.push_front((Offset::START, topic.id));
        self.living -= 1;
        self.meters.topics.set(self.living as f64);
    }
}
