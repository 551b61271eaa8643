//! The one writer: numbers a frame, remembers it, stores it in the ring, moves the head, rings the bells.
//!
//! Nothing else hands out offsets and nothing else feeds the ring; `Publisher` is not `Clone`. It deliberately does
//! not know where frames come from. When it is dropped, by a panic as well, the feed is down: readers never go on
//! taking the last values for current ones.

use std::sync::Arc;

use metrics::{Counter, Gauge};

use crate::bus::clock::Clock;
use crate::bus::feed::{FeedState, StaleReason};
use crate::bus::frame::{Frame, Topic};
use crate::bus::history::History;
use crate::bus::keeping::{Keeping, Note, NoteKind};
use crate::bus::pulse::Pulse;
use crate::bus::{Limits, Shared};
use crate::wire::encode::Payload;
use crate::words::ids::{Offset, TopicId};
use crate::words::metrics::{self as names, Meters};
use crate::words::stamp::Stamp;
use crate::words::topic::{TopicError, check_topic};

pub struct Publisher {
    shared: Arc<Shared>,
    limits: Limits,
    history: History,
    head: Offset,
    ring_frames: usize,
    ring_bytes: usize,
    topics: u32,
    meters: PublisherMeters,
}

/// Why a frame was not published. The feed goes on; the caller counts nothing, the publisher has done so.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the upstream's topic is unusable: {0}")]
    BadTopic(#[from] TopicError),
    #[error("topic `{topic}` is one more than the {max} allowed; raise limits.topics_max or subscribe to less")]
    TooManyTopics { topic: String, max: usize },
}

struct PublisherMeters {
    frames: Counter,
    frame_bytes: Counter,
    /// By `NoteKind as usize`.
    notes: [Counter; NoteKind::ALL.len()],
    refused_topic: Counter,
    refused_limit: Counter,
    topics: Gauge,
    head_offset: Gauge,
    ring_frames: Gauge,
    ring_bytes: Gauge,
    up: Gauge,
    states: Vec<(&'static str, Gauge)>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, (limits, history): (Limits, History), meters: &Meters) -> Publisher {
        let meters = PublisherMeters {
            frames: meters.counter(&names::FRAMES, &[]),
            frame_bytes: meters.counter(&names::FRAME_BYTES, &[]),
            notes: NoteKind::ALL.map(|kind| meters.counter(&names::NOTES, &[("kind", kind.label())])),
            refused_topic: meters.counter(&names::FRAMES_REFUSED, &[("reason", "bad_topic")]),
            refused_limit: meters.counter(&names::FRAMES_REFUSED, &[("reason", "too_many_topics")]),
            topics: meters.gauge(&names::TOPICS, &[]),
            head_offset: meters.gauge(&names::HEAD_OFFSET, &[]),
            ring_frames: meters.gauge(&names::RING_FRAMES, &[]),
            ring_bytes: meters.gauge(&names::RING_BYTES, &[]),
            up: meters.gauge(&names::UPSTREAM_UP, &[]),
            states: FeedState::LABELS
                .map(|state| (state, meters.gauge(&names::UPSTREAM_STATE, &[("state", state)])))
                .to_vec(),
        };
        let publisher = Publisher {
            shared,
            limits,
            history,
            head: Offset::START,
            ring_frames: 0,
            ring_bytes: 0,
            topics: 0,
            meters,
        };
        publisher.show_state(&FeedState::Connecting);
        publisher
    }

    /// Publishes one frame. `received` is when its upstream message arrived. A change whose whole value is at hand becomes
    /// a start, with the whole value as its payload, if the topic has none yet or has forgotten it.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: Payload,
        keeping: Keeping,
        received: Stamp,
    ) -> Result<Offset, PublishError> {
        let topic = self.topic(topic)?;
        let (payload, keeping) = match keeping {
            // Those who are in step have no start either, and would never get the whole value.
            Keeping::Change { whole: Some(whole) } if !self.shared.latest.holds_changes(&topic.name) => {
                (whole, Keeping::Start)
            }
            other => (payload, other),
        };
        let bytes = payload.bytes.len();
        let offset = self.push(Frame::new(self.head.next(), topic, received, payload, keeping));
        self.meters.frames.increment(1);
        self.meters.frame_bytes.increment(bytes as u64);
        Ok(offset)
    }

    /// Says something about one topic, after what was published before and with an offset of its own.
    pub fn note(&mut self, topic: &str, note: Note, received: Stamp) -> Result<Offset, PublishError> {
        let topic = self.topic(topic)?;
        let offset = self.push(Frame::note(self.head.next(), topic, received, &note));
        self.meters.notes[note.kind() as usize].increment(1);
        Ok(offset)
    }

    fn push(&mut self, frame: Frame) -> Offset {
        let (offset, bytes) = (frame.offset, frame.held_bytes());
        let frame = Arc::new(frame);
        self.make_room(bytes);
        self.shared.latest.remember(frame.clone());
        self.shared.ring.push(frame);
        self.head = offset;
        self.ring_frames += 1;
        self.ring_bytes += bytes;
        self.ring_bells();
        self.meters.head_offset.set(offset.0 as f64);
        self.meters.ring_frames.set(self.ring_frames as f64);
        self.meters.ring_bytes.set(self.ring_bytes as f64);
        offset
    }

    /// The sign of life that whoever feeds this publisher is to leave at least once a second.
    pub fn pulse(&self) -> Pulse {
        self.shared.pulse.clone()
    }

    /// Says whether what was published is current. Readers learn of it after all frames published before.
    pub fn announce(&mut self, state: FeedState) {
        let state = Arc::new(state);
        // Where only the words differ, such as the number of the attempt, the version stays: clients are not told again.
        if self.shared.feed.show(state.clone(), |before, now| before.label() != now.label()) {
            self.show_state(&state);
        }
        self.ring_bells();
    }

    fn topic(&mut self, name: &str) -> Result<Arc<Topic>, PublishError> {
        match self.shared.latest.topic(name) {
            Some(known) => Ok(known),
            None => self.admit(name),
        }
    }

    fn admit(&mut self, name: &str) -> Result<Arc<Topic>, PublishError> {
        if let Err(error) = check_topic(name) {
            self.meters.refused_topic.increment(1);
            return Err(error.into());
        }
        if self.topics as usize >= self.limits.topics_max {
            self.meters.refused_limit.increment(1);
            return Err(PublishError::TooManyTopics { topic: name.to_string(), max: self.limits.topics_max });
        }
        let id = TopicId(self.topics);
        self.topics += 1;
        self.meters.topics.set(f64::from(self.topics));
        Ok(Arc::new(Topic { id, keep: self.history.of(name), name: name.into() }))
    }

    fn make_room(&mut self, bytes: usize) {
        while self.ring_frames > 0
            && (self.ring_frames >= self.shared.ring.capacity()
                || self.ring_bytes.saturating_add(bytes) > self.limits.ring_bytes_max)
        {
            let oldest = self.shared.ring.drop_oldest().expect("the writer alone empties slots");
            self.ring_frames -= 1;
            self.ring_bytes -= oldest.held_bytes();
        }
    }

    fn ring_bells(&self) {
        for bell in self.shared.bells.load().iter() {
            bell.ring();
        }
    }

    fn show_state(&self, state: &FeedState) {
        self.meters.up.set(if *state == FeedState::Live { 1.0 } else { 0.0 });
        for (label, gauge) in &self.meters.states {
            gauge.set(if *label == state.label() { 1.0 } else { 0.0 });
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if matches!(&*self.shared.feed.shown(), FeedState::Stale { reason: StaleReason::UpstreamDown, .. }) {
            return;
        }
        let message = "the server has lost its feed and does not go on; connect again in a few seconds".to_string();
        let since_ms = Clock::start().now().wall_ms;
        self.announce(FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus;
    use crate::words::ids::Epoch;

    const LIMITS: Limits = Limits { ring_frames_max: 4, ring_bytes_max: 1 << 20, topics_max: 4 };

    #[test]
    fn a_panic_that_takes_the_publisher_along_leaves_no_reader_with_a_live_feed() {
        let (mut publisher, reader) = bus::open(Epoch(1), LIMITS, &Meters::unread());
        publisher.announce(FeedState::Live);
        let version = reader.feed_version();
        let feeding = std::thread::spawn(move || {
            publisher.announce(FeedState::Live);
            panic!("planted");
        });
        assert!(feeding.join().is_err(), "the fault fired");
        assert_eq!(reader.feed().label(), "down");
        assert_ne!(reader.feed_version(), version, "clients are told");
    }

    #[test]
    fn what_was_wrong_with_the_feed_is_still_told_after_its_end() {
        let (mut publisher, reader) = bus::open(Epoch(1), LIMITS, &Meters::unread());
        let refused =
            FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 7, message: "refused for good".into() };
        publisher.announce(refused.clone());
        drop(publisher);
        assert_eq!(*reader.feed(), refused);
    }
}
