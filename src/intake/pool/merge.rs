//! Several connections that carry the same become one stream: each message once, the first arrival of it.
//!
//! | what a topic's rule says | how it is known that a message came before |
//! |---|---|
//! | numbers that follow each other | by its number; one that is ahead waits a little for those in between |
//! | a snapshot and changes, without numbers | one connection at a time is believed, until it goes or another one of its leg brings a snapshot |
//! | anything else | by its content, seen within the window; a message repeated by the same connection is another message |
//!
//! What comes late, by a number that only grows, is published but does not become the current value again. Numbers that
//! a venue starts over are told from late copies by this: a connection does not go back behind what it has brought.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use metrics::{Counter, Gauge};

use crate::intake::flow::Piece;
use crate::intake::flow::sequence::{Follow, Numbers};
use crate::words::metrics::{self as names, Meters};
use crate::words::stamp::Stamp;

use super::held::Held;
use super::roster::LinkId;
use super::track::{Relation, Track, relation};

/// How long a content is remembered: much longer than two connections to one venue are apart.
const WINDOW_NS: u64 = 10_000_000_000;
/// Contents remembered at most: 10 s of 26,000 messages a second.
const CONTENTS_MAX: usize = 1 << 18;
/// How long a message waits for those before it.
const HOLD_NS: u64 = 250_000_000;
/// Messages of one topic that wait at most; with more the missing ones are given up.
const HELD_MAX: usize = 1024;
/// Bytes of all messages that wait at most; with more those that the newest one waits for are given up.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Topics remembered at most; in further ones a message is known by its content.
const TOPICS_MAX: usize = 1_000_000;
/// Part of a new lag in the mean that is shown.
const LAG_WEIGHT: f64 = 0.05;

/// Where a piece came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub link: LinkId,
    pub leg: usize,
    /// Another number for each connection that was opened, by whichever link.
    pub line: u32,
}

pub struct Merger {
    hasher: RandomState,
    contents: HashMap<u64, Seen>,
    /// The same, oldest first.
    ages: VecDeque<(u64, u64)>,
    topics: HashMap<Box<str>, Track>,
    /// Topics with messages that wait.
    holding: HashSet<Box<str>>,
    held_bytes: usize,
    legs: Vec<LegMeters>,
}

struct Seen {
    first: Stamp,
    published: u32,
    by: Vec<(LinkId, u32)>,
}

struct LegMeters {
    wins: Counter,
    duplicates: Counter,
    lag: Gauge,
    lag_s: f64,
}

/// What becomes of a piece that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Whichever connection it came from, it goes on with what was published before.
    InOrder,
    /// It goes on with what came over the connection of this line, and with nothing else.
    OfLine(u32),
    /// Newer ones were published before it.
    Late,
}

type Publish<'p> = dyn FnMut(&Piece<'_>, Turn) + 'p;

impl Merger {
    pub fn new(legs: usize, meters: &Meters) -> Merger {
        let leg = |leg: usize| {
            let label = leg.to_string();
            let labels = [("leg", &*label)];
            LegMeters {
                wins: meters.counter(&names::UPSTREAM_LEG_WINS, &labels),
                duplicates: meters.counter(&names::UPSTREAM_LEG_DUPLICATES, &labels),
                lag: meters.gauge(&names::UPSTREAM_LEG_LAG, &labels),
                lag_s: 0.0,
            }
        };
        Merger {
            hasher: RandomState::new(),
            contents: HashMap::new(),
            ages: VecDeque::new(),
            topics: HashMap::new(),
            holding: HashSet::new(),
            held_bytes: 0,
            legs: (0..legs).map(leg).collect(),
        }
    }

    /// Takes one piece and gives those that are to be published now, in their order.
    pub fn take(&mut self, source: Source, piece: &Piece<'_>, publish: &mut Publish<'_>) {
        let strict = piece.treatment.sequence.map(|rule| rule.follow).filter(|follow| *follow != Follow::Monotonic);
        match (strict, piece.numbers) {
            _ if !self.topics.contains_key(piece.topic) => self.take_by_content(source, piece, publish),
            (Some(follow), Some(numbers)) if numbers.last.is_some() => {
                self.take_numbered(source, piece, (follow, numbers), publish);
            }
            _ if piece.treatment.mode.builds_up() => self.take_owned(source, piece, publish),
            _ => self.take_by_content(source, piece, publish),
        }
    }

    /// The topic is to be known, if there is room; `newest` gives the number of what was published before there were
    /// several connections.
    pub fn meet(&mut self, topic: &str, newest: impl FnOnce() -> Option<i64>) {
        if self.topics.len() < TOPICS_MAX && !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), Track::after(newest()));
        }
    }

    fn take_numbered(
        &mut self,
        source: Source,
        piece: &Piece<'_>,
        (follow, numbers): (Follow, Numbers),
        publish: &mut Publish<'_>,
    ) {
        let Some(track) = self.topics.get_mut(piece.topic) else { return };
        let number = numbers.last.unwrap_or_default();
        if track.starts_over(source, piece, number) {
            track.heard.clear();
            track.last = None;
            for held in std::mem::take(&mut track.held).into_values() {
                self.held_bytes -= held.bytes();
            }
        }
        track.hears(source, number);
        let relation = match track.last {
            None => Relation::Next,
            // One that was asked for brings the newest number once more.
            Some(last) if piece.snapshot => {
                let is_new = number > last || (number == last && track.snapshot != Some(number));
                if is_new { Relation::Next } else { Relation::Old }
            }
            Some(last) => relation(follow, last, numbers),
        };
        match relation {
            Relation::Old => self.duplicate(source, None),
            Relation::Again => self.take_by_content(source, piece, publish),
            Relation::Next => {
                track.publishes(piece, number);
                publish(piece, Turn::InOrder);
                self.win(source);
                self.release(piece.topic, follow, publish);
            }
            Relation::Ahead => {
                if track.held.contains_key(&number) {
                    return self.duplicate(source, None);
                }
                if track.held.is_empty() {
                    track.missing_since_ns = piece.received.mono_ns;
                    self.holding.insert(piece.topic.into());
                }
                let held = Held::of(piece);
                self.held_bytes += held.bytes();
                track.held.insert(number, held);
                self.win(source);
                while self.holds_too_much(piece.topic) {
                    self.give_up(piece.topic, publish);
                }
            }
        }
    }

    fn holds_too_much(&self, topic: &str) -> bool {
        let held = self.topics.get(topic).map_or(0, |track| track.held.len());
        held > HELD_MAX || (held > 0 && self.held_bytes > HELD_BYTES_MAX)
    }

    /// Publishes what waits and follows now.
    fn release(&mut self, topic: &str, follow: Follow, publish: &mut Publish<'_>) {
        let Some(track) = self.topics.get_mut(topic) else { return };
        while let Some((number, held)) = track.held.first_key_value() {
            let number = *number;
            let numbers = held.numbers.unwrap_or_default();
            let relation = track.last.map_or(Relation::Next, |last| relation(follow, last, numbers));
            if relation == Relation::Ahead {
                track.missing_since_ns = held.received.mono_ns;
                return;
            }
            let Some(held) = track.held.remove(&number) else { return };
            self.held_bytes -= held.bytes();
            if relation == Relation::Next {
                let piece = held.piece(topic);
                track.publishes(&piece, number);
                publish(&piece, Turn::InOrder);
            }
        }
        self.holding.remove(topic);
    }

    /// Waits no longer for what is missing before the first of those that wait; what follows it is published as well.
    fn give_up(&mut self, topic: &str, publish: &mut Publish<'_>) {
        let first = self.topics.get_mut(topic).and_then(|track| track.held.first_entry());
        let Some((number, held)) = first.map(|entry| entry.remove_entry()) else {
            self.holding.remove(topic);
            return;
        };
        self.held_bytes -= held.bytes();
        let piece = held.piece(topic);
        if let Some(track) = self.topics.get_mut(topic) {
            track.publishes(&piece, number);
        }
        publish(&piece, Turn::InOrder);
        if let Some(rule) = held.treatment.sequence {
            self.release(topic, rule.follow, publish);
        }
    }

    fn take_owned(&mut self, source: Source, piece: &Piece<'_>, publish: &mut Publish<'_>) {
        let Some(track) = self.topics.get_mut(piece.topic) else { return };
        // Two connections of one leg carry a topic only while it is on its way from one to the other.
        let may_speak =
            track.owner.is_none_or(|owner| owner.link == source.link || (piece.snapshot && owner.leg == source.leg));
        if may_speak {
            track.owner = Some(source);
            publish(piece, Turn::OfLine(source.line));
            self.win(source);
        } else {
            self.duplicate(source, None);
        }
    }

    fn take_by_content(&mut self, source: Source, piece: &Piece<'_>, publish: &mut Publish<'_>) {
        self.forget(piece.received.mono_ns);
        let content = self.hasher.hash_one((piece.topic, piece.element));
        let seen = self.contents.entry(content).or_insert_with(|| {
            self.ages.push_back((piece.received.mono_ns, content));
            Seen { first: piece.received, published: 0, by: Vec::new() }
        });
        let count = match seen.by.iter_mut().find(|(link, _)| *link == source.link) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                seen.by.push((source.link, 1));
                1
            }
        };
        if count <= seen.published {
            let first = seen.first;
            return self.duplicate(source, Some(piece.received.ns_since(first)));
        }
        seen.published = count;
        let number = piece.numbers.and_then(|numbers| numbers.last);
        let mut turn = Turn::InOrder;
        if let Some((number, track)) = number.zip(self.topics.get_mut(piece.topic)) {
            let starts_over = track.starts_over(source, piece, number);
            if starts_over {
                track.heard.clear();
            }
            track.hears(source, number);
            if track.last.is_some_and(|last| number < last) && !starts_over {
                turn = Turn::Late;
            } else {
                track.publishes(piece, number);
            }
        }
        publish(piece, turn);
        self.win(source);
    }

    /// Gives up waiting where it has lasted long enough.
    pub fn tick(&mut self, now: Stamp, publish: &mut Publish<'_>) {
        let late: Vec<Box<str>> = self.holding.iter().filter(|topic| self.is_late(topic, now)).cloned().collect();
        for topic in late {
            while self.is_late(&topic, now) {
                self.give_up(&topic, publish);
            }
        }
    }

    fn is_late(&self, topic: &str, now: Stamp) -> bool {
        let held = self.topics.get(topic).filter(|track| !track.held.is_empty());
        held.is_some_and(|track| track.missing_since_ns.saturating_add(HOLD_NS) <= now.mono_ns)
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let since = self.holding.iter().filter_map(|topic| Some(self.topics.get(topic)?.missing_since_ns));
        since.min().map(|since| since.saturating_add(HOLD_NS))
    }

    /// The connection is gone. Gives the topics for which it was believed: others must bring snapshots of them.
    pub fn gone(&mut self, link: LinkId) -> Vec<String> {
        let mut orphans = Vec::new();
        for (topic, track) in &mut self.topics {
            track.heard.retain(|(other, _)| *other != link);
            if track.owner.is_some_and(|owner| owner.link == link) {
                track.owner = None;
                orphans.push(topic.to_string());
            }
        }
        orphans.sort_unstable();
        orphans
    }

    /// The connection does not carry this topic any more. Whether it was believed: another must bring a snapshot.
    pub fn leaves(&mut self, topic: &str, link: LinkId) -> bool {
        let Some(track) = self.topics.get_mut(topic) else { return false };
        track.heard.retain(|(other, _)| *other != link);
        let was_believed = track.owner.is_some_and(|owner| owner.link == link);
        if was_believed {
            track.owner = None;
        }
        was_believed
    }

    /// There is only one connection now, and has been for a window: nothing needs to be known.
    pub fn clear(&mut self) {
        self.contents.clear();
        self.ages.clear();
        self.topics.clear();
        self.holding.clear();
        self.held_bytes = 0;
    }

    fn forget(&mut self, now_ns: u64) {
        while let Some((age_ns, content)) = self.ages.front() {
            if self.ages.len() <= CONTENTS_MAX && age_ns.saturating_add(WINDOW_NS) > now_ns {
                return;
            }
            self.contents.remove(content);
            self.ages.pop_front();
        }
    }

    fn win(&mut self, source: Source) {
        if let Some(leg) = self.legs.get(source.leg) {
            leg.wins.increment(1);
        }
    }

    fn duplicate(&mut self, source: Source, lag_ns: Option<u64>) {
        let Some(leg) = self.legs.get_mut(source.leg) else { return };
        leg.duplicates.increment(1);
        if let Some(lag_ns) = lag_ns {
            leg.lag_s += LAG_WEIGHT * (lag_ns as f64 / 1e9 - leg.lag_s);
            leg.lag.set(leg.lag_s);
        }
    }
}
