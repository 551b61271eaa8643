//! The assembler: gaps between a topic's updates, what clients that join will need of them, and what is published.
//!
//! No sockets and no clock.

pub mod cadence;
pub mod sequence;

mod book;
mod checksum;
mod decimal;
mod fold;
mod join;
mod merge;
#[cfg(test)]
mod oddities;
mod payload;
#[cfg(test)]
mod recordings;
mod rows;
mod splice;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::history::KEEP_MAX;
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatus;
use crate::profile::rules::numbers::Number;
use crate::profile::rules::treatment::{Mode, StaleAfter, TAIL_MAX, Treatment};
use crate::words::stamp::Stamp;

use crate::intake::assemble::cadence::Cadence;
use crate::intake::assemble::fold::FoldScratch;
use crate::intake::assemble::join::Join;
use crate::intake::assemble::payload::payload;
use crate::intake::assemble::topic::{Disposition, FoldBudget, TopicState};
use crate::intake::update::{Generation, Release, Update, UpdateSink};

/// The longest tail of a profile can be kept.
const _: () = assert!(TAIL_MAX == KEEP_MAX as usize);

/// 512 MiB for the folded values of all topics; further ones are not folded, and clients that join receive their deltas
/// one by one.
const FOLDED_BYTES_MAX: usize = 512 << 20;
/// 64 MiB for deltas that wait for snapshots from elsewhere; beyond it a topic keeps its newest one, and only a later
/// snapshot fits.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Calls of `tick` in which every topic is checked once.
const TICKS_PER_TOUR: usize = 10;

/// All topics' updates, on their way to the publisher. Lives as long as the upstream, across its connections.
///
/// Topics have a state where they need one: those with a sequence, those with deltas, and all of them where cadences
/// are checked. Beyond `topics_max` topics have none: their numbers are not checked, their deltas are not folded, they
/// are never stale. With the publisher's own limit that is no loss, because it drops those topics.
pub struct Assembler {
    stale_after: StaleAfter,
    topics_max: usize,
    by_name: HashMap<Arc<str>, usize>,
    topics: Vec<TopicState>,
    /// Topics whose snapshots come from elsewhere.
    joins: HashMap<Arc<str>, Join>,
    /// Bytes of the deltas that they hold.
    held_bytes: usize,
    paused: bool,
    /// Since when, on the monotonic clock, silences count; none until the next call.
    awake_ns: Option<u64>,
    /// The next topic for `tick` to check.
    next: usize,
    folded_bytes: usize,
    scratch: FoldScratch,
}

impl Default for Assembler {
    /// Checks no cadence, and remembers as many topics as the publisher admits by default.
    fn default() -> Assembler {
        Assembler::new(StaleAfter::Never, 100_000)
    }
}

impl Assembler {
    pub fn new(stale_after: StaleAfter, topics_max: usize) -> Assembler {
        Assembler {
            stale_after,
            topics_max,
            by_name: HashMap::new(),
            topics: Vec::new(),
            joins: HashMap::new(),
            held_bytes: 0,
            paused: false,
            awake_ns: None,
            next: 0,
            folded_bytes: 0,
            scratch: FoldScratch::default(),
        }
    }

    /// Publishes an update, after the reports that belong before it. Where deltas wait for a snapshot from elsewhere, in
    /// its time.
    pub fn take(&mut self, update: &Update<'_>, release: Release, out: &mut dyn UpdateSink) {
        let waits = matches!(&update.treatment.mode, Mode::Changes(changes) if changes.waits);
        let is_known = !self.joins.is_empty() && self.joins.contains_key(update.topic);
        let joins = if is_known { waits || update.snapshot } else { waits && self.joins.len() < self.topics_max };
        if !joins {
            return self.assemble(update, release, out);
        }
        let mut joins = std::mem::take(&mut self.joins);
        let join = joins.entry(update.topic.into()).or_default();
        self.held_bytes -= join.held_bytes();
        join.take(update, release, out, &mut |update, release, out| self.assemble(update, release, out));
        if self.held_bytes + join.held_bytes() > HELD_BYTES_MAX {
            join.shrink_to_newest();
        }
        self.held_bytes += join.held_bytes();
        self.joins = joins;
    }

    fn assemble(&mut self, update: &Update<'_>, release: Release, out: &mut dyn UpdateSink) {
        let generation = match release {
            Release::Of(generation) => Some(generation),
            Release::InOrder => None,
            Release::Restart => {
                self.restart(update.topic);
                None
            }
            Release::Late => return publish(update, Retention::Transient, out),
        };
        let mode = &update.treatment.mode;
        let retention = match self.index_of(update, generation) {
            None => retention(mode, update.snapshot),
            Some(index) => {
                let topic = &mut self.topics[index];
                let mut budget = FoldBudget {
                    scratch: &mut self.scratch,
                    folded_bytes: &mut self.folded_bytes,
                    folded_bytes_max: FOLDED_BYTES_MAX,
                };
                let disposition = topic.check(update, generation, &mut budget, out);
                if disposition == Disposition::Drop {
                    return;
                }
                let awake_ns = *self.awake_ns.get_or_insert(update.received.mono_ns);
                if self.stale_after != StaleAfter::Never && topic.cadence.arrived(update.received, awake_ns) {
                    out.status(update.topic, TopicStatus::Live, update.received);
                }
                match mode {
                    Mode::Changes(changes) => topic.keep(changes, (update, disposition), &mut budget, out),
                    mode => retention(mode, update.snapshot),
                }
            }
        };
        publish(update, retention, out);
    }

    /// The index of the update's topic in `topics`, if it needs a state and may have one.
    fn index_of(&mut self, update: &Update<'_>, generation: Option<Generation>) -> Option<usize> {
        let Treatment { mode, sequence, .. } = update.treatment;
        if sequence.is_none() && !matches!(mode, Mode::Changes(_)) && self.stale_after == StaleAfter::Never {
            return None;
        }
        if let Some(index) = self.by_name.get(update.topic) {
            return Some(*index);
        }
        if self.topics.len() >= self.topics_max {
            return None;
        }
        let name: Arc<str> = update.topic.into();
        self.topics.push(TopicState::new(name.clone(), generation));
        self.by_name.insert(name, self.topics.len() - 1);
        Some(self.topics.len() - 1)
    }

    /// The numbers of this topic restart with its next update, as other connections have shown.
    fn restart(&mut self, topic: &str) {
        if let Some(index) = self.by_name.get(topic) {
            self.topics[*index].restart();
        }
    }

    /// The newest number of this topic.
    pub fn newest(&self, topic: &str) -> Option<Number> {
        self.by_name.get(topic).and_then(|index| self.topics[*index].newest())
    }

    /// Topics of the connection `old` continue over `new`, and nothing is missing in between; except in these, which
    /// are sorted by name.
    pub fn hand_over(&mut self, (old, new): (Generation, Generation), except: &[String]) {
        let continues =
            |topic: &&mut TopicState| except.binary_search_by(|name| name.as_str().cmp(&topic.name)).is_err();
        self.topics.iter_mut().filter(continues).for_each(|topic| topic.hand_over(old, new));
        let joins = self
            .joins
            .iter_mut()
            .filter(|(name, _)| except.binary_search_by(|other| other.as_str().cmp(name)).is_err());
        joins.for_each(|(_, join)| join.hand_over(old, new));
    }

    /// From now on this rule decides when topics are stale.
    pub fn check_by(&mut self, stale_after: StaleAfter) {
        self.stale_after = stale_after;
    }

    /// Nothing is expected of this topic until its next message.
    pub fn lapses(&mut self, topic: &str) {
        if let Some(index) = self.by_name.get(topic) {
            self.topics[*index].cadence = Cadence::default();
        }
    }

    /// Forgets the topic; if it comes back, it is new.
    pub fn forget(&mut self, name: &str) {
        self.held_bytes -= self.joins.remove(name).map_or(0, |join| join.held_bytes());
        let Some(index) = self.by_name.remove(name) else { return };
        self.folded_bytes -= self.topics.swap_remove(index).folded_bytes();
        if let Some(moved) = self.topics.get(index) {
            self.by_name.insert(moved.name.clone(), index);
        }
        if self.next >= self.topics.len() {
            self.next = 0;
        }
    }

    /// Whether `tick` has anything to do.
    pub fn is_checking(&self) -> bool {
        self.stale_after != StaleAfter::Never && !self.paused && !self.topics.is_empty()
    }

    /// Without a connection silence does not count. A reported silence lasts until the next message.
    pub fn paused(&mut self, paused: bool) {
        self.paused = paused;
        self.awake_ns = None;
    }

    /// Reports topics that have become stale. Called ten times a second: each call checks a tenth of the topics.
    pub fn tick(&mut self, now: Stamp, out: &mut dyn UpdateSink) {
        if self.paused || self.stale_after == StaleAfter::Never {
            return;
        }
        let awake_ns = *self.awake_ns.get_or_insert(now.mono_ns);
        for _ in 0..self.topics.len().div_ceil(TICKS_PER_TOUR) {
            let Some(topic) = self.topics.get_mut(self.next) else { break };
            if let Some((since_ms, message)) = topic.cadence.check(now, awake_ns, self.stale_after) {
                out.status(&topic.name, TopicStatus::Stale { since_ms, message }, now);
            }
            self.next = (self.next + 1) % self.topics.len();
        }
    }
}

fn publish(update: &Update<'_>, retention: Retention, out: &mut dyn UpdateSink) {
    let bytes = Bytes::copy_from_slice(update.published());
    out.publish(update.topic, payload(update, bytes), retention, update.received);
}

/// Retention of an update, as far as it depends on no other update.
fn retention(mode: &Mode, snapshot: bool) -> Retention {
    match mode {
        Mode::Replace => Retention::NEWEST,
        Mode::Tail(keep) => Retention::Value { keep: *keep },
        Mode::Nothing => Retention::Transient,
        Mode::Changes(_) if snapshot => Retention::Snapshot,
        Mode::Changes(_) => Retention::Delta { whole: None },
    }
}
