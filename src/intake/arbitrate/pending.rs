//! An update that waits for those before it, with its message.

use std::ops::Range;

use crate::profile::rules::numbers::Numbers;
use crate::profile::rules::treatment::Treatment;
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

use crate::intake::update::Update;

pub(crate) struct PendingUpdate {
    pub treatment: Treatment,
    message: Vec<u8>,
    element: Range<usize>,
    kind: PayloadKind,
    pub numbers: Option<Numbers>,
    snapshot: bool,
    pub received: Stamp,
}

impl PendingUpdate {
    pub(crate) fn of(update: &Update<'_>) -> PendingUpdate {
        PendingUpdate {
            treatment: update.treatment.clone(),
            message: update.message.to_vec(),
            element: update.element.clone(),
            kind: update.kind,
            numbers: update.numbers,
            snapshot: update.snapshot,
            received: update.received,
        }
    }

    pub(crate) fn update<'a>(&'a self, topic: &'a str) -> Update<'a> {
        Update {
            treatment: &self.treatment,
            topic,
            message: &self.message,
            kind: self.kind,
            element: self.element.clone(),
            numbers: self.numbers,
            snapshot: self.snapshot,
            received: self.received,
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.message.len()
    }
}
