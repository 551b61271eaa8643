//! What becomes of the pieces of messages once their topics are known: whether something is missing between them, what
//! newcomers will need of them, and what is published.
//!
//! No sockets and no clock.

pub mod habit;
pub mod mode;
pub mod sequence;

mod book;
mod decimal;
mod fold;
mod merge;
#[cfg(test)]
mod recordings;
mod splice;
mod topic;
mod wrap;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::keeping::{Keeping, Note};
use crate::wire::encode::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

use self::fold::FoldScratch;
use self::habit::StaleAfter;
use self::sequence::{Numbers, Remedy, SequenceRule};
use self::topic::{Bench, Course, Topic};
use self::wrap::payload;

pub use self::mode::Mode;
pub(crate) use self::mode::read_mode;

/// 512 MiB for the folded values of all topics, some 500 books of 10,000 levels; further ones are not folded, and newcomers
/// get their changes one by one.
const FOLDED_BYTES_MAX: usize = 512 << 20;
/// Calls of `tick` in which every topic is looked at once.
const TICKS_PER_TOUR: usize = 10;

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

impl<'a> Piece<'a> {
    /// What of the message is published.
    fn published(&self) -> &'a [u8] {
        if self.treatment.emit_element { self.element } else { self.message }
    }
}

/// Where the flow puts what it has.
pub trait Outflow {
    fn publish(&mut self, topic: &str, payload: Payload, keeping: Keeping, received: Stamp);
    fn note(&mut self, topic: &str, note: Note, received: Stamp);
    /// Something is missing in this topic, and the profile wants more than a mark.
    fn remedy(&mut self, topic: &str, remedy: Remedy);
}

/// All topics' pieces, on their way to the publisher. Lives as long as the upstream, across its connections.
///
/// Topics that need a memory have one: those with a sequence, with changes, and all of them where habits are judged. At
/// `topics_max` further topics have none: their numbers are not checked, their changes are not folded, they are never
/// stale. With the publisher's own limit that is no loss, because it refuses those topics.
pub struct Flow {
    stale_after: StaleAfter,
    topics_max: usize,
    by_name: HashMap<Arc<str>, usize>,
    topics: Vec<Topic>,
    /// Grows with each connection.
    connection: u32,
    paused: bool,
    /// Since when, on the monotonic clock, silences count; none until the next moment that is seen.
    awake_ns: Option<u64>,
    /// The topic to be looked at next by `tick`.
    next: usize,
    folded_bytes: usize,
    scratch: FoldScratch,
}

impl Default for Flow {
    /// Judges no habits, and remembers as many topics as the publisher admits by default.
    fn default() -> Flow {
        Flow::new(StaleAfter::Never, 100_000)
    }
}

impl Flow {
    pub fn new(stale_after: StaleAfter, topics_max: usize) -> Flow {
        Flow {
            stale_after,
            topics_max,
            by_name: HashMap::new(),
            topics: Vec::new(),
            connection: 0,
            paused: false,
            awake_ns: None,
            next: 0,
            folded_bytes: 0,
            scratch: FoldScratch::default(),
        }
    }

    /// Publishes a piece, after what is to be told before it.
    pub fn take(&mut self, piece: &Piece<'_>, out: &mut dyn Outflow) {
        let mode = &piece.treatment.mode;
        let keeping = match self.place(piece) {
            None => mode.keeping(piece.snapshot),
            Some(place) => {
                let topic = &mut self.topics[place];
                let mut bench = Bench {
                    scratch: &mut self.scratch,
                    folded_bytes: &mut self.folded_bytes,
                    folded_bytes_max: FOLDED_BYTES_MAX,
                };
                let course = topic.check(piece, self.connection, &mut bench, out);
                if course == Course::Drop {
                    return;
                }
                let awake_ns = *self.awake_ns.get_or_insert(piece.received.mono_ns);
                if self.stale_after != StaleAfter::Never && topic.habit.come(piece.received, awake_ns) {
                    out.note(piece.topic, Note::Live, piece.received);
                }
                match mode {
                    Mode::Changes(changes) => topic.keep(changes, (piece, course), &mut bench, out),
                    mode => mode.keeping(piece.snapshot),
                }
            }
        };
        let bytes = Bytes::copy_from_slice(piece.published());
        out.publish(piece.topic, payload(piece, bytes), keeping, piece.received);
    }

    /// The piece's topic in `topics`, if it needs a memory and may have one.
    fn place(&mut self, piece: &Piece<'_>) -> Option<usize> {
        let Treatment { mode, sequence, .. } = piece.treatment;
        if sequence.is_none() && !matches!(mode, Mode::Changes(_)) && self.stale_after == StaleAfter::Never {
            return None;
        }
        if let Some(place) = self.by_name.get(piece.topic) {
            return Some(*place);
        }
        if self.topics.len() >= self.topics_max {
            return None;
        }
        let name: Arc<str> = piece.topic.into();
        self.topics.push(Topic::new(name.clone(), self.connection));
        self.by_name.insert(name, self.topics.len() - 1);
        Some(self.topics.len() - 1)
    }

    /// What comes from now on comes over a new connection: numbers may start over, and where messages hang together, what
    /// comes without a snapshot comes after a gap.
    pub fn reconnected(&mut self) {
        self.connection = self.connection.wrapping_add(1);
    }

    /// While there is no connection no silence counts. A silence that was told stays told until something comes.
    pub fn paused(&mut self, paused: bool) {
        self.paused = paused;
        self.awake_ns = None;
    }

    /// Tells which topics have become stale. To be called ten times a second: each call looks at a tenth of the topics.
    pub fn tick(&mut self, now: Stamp, out: &mut dyn Outflow) {
        if self.paused || self.stale_after == StaleAfter::Never {
            return;
        }
        let awake_ns = *self.awake_ns.get_or_insert(now.mono_ns);
        for _ in 0..self.topics.len().div_ceil(TICKS_PER_TOUR) {
            let Some(topic) = self.topics.get_mut(self.next) else { break };
            if let Some((since_ms, message)) = topic.habit.judge(now, awake_ns, self.stale_after) {
                out.note(&topic.name, Note::Stale { since_ms, message }, now);
            }
            self.next = (self.next + 1) % self.topics.len();
        }
    }
}
