//! Two servers: one publishes, the other one is given what it retains, and goes on with it.

use std::collections::BTreeMap;

use feed_log::chain::Chain;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::bus::frame::FrameKind;
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::logged::{publish_logged, refill_logged};
use crate::bus::publisher::Publisher;
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::retention::Retention;
use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::bus::{self, Limits};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

const BYTES_MAX: usize = 1 << 24;
const RING: usize = 256;

fn bus() -> (Publisher, Reader) {
    let limits = Limits { ring_frames_max: RING, ring_bytes_max: 1 << 20, topics_max: 100 };
    bus::open(Epoch(1), limits, &Meters::unread())
}

fn place(offset: Offset) -> EntryPlace {
    EntryPlace { term: 1, node: 2, epoch: 1, first: offset.0 + 1, chain_before: Chain([7; Chain::BYTES]), sent_ms: 0 }
}

fn written(reader: &Reader) -> (Offset, Bytes) {
    let snapshot = reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
    assert!(!snapshot.overrun);
    let bytes = write_topics(&snapshot, place(snapshot.offset), BYTES_MAX, &mut |_| {}).expect("they are few");
    (snapshot.offset, bytes)
}

/// A frame, with all that the log has of it.
fn shown(frame: &Frame) -> String {
    let kind = match &frame.kind {
        // Clients receive nothing of it, and a server that joins does not know topics that have gone by then.
        FrameKind::Expired(_) => return format!("{} expired", frame.offset),
        FrameKind::Delta { whole } => format!("delta {:?}", whole.as_ref().map(|whole| &whole.payload)),
        other => format!("{other:?}"),
    };
    format!("{} {} {} {kind} {:?}", frame.offset, frame.topic.name, frame.received.wall_ms, frame.payload)
}

/// Publishes something of some topic.
fn publish(publisher: &mut Publisher, rng: &mut StdRng, now: Stamp) {
    let payload = || Payload { bytes: Bytes::from(now.wall_ms.to_string()), kind: PayloadKind::Json };
    let topic = format!("t.{}", rng.random_range(0..30));
    let retention = match rng.random_range(0..8) {
        0 => Retention::Transient,
        1 => Retention::Snapshot,
        2 | 3 => Retention::Delta { whole: None },
        4 => Retention::Delta { whole: Some(payload()) },
        5 => Retention::Value { keep: 3 },
        _ => Retention::NEWEST,
    };
    publisher.publish(&topic, payload(), retention, now).expect("room");
    let status = match rng.random_range(0..12) {
        0 => TopicStatus::Gap { reason: GapReason::Sequence, missed: Some(1) },
        1 => TopicStatus::Stale { since_ms: 1, message: "quiet".into() },
        2 => TopicStatus::Live,
        3 => TopicStatus::Refused { message: "no".into() },
        _ => return,
    };
    publisher.publish_status(&topic, status, now).expect("room");
}

/// All that is retained, by topic, and what is known besides.
fn retained(reader: &Reader) -> BTreeMap<String, (Vec<String>, String)> {
    let mut retained = BTreeMap::new();
    reader.each_latest(|current| {
        let newest = current.retained.newest();
        let kept = current.retained.kept_after(Offset::START).map(|frame| shown(frame)).collect();
        let transient = current.retained.news_after(Offset::START).map(|frame| frame.offset).max();
        let (events, gap) = (current.retained.is_of_events(), current.retained.holds_gap());
        let (count, builds_up) = (current.count, current.builds_up());
        let known = format!("{} {transient:?} {events} {gap} {count} {builds_up}", newest.offset);
        retained.insert(newest.topic.name.to_string(), (kept, known));
    });
    retained
}

fn ring(reader: &Reader, from: Offset) -> Vec<String> {
    let frame = |offset| match reader.frame(Offset(offset)) {
        FrameLookup::Hot(frame) => shown(&frame),
        FrameLookup::Gone => format!("{offset} gone"),
    };
    (from.0..=reader.head().0).map(frame).collect()
}

/// Brings frames of one bus into another, as the log does.
fn follow(reader: &Reader, (other, is_refilled): (&mut Publisher, bool), until: Offset) {
    while other.head() < until {
        let offset = other.head().next();
        let FrameLookup::Hot(frame) = reader.frame(offset) else { panic!("{offset} is in the ring") };
        let given = frame_of(item_of(&frame)).expect("numbered");
        let now = Stamp { wall_ms: frame.received.wall_ms, mono_ns: 1 };
        match is_refilled {
            true => refill_logged(other, offset, &given, now),
            false => publish_logged(other, offset, &given, now),
        }
    }
}

#[test]
fn what_is_retained_is_the_same_at_another_server_and_goes_on_the_same() {
    let mut compared = 0;
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut publisher, reader) = bus();
        let mut now = Stamp { wall_ms: 1, mono_ns: 1 };
        let mut some = |publisher: &mut Publisher, most: usize| {
            for _ in 0..rng.random_range(0..most) {
                now = Stamp { wall_ms: now.wall_ms + 1, mono_ns: now.mono_ns + 1_000_000 };
                publish(publisher, &mut rng, now);
                if rng.random_bool(0.05) {
                    publisher.expire(std::time::Duration::from_millis(100), now);
                }
            }
        };
        some(&mut publisher, 600);
        // The entry of the snapshot is older than what it holds.
        let entry = reader.head();
        some(&mut publisher, 60);
        let (offset, bytes) = written(&reader);
        some(&mut publisher, 60);
        let topics = read_topics(bytes, place(offset), BYTES_MAX).expect("what was written");
        let (mut joining, joined) = bus();
        // The log is read from some place on.
        let tail = reader.tail();
        if entry < tail {
            continue;
        }
        if tail > Offset(1) {
            joining.leap(Vec::new(), Offset(tail.0 - 1));
        }
        follow(&reader, (&mut joining, true), entry);
        joining.restore(topics, now);
        follow(&reader, (&mut joining, true), offset);
        follow(&reader, (&mut joining, false), reader.head());
        assert_eq!(retained(&joined), retained(&reader), "seed {seed}");
        assert_eq!(ring(&joined, tail), ring(&reader, tail), "seed {seed}");
        assert_eq!(joining.topics(), publisher.topics(), "seed {seed}");
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn after_a_leap_there_is_what_is_retained_elsewhere_and_nothing_else() {
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut publisher, reader) = bus();
        let now = Stamp { wall_ms: 1, mono_ns: 1 };
        (0..100).for_each(|_| publish(&mut publisher, &mut rng, now));
        let (mut away, behind) = bus();
        follow(&reader, (&mut away, false), Offset(50));
        publisher.expire(std::time::Duration::ZERO, now);
        (0..300).for_each(|_| publish(&mut publisher, &mut rng, now));
        let (offset, bytes) = written(&reader);
        away.leap_to(read_topics(bytes, place(offset), BYTES_MAX).expect("what was written"), offset, now);
        assert_eq!((behind.head(), behind.tail()), (offset, offset.next()));
        assert_eq!(retained(&behind), retained(&reader), "seed {seed}");
        (0..20).for_each(|_| publish(&mut publisher, &mut rng, now));
        follow(&reader, (&mut away, false), reader.head());
        assert_eq!(retained(&behind), retained(&reader), "seed {seed}");
    }
}

#[test]
fn what_is_damaged_or_of_another_place_is_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut publisher, reader) = bus();
    let now = Stamp { wall_ms: 1, mono_ns: 1 };
    (0..500).for_each(|_| publish(&mut publisher, &mut rng, now));
    let (offset, bytes) = written(&reader);
    assert!(read_topics(bytes.clone(), place(offset.next()), BYTES_MAX).is_err(), "of another offset");
    let other = EntryPlace { chain_before: Chain::START, ..place(offset) };
    assert!(read_topics(bytes.clone(), other, BYTES_MAX).is_err(), "of another log");
    assert!(matches!(read_topics(bytes.clone(), place(offset), 1000), Err(RetainedError::TooLarge { .. })));
    let snapshot = reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
    let error = write_topics(&snapshot, place(offset), 1000, &mut |_| {}).expect_err("too large");
    assert_eq!(error.to_string(), "expected at most 1000 bytes of what is retained of all topics, found more");
    for length in (0..bytes.len()).step_by(37) {
        assert!(read_topics(bytes.slice(..length), place(offset), BYTES_MAX).is_err(), "cut at {length}");
    }
    for _ in 0..2000 {
        let mut broken = bytes.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..broken.len());
            broken[at] ^= 1 << rng.random_range(0..8);
        }
        // Only what is known of topics besides has no hash of its own.
        if let Ok(topics) = read_topics(broken.into(), place(offset), BYTES_MAX) {
            let (mut joining, _reader) = bus();
            joining.leap_to(topics, offset, now);
        }
    }
}

#[test]
fn frames_that_nothing_retains_so_are_left_out() {
    let (mut publisher, reader) = bus();
    let now = Stamp { wall_ms: 1, mono_ns: 1 };
    let payload = Payload { bytes: Bytes::from_static(b"1"), kind: PayloadKind::Json };
    for retention in [Retention::Transient, Retention::Snapshot, Retention::Delta { whole: None }, Retention::NEWEST] {
        publisher.publish("t", payload.clone(), retention, now).expect("room");
    }
    let all: Vec<(Offset, ArchivedFrame)> = (1..=4)
        .map(|offset| {
            let FrameLookup::Hot(frame) = reader.frame(Offset(offset)) else { panic!("it is there") };
            (Offset(offset), frame_of(item_of(&frame)).expect("numbered"))
        })
        .collect();
    let (mut joining, joined) = bus();
    let topic = |kept| RetainedTopic { kept, ..RetainedTopic::new("t") };
    joining.restore(vec![topic(all), topic(Vec::new())], now);
    assert_eq!((joining.topics(), joined.topics()), (0, 0));
    joining.leap(Vec::new(), Offset(4));
    joining.publish("t", payload, Retention::NEWEST, now).expect("room");
    assert_eq!(joined.topics(), 1);
}
