//! The one writer: numbers a frame, remembers it, stores it in the ring, moves the head, rings the doorbells.
//!
//! Nothing else hands out offsets and nothing else feeds the ring; `Publisher` is not `Clone`. It deliberately does not
//! know where frames come from: `publish` takes the next offset, `append` one that another publisher has given, and
//! both obey one rule, by which offsets are dense. When it is dropped, by a panic as well, the feed is down: readers
//! never continue to take the last values for current ones.
//!
//! It also forgets topics (`expire`), and publishes that in the ring, so that every reader learns it in the order of
//! the stream. A topic of snapshots and deltas ends with a gap before it is forgotten, since clients would apply the
//! next delta to a value that nobody checks any more. Invariants: the ring holds no frame of a topic that is forgotten; its number is given to another topic
//! only when the ring no longer holds the frame that forgets it. So no two topics of the ring have the same number.

pub mod refill;
pub mod republish;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};

use crate::bus::clock::Clock;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::frame::{Frame, Topic};
use crate::bus::history::History;
use crate::bus::latest::Outlived;
use crate::bus::retention::Retention;
use crate::bus::signal::pulse::Pulse;
use crate::bus::signal::sync::Ordering;
use crate::bus::topic_status::{GapReason, TopicStatus, TopicStatusKind};
use crate::bus::{BusShared, Limits};
use crate::protocol::encoding::Payload;
use crate::words::ids::{Offset, TopicId};
use crate::words::metrics::{self as names, Meters};
use crate::words::stamp::Stamp;
use crate::words::topic::{TopicError, check_topic};

/// Topics that one call of `expire` looks at, and forgets at most: about 0.2 ms, and bounded work for each shard.
const EXPIRY_LOOKS: usize = 1024;
const EXPIRY_TOPICS: usize = 64;

pub struct Publisher {
    shared: Arc<BusShared>,
    limits: Limits,
    history: History,
    head: Offset,
    ring_frames: usize,
    ring_bytes: usize,
    /// By `TopicId`; none where one was forgotten.
    topics: Vec<Option<Arc<Topic>>>,
    /// The newest message of each topic, by `TopicId`.
    newest: Vec<Offset>,
    living: usize,
    /// Topics that were new, ever.
    admitted: u64,
    /// Numbers of forgotten topics, and the offset of the frame that forgets each.
    free: VecDeque<(Offset, TopicId)>,
    /// The topic that `expire` looks at next.
    next_look: usize,
    /// Another log goes on in the place of this one.
    is_succeeded: bool,
    meters: PublisherMeters,
}

/// What became of topics that were silent for long.
#[derive(Debug, Default)]
pub struct Expiry {
    /// A gap has ended their values; each has an offset, in this order.
    pub ended: Vec<Arc<Topic>>,
    /// They are known no longer, from one further offset on.
    pub forgotten: Vec<Arc<Topic>>,
}

/// Why a frame was not published. The feed continues; the publisher has counted it, the caller must not.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the feed's topic is invalid: {0}")]
    BadTopic(#[from] TopicError),
    #[error(
        "topic `{topic}` is one more than the {max} allowed; raise limits.topics_max, subscribe to less, \
             or have silent topics forgotten sooner (topics.expire_after)"
    )]
    TooManyTopics { topic: String, max: usize },
    #[error("expected a frame with the offset {expected}, found {found}; start over from a snapshot")]
    OutOfSequence { expected: Offset, found: Offset },
}

struct PublisherMeters {
    frames: Counter,
    frame_bytes: Counter,
    /// By `TopicStatusKind as usize`.
    statuses: [Counter; TopicStatusKind::ALL.len()],
    refused_topic: Counter,
    refused_limit: Counter,
    topics: Gauge,
    expired: Counter,
    head_offset: Gauge,
    ring_frames: Gauge,
    ring_bytes: Gauge,
    up: Gauge,
    states: Vec<(&'static str, Gauge)>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<BusShared>, (limits, history): (Limits, History), meters: &Meters) -> Publisher {
        let meters = PublisherMeters {
            frames: meters.counter(&names::FRAMES, &[]),
            frame_bytes: meters.counter(&names::FRAME_BYTES, &[]),
            statuses: TopicStatusKind::ALL.map(|kind| meters.counter(&names::TOPIC_STATUS, &[("kind", kind.label())])),
            refused_topic: meters.counter(&names::FRAMES_REFUSED, &[("reason", "bad_topic")]),
            refused_limit: meters.counter(&names::FRAMES_REFUSED, &[("reason", "too_many_topics")]),
            topics: meters.gauge(&names::TOPICS, &[]),
            expired: meters.counter(&names::TOPICS_EXPIRED, &[]),
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
            topics: Vec::new(),
            newest: Vec::new(),
            living: 0,
            admitted: 0,
            free: VecDeque::new(),
            next_look: 0,
            is_succeeded: false,
            meters,
        };
        publisher.show_state(&FeedState::Connecting);
        publisher
    }

    /// Publishes one frame. `received` is when its upstream message arrived. A delta whose whole value is at hand becomes
    /// a snapshot, with the whole value as its payload, if the topic has none yet or has forgotten it.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: Payload,
        retention: Retention,
        received: Stamp,
    ) -> Result<Offset, PublishError> {
        self.append(self.head.next(), topic, payload, retention, received)
    }

    /// As [`Publisher::publish`], at the offset that the frame was given elsewhere.
    ///
    /// # Errors
    /// Also where that is not the next one: after a gap, and on going back. Nothing is published then.
    pub fn append(
        &mut self,
        offset: Offset,
        topic: &str,
        payload: Payload,
        retention: Retention,
        received: Stamp,
    ) -> Result<Offset, PublishError> {
        self.check_sequence(offset)?;
        let frame = self.message(offset, topic, (payload, retention), received)?;
        let bytes = frame.payload.bytes.len();
        let offset = self.push(frame);
        self.meters.frames.increment(1);
        self.meters.frame_bytes.increment(bytes as u64);
        Ok(offset)
    }

    fn check_sequence(&self, offset: Offset) -> Result<(), PublishError> {
        let expected = self.head.next();
        if offset == expected { Ok(()) } else { Err(PublishError::OutOfSequence { expected, found: offset }) }
    }

    fn message(
        &mut self,
        offset: Offset,
        topic: &str,
        (payload, retention): (Payload, Retention),
        received: Stamp,
    ) -> Result<Frame, PublishError> {
        let topic = self.topic(topic)?;
        let (payload, retention) = match retention {
            // Sessions in step have no snapshot either, and would never receive the whole value.
            Retention::Delta { whole: Some(whole) } if !self.shared.latest.holds_deltas(&topic.name) => {
                (whole, Retention::Snapshot)
            }
            other => (payload, other),
        };
        let before = std::mem::replace(&mut self.newest[topic.id.index()], offset);
        Ok(Frame::new(offset, topic, received, payload, retention).after(before))
    }

    /// Publishes the status of one topic, after what was published before and with an offset of its own.
    pub fn publish_status(
        &mut self,
        topic: &str,
        status: TopicStatus,
        received: Stamp,
    ) -> Result<Offset, PublishError> {
        let topic = self.topic(topic)?;
        let offset = self.push(Frame::status(self.head.next(), topic, received, &status));
        self.meters.statuses[status.kind() as usize].increment(1);
        Ok(offset)
    }

    /// Looks at some topics, and forgets those without a message for this time and without a frame in the ring; of those
    /// that are built of deltas, it ends the value first. To be called about ten times a second.
    pub fn expire(&mut self, silent: Duration, now: Stamp) -> Expiry {
        let silent_ns = u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX);
        let Some(since_ns) = now.mono_ns.checked_sub(silent_ns) else { return Expiry::default() };
        let (latest, tail) = (&self.shared.latest, self.shared.ring.tail());
        let mut expiry = Expiry::default();
        for _ in 0..EXPIRY_LOOKS.min(self.topics.len()) {
            if expiry.ended.len() + expiry.forgotten.len() == EXPIRY_TOPICS {
                break;
            }
            self.next_look = (self.next_look + 1) % self.topics.len();
            let place = &mut self.topics[self.next_look];
            match place.as_ref().map(|topic| latest.outlived(&topic.name, since_ns, tail)) {
                Some(Outlived::Yes) => expiry.forgotten.extend(place.take()),
                Some(Outlived::Unended) => expiry.ended.extend(place.clone()),
                Some(Outlived::No) | None => {}
            }
        }
        for topic in &expiry.ended {
            let gap = TopicStatus::Gap { reason: GapReason::Forgotten, missed: None };
            self.push(Frame::status(self.head.next(), topic.clone(), now, &gap));
            self.meters.statuses[gap.kind() as usize].increment(1);
        }
        self.forget(&expiry.forgotten, now);
        expiry
    }

    fn forget(&mut self, expired: &[Arc<Topic>], now: Stamp) {
        if expired.is_empty() {
            return;
        }
        let offset = self.head.next();
        self.forget_until(expired, offset);
        self.make_room(0);
        self.store(Arc::new(Frame::expired(offset, expired.to_vec(), now)));
    }

    /// The topics are known no longer; their numbers are free once the ring no longer holds this offset.
    fn forget_until(&mut self, expired: &[Arc<Topic>], offset: Offset) {
        for topic in expired {
            self.shared.latest.forget(&topic.name);
            self.free.push_back((offset, topic.id));
        }
        self.shared.forgotten.store(offset.0, Ordering::Release);
        self.living -= expired.len();
        self.meters.topics.set(self.living as f64);
        self.meters.expired.increment(expired.len() as u64);
    }

    fn push(&mut self, frame: Frame) -> Offset {
        let frame = Arc::new(frame);
        self.make_room(frame.held_bytes());
        self.shared.latest.remember(frame.clone());
        self.store(frame)
    }

    fn store(&mut self, frame: Arc<Frame>) -> Offset {
        let (offset, bytes) = (frame.offset, frame.held_bytes());
        self.shared.ring.push(frame);
        self.head = offset;
        self.ring_frames += 1;
        self.ring_bytes += bytes;
        self.ring_doorbells();
        self.meters.head_offset.set(offset.0 as f64);
        self.meters.ring_frames.set(self.ring_frames as f64);
        self.meters.ring_bytes.set(self.ring_bytes as f64);
        offset
    }

    /// The sign of life that the feed of this publisher is to leave at least once a second.
    pub fn pulse(&self) -> Pulse {
        self.shared.pulse.clone()
    }

    /// Sets whether what was published is current. Readers learn it after all frames published before.
    pub fn announce(&mut self, state: FeedState) {
        let state = Arc::new(state);
        // Where only the message differs, such as the number of the attempt, the version stays: clients receive no
        // further message.
        if self.shared.feed.set(state.clone(), |before, now| before.label() != now.label()) {
            self.show_state(&state);
        }
        self.ring_doorbells();
    }

    /// The log ends, because another one goes on in its place: readers are told by that one.
    pub fn give_way(mut self) {
        self.is_succeeded = true;
    }

    /// Topics that were new, ever: two calls that give the same have no new topic between them.
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Topics that are known.
    pub fn topics(&self) -> usize {
        self.living
    }

    /// Whether anything was published on the topic, be it a status.
    pub fn knows(&self, topic: &str) -> bool {
        self.shared.latest.topic(topic).is_some()
    }

    /// Whether the newest frame of the topic was received at this time or later, on the monotonic clock. False if the
    /// topic has no frame.
    pub fn came_since(&self, topic: &str, since_ns: u64) -> bool {
        let current = self.shared.latest.get(topic);
        current.is_some_and(|current| current.count > 0 && current.retained.newest().received.mono_ns >= since_ns)
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
        if self.living >= self.limits.topics_max {
            self.meters.refused_limit.increment(1);
            return Err(PublishError::TooManyTopics { topic: name.to_string(), max: self.limits.topics_max });
        }
        let tail = self.shared.ring.tail();
        let id = match self.free.pop_front_if(|(forgotten, _)| *forgotten < tail) {
            Some((_, id)) => id,
            None => {
                self.topics.push(None);
                self.newest.push(Offset::START);
                TopicId(self.topics.len() as u32 - 1)
            }
        };
        let topic = Arc::new(Topic { id, keep: self.history.of(name), name: name.into() });
        self.topics[id.index()] = Some(topic.clone());
        self.newest[id.index()] = Offset::START;
        self.living += 1;
        self.admitted += 1;
        self.meters.topics.set(self.living as f64);
        Ok(topic)
    }

    fn make_room(&mut self, bytes: usize) {
        while self.ring_frames > 0
            && (self.ring_frames >= self.shared.ring.capacity()
                || self.ring_bytes.saturating_add(bytes) > self.limits.ring_bytes_max)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.shared.ring.drop_oldest().expect("the writer alone empties slots");
        self.ring_frames -= 1;
        self.ring_bytes -= oldest.held_bytes();
    }

    fn ring_doorbells(&self) {
        for doorbell in self.shared.doorbells.load().iter() {
            doorbell.ring();
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
        let is_told = matches!(&*self.shared.feed.get(), FeedState::Stale { reason: StaleReason::UpstreamDown, .. });
        if !is_told && !self.is_succeeded {
            let message = "the server lost its feed and is ending; reconnect in a few seconds".to_string();
            let since_ms = Clock::start().now().wall_ms;
            self.announce(FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms, message });
        }
        self.shared.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bus;
    use crate::bus::frame::FrameKind;
    use crate::bus::reader::Reader;
    use crate::protocol::encoding::PayloadKind;
    use crate::words::ids::Epoch;

    const SILENT: Duration = Duration::from_secs(60);
    const RING_FRAMES: usize = 8;

    fn bus(topics_max: usize) -> (Publisher, Reader) {
        let limits = Limits { ring_frames_max: RING_FRAMES, ring_bytes_max: 1 << 20, topics_max };
        bus::open(Epoch(1), limits, &Meters::unread())
    }

    fn at(seconds: u64) -> Stamp {
        Stamp { wall_ms: seconds * 1000, mono_ns: seconds * 1_000_000_000 }
    }

    fn payload() -> Payload {
        Payload { bytes: bytes::Bytes::from_static(b"1"), kind: PayloadKind::Json }
    }

    fn publish(publisher: &mut Publisher, topic: &str, seconds: u64) -> Result<Offset, PublishError> {
        publisher.publish(topic, payload(), Retention::NEWEST, at(seconds))
    }

    fn names(topics: &[Arc<Topic>]) -> Vec<&str> {
        topics.iter().map(|topic| &*topic.name).collect()
    }

    #[test]
    fn a_topic_that_was_silent_is_forgotten_and_makes_room() {
        let (mut publisher, reader) = bus(2);
        publish(&mut publisher, "once", 1).expect("room");
        publish(&mut publisher, "often", 1).expect("room");
        let error = publish(&mut publisher, "more", 2).expect_err("no room").to_string();
        assert!(error.contains("topics.expire_after") && error.contains("limits.topics_max"), "{error}");
        assert_eq!(names(&publisher.expire(SILENT, at(100)).forgotten), [""; 0], "the ring holds its frame");
        for second in 2..100 {
            publish(&mut publisher, "often", second).expect("it is known");
            if second < 50 {
                publisher.publish_status("once", TopicStatus::Live, at(second)).expect("it is known");
            }
            if second < 20 {
                assert_eq!(
                    names(&publisher.expire(SILENT, at(second)).forgotten),
                    [""; 0],
                    "it was heard in the last minute"
                );
            }
        }
        (0..RING_FRAMES).for_each(|_| drop(publish(&mut publisher, "often", 100)));
        // A status is no sign of life.
        assert_eq!(names(&publisher.expire(SILENT, at(100)).forgotten), ["once"]);
        let told = reader.frame(reader.head()).hot().expect("the newest frame");
        assert!(matches!(&told.kind, FrameKind::Expired(topics) if names(topics) == ["once"]), "{told:?}");
        assert_eq!((reader.forgotten(), reader.knows("once"), reader.knows("often")), (told.offset, false, true));
        assert_eq!(publish(&mut publisher, "more", 101).expect("room"), told.offset.next(), "offsets are dense");
        assert_eq!(reader.latest("more").map(|current| current.count), Some(1));
    }

    #[test]
    fn names_that_come_once_do_not_make_tables_grow() {
        let (mut publisher, reader) = bus(100);
        let mut ids = BTreeSet::new();
        for n in 0..5000 {
            publish(&mut publisher, &format!("order.{n}"), n).expect("room for those of a minute");
            let newest = reader.frame(reader.head()).hot().expect("the newest frame");
            // No two topics in the ring have the same number.
            let told = (reader.tail().0..newest.offset.0).filter_map(|offset| reader.frame(Offset(offset)).hot());
            for frame in told {
                let others = match &frame.kind {
                    FrameKind::Expired(topics) => topics.iter().collect(),
                    _ => vec![&frame.topic],
                };
                assert!(others.iter().all(|other| other.id != newest.topic.id), "{n}");
            }
            ids.insert(newest.topic.id);
            publisher.expire(SILENT, at(n));
        }
        assert!(reader.topics() <= 100);
        assert!(ids.len() < 200 && publisher.topics.len() == ids.len(), "{} numbers for 5000 topics", ids.len());
    }

    #[test]
    fn a_topic_of_deltas_ends_with_a_gap_and_is_then_forgotten() {
        let (mut publisher, reader) = bus(10);
        let delta = Retention::Delta { whole: None };
        publisher.publish("book", payload(), Retention::Snapshot, at(1)).expect("room");
        publisher.publish("book", payload(), delta.clone(), at(1)).expect("room");
        publish(&mut publisher, "trade", 1).expect("room");
        (0..RING_FRAMES).for_each(|_| drop(publish(&mut publisher, "often", 100)));
        let expiry = publisher.expire(SILENT, at(100));
        assert_eq!((names(&expiry.ended), names(&expiry.forgotten)), (vec!["book"], vec!["trade"]));
        let last = |reader: &Reader| reader.latest("book").expect("it is known").retained.newest().clone();
        assert!(matches!(last(&reader).kind, FrameKind::Status(TopicStatusKind::Gap)), "{:?}", last(&reader));
        assert_eq!(last(&reader).offset.next(), reader.head(), "the gap comes first");
        let again = publisher.expire(SILENT, at(101));
        assert!(again.ended.is_empty() && again.forgotten.is_empty(), "the ring holds the gap: {again:?}");

        // It comes back meanwhile: what it is now must end again.
        publisher.publish("book", payload(), delta.clone(), at(110)).expect("room");
        (0..RING_FRAMES).for_each(|_| drop(publish(&mut publisher, "often", 200)));
        assert_eq!(names(&publisher.expire(SILENT, at(200)).ended), ["book"]);
        (0..RING_FRAMES).for_each(|_| drop(publish(&mut publisher, "often", 200)));
        assert_eq!(names(&publisher.expire(SILENT, at(200)).forgotten), ["book"]);
        assert!(!reader.knows("book"));
        publisher.publish("book", payload(), delta, at(201)).expect("room");
        let returned = reader.latest("book").expect("it is known");
        assert_eq!(returned.retained.kept_after(Offset::START).count(), 0, "clients that join cannot use the delta");
    }

    #[test]
    fn one_call_forgets_a_bounded_number() {
        let (mut publisher, reader) = bus(10_000);
        (0..5000).for_each(|n| drop(publish(&mut publisher, &format!("t{n}"), 1)));
        (0..RING_FRAMES).for_each(|_| drop(publish(&mut publisher, "often", 100)));
        let mut calls = 0;
        while reader.topics() > 1 {
            let before = reader.head();
            let expired = publisher.expire(SILENT, at(100)).forgotten.len();
            assert!(expired <= EXPIRY_TOPICS && reader.head().0 - before.0 <= 1, "{expired} in one frame at most");
            calls += 1;
            assert!(calls < 200);
        }
    }

    #[test]
    fn given_offsets_must_follow_each_other() {
        let (mut publisher, reader) = bus(10);
        let mut append =
            |offset, topic: &str| publisher.append(Offset(offset), topic, payload(), Retention::NEWEST, at(1));
        for offset in 1..=3 {
            assert_eq!(append(offset, "t").expect("the next one"), Offset(offset));
        }
        for found in [0, 3, 5, u64::MAX] {
            let error = append(found, "new").expect_err("a gap, or going back");
            assert!(
                matches!(error, PublishError::OutOfSequence { expected: Offset(4), found: other } if other.0 == found),
                "{error}"
            );
        }
        assert_eq!((reader.head(), reader.knows("new")), (Offset(3), false), "nothing has happened");
        assert_eq!(publish(&mut publisher, "t", 2).expect("the next one"), Offset(4));
    }

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
        assert_ne!(reader.feed_version(), version, "clients are notified");
    }

    #[test]
    fn what_was_wrong_with_the_feed_is_still_reported_after_its_end() {
        let (mut publisher, reader) = bus::open(Epoch(1), LIMITS, &Meters::unread());
        let refused =
            FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 7, message: "refused permanently".into() };
        publisher.announce(refused.clone());
        drop(publisher);
        assert_eq!(*reader.feed(), refused);
    }
}
