//! The planted fault of a writer with two appends in flight. Only tests have it.

use feed_log::entry::error::EntryError;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::{EntryBody, PartCount};

use crate::follower::LogFollower;
use crate::ingester::builder::PendingEntry;
use crate::ingester::{Ingester, Stage};
use crate::log::{CallId, LogRequest, LogSequence, StoredBytes};
use crate::planted::{PlantedFault, is_planted};
use crate::position::LogPosition;
use crate::turn::Turn;

/// The second one.
#[derive(Debug)]
pub struct SecondAppend {
    call: CallId,
    pending: PendingEntry,
}

impl Ingester {
    pub(super) fn takes_second(&self) -> bool {
        let is_sent = matches!(self.stage, Stage::Sent { .. }) && self.pending.is_some() && self.refill.is_empty();
        is_planted(PlantedFault::Pipelined) && is_sent && self.is_seated && !self.is_leaving && self.second.is_none()
    }

    pub(super) fn append_second(&mut self, items: Vec<LoggedItem>, turn: &mut Turn) -> Result<(), EntryError> {
        let Some(first) = &self.pending else { return Ok(()) };
        let position = LogPosition::after(self.end.next(), &first.entry);
        let body = EntryBody::Batch(items);
        let pending = self.builder.entry(self.term, body, PartCount::default(), &position, turn.wall_ms)?;
        let request = LogRequest::Append { expected: self.end.next(), entry: pending.bytes.clone() };
        self.second = Some(SecondAppend { call: turn.out.request(request), pending });
        Ok(())
    }

    /// Believes that both are committed, if the second is acknowledged.
    pub(super) fn believe_both(&mut self, call: CallId, at: LogSequence, follower: &mut LogFollower, turn: &mut Turn) {
        let Some(second) = self.second.take_if(|second| second.call == call) else { return };
        for (sequence, pending) in [(at.back(1), self.pending.take()), (at, Some(second.pending))] {
            if let Some(PendingEntry { entry, bytes }) = pending {
                follower.take_own(StoredBytes { sequence, bytes }, entry, turn);
            }
        }
        (self.end, self.stage) = (at, Stage::Idle);
    }

    /// The first is committed.
    pub(super) fn promote_second(&mut self, turn: &Turn) -> bool {
        let Some(SecondAppend { call, pending }) = self.second.take() else { return false };
        (self.pending, self.sent_from, self.stage) = (Some(pending), call, Stage::Sent { since: turn.now });
        true
    }
}
