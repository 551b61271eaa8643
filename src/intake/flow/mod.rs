//! What becomes of the pieces of messages once their topics are known: whether something is missing between them, what
//! newcomers will need of them, and what is published.
//!
//! No sockets and no clock.

pub mod sequence;

use bytes::Bytes;

use crate::bus::keeping::{Keeping, Note};
use crate::intake::profile::optional;
use crate::intake::profile::section::{Entry, ProfileError, Section};
use crate::wire::encode::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

use self::sequence::{Numbers, Remedy, SequenceRule};

/// How the pieces that one rule finds are treated.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    pub mode: Mode,
    pub sequence: Option<SequenceRule>,
    /// Publish the element instead of the whole message.
    pub emit_element: bool,
    /// Publish `{"topic":…,"data":…}` around it, because the topic cannot be read from it.
    pub wrap: bool,
}

/// What a newcomer needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// The newest.
    #[default]
    Replace,
    /// The newest ones, as many as this.
    Tail(usize),
    /// Nothing.
    Nothing,
}

/// What a rule says about its topics' newcomers.
pub(crate) fn read_mode(section: &Section<'_>) -> Result<Mode, ProfileError> {
    let tail = optional(section.get("tail"), Entry::count)?;
    let mode = optional(section.get("mode"), |entry| {
        entry.choice(&[("replace", Mode::Replace), ("tail", Mode::Tail(tail.unwrap_or(50))), ("none", Mode::Nothing)])
    })?;
    Ok(mode.unwrap_or_default())
}

/// One thing of one topic, found in a message.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub treatment: &'a Treatment,
    pub topic: &'a str,
    /// The whole message.
    pub message: &'a [u8],
    pub kind: PayloadKind,
    /// The element that it is, as a part of the message; the whole message if the rule has no `each`.
    pub element: &'a [u8],
    /// What the rule's sequence pointers found.
    pub numbers: Option<Numbers>,
    /// The rule's `snapshot_when` holds.
    pub snapshot: bool,
    pub received: Stamp,
}

/// Where the flow puts what it has.
pub trait Outflow {
    fn publish(&mut self, topic: &str, payload: Payload, keeping: Keeping, received: Stamp);
    fn note(&mut self, topic: &str, note: Note, received: Stamp);
    /// Something is missing in this topic, and the profile wants more than a mark.
    fn remedy(&mut self, topic: &str, remedy: Remedy);
}

/// All topics' pieces, on their way to the publisher. Lives as long as the upstream, across its connections.
#[derive(Default)]
pub struct Flow {}

impl Flow {
    pub fn take(&mut self, piece: &Piece<'_>, out: &mut dyn Outflow) {
        let bytes = if piece.treatment.emit_element { piece.element } else { piece.message };
        let keeping = match piece.treatment.mode {
            Mode::Replace => Keeping::NEWEST,
            Mode::Tail(keep) => Keeping::Value { keep },
            Mode::Nothing => Keeping::Moment,
        };
        let payload = Payload { bytes: Bytes::copy_from_slice(bytes), kind: piece.kind };
        out.publish(piece.topic, payload, keeping, piece.received);
    }
}
