//! A piece that waits for those before it, with the message that it is a part of.

use std::ops::Range;

use crate::intake::assemble::sequence::Numbers;
use crate::intake::assemble::{Treatment, Update};
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

pub struct PendingUpdate {
    pub treatment: Treatment,
    message: Vec<u8>,
    element: MessageElement,
    kind: PayloadKind,
    pub numbers: Option<Numbers>,
    snapshot: bool,
    pub received: Stamp,
}

enum MessageElement {
    /// A part of the message.
    Inside(Range<usize>),
    Apart(Vec<u8>),
}

impl PendingUpdate {
    pub fn of(piece: &Update<'_>) -> PendingUpdate {
        let start = (piece.element.as_ptr() as usize).wrapping_sub(piece.message.as_ptr() as usize);
        let range = start..start.wrapping_add(piece.element.len());
        let is_inside = piece.message.get(range.clone()).is_some_and(|part| part == piece.element);
        PendingUpdate {
            treatment: piece.treatment.clone(),
            message: piece.message.to_vec(),
            element: if is_inside {
                MessageElement::Inside(range)
            } else {
                MessageElement::Apart(piece.element.to_vec())
            },
            kind: piece.kind,
            numbers: piece.numbers,
            snapshot: piece.snapshot,
            received: piece.received,
        }
    }

    pub fn piece<'a>(&'a self, topic: &'a str) -> Update<'a> {
        Update {
            treatment: &self.treatment,
            topic,
            message: &self.message,
            kind: self.kind,
            element: match &self.element {
                MessageElement::Inside(range) => &self.message[range.clone()],
                MessageElement::Apart(element) => element,
            },
            numbers: self.numbers,
            snapshot: self.snapshot,
            received: self.received,
        }
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        let apart = if let MessageElement::Apart(element) = &self.element { element.len() } else { 0 };
        self.message.len() + apart
    }
}
