//! A reader and its parents, driven by one seed. The writer is one server, which ends and begins its log anew; parents
//! have as much of it as has come to them; the reader loses entries, replies and parents. What it shows is dense and
//! the same for ever, or it is told that something is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::item::{FrameRole, LoggedFrame, LoggedItem, LoggedPayload, PayloadForm};
use feed_log::entry::term::TermReason;
use feed_log::entry::{EntryBody, LogEntry, LoggedText, PartCount};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::follower::snapshot::SnapshotPlace;
use crate::follower::{FollowerBounds, NodeRole};
use crate::ingester::IngesterSettings;
use crate::ingester::builder::EntryBuilder;
use crate::log::{CallId, LogBounds, LogReply, LogRequest, LogSequence, StoredBytes};
use crate::node::{Node, NodeEvent, NodeSettings};
use crate::position::LogPosition;
use crate::turn::{JumpReason, NodeCommand, NodeReadiness};

const STEP: Duration = Duration::from_millis(10);
const STEPS: usize = 3000;
/// Steps without a fault at the end.
const QUIET_STEPS: usize = 1000;
const PARENTS: usize = 3;
/// Frames that the writer has again after a start.
const RING: u64 = 200;
const FIRST_SEQUENCE: LogSequence = LogSequence(1 << 20);

struct LoneWriter {
    builder: EntryBuilder,
    position: LogPosition,
    /// Of this start.
    log: Vec<StoredBytes>,
    starts: u64,
}

impl LoneWriter {
    fn new() -> LoneWriter {
        let settings = IngesterSettings::unnamed(9, 1024);
        let position = LogPosition { epoch: 7, node: 9, ..LogPosition::EMPTY };
        let mut writer = LoneWriter { builder: EntryBuilder::new(settings), position, log: Vec::new(), starts: 0 };
        writer.start();
        writer
    }

    /// With what it has kept, in the same epoch.
    fn start(&mut self) {
        self.starts += 1;
        let head = self.position.next_offset - 1;
        let next_offset = (head + 1).saturating_sub(RING).max(1);
        let before = LogPosition { sequence: FIRST_SEQUENCE, next_offset, chain: Chain::START, ..self.position };
        self.log.clear();
        self.position = before;
        let term = self.builder.term(self.position.term + 1, TermReason::Restart, false, &before, 0);
        self.push(term.entry, term.bytes);
        self.write(head + 1 - next_offset);
    }

    /// So many further frames, each with its offset.
    fn write(&mut self, frames: u64) {
        let first = self.position.next_offset;
        let frame = |offset: u64| {
            let payload =
                LoggedPayload { kind: PayloadForm::Binary, bytes: Bytes::from(offset.to_le_bytes().to_vec()) };
            let (topic, role) = (LoggedText::from("a"), FrameRole::Value { keep: 1 });
            LoggedItem::Frame(LoggedFrame { topic, role, received_ms: 0, venue_number: None, payload, whole: None })
        };
        for chunk in (first..first + frames).collect::<Vec<u64>>().chunks(50) {
            self.append(chunk.iter().map(|offset| frame(*offset)).collect());
        }
        if frames == 0 {
            self.append(Vec::new());
        }
    }

    fn append(&mut self, items: Vec<LoggedItem>) {
        let body = EntryBody::Batch(items);
        let entry = self.builder.entry(self.position.term, body, PartCount::default(), &self.position, 0);
        let pending = entry.expect("it is small");
        self.push(pending.entry, pending.bytes);
    }

    fn push(&mut self, entry: LogEntry, bytes: Bytes) {
        let sequence = self.position.sequence.next();
        self.position = LogPosition::after(sequence, &entry);
        self.log.push(StoredBytes { sequence, bytes });
    }
}

/// What has come to a parent, of the start of the writer that it has heard of.
#[derive(Clone, Default)]
struct SimParent {
    start: u64,
    log: Vec<StoredBytes>,
    /// It forgets what is older.
    kept: usize,
}

impl SimParent {
    fn catch_up(&mut self, writer: &LoneWriter, entries: usize) -> Vec<StoredBytes> {
        if self.start != writer.starts {
            (self.start, self.log) = (writer.starts, Vec::new());
        }
        let known = self.log.last().map_or(0, |last| (last.sequence.0 - FIRST_SEQUENCE.0) as usize);
        let news: Vec<StoredBytes> = writer.log.iter().skip(known).take(entries).cloned().collect();
        self.log.extend(news.iter().cloned());
        let over = self.log.len().saturating_sub(self.kept);
        self.log.drain(..over);
        news
    }

    fn reply(&self, request: &LogRequest) -> LogReply {
        match request {
            LogRequest::Tail => match (self.log.first(), self.log.last()) {
                (Some(first), Some(last)) => LogReply::Bounds(LogBounds { first: first.sequence, last: last.sequence }),
                _ => LogReply::Missing,
            },
            LogRequest::Read(range) => {
                let within = |stored: &&StoredBytes| stored.sequence >= range.from && stored.sequence <= range.to;
                let entries: Vec<StoredBytes> = self.log.iter().filter(within).take(20).cloned().collect();
                let read_to = entries.last().filter(|_| entries.len() == 20).map_or(range.to, |last| last.sequence);
                LogReply::Entries { entries, read_to }
            }
            LogRequest::Append { .. } | LogRequest::Create => panic!("a reader does not write"),
        }
    }

    fn snapshot(&self) -> Option<SnapshotPlace> {
        let stored = self.log.last()?;
        let entry = LogEntry::decode(stored.bytes.clone()).expect("an entry");
        let position = LogPosition::after(stored.sequence, &entry);
        Some(SnapshotPlace { position, offset: position.next_offset - 1, read_from: self.log.first()?.sequence })
    }
}

struct ReaderRun {
    random: StdRng,
    now: Duration,
    node: Node,
    writer: LoneWriter,
    parents: Vec<SimParent>,
    /// The one that is followed.
    followed: Option<usize>,
    replies: Vec<(usize, NodeEvent)>,
    asks_snapshot: bool,
    held: Option<SnapshotPlace>,
    /// The newest offset that was shown.
    shown: u64,
    readiness: NodeReadiness,
    told: usize,
    restarts: usize,
    /// Nothing fails any more.
    is_quiet: bool,
}

impl ReaderRun {
    fn new(seed: u64) -> ReaderRun {
        let ingester = IngesterSettings::unnamed(1, 0);
        let bounds = FollowerBounds { kept_bytes: 1 << 20, ahead_bytes: 1 << 16 };
        let settings = NodeSettings { ingester, bounds, role: NodeRole::Reader, priority: 0, trusts_log: false };
        let mut random = StdRng::seed_from_u64(seed);
        let parent = |kept| SimParent { kept, ..SimParent::default() };
        let parents = (0..PARENTS).map(|_| parent(random.random_range(30..500))).collect();
        ReaderRun {
            random,
            now: Duration::ZERO,
            node: Node::new(settings, Duration::ZERO),
            writer: LoneWriter::new(),
            parents,
            followed: None,
            replies: Vec::new(),
            asks_snapshot: false,
            held: None,
            shown: 0,
            readiness: NodeReadiness::Joining,
            told: 0,
            restarts: 0,
            is_quiet: false,
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    fn step(&mut self, is_quiet: bool) {
        self.now += STEP;
        self.is_quiet = is_quiet;
        if self.chance(5) {
            let frames = self.random.random_range(0..12);
            self.writer.write(frames);
        }
        if !is_quiet && self.chance(400) {
            // A parent that has heard of a start has all that was shown of the one before, as after an orderly end.
            if self.parents.iter().all(|parent| parent.start == self.writer.starts) {
                self.writer.start();
                self.restarts += 1;
            }
        }
        self.feed_parents(is_quiet);
        if !is_quiet && self.followed.is_some() && self.chance(150) {
            self.lose();
        }
        if self.followed.is_none() && self.chance(if is_quiet { 5 } else { 30 }) {
            self.followed = Some(self.random.random_range(0..PARENTS));
            self.give(NodeEvent::Reconnected);
        }
        for (after, event) in std::mem::take(&mut self.replies) {
            match after {
                0 => self.give(event),
                after => self.replies.push((after - 1, event)),
            }
        }
        if self.asks_snapshot && self.chance(10) {
            self.give_snapshot();
        }
        self.give(NodeEvent::Tick);
    }

    fn feed_parents(&mut self, is_quiet: bool) {
        for number in 0..PARENTS {
            let entries = if self.chance(4) { self.random.random_range(0..10) } else { 1 };
            let news = self.parents[number].catch_up(&self.writer, if is_quiet { 50 } else { entries });
            for stored in news {
                if self.followed == Some(number) && (is_quiet || !self.chance(200)) {
                    self.give(NodeEvent::Tailed(stored));
                }
            }
        }
    }

    fn lose(&mut self) {
        self.followed = None;
        self.replies.clear();
    }

    fn give_snapshot(&mut self) {
        let Some(place) = self.followed.and_then(|number| self.parents[number].snapshot()) else { return };
        self.asks_snapshot = false;
        self.held = Some(place);
        self.give(NodeEvent::SnapshotFound(place));
    }

    fn give(&mut self, event: NodeEvent) {
        let commands = self.node.handle(self.now, 0, event);
        for command in commands {
            match command {
                NodeCommand::Log { call, request } => self.call(call, &request),
                NodeCommand::Apply { entry, .. } => self.show(&entry),
                NodeCommand::Jump { reason, entry, .. } => {
                    assert_ne!(reason, JumpReason::Epoch, "there is one epoch");
                    if reason == JumpReason::Restarted {
                        assert!(entry.header.first <= self.shown + 1, "{} after {}", entry.header.first, self.shown);
                    } else {
                        self.leap(entry.header.first - 1);
                    }
                    self.show(&entry);
                }
                NodeCommand::AskSnapshot { .. } => self.asks_snapshot = true,
                NodeCommand::TakeSnapshot { is_after_hole } => {
                    let place = self.held.take().expect("it was found");
                    if is_after_hole {
                        self.leap(place.offset);
                    }
                }
                NodeCommand::DropSnapshot { begins_anew } => {
                    self.held = None;
                    if begins_anew {
                        // Nothing was shown to anybody before it had joined.
                        self.shown = 0;
                    }
                }
                NodeCommand::Readiness(readiness) => self.readiness = readiness,
                NodeCommand::ReportFork { .. } => panic!("there is one history"),
                other => panic!("a reader does not {other:?}"),
            }
        }
    }

    fn call(&mut self, call: CallId, request: &LogRequest) {
        let is_lost = !self.is_quiet && self.chance(300);
        let reply = match self.followed {
            None => LogReply::Unavailable,
            Some(_) if is_lost => return,
            Some(number) => self.parents[number].reply(request),
        };
        let after = self.random.random_range(0..4);
        self.replies.push((after, NodeEvent::Replied { call, reply }));
    }

    /// Clients are told that something is missing.
    fn leap(&mut self, offset: u64) {
        if offset > self.shown {
            self.told += usize::from(self.shown > 0);
            self.shown = offset;
        }
    }

    fn show(&mut self, entry: &LogEntry) {
        let EntryBody::Batch(items) = &entry.body else { return };
        for (offset, item) in (entry.header.first..).zip(items) {
            let LoggedItem::Frame(frame) = item else { panic!("a frame") };
            assert_eq!(frame.payload.bytes[..], offset.to_le_bytes(), "another content");
            if offset > self.shown {
                assert_eq!(offset, self.shown + 1, "offsets are dense");
                self.shown = offset;
            }
        }
    }
}

#[test]
fn a_reader_shows_everything_once_or_is_told_whichever_parents_it_has() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let (mut restarts, mut untold) = (0, 0);
    let mut offsets: BTreeMap<u64, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let mut reading = ReaderRun::new(seed);
        for step in 0..STEPS {
            reading.step(step + QUIET_STEPS >= STEPS);
        }
        let head = reading.writer.position.next_offset - 1;
        assert_eq!(reading.readiness, NodeReadiness::Ready, "seed {seed}");
        assert!(head - reading.shown < 200, "seed {seed}: {} of {head}", reading.shown);
        restarts += reading.restarts;
        untold += usize::from(reading.told == 0);
        offsets.insert(seed, reading.shown);
    }
    assert!(restarts as u64 > seeds && untold > 0, "{restarts} restarts, {untold} runs without a hole: {offsets:?}");
}
