//! What is known of one topic that several connections bring: its newest number, who is believed, what waits.

use std::collections::BTreeMap;

use crate::intake::flow::Piece;
use crate::intake::flow::sequence::{Follow, Numbers};

use super::held::Held;
use super::merge::Source;
use super::roster::LinkId;

/// Two connections to one venue are rarely further apart than this.
const LATE_NS: u64 = 2_000_000_000;

/// What is known of one topic.
#[derive(Default)]
pub struct Track {
    /// Number of the newest message that was published.
    pub last: Option<i64>,
    /// When that was.
    last_ns: u64,
    /// Number of the newest snapshot that was published.
    pub snapshot: Option<i64>,
    /// The highest number that each living connection has brought.
    pub heard: Vec<(LinkId, i64)>,
    /// The connection that is believed.
    pub owner: Option<Source>,
    pub held: BTreeMap<i64, Held>,
    /// Since when something is missing before the first of those that wait.
    pub missing_since_ns: u64,
}

/// Where a message stands towards the last one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Next,
    /// It repeats the number of the last one, as its rule allows it to do.
    Again,
    Old,
    Ahead,
}

impl Track {
    /// Of a topic whose newest message has this number.
    pub fn after(newest: Option<i64>) -> Track {
        Track { last: newest, ..Track::default() }
    }

    /// Whether a number that was passed already is the first of a new count, and not a late copy.
    pub fn starts_over(&self, source: Source, piece: &Piece<'_>, number: i64) -> bool {
        if self.last.is_none_or(|last| number >= last) {
            return false;
        }
        let goes_back = match self.heard.iter().find(|(link, _)| *link == source.link) {
            Some((_, heard)) => number < *heard,
            // No connection that stands has brought anything of the old count.
            None => self.heard.is_empty(),
        };
        let quiet_ns = piece.received.mono_ns.saturating_sub(self.last_ns);
        goes_back && (piece.snapshot || quiet_ns > LATE_NS)
    }

    pub fn hears(&mut self, source: Source, number: i64) {
        match self.heard.iter_mut().find(|(link, _)| *link == source.link) {
            Some((_, heard)) => *heard = number.max(*heard),
            None => self.heard.push((source.link, number)),
        }
    }

    pub fn publishes(&mut self, piece: &Piece<'_>, number: i64) {
        self.last = Some(number);
        self.last_ns = piece.received.mono_ns;
        if piece.snapshot {
            self.snapshot = Some(number);
        }
    }
}

pub fn relation(follow: Follow, last: i64, numbers: Numbers) -> Relation {
    let number = numbers.last.unwrap_or_default();
    let follows = match follow {
        Follow::Inc => number == last.saturating_add(1),
        Follow::Range => numbers.first.is_none_or(|first| first <= last.saturating_add(1)),
        // One that starts the numbers over names the old one.
        Follow::Prev if numbers.prev == Some(last) => {
            return if number == last { Relation::Again } else { Relation::Next };
        }
        Follow::Prev => numbers.prev.is_none(),
        Follow::Monotonic => true,
    };
    match (number <= last, follows) {
        (true, _) => Relation::Old,
        (false, true) => Relation::Next,
        (false, false) => Relation::Ahead,
    }
}
