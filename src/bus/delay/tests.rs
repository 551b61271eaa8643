mod spool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::access::rights::{GrantedPattern, ViewDelay};
use crate::bus::delay::line::{DelayLine, LineParts, OpenLine};
use crate::bus::delay::spool::worker::{SpoolTerms, SpoolWorker};
use crate::bus::feed_state::FeedState;
use crate::bus::frame::{Frame, FrameKind};
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::bus::retention::Retention;
use crate::bus::topic_status::{TopicStatus, TopicStatusKind};
use crate::bus::{self, Limits};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::{Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

const DELAY: Duration = Duration::from_secs(10);
const MS: u64 = 1_000_000;

/// A live log, a view of it, and a clock that the test moves.
struct Scene {
    publisher: Publisher,
    live: Reader,
    line: DelayLine,
    view: Reader,
    /// They work when the test says so.
    workers: Vec<SpoolWorker>,
    /// Frames that come out before the test looks.
    published_max: usize,
    now: Stamp,
    /// When each live offset was received, on the monotonic clock.
    received: Vec<u64>,
    /// All frames that have come out, and when.
    out: Vec<(Arc<Frame>, u64)>,
    /// Where the view has leapt.
    leaps: Vec<Leap>,
    taken: Offset,
}

/// Offsets that a reader of the view skips, and what it finds retained of them.
struct Leap {
    after: Offset,
    until: Offset,
    retained: Vec<Arc<Frame>>,
}

impl Scene {
    fn open(delay: ViewDelay, ring_frames_max: usize, bytes_max: usize) -> Scene {
        Scene::open_with(delay, ring_frames_max, bytes_max, (None, &Meters::unread()))
    }

    fn open_with(
        delay: ViewDelay,
        ring_frames_max: usize,
        bytes_max: usize,
        (spool, meters): (Option<SpoolTerms>, &Meters),
    ) -> Scene {
        let limits = Limits { ring_frames_max, ring_bytes_max: 1 << 20, topics_max: 100 };
        let (publisher, live) = bus::open(Epoch(1), limits, &Meters::unread());
        let now = Stamp { wall_ms: 5_000_000, mono_ns: MS };
        let limits = Limits { ring_frames_max: 1 << 16, ring_bytes_max: 1 << 30, topics_max: 100 };
        let parts = LineParts {
            view: 1,
            delay,
            live: live.clone(),
            epoch: Epoch(2),
            limits,
            history: History::default(),
            bytes_max,
            spool,
        };
        // What is retained at a leap is seen before the next frame.
        let published_max = if parts.spool.is_some() { 1 } else { 4096 };
        let OpenLine { line, reader: view, workers } = DelayLine::open(parts, meters, now);
        let (received, out, leaps) = (vec![0], Vec::new(), Vec::new());
        Scene { publisher, live, line, view, workers, published_max, now, received, out, leaps, taken: Offset::START }
    }

    fn publish(&mut self, topic: &str, retention: Retention) -> Offset {
        let text = format!("{}", self.live.head().0 + 1);
        self.publish_text(topic, text, retention)
    }

    fn publish_text(&mut self, topic: &str, text: String, retention: Retention) -> Offset {
        let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
        let offset = self.publisher.publish(topic, payload, retention, self.now).expect("a good topic");
        self.received.push(self.now.mono_ns);
        offset
    }

    fn status(&mut self, topic: &str, status: TopicStatus) {
        self.publisher.publish_status(topic, status, self.now).expect("a good topic");
        self.received.push(self.now.mono_ns);
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ns += ms * MS;
        self.now.wall_ms += ms;
    }

    /// One turn of the line; what has come out is noted.
    fn turn(&mut self) -> Option<Duration> {
        loop {
            let idle = self.line.step(self.now, self.published_max);
            self.take_out();
            if idle != Some(Duration::ZERO) {
                return idle;
            }
        }
    }

    fn take_out(&mut self) {
        while self.taken < self.view.head() {
            match self.view.frame(self.taken.next()).hot() {
                Some(frame) => {
                    self.taken = frame.offset;
                    self.out.push((frame, self.now.mono_ns));
                }
                None => {
                    let (after, until) = (self.taken, Offset(self.view.tail().0 - 1));
                    let mut retained = Vec::new();
                    self.view.each_latest(|current| retained.extend(current.retained.kept_after(after).cloned()));
                    retained.sort_by_key(|frame| frame.offset);
                    self.leaps.push(Leap { after, until, retained });
                    self.taken = until;
                }
            }
        }
    }

    /// Nothing of the view, in the ring or retained, is younger than the delay; returns the payloads that are retained.
    fn check_retained(&self) -> BTreeMap<String, String> {
        let mut retained = BTreeMap::new();
        self.view.each_latest(|current| {
            let newest = current.retained.newest();
            for frame in current.retained.kept_after(Offset::START) {
                self.check_age(frame);
            }
            if !newest.is_status() {
                retained.insert(newest.topic.name.to_string(), text(newest));
            }
        });
        retained
    }

    fn check_age(&self, frame: &Frame) {
        let Ok(offset) = text(frame).split(' ').next().unwrap_or_default().parse::<usize>() else { return };
        let age = self.now.mono_ns - self.received[offset];
        assert!(age >= DELAY.as_nanos() as u64, "{frame:?} came out {age} ns after its receipt");
    }
}

fn uniform() -> ViewDelay {
    ViewDelay::Uniform(DELAY)
}

fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.payload.bytes).into_owned()
}

fn granted(pattern: &str, delay: Duration) -> GrantedPattern {
    GrantedPattern { pattern: Pattern::parse(pattern).expect(pattern), delay }
}

fn retention(rng: &mut StdRng) -> Retention {
    match rng.random_range(0..6) {
        0 | 1 => Retention::NEWEST,
        2 => Retention::Value { keep: 3 },
        3 => Retention::Snapshot,
        4 => Retention::Delta { whole: None },
        _ => Retention::Transient,
    }
}

#[test]
fn every_frame_comes_out_once_in_order_and_never_early_whatever_the_clocks_do() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut scene = Scene::open(uniform(), 1 << 12, 1 << 30);
        for _ in 0..200 {
            for _ in 0..rng.random_range(0..6) {
                let topic = format!("t.{}", rng.random_range(0..5));
                if rng.random_bool(0.1) {
                    scene.status(&topic, TopicStatus::Live);
                } else {
                    let retention = retention(&mut rng);
                    scene.publish(&topic, retention);
                }
            }
            scene.pass(rng.random_range(0..400));
            // The wall clock is set back and forth.
            scene.now.wall_ms = scene.now.wall_ms.saturating_add_signed(rng.random_range(-3_600_000..3_600_000));
            if rng.random_bool(0.7) {
                scene.turn();
            }
            scene.check_retained();
        }
        scene.pass(DELAY.as_millis() as u64);
        scene.turn();
        assert_eq!(scene.view.epoch(), scene.live.epoch(), "seed {seed}");
        assert_eq!(scene.out.len() as u64, scene.live.head().0, "seed {seed}: nothing is lost");
        for (number, (frame, at_ns)) in (1..).zip(&scene.out) {
            let original = scene.live.frame(Offset(number)).hot().expect("the ring holds all");
            assert_eq!(
                (frame.offset, &frame.topic.name, text(frame)),
                (original.offset, &original.topic.name, text(&original))
            );
            assert_eq!((frame.received.wall_ms, frame.before()), (original.received.wall_ms, original.before()));
            let age_ns = at_ns - original.received.mono_ns;
            assert!(age_ns >= DELAY.as_nanos() as u64, "seed {seed}: {number} after {age_ns} ns");
        }
        let kept = |reader: &Reader| {
            let mut kept = BTreeMap::new();
            reader.each_latest(|current| {
                let offsets: Vec<u64> =
                    current.retained.kept_after(Offset::START).map(|frame| frame.offset.0).collect();
                kept.insert(current.retained.newest().topic.name.to_string(), (current.count, offsets));
            });
            kept
        };
        assert_eq!(kept(&scene.view), kept(&scene.live), "seed {seed}");
    }
}

#[test]
fn a_view_that_is_full_conflates_by_topic_and_never_releases_early() {
    let mut conflated = 0;
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let bytes_max = rng.random_range(4_000..40_000);
        let mut scene = Scene::open(uniform(), 1 << 14, bytes_max);
        for _ in 0..600 {
            for _ in 0..rng.random_range(0..8) {
                let topic = format!("t.{}", rng.random_range(0..5));
                let retention = if topic == "t.4" { retention(&mut rng) } else { Retention::NEWEST };
                scene.publish(&topic, retention);
            }
            scene.pass(rng.random_range(0..200));
            scene.turn();
            scene.check_retained();
            let slack = 5 * 4 * 400;
            assert!(scene.line.held_bytes() <= bytes_max + slack, "seed {seed}: {} bytes", scene.line.held_bytes());
        }
        let expected: BTreeMap<String, String> = {
            let mut values = BTreeMap::new();
            scene.live.each_latest(|current| {
                let newest = current.retained.newest();
                if &*newest.topic.name != "t.4" {
                    values.insert(newest.topic.name.to_string(), text(newest));
                }
            });
            values
        };
        // An open slice waits until its end is old enough.
        for _ in 0..3 {
            scene.pass(DELAY.as_millis() as u64);
            scene.turn();
        }
        let mut retained = scene.check_retained();
        retained.remove("t.4");
        assert_eq!(retained, expected, "seed {seed}: the newest values arrive in the end");
        assert_eq!(scene.view.head(), scene.live.head(), "seed {seed}");
        conflated += scene.live.head().0 - scene.out.len() as u64;
    }
    assert!(conflated > 1000, "{conflated}");
}

#[test]
fn deltas_that_were_dropped_leave_a_gap_before_those_that_follow() {
    let mut scene = Scene::open(uniform(), 1 << 10, 1_000);
    scene.publish("book", Retention::Snapshot);
    for _ in 0..40 {
        scene.publish("book", Retention::Delta { whole: None });
        scene.pass(10);
        scene.turn();
    }
    scene.pass(2 * DELAY.as_millis() as u64);
    scene.turn();
    scene.publish("book", Retention::Delta { whole: None });
    scene.pass(DELAY.as_millis() as u64);
    scene.turn();
    let current = scene.view.latest("book").expect("it is known");
    let kinds: Vec<bool> = current
        .retained
        .kept_after(Offset::START)
        .map(|frame| matches!(frame.kind, FrameKind::Status(TopicStatusKind::Gap)))
        .collect();
    let gap = kinds.iter().rposition(|is_gap| *is_gap).expect("a gap is kept");
    assert_eq!(gap, kinds.len() - 2, "one delta is behind it: {kinds:?}");
    let told = current.retained.kept_after(Offset::START).nth(gap).map(|frame| text(frame));
    assert!(told.is_some_and(|told| told.contains(r#""reason":"conflated""#)));
}

#[test]
fn a_line_that_the_live_ring_overruns_continues_with_what_is_kept_there() {
    let mut scene = Scene::open(uniform(), 8, 1 << 20);
    scene.publish("old", Retention::NEWEST);
    scene.turn();
    for _ in 0..30 {
        scene.publish("a", Retention::NEWEST);
        scene.publish("b", Retention::NEWEST);
    }
    scene.pass(DELAY.as_millis() as u64);
    // Only now it sees them: they count from here on.
    scene.turn();
    assert_eq!(scene.check_retained().keys().collect::<Vec<_>>(), ["old"]);
    scene.publish("c", Retention::NEWEST);
    scene.pass(DELAY.as_millis() as u64);
    scene.turn();
    let retained = scene.check_retained();
    let expected = [("a", "60"), ("b", "61"), ("c", "62"), ("old", "1")];
    let expected: BTreeMap<String, String> = expected.map(|(topic, value)| (topic.into(), value.into())).into();
    assert_eq!((retained, scene.view.head()), (expected, Offset(62)));
    assert_eq!(scene.out.len(), 2, "`old` and `c` in the stream, the others by starting over");
}

#[test]
fn a_topic_that_is_forgotten_is_forgotten_in_the_view_later_also_if_it_was_not_seen() {
    let silent = Duration::from_secs(1);
    for seen in [true, false] {
        let mut scene = Scene::open(uniform(), 8, 1 << 20);
        scene.publish("once", Retention::NEWEST);
        scene.turn();
        scene.pass(2000);
        for _ in 0..8 {
            scene.publish("often", Retention::NEWEST);
        }
        if seen {
            scene.turn();
        }
        assert_eq!(scene.publisher.expire(silent, scene.now).forgotten.len(), 1);
        scene.received.push(scene.now.mono_ns);
        if !seen {
            for _ in 0..20 {
                scene.publish("often", Retention::NEWEST);
            }
        }
        scene.turn();
        scene.pass(DELAY.as_millis() as u64 - 1000);
        scene.turn();
        assert!(scene.view.knows("once") && !scene.live.knows("once"));
        scene.pass(2 * DELAY.as_millis() as u64);
        scene.turn();
        assert!(!scene.view.knows("once") && scene.view.knows("often"), "seen: {seen}");
        scene.publish("again", Retention::NEWEST);
        scene.pass(DELAY.as_millis() as u64);
        scene.turn();
        assert_eq!((scene.view.topics(), scene.view.head()), (2, scene.live.head()));
    }
}

#[test]
fn a_view_of_several_delays_has_offsets_of_its_own_and_each_topic_at_its_time() {
    let long = 2 * DELAY;
    let rules = [granted("open.>", Duration::ZERO), granted("slow.>", long), granted("a.*", DELAY)];
    let delay = ViewDelay::ByTopic(rules.into());
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut scene = Scene::open(delay.clone(), 1 << 12, 1 << 20);
        let mut expected = 0;
        for _ in 0..200 {
            let topic = ["open.x", "slow.x", "slow.y", "a.x", "hidden.x"][rng.random_range(0..5)];
            if rng.random_bool(0.2) {
                scene.status(topic, TopicStatus::Live);
            } else {
                scene.publish(topic, Retention::NEWEST);
            }
            expected += usize::from(topic != "hidden.x");
            scene.pass(rng.random_range(0..300));
            scene.turn();
            assert!(!scene.view.knows("hidden.x"));
        }
        while scene.turn().is_some() {
            scene.pass(500);
        }
        assert_eq!((scene.out.len(), scene.view.epoch()), (expected, Epoch(2)), "seed {seed}");
        for (offset, (frame, at_ns)) in (1..).zip(&scene.out) {
            assert_eq!(frame.offset, Offset(offset), "dense");
            if frame.is_status() {
                assert!(text(frame).contains(&format!(r#""offset":{offset}"#)), "{}", text(frame));
                continue;
            }
            let original: usize = text(frame).parse().expect("the live offset");
            let least = delay.of_topic(&frame.topic.name).expect("it is in the view");
            let age = Duration::from_nanos(at_ns - scene.received[original]);
            assert!(age >= least && age < least + Duration::from_secs(1), "{}: {age:?}", frame.topic.name);
        }
    }
}

#[test]
fn a_view_warms_up_and_then_has_the_state_of_the_feed_as_late_as_everything() {
    let mut scene = Scene::open(uniform(), 64, 1 << 20);
    assert!(matches!(&*scene.view.feed(), FeedState::Stale { reason, .. } if reason.label() == "delay_warming"));
    scene.publish("a", Retention::NEWEST);
    scene.publisher.announce(FeedState::Live);
    scene.turn();
    scene.pass(DELAY.as_millis() as u64 - 1);
    assert_eq!(scene.turn(), Some(Duration::from_millis(1)));
    assert_eq!((scene.view.feed().label(), scene.view.head()), ("warming", Offset::START));
    scene.pass(1);
    scene.turn();
    assert_eq!((scene.view.feed().label(), scene.view.head()), ("live", Offset(1)));
    drop(scene.publisher);
    scene.line.turn(scene.now);
    assert_eq!(scene.view.feed().label(), "live", "what went wrong now is the view's matter later");
    scene.now.mono_ns += DELAY.as_nanos() as u64;
    assert_eq!(scene.line.turn(scene.now), None);
    assert_eq!(scene.view.feed().label(), "down");
}
