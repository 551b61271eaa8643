//! Lives of a server, one after the other, each ended somewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bus::archive::open::{ArchiveTerms, OpenArchive, RestoredArchive};
use crate::bus::frame::{Frame, FrameKind};
use crate::bus::publisher::Publisher;
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::bus::{self, Limits};
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::{Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

const RING_FRAMES: usize = 256;
/// More than the reservation is ahead.
const NEW_OFFSETS: u64 = 64;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("fanline-archive-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Life {
    publisher: Publisher,
    reader: Reader,
    archive: RestoredArchive,
    now: Stamp,
}

impl Life {
    fn begin(folder: &Folder, start_ms: u64) -> Life {
        let terms = ArchiveTerms {
            directory: folder.0.clone(),
            age_max: Duration::from_secs(3600),
            bytes_max: 1 << 20,
            sync_interval: Duration::ZERO,
            ring_frames: RING_FRAMES,
        };
        let archive = OpenArchive::open(terms).expect("a good directory");
        let limits = Limits { ring_frames_max: RING_FRAMES, ring_bytes_max: 1 << 20, topics_max: 100 };
        let (mut publisher, reader) = bus::open(archive.epoch(), limits, &Meters::unread());
        let now = Stamp { wall_ms: start_ms, mono_ns: 0 };
        let archive = archive.restore((&mut publisher, reader.clone()), now, &Meters::unread()).expect("a good disk");
        Life { publisher, reader, archive, now }
    }

    fn publish(&mut self, rng: &mut StdRng) {
        self.now = Stamp { wall_ms: self.now.wall_ms + 1, mono_ns: self.now.mono_ns + 1_000_000 };
        let number = rng.random::<u32>().to_string();
        let payload = Payload { bytes: Bytes::from(number), kind: PayloadKind::Json };
        let (topic, retention) = match rng.random_range(0..6) {
            0 => ("trade", Retention::Transient),
            1 => ("book", Retention::Snapshot),
            2 => ("book", Retention::Delta { whole: None }),
            3 => ("whole", Retention::Delta { whole: Some(payload.clone()) }),
            4 => ("chat", Retention::Value { keep: 3 }),
            _ => ("ticker", Retention::NEWEST),
        };
        self.publisher.publish(topic, payload, retention, self.now).expect("room");
        if rng.random_range(0..20) == 0 {
            let stale = TopicStatus::Stale { since_ms: 1, message: "quiet".into() };
            self.publisher.publish_status("ticker", stale, self.now).expect("room");
        }
        if rng.random_range(0..60) == 0 {
            self.publisher.expire(Duration::from_millis(300), self.now);
        }
    }

    fn turn(&mut self) {
        while self.archive.recorder.turn(self.now) {}
    }

    /// All that the ring holds, as clients see it.
    fn ring(&self) -> BTreeMap<Offset, String> {
        let (tail, head) = (self.reader.tail().0, self.reader.head().0);
        let frames = (tail..=head).filter_map(|offset| match self.reader.frame(Offset(offset)) {
            FrameLookup::Hot(frame) => Some((frame.offset, shown(&frame))),
            FrameLookup::Gone => None,
        });
        frames.collect()
    }

    /// All that is retained, by topic.
    fn retained(&self) -> BTreeMap<String, Vec<String>> {
        let mut retained = BTreeMap::new();
        self.reader.each_latest(|current| {
            let name = current.retained.newest().topic.name.to_string();
            retained.insert(name, current.retained.kept_after(Offset::START).map(|frame| shown(frame)).collect());
        });
        retained
    }
}

fn shown(frame: &Frame) -> String {
    let kind = match &frame.kind {
        FrameKind::Expired(topics) => return format!("{} expired {}", frame.offset, topics.len()),
        FrameKind::Delta { whole } => format!("delta {:?}", whole.as_ref().map(|whole| &whole.payload)),
        other => format!("{other:?}"),
    };
    format!("{} {} {} {kind} {:?}", frame.offset, frame.topic.name, frame.received.wall_ms, frame.payload)
}

/// Without what a start itself tells of the topics.
fn until(head: Offset, mut retained: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let offset = |line: &String| line.split(' ').next().and_then(|digits| digits.parse().ok()).map_or(head, Offset);
    retained.values_mut().for_each(|lines| lines.retain(|line| offset(line) <= head));
    retained
}

#[test]
fn after_a_kill_every_offset_has_one_content_and_the_values_are_as_they_were() {
    let mut holes = 0;
    for seed in 0..12 {
        let folder = Folder::new(&format!("kill-{seed}"));
        let mut rng = StdRng::seed_from_u64(seed);
        let mut ever: BTreeMap<Offset, String> = BTreeMap::new();
        let mut epoch: Option<Epoch> = None;
        for life in 0..6 {
            let mut life_now = Life::begin(&folder, 1_000_000 * (life + 1));
            assert_eq!(*epoch.get_or_insert(life_now.reader.epoch()), life_now.reader.epoch(), "seed {seed}");
            let begun = life_now.reader.head();
            let known = ever.last_key_value().map_or(Offset::START, |(offset, _)| *offset);
            assert!(begun >= known, "seed {seed}, life {life}: {begun} is before {known}");
            for (offset, line) in life_now.ring() {
                if let Some(expected) = ever.get(&offset) {
                    assert!(*expected == line || line.ends_with("expired 0"), "seed {seed}: {line}, not {expected}");
                }
            }
            for _ in 0..rng.random_range(1..400) {
                life_now.publish(&mut rng);
                // The ring is larger than what is published between two turns, and so is the reservation.
                if rng.random_range(0..4) == 0 || life_now.reader.head().0.is_multiple_of(12) {
                    life_now.turn();
                }
                for (offset, line) in life_now.ring().into_iter().rev().take(3) {
                    assert_eq!(ever.entry(offset).or_insert(line.clone()), &line, "seed {seed}, life {life}");
                }
            }
            let is_written = rng.random();
            if is_written {
                life_now.turn();
            }
            let (ring, retained, head) = (life_now.ring(), life_now.retained(), life_now.reader.head());
            drop(life_now);
            let next = Life::begin(&folder, 1_000_000 * (life + 2));
            holes += next.reader.head().0 - head.0;
            if is_written {
                assert_eq!(until(head, next.retained()), retained, "seed {seed}, life {life}");
                let tail = next.reader.tail();
                let again = next.ring();
                for (offset, line) in ring.range(tail..) {
                    assert_eq!(again.get(offset), Some(line), "seed {seed}, life {life}");
                }
            }
            ever.extend(next.ring());
        }
    }
    assert!(holes > NEW_OFFSETS, "{holes}");
}

#[test]
fn after_an_orderly_end_offsets_go_on_without_a_hole() {
    let folder = Folder::new("close");
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = Life::begin(&folder, 1_000_000);
    (0..100).for_each(|_| life.publish(&mut rng));
    let (ring, retained, head, epoch) = (life.ring(), life.retained(), life.reader.head(), life.reader.epoch());
    let Life { publisher, archive, reader, now } = life;
    drop(publisher);
    let RestoredArchive { mut recorder, sync } = archive;
    drop(sync);
    while recorder.turn(now) {}
    assert!(recorder.is_done());
    recorder.close(true).expect("a good disk");
    drop(reader);
    let next = Life::begin(&folder, 2_000_000);
    assert_eq!(next.reader.epoch(), epoch);
    assert_eq!(next.reader.head().0, head.0 + retained.len() as u64, "a gap of each topic");
    assert_eq!(until(head, next.retained()), retained);
    assert_eq!(next.ring().into_iter().filter(|(offset, _)| *offset <= head).collect::<BTreeMap<_, _>>(), ring);
    assert_eq!(next.reader.feed().label(), "down");
}

#[test]
fn without_a_reservation_that_counts_another_epoch_begins_with_the_same_values() {
    let folder = Folder::new("epoch");
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = Life::begin(&folder, 1_000_000);
    (0..100).for_each(|_| life.publish(&mut rng));
    life.turn();
    let (retained, head, epoch) = (life.retained(), life.reader.head(), life.reader.epoch());
    drop(life);
    std::fs::remove_file(folder.0.join("reserved")).expect("it was there");
    let next = Life::begin(&folder, 2_000_000);
    assert_ne!(next.reader.epoch(), epoch);
    assert_eq!(until(head, next.retained()), retained);
}

#[test]
fn what_the_ring_has_overwritten_is_missing_and_the_newest_values_are_right() {
    let folder = Folder::new("overrun");
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = Life::begin(&folder, 1_000_000);
    (0..50).for_each(|_| life.publish(&mut rng));
    life.turn();
    let before = life.reader.head();
    (0..RING_FRAMES * 3).for_each(|_| life.publish(&mut rng));
    life.turn();
    let retained = life.retained();
    (0..5).for_each(|_| life.publish(&mut rng));
    let head = life.reader.head();
    life.turn();
    drop(life);
    let next = Life::begin(&folder, 2_000_000);
    assert!(next.reader.tail() > before.next(), "clients that resume from before it are told");
    assert!(next.reader.head() >= head);
    assert_eq!(next.retained().keys().collect::<Vec<_>>(), retained.keys().collect::<Vec<_>>());
}

#[test]
fn a_second_server_is_refused_the_directory() {
    let folder = Folder::new("lock");
    let _life = Life::begin(&folder, 1_000_000);
    let terms = ArchiveTerms {
        directory: folder.0.clone(),
        age_max: Duration::from_secs(1),
        bytes_max: 1 << 20,
        sync_interval: Duration::ZERO,
        ring_frames: RING_FRAMES,
    };
    let error = OpenArchive::open(terms).map(|_| ()).expect_err("it is in use").to_string();
    assert!(error.contains("archive.dir") && error.contains("found another"), "{error}");
}
