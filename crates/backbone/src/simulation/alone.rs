//! One node and its log, without a network between them.

use std::collections::VecDeque;
use std::time::Duration;

use feed_log::entry::error::EntryError;
use feed_log::entry::header::{EntryHeader, EntryKind};
use feed_log::entry::item::{FrameRole, LoggedFrame, LoggedItem, LoggedPayload, PayloadForm};
use feed_log::entry::part::PartAssembly;
use feed_log::entry::{BATCH_BYTES_MAX, EntryBody, LogEntry, LoggedText};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::follower::{FollowerBounds, NodeRole};
use crate::ingester::IngesterSettings;
use crate::log::{LogRange, LogReply, LogRequest, LogSequence};
use crate::node::{Node, NodeEvent, NodeSettings};
use crate::simulation::log::SimLog;
use crate::simulation::node::RELEASE;
use crate::turn::NodeCommand;

struct NodeAlone {
    node: Node,
    log: SimLog,
    now: Duration,
    applied: Vec<LogEntry>,
    feed: Vec<NodeCommand>,
    /// It is told that there is no snapshot.
    is_told: bool,
    /// So many of the next entries that begin a term are refused.
    terms_refused: usize,
}

impl NodeAlone {
    /// It has the feed.
    fn start() -> NodeAlone {
        let mut alone = NodeAlone::new(true);
        alone.run(Duration::from_secs(2));
        assert_eq!(alone.node.reign(), Some(1));
        assert_eq!(alone.feed, [NodeCommand::OpenFeed { term: 1 }]);
        alone
    }

    fn new(is_told: bool) -> NodeAlone {
        let ingester = IngesterSettings {
            node: 1,
            name: LoggedText::from("alone"),
            configuration: [0; 32],
            release: RELEASE,
            deflate_over_bytes: 1024,
        };
        let bounds = FollowerBounds { kept_bytes: 1 << 20, ahead_bytes: 1 << 20 };
        let settings = NodeSettings { ingester, bounds, role: NodeRole::Candidate, priority: 0, trusts_log: false };
        let (node, log, now) = (Node::new(settings, Duration::ZERO), SimLog::new(), Duration::ZERO);
        NodeAlone { node, log, now, applied: Vec::new(), feed: Vec::new(), is_told, terms_refused: 0 }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(10);
            let commands = self.node.handle(self.now, 0, NodeEvent::Tick);
            self.obey(commands);
        }
    }

    fn give(&mut self, event: NodeEvent) {
        let commands = self.node.handle(self.now, 0, event);
        self.obey(commands);
    }

    fn append(&mut self, items: Vec<LoggedItem>) -> Result<(), EntryError> {
        let commands = self.node.append(self.now, 0, items)?;
        self.obey(commands);
        Ok(())
    }

    fn refuses(&mut self, request: &LogRequest) -> bool {
        let LogRequest::Append { entry, .. } = request else { return false };
        let is_term = EntryHeader::decode(entry).expect("an entry").kind == EntryKind::Term;
        let is_refused = is_term && self.terms_refused > 0;
        self.terms_refused -= usize::from(is_refused);
        is_refused
    }

    fn obey(&mut self, commands: Vec<NodeCommand>) {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            match command {
                NodeCommand::Log { call, request } if self.refuses(&request) => {
                    let event = NodeEvent::Replied { call, reply: LogReply::Refused };
                    commands.extend(self.node.handle(self.now, 0, event));
                }
                NodeCommand::Log { call, request } => {
                    let (reply, _) = self.log.serve(0, request, micros(self.now));
                    let event = NodeEvent::Replied { call, reply: reply.expect("it answers") };
                    commands.extend(self.node.handle(self.now, 0, event));
                }
                NodeCommand::Apply { entry, .. } => self.applied.push(entry),
                NodeCommand::AskSnapshot { .. } if self.is_told => {
                    commands.extend(self.node.handle(self.now, 0, NodeEvent::NoSnapshot));
                }
                NodeCommand::OpenFeed { .. } | NodeCommand::CloseFeed => self.feed.push(command),
                _ => {}
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn frame(topic: &str, bytes: usize) -> LoggedItem {
    carrying(topic, vec![7; bytes])
}

fn carrying(topic: &str, bytes: Vec<u8>) -> LoggedItem {
    LoggedItem::Frame(LoggedFrame {
        topic: LoggedText::from(topic),
        role: FrameRole::Value { keep: 1 },
        received_ms: 0,
        venue_number: None,
        payload: LoggedPayload { kind: PayloadForm::Binary, bytes: bytes.into() },
        whole: None,
    })
}

#[test]
fn a_batch_that_is_too_large_for_an_entry_goes_in_parts_and_is_whole_again() {
    let mut alone = NodeAlone::start();
    let before = alone.applied.len();
    let items = vec![frame("small", 10), frame("large", 3 * BATCH_BYTES_MAX), frame("small", 10)];
    alone.append(items.clone()).expect("it fits");
    let parts = alone.applied.split_off(before);
    assert!(parts.len() > 3 && parts.iter().all(|entry| entry.header.kind == EntryKind::Part));
    let mut assembly = PartAssembly::default();
    let mut whole = None;
    for LogEntry { header, body, .. } in &parts {
        let EntryBody::Part(part) = body else { panic!("a part") };
        if let Some(bytes) = assembly.take(part).expect("in order") {
            whole = Some(EntryBody::decode_parts(header, bytes).expect("the batch"));
        }
    }
    assert_eq!(whole, Some(items));
    let next = alone.node.follower().position().next_offset;
    assert_eq!(next, parts[0].header.first + 3);
    assert!(alone.node.is_ready_to_append());
}

#[test]
fn what_is_too_long_for_an_entry_is_refused_and_nothing_is_appended() {
    let mut alone = NodeAlone::start();
    let error = alone.append(vec![frame(&"t".repeat(70_000), 1)]).expect_err("a name of 70,000 bytes");
    assert!(matches!(error, EntryError::TooLong { .. }), "{error}");
    let before = alone.applied.len();
    alone.append(vec![frame("t", 1)]).expect("the next one fits");
    assert_eq!(alone.applied.len(), before + 1);
}

#[test]
fn whoever_resigns_closes_the_feed_and_appends_nothing_more() {
    let mut alone = NodeAlone::start();
    alone.append(vec![frame("t", 1)]).expect("it fits");
    alone.give(NodeEvent::Resign { for_good: true });
    assert_eq!(alone.feed.last(), Some(&NodeCommand::CloseFeed));
    assert_eq!(alone.node.reign(), None);
    assert!(alone.node.follower().position().is_resigned && !alone.node.is_ready_to_append());
    let entries = alone.log.last();
    alone.run(Duration::from_secs(30));
    assert_eq!(alone.log.last(), entries, "it never claims again");
}

#[test]
fn a_quiet_feed_beats() {
    let mut alone = NodeAlone::start();
    let before = alone.applied.len();
    alone.run(Duration::from_secs(10));
    let beats = alone.applied.len() - before;
    assert!((15..=20).contains(&beats), "{beats}");
}

#[test]
fn a_log_that_is_made_again_is_filled_with_what_is_kept() {
    let mut alone = NodeAlone::start();
    for _ in 0..20 {
        alone.append(vec![frame("t", 1)]).expect("it fits");
    }
    let (entries, position) = (alone.log.last(), *alone.node.follower().position());
    alone.log.vanish(micros(alone.now));
    alone.give(NodeEvent::Reconnected);
    alone.run(Duration::from_secs(1));
    assert!(alone.log.last() >= entries, "{} of {entries}", alone.log.last());
    assert_eq!(alone.node.follower().position().epoch, position.epoch);
}

#[test]
fn a_batch_that_waits_for_another_epoch_is_appended_in_it_however_often_its_term_is_refused() {
    for batch in [vec![frame("t", 7)], vec![frame("large", 3 * BATCH_BYTES_MAX)]] {
        let mut alone = NodeAlone::start();
        alone.append(vec![frame("t", 1)]).expect("it fits");
        let (before, position) = (alone.log.last(), *alone.node.follower().position());
        // More than the node keeps.
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20 {
            let noise = (0..100_000).map(|_| rng.random()).collect();
            alone.append(vec![carrying("filler", noise)]).expect("it fits");
        }
        alone.log.lose_tail((alone.log.last() - before) as usize);
        (alone.terms_refused, alone.applied) = (3, Vec::new());
        alone.append(batch.clone()).expect("it fits");
        alone.run(Duration::from_secs(2));
        let now = alone.node.follower().position();
        assert_ne!(now.epoch, position.epoch, "nobody has what the log has lost");
        let mut assembly = PartAssembly::default();
        let shown: Vec<LoggedItem> = alone
            .applied
            .iter()
            .flat_map(|LogEntry { header, body, .. }| match body {
                EntryBody::Batch(items) => items.clone(),
                EntryBody::Part(part) => match assembly.take(part).expect("in order") {
                    Some(whole) => EntryBody::decode_parts(header, whole).expect("the batch"),
                    None => Vec::new(),
                },
                _ => Vec::new(),
            })
            .collect();
        assert_eq!((shown, alone.terms_refused), (batch, 0));
    }
}

#[test]
fn a_node_that_joins_a_log_with_two_histories_that_nobody_writes_begins_another_epoch() {
    let mut alone = NodeAlone::start();
    for _ in 0..10 {
        alone.append(vec![frame("t", 1)]).expect("it fits");
    }
    let (last, epoch) = (alone.log.last(), alone.node.follower().position().epoch);
    let range = LogRange { from: LogSequence(last - 4), to: LogSequence(last - 4) };
    let (reply, _) = alone.log.serve(0, LogRequest::Read(range), micros(alone.now));
    let Some(LogReply::Entries { entries, .. }) = reply else { panic!("it answers") };
    // What follows it names another one.
    assert!(alone.log.alter_for(0, &entries[0]));
    alone.node = NodeAlone::new(true).node;
    alone.run(Duration::from_secs(20));
    assert!(alone.node.reign().is_some(), "{:?}", alone.node.follower().standing());
    assert_ne!(alone.node.follower().position().epoch, epoch);
}

#[test]
fn a_question_for_a_snapshot_that_nobody_answers_does_not_hold_up_a_start_for_ever() {
    let mut alone = NodeAlone::new(false);
    alone.run(Duration::from_secs(29));
    assert_eq!((alone.node.reign(), alone.log.last()), (None, 0), "it waits");
    alone.run(Duration::from_secs(3));
    assert_eq!(alone.node.reign(), Some(1));
}
