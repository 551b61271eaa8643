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

#[derive(Debug)]
pub(super) enum SnapshotStage {
    /// To be asked for.
    Wanted,
    Asked {
        until: Duration,
        hole: Option<Box<UnknownEntry>>,
    },
    /// The log is read for its entry.
    Held {
        place: SnapshotPlace,
        /// What the log goes on with after a hole; None where the node joins.
        hole: Option<Box<UnknownEntry>>,
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
        !matches!(self.snapshot, SnapshotStage::Wanted | SnapshotStage::Asked { .. })
    }

    /// All that a snapshot holds has been read, or there is none.
    pub(super) fn has_no_snapshot(&self) -> bool {
        matches!(self.snapshot, SnapshotStage::None)
    }

    pub(super) fn snapshot_deadline(&self) -> Option<Duration> {
        match self.snapshot {
            SnapshotStage::Wanted => Some(Duration::ZERO),
            SnapshotStage::Asked { until, .. } => Some(until),
            SnapshotStage::Held { until, .. } | SnapshotStage::Taken { until, .. } => until,
            SnapshotStage::None => None,
        }
    }

    pub(super) fn tick_snapshot(&mut self, turn: &mut Turn) {
        match self.snapshot {
            SnapshotStage::Wanted => self.ask_snapshot(None, turn),
            SnapshotStage::Asked { until, .. } if turn.now >= until => self.no_snapshot(turn),
            SnapshotStage::Held { until: Some(until), .. } | SnapshotStage::Taken { until: Some(until), .. }
                if turn.now >= until =>
            {
                self.give_up_snapshot(turn);
            }
            _ => {}
        }
    }

    fn ask_snapshot(&mut self, hole: Option<Box<UnknownEntry>>, turn: &mut Turn) {
        self.snapshot = SnapshotStage::Asked { until: turn.now + self.role.snapshot_max(), hole };
        turn.out.push(NodeCommand::AskSnapshot);
    }

    /// Entries are missing in the log: another node may have what they left.
    pub(super) fn meet_hole(&mut self, unknown: UnknownEntry, turn: &mut Turn) {
        if self.has_no_snapshot() {
            self.standing = Standing::Joining;
            return self.ask_snapshot(Some(Box::new(unknown)), turn);
        }
        // The one that was asked for does not stand behind it.
        if matches!(self.snapshot, SnapshotStage::Held { hole: Some(_), .. }) {
            self.forget_snapshot(turn);
        }
        self.jump(JumpReason::Hole, unknown, turn);
    }

    /// No node has one, or none that could be read.
    pub fn no_snapshot(&mut self, turn: &mut Turn) {
        match std::mem::replace(&mut self.snapshot, SnapshotStage::None) {
            // Whoever it reads from has one, and the log alone is not all.
            SnapshotStage::Asked { hole, .. } if self.role == NodeRole::Reader => self.ask_snapshot(hole, turn),
            SnapshotStage::Asked { hole: Some(hole), .. } => self.jump(JumpReason::Hole, *hole, turn),
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
        if !place.is_after(&position) || !is_further(&unknown.entry, &self.position) {
            return false;
        }
        self.snapshot = SnapshotStage::Taken { place: *place, is_after_hole: true, until: None };
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

    /// Another history, or what is left of this one: no snapshot of before counts.
    pub(super) fn forget_snapshot(&mut self, turn: &mut Turn) {
        if matches!(self.snapshot, SnapshotStage::Held { .. }) {
            turn.out.push(NodeCommand::DropSnapshot { begins_anew: false });
        }
        self.snapshot = SnapshotStage::None;
    }
}

fn is_further(entry: &LogEntry, position: &LogPosition) -> bool {
    entry.header.epoch == position.epoch && entry.header.first >= position.next_offset
}
