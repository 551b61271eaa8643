//! A node's way along the log: each committed entry applied once and in order, what did not come read from the log.
//!
//! An entry is believed only if it continues what was applied before it. So an entry that is lost, altered, late or of
//! another history is noticed. The sequence of an entry only says where to read.

mod ahead;
mod look;
mod scan;
mod sequence_index;
pub mod snapshot;

use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::{EntryBody, LogEntry};

use crate::follower::ahead::AheadEntries;
use crate::follower::look::Look;
use crate::follower::scan::UnknownEntry;
use crate::follower::sequence_index::SequenceIndex;
use crate::follower::snapshot::SnapshotStage;
use crate::kept::{KeptEntries, KeptEntry};
use crate::log::{LogSequence, StoredBytes};
use crate::position::LogPosition;
use crate::turn::{JumpReason, NodeCommand, Turn};

/// The log is looked at when nothing came for this long: two beats of the ingester.
const QUIET: Duration = Duration::from_millis(1000);
/// Looks that find another history, or a hole, before it is believed: a replica may be behind.
const DOUBTS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerBounds {
    /// Committed entries, to fill the log again.
    pub kept_bytes: usize,
    /// Entries that came too early.
    pub ahead_bytes: usize,
}

/// What a node is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// It takes over when the ingester is gone.
    Candidate,
    /// It only reads, by way of a parent, which always has a snapshot. The log may be that of one writer, which begins it
    /// anew at each start, and goes on at the same offsets if it has kept them.
    Reader,
}

impl NodeRole {
    /// No reply for this long means that nobody answers. A parent may be far away, and says itself when it is gone.
    fn reply_max(self) -> Duration {
        match self {
            NodeRole::Candidate => Duration::from_millis(500),
            NodeRole::Reader => Duration::from_secs(5),
        }
    }

    /// A node goes on without a snapshot if it has none by then; a reader asks again.
    fn snapshot_max(self) -> Duration {
        match self {
            NodeRole::Candidate => Duration::from_secs(30),
            NodeRole::Reader => Duration::from_secs(600),
        }
    }
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
    role: NodeRole,
    position: LogPosition,
    kept: KeptEntries,
    ahead: AheadEntries,
    look: Look,
    look_at: Duration,
    snapshot: SnapshotStage,
    sequences: SequenceIndex,
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

impl LogFollower {
    pub fn new(bounds: FollowerBounds, role: NodeRole, now: Duration) -> LogFollower {
        LogFollower {
            role,
            position: LogPosition::EMPTY,
            kept: KeptEntries::new(bounds.kept_bytes),
            ahead: AheadEntries::new(bounds.ahead_bytes),
            look: Look::None,
            look_at: now,
            snapshot: SnapshotStage::Wanted,
            sequences: SequenceIndex::default(),
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
        if self.has_no_snapshot() { self.standing } else { Standing::Joining }
    }

    /// Where to begin to read to have the entries from this offset on; the oldest that is known if that is later.
    pub fn sequence_of(&self, offset: u64) -> LogSequence {
        self.sequences.before(offset).unwrap_or(self.position.sequence)
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
        self.see(entry.header.term, chain, turn.now);
        if self.position.takes(&entry) {
            self.take(stored, entry, turn);
            self.tailed += 1;
            self.take_ahead(turn);
            return TailedEntry::Applied;
        }
        if self.standing == Standing::Forked && self.ends_fork(&entry) {
            self.meet_epoch(UnknownEntry { stored, entry }, turn);
            return if self.position.chain == chain { TailedEntry::Applied } else { TailedEntry::Foreign };
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
        self.kept.push(KeptEntry { chain: entry.chain, bytes: stored.bytes.clone() });
        self.doubts = 0;
        self.hear(turn.now);
        self.sequences.add(stored.sequence, &entry);
        turn.out.push(NodeCommand::Apply { stored, entry });
        self.pass(turn);
    }

    /// The node has appended it itself, so it has seen all that is committed.
    pub fn take_own(&mut self, stored: StoredBytes, entry: LogEntry, turn: &mut Turn) {
        self.take(stored, entry, turn);
        (self.standing, self.is_witness) = (Standing::Level, true);
        self.ahead.clear();
        self.forget_snapshot(turn);
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

    /// The newest entry of the log, of whatever history.
    fn see(&mut self, term: u64, chain: Chain, now: Duration) {
        if chain != self.seen.1 {
            self.seen = (self.seen.0.max(term), chain, now);
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
        self.kept.push(KeptEntry { chain: entry.chain, bytes: stored.bytes.clone() });
        (self.standing, self.doubts, self.is_witness) = (Standing::Joining, 0, false);
        self.hear(turn.now);
        self.sequences.clear();
        self.sequences.add(stored.sequence, &entry);
        if reason == JumpReason::Epoch {
            self.forget_other_epochs(entry.header.epoch, turn);
        }
        turn.out.push(NodeCommand::Jump { reason, stored, entry });
        self.pass(turn);
        self.take_ahead(turn);
        // What was ahead of another place never fits again.
        self.ahead.clear();
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
        let look = match &self.look {
            Look::None if !self.may_look() => Duration::MAX,
            Look::None => self.look_at,
            Look::Bounds { since, .. } | Look::Read { since, .. } => *since + self.role.reply_max(),
        };
        self.snapshot_deadline().map_or(look, |deadline| deadline.min(look))
    }

    pub fn tick(&mut self, turn: &mut Turn) {
        self.tick_snapshot(turn);
        match &self.look {
            Look::None if !self.may_look() => {}
            Look::None if turn.now >= self.look_at => self.ask(false, turn),
            Look::Bounds { since, .. } | Look::Read { since, .. } if turn.now >= *since + self.role.reply_max() => {
                self.is_unanswered(turn.now);
            }
            _ => {}
        }
    }
}
