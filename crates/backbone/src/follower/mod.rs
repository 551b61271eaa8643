//! A node's way along the log: each committed entry applied once and in order, what did not come read from the log.
//!
//! An entry is believed only if it continues what was applied before it. So an entry that is lost, altered, late or of
//! another history is noticed. The sequence of an entry only says where to read.

mod ahead;
mod scan;

use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::{EntryBody, LogEntry};

use crate::follower::ahead::AheadEntries;
use crate::follower::scan::{Known, LogScan, ScanVerdict, UnknownEntry};
use crate::kept::{KeptEntries, KeptEntry};
use crate::log::{CallId, LogBounds, LogRange, LogReply, LogRequest, LogSequence, StoredBytes};
use crate::position::LogPosition;
use crate::turn::{JumpReason, NodeCommand, Turn};

/// The log is looked at when nothing came for this long: two beats of the ingester.
const QUIET: Duration = Duration::from_millis(1000);
/// Between two looks while something is amiss.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same after another history was found: all of the log is read each time.
const LOOK_FORKED: Duration = Duration::from_millis(1000);
/// No reply for this long means that nobody answers.
const REPLY: Duration = Duration::from_millis(500);
/// Looks that find another history, or a hole, before it is believed: a replica may be behind.
const DOUBTS: u32 = 3;
/// Entries asked for at once.
const READ_ENTRIES: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerBounds {
    /// Committed entries, to fill the log again.
    pub kept_bytes: usize,
    /// Entries that came too early.
    pub ahead_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log was not yet read to its end.
    Joining,
    /// All that the log had at the last look is applied.
    Level,
    /// The log has lost entries that are applied here.
    Shorter,
    /// The log goes on with another history.
    Forked,
}

/// What an entry that came by the tail was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailedEntry {
    Applied,
    Known,
    Foreign,
}

#[derive(Debug)]
pub struct LogFollower {
    position: LogPosition,
    kept: KeptEntries,
    ahead: AheadEntries,
    look: Look,
    look_at: Duration,
    standing: Standing,
    doubts: u32,
    /// When the last entry came that was applied, or is known.
    heard_at: Duration,
    /// Since when the log has answered each time; None if it did not the last time.
    answers_since: Option<Duration>,
    is_witness: bool,
    /// Entries that were applied as they came by the tail.
    tailed: u64,
    /// The latest term in the log, of any history, and when something new was last seen in it.
    seen: (u64, Chain, Duration),
}

#[derive(Debug)]
enum Look {
    None,
    Bounds { call: CallId, since: Duration, is_whole: bool },
    Read { call: CallId, since: Duration, scan: Box<LogScan> },
}

impl LogFollower {
    pub fn new(bounds: FollowerBounds, now: Duration) -> LogFollower {
        LogFollower {
            position: LogPosition::EMPTY,
            kept: KeptEntries::new(bounds.kept_bytes),
            ahead: AheadEntries::new(bounds.ahead_bytes),
            look: Look::None,
            look_at: now,
            standing: Standing::Joining,
            doubts: 0,
            heard_at: now,
            answers_since: None,
            is_witness: false,
            tailed: 0,
            seen: (0, Chain::START, now),
        }
    }

    pub fn position(&self) -> &LogPosition {
        &self.position
    }

    pub fn kept(&self) -> &KeptEntries {
        &self.kept
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// It has applied an entry as it was committed, of a writer that is alive: that one vouches for all before it.
    pub fn witness(&mut self) {
        self.is_witness |= self.standing == Standing::Level;
    }
    pub fn is_witness(&self) -> bool {
        self.is_witness
    }

    /// The latest term in the log, of whatever history.
    pub fn seen_term(&self) -> u64 {
        self.seen.0
    }

    /// When an entry was last seen that was not seen before, of whatever history.
    pub fn seen_at(&self) -> Duration {
        self.seen.2
    }

    pub fn heard_at(&self) -> Duration {
        self.heard_at
    }

    pub fn answers_since(&self) -> Option<Duration> {
        self.answers_since
    }

    /// Looks found what does not fit, and too few of them yet to believe it.
    pub fn has_doubts(&self) -> bool {
        self.doubts > 0 && self.doubts < DOUBTS
    }

    pub fn ahead_bytes(&self) -> usize {
        self.ahead.bytes()
    }

    /// An entry was committed.
    pub fn tailed(&mut self, stored: StoredBytes, turn: &mut Turn) -> TailedEntry {
        let chain = Chain::after(&stored.bytes);
        if self.is_known(chain) {
            self.hear(turn.now);
            return TailedEntry::Known;
        }
        let Ok(entry) = LogEntry::decode_hashed(stored.bytes.clone(), chain) else {
            self.look_soon(turn.now);
            return TailedEntry::Foreign;
        };
        self.see(&entry, turn.now);
        if self.position.takes(&entry) {
            self.take(stored, entry, turn);
            self.tailed += 1;
            self.take_ahead(turn);
            return TailedEntry::Applied;
        }
        if self.standing == Standing::Forked && self.ends_fork(&entry) {
            self.jump(JumpReason::Epoch, UnknownEntry { stored, entry }, turn);
            return TailedEntry::Applied;
        }
        if entry.header.term >= self.position.term {
            self.ahead.hold(entry.header.chain_before, stored);
            self.look_soon(turn.now);
        }
        TailedEntry::Foreign
    }

    /// Applies an entry that continues the position.
    pub fn take(&mut self, stored: StoredBytes, entry: LogEntry, turn: &mut Turn) {
        self.position = LogPosition::after(stored.sequence, &entry);
        self.kept.push(KeptEntry { chain: entry.chain, bytes: stored.bytes });
        self.doubts = 0;
        self.hear(turn.now);
        turn.out.push(NodeCommand::Apply { sequence: stored.sequence, entry });
    }

    /// The node has appended it itself, so it has seen all that is committed.
    pub fn take_own(&mut self, stored: StoredBytes, entry: LogEntry, turn: &mut Turn) {
        self.take(stored, entry, turn);
        (self.standing, self.is_witness) = (Standing::Level, true);
        self.ahead.clear();
    }

    fn take_ahead(&mut self, turn: &mut Turn) {
        while let Some(stored) = self.ahead.take(self.position.chain) {
            match LogEntry::decode(stored.bytes.clone()) {
                Ok(entry) if self.position.takes(&entry) => {
                    self.take(stored, entry, turn);
                    self.tailed += 1;
                }
                _ => return,
            }
        }
    }

    fn see(&mut self, entry: &LogEntry, now: Duration) {
        if entry.chain != self.seen.1 {
            self.seen = (self.seen.0.max(entry.header.term), entry.chain, now);
        }
    }

    fn is_known(&self, chain: Chain) -> bool {
        chain == self.position.chain || self.kept.contains(chain)
    }

    fn ends_fork(&self, entry: &LogEntry) -> bool {
        let is_later = entry.header.term > self.position.term && entry.header.epoch != self.position.epoch;
        is_later && matches!(entry.body, EntryBody::Term(_))
    }

    fn jump(&mut self, reason: JumpReason, unknown: UnknownEntry, turn: &mut Turn) {
        let UnknownEntry { stored, entry } = unknown;
        self.position = LogPosition::after(stored.sequence, &entry);
        self.kept.clear();
        self.kept.push(KeptEntry { chain: entry.chain, bytes: stored.bytes });
        (self.standing, self.doubts, self.is_witness) = (Standing::Joining, 0, false);
        self.hear(turn.now);
        turn.out.push(NodeCommand::Jump { reason, sequence: stored.sequence, entry });
        self.take_ahead(turn);
        self.look_soon(turn.now);
    }

    fn hear(&mut self, now: Duration) {
        self.heard_at = now;
        self.look_at = if self.standing == Standing::Level { now + QUIET } else { self.look_at };
    }

    /// What came does not fit: the log is looked at in the next turn.
    pub fn look_soon(&mut self, now: Duration) {
        if self.doubts == 0 && self.standing != Standing::Forked {
            self.look_at = self.look_at.min(now);
        }
    }

    /// After the node was stopped for a while: nothing is known of the log since then.
    pub fn wake(&mut self, now: Duration) {
        (self.look, self.look_at, self.answers_since) = (Look::None, now, None);
    }

    /// An ingester looks at the log on its own, when it must.
    pub fn rest(&mut self) {
        self.look = Look::None;
    }

    /// When the next tick is due.
    pub fn deadline(&self) -> Duration {
        match &self.look {
            Look::None => self.look_at,
            Look::Bounds { since, .. } | Look::Read { since, .. } => *since + REPLY,
        }
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        match &self.look {
            Look::None if turn.now >= self.look_at => self.ask(false, turn),
            Look::Bounds { since, .. } | Look::Read { since, .. } if turn.now >= *since + REPLY => {
                self.is_unanswered(turn.now);
            }
            _ => {}
        }
    }

    fn ask(&mut self, is_whole: bool, turn: &mut Turn) {
        let call = turn.out.request(LogRequest::Tail);
        self.look = Look::Bounds { call, since: turn.now, is_whole };
    }

    fn is_unanswered(&mut self, now: Duration) {
        self.answers_since = None;
        self.end_look(now);
    }

    fn end_look(&mut self, now: Duration) {
        self.look = Look::None;
        self.look_at = now + if self.standing == Standing::Forked { LOOK_FORKED } else { LOOK_AGAIN };
    }

    /// Takes the reply, if it is to a call of this.
    pub fn replied(&mut self, call: CallId, reply: &LogReply, turn: &mut Turn) {
        match std::mem::replace(&mut self.look, Look::None) {
            Look::Bounds { call: asked, is_whole, .. } if asked == call => match reply {
                LogReply::Bounds(bounds) => {
                    self.answers_since.get_or_insert(turn.now);
                    self.begin_scan(*bounds, is_whole, turn);
                }
                LogReply::Missing => {
                    self.answers_since.get_or_insert(turn.now);
                    let bounds = LogBounds { first: LogSequence::START.next(), last: LogSequence::START };
                    self.begin_scan(bounds, true, turn);
                }
                _ => self.is_unanswered(turn.now),
            },
            Look::Read { call: asked, scan, .. } if asked == call => match reply {
                LogReply::Entries { entries, read_to } if *read_to >= scan.next => {
                    self.scan(scan, entries, *read_to, turn);
                }
                _ => self.is_unanswered(turn.now),
            },
            look => self.look = look,
        }
    }

    fn begin_scan(&mut self, bounds: LogBounds, is_whole: bool, turn: &mut Turn) {
        let own = self.position.sequence;
        let from = if own >= bounds.first && own <= bounds.last && own > LogSequence::START {
            own
        } else if own > bounds.last {
            bounds.last.back(READ_ENTRIES - 1)
        } else {
            bounds.first
        };
        let from = if is_whole { bounds.first } else { from.max(bounds.first) };
        let mut scan = Box::new(LogScan::new(bounds, from, self.tailed));
        if self.position == LogPosition::EMPTY {
            scan.see(Known::Last);
        }
        self.go_on(scan, turn);
    }

    fn go_on(&mut self, scan: Box<LogScan>, turn: &mut Turn) {
        if scan.next > scan.bounds.last {
            self.end_look(turn.now);
            self.judge(scan, turn);
            return;
        }
        let to = LogSequence(scan.next.0.saturating_add(READ_ENTRIES - 1)).min(scan.bounds.last);
        let call = turn.out.request(LogRequest::Read(LogRange { from: scan.next, to }));
        self.look = Look::Read { call, since: turn.now, scan };
    }

    fn scan(&mut self, mut scan: Box<LogScan>, entries: &[StoredBytes], read_to: LogSequence, turn: &mut Turn) {
        for stored in entries {
            let chain = Chain::after(&stored.bytes);
            if chain == self.position.chain {
                self.position.sequence = stored.sequence;
                scan.reach(stored.sequence);
                scan.see(Known::Last);
            } else if self.kept.contains(chain) {
                scan.reach(stored.sequence);
                scan.see(Known::Older);
            } else if let Ok(entry) = LogEntry::decode_hashed(stored.bytes.clone(), chain) {
                scan.reach(stored.sequence);
                self.scan_unknown(&mut scan, stored, entry, turn);
            }
        }
        scan.reach_end(read_to);
        self.go_on(scan, turn);
    }

    fn scan_unknown(&mut self, scan: &mut LogScan, stored: &StoredBytes, entry: LogEntry, turn: &mut Turn) {
        self.see(&entry, turn.now);
        let unknown = UnknownEntry { stored: stored.clone(), entry };
        if self.position.takes(&unknown.entry) {
            self.take(unknown.stored, unknown.entry, turn);
            self.take_ahead(turn);
            scan.see(Known::Last);
        } else if self.position == LogPosition::EMPTY {
            self.jump(JumpReason::Joined, unknown, turn);
            scan.see(Known::Last);
        } else if unknown.entry.header.term >= self.position.term {
            scan.see_foreign(unknown, &self.position);
        }
    }

    fn judge(&mut self, scan: Box<LogScan>, turn: &mut Turn) {
        if scan.tailed != self.tailed {
            // The look is out of date. If nothing is missing, what came by the tail is all there is.
            if !scan.has_foreign() && self.ahead.bytes() == 0 {
                self.is_level();
            }
            return;
        }
        match scan.verdict(&self.position) {
            ScanVerdict::Level => self.is_level(),
            ScanVerdict::Shorter if self.standing == Standing::Forked => {}
            ScanVerdict::Shorter => self.standing = Standing::Shorter,
            ScanVerdict::ReadWhole => self.ask(true, turn),
            ScanVerdict::NewEpoch(unknown) => self.jump(JumpReason::Epoch, unknown, turn),
            ScanVerdict::Unread | ScanVerdict::Hole(..) | ScanVerdict::Fork if self.doubts < DOUBTS => self.doubts += 1,
            ScanVerdict::Unread => self.standing = Standing::Level,
            ScanVerdict::Hole(unknown) if self.standing != Standing::Forked => {
                self.jump(JumpReason::Hole, unknown, turn);
            }
            ScanVerdict::Hole(..) | ScanVerdict::Fork => {
                self.standing = Standing::Forked;
                turn.out.push(NodeCommand::ReportFork { epoch: self.position.epoch });
            }
        }
    }

    fn is_level(&mut self) {
        (self.standing, self.doubts) = (Standing::Level, 0);
        self.look_at = self.look_at.max(self.heard_at + QUIET);
    }
}
