//! A simulated process: the real [`Node`], its clocks, what it shows, and the feed it may hold.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use feed_log::entry::item::{FrameRole, LoggedFrame, LoggedItem, LoggedPayload, LoggedStatus, PayloadForm, StatusForm};
use feed_log::entry::{EntryBody, LogEntry, LoggedText};

use crate::follower::{FollowerBounds, NodeRole};
use crate::ingester::IngesterSettings;
use crate::log::{CallId, LogRequest};
use crate::node::{Node, NodeEvent, NodeSettings};
use crate::position::LogPosition;
use crate::simulation::client::ShownItem;
use crate::simulation::log::ShownContents;
use crate::simulation::snapshots::SimSnapshot;
use crate::turn::NodeCommand;

pub const RELEASE: Duration = Duration::from_millis(1500);
pub const KEPT_BYTES: usize = 40_000;
pub const AHEAD_BYTES: usize = 20_000;
/// An hour ahead of anything, so that a wall clock can jump back.
const WALL_START_MS: u64 = 100_000_000;
const BATCH_MAX: usize = 8;
/// Of so many messages one is of another topic.
const RARE: u64 = 40;
pub const RARE_TOPIC: &str = "rare";

/// A clock: local time is its base, and its rate times what has passed since.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    base: f64,
    since: u64,
    rate: f64,
    pub wall_ahead_ms: i64,
    /// The planted fault of a driver that takes the time from the wall.
    is_wall: bool,
}

impl SimClock {
    pub fn new(now: u64, base_us: u64, rate: f64, is_wall: bool) -> SimClock {
        SimClock { base: base_us as f64, since: now, rate, wall_ahead_ms: 0, is_wall }
    }

    pub fn local(&self, now: u64) -> Duration {
        Duration::from_micros((self.base + (now - self.since) as f64 * self.rate) as u64)
    }

    /// How long it is until this time.
    pub fn until(&self, deadline: Duration, now: u64) -> u64 {
        (deadline.saturating_sub(self.driving(now)).as_micros() as f64 / self.rate).ceil() as u64
    }

    /// The time that the node is driven by.
    pub fn driving(&self, now: u64) -> Duration {
        if self.is_wall { Duration::from_millis(self.wall_ms(now)) } else { self.local(now) }
    }

    pub fn wall_ms(&self, now: u64) -> u64 {
        (WALL_START_MS + self.local(now).as_millis() as u64).saturating_add_signed(self.wall_ahead_ms)
    }

    pub fn set_rate(&mut self, now: u64, rate: f64) {
        *self = SimClock { base: self.local(now).as_micros() as f64, since: now, rate, ..*self };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub to_log: bool,
    pub from_log: bool,
    /// What is sent meanwhile arrives when it is whole again; else it is lost, and the connection with it.
    pub holds: bool,
}

impl Link {
    pub const WHOLE: Link = Link { to_log: true, from_log: true, holds: false };
}

pub struct SimNode {
    pub core: Option<Node>,
    /// Counts starts; it is part of the node's random number.
    pub life: u32,
    pub clock: SimClock,
    pub is_stopped: bool,
    /// What came while it was stopped.
    pub held: VecDeque<NodeEvent>,
    pub link: Link,
    /// What the network holds, in both directions.
    pub held_calls: Vec<(CallId, LogRequest)>,
    pub held_events: Vec<NodeEvent>,
    pub connection: Option<u64>,
    pub wants_feed: bool,
    pub answers_for: Option<u64>,
    pub has_tail: bool,
    queue: VecDeque<LoggedItem>,
    /// The newest number that is queued or shown.
    venue_number: u64,
    /// The newest number that was shown, and up to which number a gap was told; None until a frame was shown.
    told_number: Option<u64>,
    /// The offset of the newest message of the topic that has few; and whether that is known from this offset on.
    pub rare: Option<u64>,
    pub is_exact: bool,
    pub exact_from: u64,
    /// Its server listens: it was ready once.
    pub has_joined: bool,
    /// Another node's, until it is taken or dropped.
    pub snapshot: Option<SimSnapshot>,
    /// Offsets up to this one are left out.
    pub skips_until: u64,
    /// Where it was some time ago.
    pub past: Option<LogPosition>,
    pub shown: Vec<ShownItem>,
    pub place: Option<(u64, u64)>,
    /// The epoch in which it was made to show another content than the others.
    pub altered_in: Option<u64>,
    pub tick_at: u64,
    pub index: usize,
    pub jumps: u64,
    pub epochs: u64,
}

impl SimNode {
    pub fn new(index: usize) -> SimNode {
        SimNode {
            core: None,
            life: 0,
            clock: SimClock::new(0, 0, 1.0, false),
            is_stopped: false,
            held: VecDeque::new(),
            link: Link::WHOLE,
            held_calls: Vec::new(),
            held_events: Vec::new(),
            connection: None,
            wants_feed: false,
            answers_for: None,
            has_tail: false,
            queue: VecDeque::new(),
            venue_number: 0,
            told_number: None,
            rare: None,
            is_exact: false,
            exact_from: 0,
            has_joined: false,
            snapshot: None,
            skips_until: 0,
            past: None,
            shown: Vec::new(),
            place: None,
            altered_in: None,
            tick_at: 0,
            index,
            jumps: 0,
            epochs: 0,
        }
    }

    pub fn start(&mut self, clock: SimClock, now: u64) {
        let (life, index) = (self.life + 1, self.index);
        let link = self.link;
        *self = SimNode { life, clock, link, ..SimNode::new(index) };
        let ingester = IngesterSettings {
            node: (index as u64 + 1) * 1000 + u64::from(life),
            name: LoggedText::from("node"),
            configuration: [0; 32],
            release: RELEASE,
            deflate_over_bytes: 1 << 20,
        };
        let bounds = FollowerBounds { kept_bytes: KEPT_BYTES, ahead_bytes: AHEAD_BYTES };
        let settings = NodeSettings { ingester, bounds, role: NodeRole::Candidate, priority: 0, trusts_log: false };
        self.core = Some(Node::new(settings, clock.driving(now)));
        self.tick_at = now;
    }

    pub fn is_running(&self) -> bool {
        self.core.is_some() && !self.is_stopped
    }

    /// A message of the venue.
    pub fn receive(&mut self, number: u64, now: u64) {
        if number <= self.venue_number {
            return;
        }
        let (topic, received_ms) = (LoggedText::from("t"), self.clock.wall_ms(now));
        let of_frame = if number.is_multiple_of(RARE) { LoggedText::from(RARE_TOPIC) } else { topic.clone() };
        if number > self.venue_number + 1 {
            let text = Bytes::copy_from_slice(&(number - 1).to_le_bytes());
            let kind = StatusForm::Gap;
            self.queue.push_back(LoggedItem::Status(LoggedStatus { topic, kind, received_ms, text }));
        }
        self.venue_number = number;
        let bytes = Bytes::from(format!("{number} by {}.{}", self.index, self.life));
        let payload = LoggedPayload { kind: PayloadForm::Text, bytes };
        let role = FrameRole::Value { keep: 1 };
        let venue_number = Some(number);
        self.queue.push_back(LoggedItem::Frame(LoggedFrame {
            topic: of_frame,
            role,
            received_ms,
            venue_number,
            payload,
            whole: None,
        }));
    }

    /// Hands over what has gathered, if it may be appended.
    pub fn append(&mut self, now: u64) -> Vec<NodeCommand> {
        let (local, wall_ms) = (self.clock.driving(now), self.clock.wall_ms(now));
        let Some(core) = self.core.as_mut().filter(|core| core.is_ready_to_append()) else { return Vec::new() };
        if self.queue.is_empty() {
            return Vec::new();
        }
        let items = self.queue.drain(..self.queue.len().min(BATCH_MAX)).collect();
        core.append(local, wall_ms, items).expect("small items")
    }

    pub fn open_feed(&mut self) {
        self.wants_feed = true;
        self.venue_number = self.told_number.unwrap_or(0);
    }

    /// Forgets what it has not appended; gives the connection to close.
    pub fn close_feed(&mut self) -> Option<u64> {
        self.wants_feed = false;
        self.queue.clear();
        self.connection.take()
    }

    pub fn jump(&mut self, entry: &LogEntry, contents: &mut ShownContents) {
        self.jumps += 1;
        self.skip();
        self.show(entry, contents);
    }

    /// What comes next does not follow what was shown.
    pub fn skip(&mut self) {
        self.shown.push(ShownItem::Skip);
        (self.place, self.told_number, self.past, self.skips_until) = (None, None, None, 0);
        (self.rare, self.is_exact, self.exact_from) = (None, false, 0);
    }

    pub fn show(&mut self, entry: &LogEntry, contents: &mut ShownContents) {
        let header = &entry.header;
        if self.place.is_some_and(|(epoch, _)| epoch != header.epoch) {
            self.epochs += 1;
            (self.place, self.past, self.skips_until) = (None, None, 0);
            // All of its epoch follows.
            (self.rare, self.is_exact, self.exact_from) = (None, true, 0);
        } else if header.first == 1 && self.place.is_none() {
            (self.rare, self.is_exact, self.exact_from) = (None, true, 0);
        }
        let EntryBody::Batch(items) = &entry.body else { return };
        let mut offset = header.first;
        for item in items.iter().filter(|item| item.is_numbered()) {
            if header.epoch == self.place.map_or(0, |(epoch, _)| epoch) && offset <= self.skips_until {
                offset += 1;
                continue;
            }
            // I2: offsets of an epoch are dense.
            if let Some((epoch, next)) = self.place {
                assert_eq!((header.epoch, offset), (epoch, next), "I2: on node {}", self.index);
            }
            if !contents.show(header.epoch, offset, item) {
                (self.altered_in, self.is_exact) = (Some(header.epoch), false);
            }
            self.tell_number(item);
            if matches!(item, LoggedItem::Frame(frame) if frame.topic.as_str() == RARE_TOPIC) {
                self.rare = self.rare.max(Some(offset));
            }
            self.shown.push(ShownItem::Item { epoch: header.epoch, offset });
            offset += 1;
            self.place = Some((header.epoch, offset));
        }
        self.check_values(contents);
    }

    /// I10: it listens only once it shows all that its snapshot holds.
    pub fn become_ready(&mut self) {
        let is_whole = self.place.is_none_or(|(_, next)| next > self.exact_from);
        assert!(is_whole, "I10: node {} is ready at {:?}, before {}", self.index, self.place, self.exact_from);
        self.has_joined = true;
    }

    /// I10: what a node retains once it has taken a snapshot, or has seen all of an epoch, is the newest there is.
    fn check_values(&self, contents: &ShownContents) {
        if let Some((epoch, next)) = self.place.filter(|(_, next)| self.is_exact && *next > self.exact_from) {
            let newest = contents.newest_of(RARE_TOPIC, (epoch, next - 1));
            assert_eq!(self.rare, newest, "I10: on node {} at {epoch:x}:{}", self.index, next - 1);
        }
    }

    /// I4: each message of the venue is shown once, or its absence is told.
    fn tell_number(&mut self, item: &LoggedItem) {
        match item {
            LoggedItem::Status(status) => {
                let missing = status.text[..].try_into().map(u64::from_le_bytes).expect("eight bytes");
                self.told_number = self.told_number.map(|_| missing);
            }
            LoggedItem::Frame(frame) => {
                let number = frame.venue_number.expect("the venue numbers");
                if let Some(told) = self.told_number {
                    assert_eq!(number, told + 1, "I4: on node {}, after {told}", self.index);
                }
                self.told_number = Some(number);
            }
            _ => {}
        }
    }
}
