//! What another node retains, where the log alone does not have it: for a node that joins, and after a hole.
//!
//! It is asked for before the log is read, so that the log has it in front of itself. It counts only where the entry that
//! it was made after stands in the log as this node reads it, and until all that it holds has been read, the node has not
//! joined. A node that joins begins to read before that entry, and so has the newest messages as well. A snapshot that
//! does not fit is dropped, and the log is read without one.

use std::time::Duration;

use feed_log::entry::LogEntry;

use crate::follower::scan::UnknownEntry;
use crate::follower::{LogFollower, Look, NodeRole, Standing};
use crate::kept::KeptEntry;
use crate::log::LogSequence;
use crate::position::LogPosition;
use crate::turn::{JumpReason, NodeCommand, Turn};

/// The log reaches what a snapshot holds within this time; else it was made of another log.
const REACH_MAX: Duration = Duration::from_secs(5);
/// Offsets that a snapshot holds beyond its entry: what is shown while it is made, at any rate of a feed.
const BEYOND_MAX: u64 = 1 << 20;
/// In a new epoch a node asks again for so long: the others may not be in it yet, nor its ingester at work.
const EPOCH_PATIENCE: Duration = Duration::from_secs(5);
const EPOCH_ASK_AGAIN: Duration = Duration::from_millis(250);

/// Where the snapshot of another node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPlace {
    /// After the newest entry that it holds wholly.
    pub position: LogPosition,
    /// It holds everything up to this offset, which may be some entries further.
    pub offset: u64,
    /// From this entry on the log has the newest messages, as many as the other node has.
    pub read_from: LogSequence,
}

impl SnapshotPlace {
    fn is_sane(&self) -> bool {
        let next = self.position.next_offset;
        next > 0 && (next - 1..next.saturating_add(BEYOND_MAX)).contains(&self.offset)
    }

    fn is_after(&self, position: &LogPosition) -> bool {
        let own = &self.position;
        (own.chain, own.epoch, own.next_offset) == (position.chain, position.epoch, position.next_offset)
    }
}

/// The node cannot go on by the log alone: entries are missing in it, or another epoch has begun.
#[derive(Debug)]
pub(super) struct LogHole {
    /// What the log goes on with.
    next: UnknownEntry,
    met_at: Duration,
}

#[derive(Debug)]
pub(super) enum SnapshotStage {
    /// To be asked for.
    Wanted,
    /// To be asked for once more, of a node that is in the new epoch.
    Again {
        at: Duration,
        hole: Box<LogHole>,
    },
    Asked {
        until: Duration,
        hole: Option<Box<LogHole>>,
    },
    /// The log is read for its entry.
    Held {
        place: SnapshotPlace,
        /// None where the node joins.
        hole: Option<Box<LogHole>>,
        /// Of the wait for the log, since all of it was read.
        until: Option<Duration>,
    },
    /// It is in what the node shows; the log is read up to its offset.
    Taken {
        place: SnapshotPlace,
        is_after_hole: bool,
        until: Option<Duration>,
    },
    None,
}

/// Whether all that a snapshot holds has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Yes,
    NotYet,
    Never,
}

impl LogFollower {
    /// Nothing is known that the log does not have, so that it may be read.
    pub(super) fn may_look(&self) -> bool {
        !matches!(self.snapshot, SnapshotStage::Wanted | SnapshotStage::Again { .. } | SnapshotStage::Asked { .. })
    }

    /// All that a snapshot holds has been read, or there is none.
    pub(super) fn has_no_snapshot(&self) -> bool {
        matches!(self.snapshot, SnapshotStage::None)
    }

    pub(super) fn snapshot_deadline(&self) -> Option<Duration> {
        match self.snapshot {
            SnapshotStage::Wanted => Some(Duration::ZERO),
            SnapshotStage::Again { at, .. } => Some(at),
            SnapshotStage::Asked { until, .. } => Some(until),
            SnapshotStage::Held { until, .. } | SnapshotStage::Taken { until, .. } => until,
            SnapshotStage::None => None,
        }
    }

    pub(super) fn tick_snapshot(&mut self, turn: &mut Turn) {
        match self.snapshot {
            SnapshotStage::Wanted => self.ask_snapshot(None, turn),
            SnapshotStage::Again { at, .. } if turn.now >= at => {
                if let SnapshotStage::Again { hole, .. } = std::mem::replace(&mut self.snapshot, SnapshotStage::None) {
                    self.ask_snapshot(Some(hole), turn);
                }
            }
            SnapshotStage::Asked { until, .. } if turn.now >= until => self.no_snapshot(turn),
            SnapshotStage::Held { until: Some(until), .. } | SnapshotStage::Taken { until: Some(until), .. }
                if turn.now >= until =>
            {
                self.give_up_snapshot(turn);
            }
            _ => {}
        }
    }

    fn ask_snapshot(&mut self, hole: Option<Box<LogHole>>, turn: &mut Turn) {
        let besides = hole.as_ref().filter(|hole| self.is_other_epoch(hole)).map(|_| self.position.epoch);
        self.snapshot = SnapshotStage::Asked { until: turn.now + self.role.snapshot_max(), hole };
        turn.out.push(NodeCommand::AskSnapshot { besides });
    }

    fn is_other_epoch(&self, hole: &LogHole) -> bool {
        hole.next.entry.header.epoch != self.position.epoch
    }

    /// Entries are missing in the log: another node may have what they left.
    pub(super) fn meet_hole(&mut self, unknown: UnknownEntry, turn: &mut Turn) {
        if self.has_no_snapshot() {
            self.standing = Standing::Joining;
            let hole = LogHole { next: unknown, met_at: turn.now };
            return self.ask_snapshot(Some(Box::new(hole)), turn);
        }
        // The one that was asked for does not stand behind it.
        if matches!(self.snapshot, SnapshotStage::Held { hole: Some(_), .. }) {
            self.forget_snapshot(turn);
        }
        self.jump(JumpReason::Hole, unknown, turn);
    }

    /// Another epoch has begun, which this entry does not continue: another node may have the values that it begins with.
    pub(super) fn meet_epoch(&mut self, unknown: UnknownEntry, turn: &mut Turn) {
        match &self.snapshot {
            SnapshotStage::None | SnapshotStage::Taken { .. } => {
                self.standing = Standing::Joining;
                let hole = LogHole { next: unknown, met_at: turn.now };
                self.ask_snapshot(Some(Box::new(hole)), turn);
            }
            // It does not stand in the log.
            SnapshotStage::Held { hole: Some(hole), .. } => {
                let met_at = hole.met_at;
                turn.out.push(NodeCommand::DropSnapshot { begins_anew: false });
                self.ask_later(Box::new(LogHole { next: unknown, met_at }), turn);
            }
            SnapshotStage::Held { hole: None, .. } => self.jump(JumpReason::Epoch, unknown, turn),
            SnapshotStage::Wanted | SnapshotStage::Again { .. } | SnapshotStage::Asked { .. } => {}
        }
    }

    /// A node without patience goes on without a snapshot.
    fn ask_later(&mut self, hole: Box<LogHole>, turn: &mut Turn) {
        if turn.now < hole.met_at + EPOCH_PATIENCE || self.role == NodeRole::Reader {
            self.snapshot = SnapshotStage::Again { at: turn.now + EPOCH_ASK_AGAIN, hole };
        } else {
            self.snapshot = SnapshotStage::None;
            self.jump(JumpReason::Epoch, hole.next, turn);
        }
    }

    /// No node has one, or none that could be read.
    pub fn no_snapshot(&mut self, turn: &mut Turn) {
        match std::mem::replace(&mut self.snapshot, SnapshotStage::None) {
            SnapshotStage::Asked { hole: Some(hole), .. } if self.is_other_epoch(&hole) => {
                self.ask_later(hole, turn);
            }
            // Whoever it reads from has one, and the log alone is not all.
            SnapshotStage::Asked { hole, .. } if self.role == NodeRole::Reader => self.ask_snapshot(hole, turn),
            SnapshotStage::Asked { hole: Some(hole), .. } => self.jump(JumpReason::Hole, hole.next, turn),
            SnapshotStage::Asked { hole: None, .. } => self.look_at = turn.now,
            stage => self.snapshot = stage,
        }
    }

    /// Another node has given one, which the driver holds until it is taken or dropped.
    pub fn snapshot_found(&mut self, place: SnapshotPlace, turn: &mut Turn) {
        match std::mem::replace(&mut self.snapshot, SnapshotStage::None) {
            SnapshotStage::Asked { hole, .. } if place.is_sane() => {
                self.snapshot = SnapshotStage::Held { place, hole, until: None };
                self.look_at = turn.now;
            }
            stage => {
                self.snapshot = stage;
                turn.out.push(NodeCommand::DropSnapshot { begins_anew: false });
                self.no_snapshot(turn);
            }
        }
    }

    /// Where a node that has nothing begins to read.
    pub(super) fn read_from(&self) -> Option<LogSequence> {
        match &self.snapshot {
            SnapshotStage::Held { place, hole: None, .. } => Some(place.read_from),
            _ => None,
        }
    }

    /// An entry was applied: the snapshot may have been made after it.
    pub(super) fn pass(&mut self, turn: &mut Turn) {
        if let SnapshotStage::Held { place, hole: None, .. } = self.snapshot
            && place.is_after(&self.position)
        {
            self.snapshot = SnapshotStage::Taken { place, is_after_hole: false, until: None };
            turn.out.push(NodeCommand::TakeSnapshot { is_after_hole: false });
        }
    }

    /// Goes on from the snapshot, if it was made after this entry, which lies behind a hole.
    pub(super) fn leaps_to(&mut self, unknown: &UnknownEntry, turn: &mut Turn) -> bool {
        let position = LogPosition::after(unknown.stored.sequence, &unknown.entry);
        let SnapshotStage::Held { place, hole: Some(_), .. } = &self.snapshot else { return false };
        if !place.is_after(&position) || !self.is_further(&unknown.entry) {
            return false;
        }
        self.snapshot = SnapshotStage::Taken { place: *place, is_after_hole: true, until: None };
        if position.epoch != self.position.epoch {
            self.sequences.clear();
        }
        self.position = position;
        self.kept.clear();
        self.kept.push(KeptEntry { chain: unknown.entry.chain, bytes: unknown.stored.bytes.clone() });
        (self.standing, self.doubts, self.is_witness) = (Standing::Joining, 0, false);
        self.hear(turn.now);
        turn.out.push(NodeCommand::TakeSnapshot { is_after_hole: true });
        true
    }

    /// All of the log was read: whether the node has all that a snapshot holds. If not, it goes on looking for a while.
    pub(super) fn has_reached_snapshot(&mut self, turn: &mut Turn) -> bool {
        let reached = self.reached(turn.now);
        match reached {
            Reached::Yes => self.snapshot = SnapshotStage::None,
            Reached::NotYet => {}
            Reached::Never => self.give_up_snapshot(turn),
        }
        reached == Reached::Yes
    }

    fn reached(&mut self, now: Duration) -> Reached {
        // The log has no hole any more.
        if matches!(self.snapshot, SnapshotStage::Held { hole: Some(_), .. }) {
            return Reached::Never;
        }
        let LogPosition { epoch, next_offset, .. } = self.position;
        let (place, until, is_there) = match &mut self.snapshot {
            SnapshotStage::Held { place, until, .. } => (place, until, false),
            SnapshotStage::Taken { place, until, .. } => (place, until, true),
            _ => return Reached::Yes,
        };
        let is_same = place.position.epoch == epoch;
        match is_there {
            // Another epoch has none of it.
            true if !is_same || next_offset > place.offset => return Reached::Yes,
            false if is_same && next_offset > place.position.next_offset => return Reached::Never,
            _ => {}
        }
        let until = *until.get_or_insert(now + REACH_MAX);
        if now < until { Reached::NotYet } else { Reached::Never }
    }

    /// It is of another log, or of a longer one.
    fn give_up_snapshot(&mut self, turn: &mut Turn) {
        match std::mem::replace(&mut self.snapshot, SnapshotStage::None) {
            SnapshotStage::Held { hole: Some(_), .. } => {
                turn.out.push(NodeCommand::DropSnapshot { begins_anew: false });
            }
            // What is shown is right as far as it goes.
            SnapshotStage::Taken { is_after_hole: true, .. } => {}
            _ => {
                turn.out.push(NodeCommand::DropSnapshot { begins_anew: true });
                self.begin_anew(turn.now);
                if self.role == NodeRole::Reader {
                    self.snapshot = SnapshotStage::Wanted;
                }
            }
        }
    }

    /// Nothing of the log was read.
    fn begin_anew(&mut self, now: Duration) {
        self.position = LogPosition::EMPTY;
        self.kept.clear();
        self.ahead.clear();
        (self.look, self.look_at) = (Look::None, now);
        (self.standing, self.doubts, self.is_witness) = (Standing::Joining, 0, false);
    }

    fn is_further(&self, entry: &LogEntry) -> bool {
        let (header, position) = (&entry.header, &self.position);
        if header.epoch == position.epoch {
            header.first >= position.next_offset
        } else {
            header.term > position.term || self.role == NodeRole::Reader
        }
    }

    /// Another epoch: a snapshot counts only if it was made in it.
    pub(super) fn forget_other_epochs(&mut self, epoch: u64, turn: &mut Turn) {
        let counts =
            matches!(&self.snapshot, SnapshotStage::Held { place, hole: None, .. } if place.position.epoch == epoch);
        if !counts {
            self.forget_snapshot(turn);
        }
    }

    /// Another history, or what is left of this one: no snapshot of before counts.
    pub(super) fn forget_snapshot(&mut self, turn: &mut Turn) {
        if matches!(self.snapshot, SnapshotStage::Held { .. }) {
            turn.out.push(NodeCommand::DropSnapshot { begins_anew: false });
        }
        self.snapshot = SnapshotStage::None;
    }
}
