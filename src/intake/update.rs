//! What goes through the pipeline: one update of one topic, and where it came from.

use std::ops::Range;

use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::profile::rules::numbers::{GapRemedy, Numbers};
use crate::profile::rules::treatment::Treatment;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

/// One connection, for as long as the process runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Counts the connections that were opened: a connection that is opened again has another generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(pub u32);

/// Where an update came from.
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
    /// Where the element that it is lies in the message; the whole message if the rule has no `each`.
    pub element: Range<usize>,
    /// What the rule's sequence pointers found.
    pub numbers: Option<Numbers>,
    /// The rule's `snapshot_when` holds.
    pub snapshot: bool,
    pub received: Stamp,
}

impl<'a> Update<'a> {
    pub fn element(&self) -> &'a [u8] {
        self.message.get(self.element.clone()).unwrap_or_default()
    }

    /// What of the message is published.
    pub fn published(&self) -> &'a [u8] {
        if self.treatment.emit_element { self.element() } else { self.message }
    }
}

/// How an update is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Whichever connection it came from, it continues what was published before.
    InOrder,
    /// As that, but the numbers of its topic begin anew with it.
    Anew,
    /// It continues what came over the connection of this generation, and nothing else.
    Of(Generation),
    /// Newer ones were published before it: it is not the current value any more.
    Late,
}

/// Where assembled updates go.
pub trait UpdateSink {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, received: Stamp);
    fn status(&mut self, topic: &str, status: TopicStatus, received: Stamp);
    /// Something is missing in this topic, and the profile wants more than a mark.
    fn remedy(&mut self, topic: &str, remedy: GapRemedy);
    /// Something is odd about this topic's messages: for the operator, not for clients.
    fn oddity(&mut self, topic: &str, oddity: Oddity, received: Stamp);
}

/// What is odd about a topic's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// One was dropped, because its number is older than the newest.
    Old,
    /// Its numbers began anew.
    Anew,
    /// So many changes have come, and nothing that they could be applied to.
    NoSnapshot { changes: u64 },
    /// A snapshot or a change is not as the profile says, so that later clients get no whole value.
    Malformed,
    /// A whole value has become too large to be kept.
    TooLarge,
}
