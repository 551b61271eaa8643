//! One update of one topic on its way through the pipeline, and its source.

use std::ops::Range;

use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::profile::rules::numbers::{GapRemedy, Numbers};
use crate::profile::rules::treatment::Treatment;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

use crate::intake::misfit::Misfit;

/// Identifies one connection for as long as the process runs; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Counts the connections that were opened: a connection that is opened again has another generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(pub u32);

/// Source of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateSource {
    pub connection: ConnectionId,
    pub leg: usize,
    pub generation: Generation,
}

/// One update of one topic, found in a message.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    pub treatment: &'a Treatment,
    pub topic: &'a str,
    /// The whole message.
    pub message: &'a [u8],
    pub kind: PayloadKind,
    /// Range of its element in the message; the whole message if the rule has no `each`.
    pub element: Range<usize>,
    /// Numbers at the rule's sequence pointers.
    pub numbers: Option<Numbers>,
    /// The rule's `snapshot_when` holds.
    pub snapshot: bool,
    pub received: Stamp,
}

impl<'a> Update<'a> {
    pub fn element(&self) -> &'a [u8] {
        self.message.get(self.element.clone()).unwrap_or_default()
    }

    /// The published part of the message.
    pub fn published(&self) -> &'a [u8] {
        if self.treatment.emit_element { self.element() } else { self.message }
    }
}

/// How an update is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It continues the published stream, whichever connection it came from.
    InOrder,
    /// As `InOrder`, but the numbers of its topic restart with it.
    Restart,
    /// It continues the stream of this generation, and nothing else.
    Of(Generation),
    /// Newer ones were published before it: it is no longer the current value.
    Late,
}

/// Destination of assembled updates.
pub trait UpdateSink {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, received: Stamp);
    fn status(&mut self, topic: &str, status: TopicStatus, received: Stamp);
    /// Messages are missing in this topic, and the profile demands more than a report.
    fn remedy(&mut self, topic: &str, remedy: GapRemedy);
    /// An oddity of this topic's messages: for the operator, not for clients.
    fn oddity(&mut self, topic: &str, oddity: Oddity, received: Stamp);
}

/// An oddity of a topic's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A message was dropped, because its number is older than the newest.
    Old,
    /// Its numbers restarted.
    Restart,
    /// This many deltas arrived without a snapshot to apply them to.
    NoSnapshot { changes: u64 },
    /// A snapshot or delta does not match the profile, so that clients that join receive no whole value. Boxed, since it
    /// is rare.
    Malformed(Box<Misfit>),
    /// A whole value became too large to keep.
    TooLarge,
    /// The feed's checksum is not that of the whole value.
    WrongChecksum,
}
