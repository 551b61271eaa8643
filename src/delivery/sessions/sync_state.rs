//! Where a session stands towards its lane.

use bytes::Bytes;

use crate::delivery::catch_up::CatchUp;
use crate::delivery::lanes::lane::SlotList;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;

pub enum SyncState {
    /// It has been sent everything up to the lane's position.
    InStep { slot: u32 },
    /// In step, and on board of the lane's shared window.
    Boarded { slot: u32 },
    /// It has been sent everything up to `cursor`, which its paced lane reaches with the next flush.
    Ahead { slot: u32, cursor: Offset },
    /// It is elsewhere and is being brought to the lane's position.
    Behind(Box<CatchUp>),
    /// It is on no lane any more.
    Leaving(Box<SessionEnd>),
}

/// A state to move to; the session's slot is found on the way. A session boards together with all that are in step.
pub enum NextState {
    InStep,
    Ahead(Offset),
    Behind(CatchUp),
    Leaving(SessionEnd),
}

/// What is left of a session that ends: to say goodbye, and to wait for the client's end of it.
pub struct SessionEnd {
    pub goodbye: Goodbye,
    pub deadline_ns: u64,
    pub said: bool,
    /// What is to be sent after what is unsent: a message, a close frame.
    pub tail: Bytes,
}

impl SyncState {
    /// It has been sent all that there is for it.
    pub fn is_settled(&self) -> bool {
        matches!(self, SyncState::InStep { .. } | SyncState::Boarded { .. } | SyncState::Ahead { .. })
    }

    /// The list of its lane on which the session has a slot, and the slot.
    pub fn slot(&self) -> Option<(SlotList, u32)> {
        match self {
            SyncState::InStep { slot } => Some((SlotList::InStep, *slot)),
            SyncState::Boarded { slot } => Some((SlotList::Boarded, *slot)),
            SyncState::Ahead { slot, .. } => Some((SlotList::Ahead, *slot)),
            SyncState::Behind(_) | SyncState::Leaving(_) => None,
        }
    }

    pub(super) fn set_slot(&mut self, to: u32) {
        match self {
            SyncState::InStep { slot } | SyncState::Boarded { slot } | SyncState::Ahead { slot, .. } => *slot = to,
            SyncState::Behind(_) | SyncState::Leaving(_) => unreachable!("a session with a slot is in step or ahead"),
        }
    }
}
