//! State of one topic of several connections: its newest number, its owner, its waiting updates.

use std::collections::BTreeMap;

use crate::profile::rules::numbers::{Continuity, Number, Numbers};

use crate::intake::arbitrate::pending::PendingUpdate;
use crate::intake::update::{ConnectionId, Update, UpdateSource};

/// Two connections to one venue are rarely further apart than this.
const LATE_NS: u64 = 2_000_000_000;
/// If a topic has only old numbers for this long, and the connection with the newest one is gone, no connection will
/// ever reach that number.
const LEFT_NS: u64 = 10_000_000_000;

/// State of one topic.
#[derive(Default)]
pub(crate) struct TopicTrack {
    /// Number of the newest message that was published.
    pub last: Option<Number>,
    /// Its time of arrival.
    last_ns: u64,
    /// Number of the newest snapshot that was published.
    pub snapshot: Option<Number>,
    /// The highest number that each living connection has brought.
    pub brought: Vec<(ConnectionId, Number)>,
    /// The one connection whose updates are published.
    pub owner: Option<UpdateSource>,
    pub pending: BTreeMap<Number, PendingUpdate>,
    /// Since when updates are missing before the first waiting one.
    pub missing_since_ns: u64,
}

/// Position of a message relative to the last one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Next,
    /// Repeats the number of the last one, as its rule allows.
    Again,
    Old,
    Ahead,
}

impl TopicTrack {
    /// State of a topic whose newest message has this number.
    pub(crate) fn after(newest: Option<Number>, now_ns: u64) -> TopicTrack {
        TopicTrack { last: newest, last_ns: now_ns, ..TopicTrack::default() }
    }

    /// Whether an old number is the first of a new count rather than a late copy.
    pub(crate) fn starts_over(&self, source: UpdateSource, update: &Update<'_>, number: Number) -> bool {
        let Some(last) = self.last.filter(|last| number < *last) else { return false };
        let quiet_ns = update.received.mono_ns.saturating_sub(self.last_ns);
        let goes_back = match self.brought.iter().find(|(connection, _)| *connection == source.connection) {
            Some((_, brought)) => number < *brought,
            // No open connection has brought a number of the old count.
            None => self.brought.is_empty(),
        };
        let none_was_there = self.brought.iter().all(|(_, brought)| *brought < last);
        (goes_back && (update.snapshot || quiet_ns > LATE_NS)) || (none_was_there && quiet_ns > LEFT_NS)
    }

    pub(crate) fn brings(&mut self, source: UpdateSource, number: Number) {
        match self.brought.iter_mut().find(|(connection, _)| *connection == source.connection) {
            Some((_, brought)) => *brought = number.max(*brought),
            None => self.brought.push((source.connection, number)),
        }
    }

    pub(crate) fn published(&mut self, update: &Update<'_>, number: Number) {
        self.last = Some(number);
        self.last_ns = update.received.mono_ns;
        if update.snapshot {
            self.snapshot = Some(number);
        }
    }
}

pub(crate) fn relation(follow: Continuity, last: Number, numbers: Numbers) -> Relation {
    let number = numbers.last.unwrap_or_default();
    let follows = match follow {
        Continuity::Inc => number == last + 1,
        Continuity::Range => numbers.first.is_none_or(|first| first <= last + 1),
        // A restart of the numbers names the old one.
        Continuity::Prev if numbers.prev == Some(last) => {
            return if number == last { Relation::Again } else { Relation::Next };
        }
        Continuity::Prev => numbers.prev.is_none(),
        Continuity::Monotonic => true,
    };
    match (number <= last, follows) {
        (true, _) => Relation::Old,
        (false, true) => Relation::Next,
        (false, false) => Relation::Ahead,
    }
}
