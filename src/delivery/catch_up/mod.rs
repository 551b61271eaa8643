//! The one catch-up path: *bring this session from cursor c to its lane's position.*
//!
//! Joining, resuming, falling behind and changing a subscription are the same operation with other numbers. It has two
//! parts: a snapshot scan over what is kept of the lane's topics in the order of offsets (`scan`: what was skipped is not
//! sent one by one), then a replay from the ring (`replay`: nothing is skipped). Both give slices of bounded size made of
//! shared encodings, so a session that catches up holds one slice and a few numbers.
//!
//! A topic of snapshots and deltas may start over while a session scans, or is away in the middle of a scan. The
//! session then lacks some deltas before the topic's new base. So frames before a base are never replayed to a session
//! that has scanned or resumes, and the base is sent as the whole value. This then holds at any cursor: of each topic
//! the session has everything kept up to there, or the topic's base still follows.

pub(crate) mod by_offset;
pub(crate) mod replay;
pub(crate) mod scan;

use crate::delivery::catch_up::scan::SnapshotScan;
use crate::delivery::lanes::topic_index::LaneId;
use crate::words::ids::Offset;

/// This many topics and frames looked at, or steps of matching, count like one message of the client: about 1 ms.
const STEPS_PER_MESSAGE: usize = 16 * 1024;

/// The cursor of a session that is not in step, and how it catches up.
pub struct CatchUp {
    /// Everything up to here has been sent, or will have been once the scan is done.
    pub cursor: Offset,
    pub scan: Option<SnapshotScan>,
    pub cause: CatchUpCause,
    /// Nothing before the cursor is missing: the session was in step there.
    pub complete: bool,
    /// Work done for it that has not been counted as a message yet.
    steps: usize,
}

/// Why a session is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUpCause {
    /// It joined, or its client does not read fast enough.
    Slow,
    /// The client asked for a replay with `since`: skip only what the ring no longer holds.
    Resume,
    /// It was in step with a shard that was overrun by the whole ring.
    Overrun,
}

impl CatchUp {
    /// A session that has been sent everything up to `cursor`.
    pub fn at(cursor: Offset) -> CatchUp {
        CatchUp { cursor, scan: None, cause: CatchUpCause::Slow, complete: true, steps: 0 }
    }

    /// A session that will have been sent everything up to `cursor` once the scan is done.
    pub fn scanning(cursor: Offset, scan: SnapshotScan) -> CatchUp {
        CatchUp { scan: Some(scan), complete: false, ..CatchUp::at(cursor) }
    }

    /// A session whose client reports that it has everything up to `cursor`; perhaps it was in the middle of a scan.
    pub fn resuming(cursor: Offset) -> CatchUp {
        CatchUp { cause: CatchUpCause::Resume, complete: false, ..CatchUp::at(cursor) }
    }

    /// From here on only what is kept counts, up to `position`.
    pub fn skip_to(&mut self, position: Offset) {
        let scan = SnapshotScan { reached: self.cursor, until: position, known: Vec::new() };
        *self = CatchUp { steps: self.steps, ..CatchUp::scanning(position, scan) };
    }

    /// Ends the scan; gives the lanes that it held.
    pub fn end_scan(&mut self) -> impl Iterator<Item = LaneId> + use<> {
        let known = self.scan.take().map(|scan| scan.known).unwrap_or_default();
        known.into_iter().map(|(lane, _)| lane)
    }

    /// Counts work; gives how many messages of the client it is like.
    pub fn count(&mut self, steps: usize) -> u32 {
        self.steps += steps;
        let messages = self.steps / STEPS_PER_MESSAGE;
        self.steps %= STEPS_PER_MESSAGE;
        messages as u32
    }
}
