//! Several connections that carry the same become one stream: each message once, the first arrival of it.
//!
//! | what a topic's rule says | how it is known that a message came before |
//! |---|---|
//! | numbers that follow each other | by its number; one that is ahead waits a little for those in between |
//! | a snapshot and changes, without numbers | one connection at a time is believed, until it goes or a successor brings a snapshot |
//! | anything else | by its content, seen within the window; a message repeated by the same connection is another message |
//!
//! What comes late, by a number that only grows, is published but does not become the current value again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use metrics::{Counter, Gauge};

use crate::intake::flow::sequence::{Follow, Numbers};
use crate::intake::flow::{Piece, Treatment};
use crate::wire::encode::PayloadKind;
use crate::words::metrics::{self as names, Meters};
use crate::words::stamp::Stamp;

use super::roster::LinkId;

/// Two connections to one venue are rarely further apart than a second or two.
const WINDOW_NS: u64 = 10_000_000_000;
/// Contents remembered at most: 10 s of 26,000 messages a second.
const CONTENTS_MAX: usize = 1 << 18;
/// How long a message waits for those before it.
const HOLD_NS: u64 = 250_000_000;
/// Messages of one topic that wait at most.
const HELD_MAX: usize = 1024;
/// Part of a new lag in the mean that is shown.
const LAG_WEIGHT: f64 = 0.05;

/// Where a piece came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub link: LinkId,
    pub leg: usize,
    /// Grows with each connection, by whichever link, that does not go on with what another one carries.
    pub line: u32,
}

pub struct Merger {
    contents: HashMap<u64, Seen>,
    /// The same, oldest first.
    ages: VecDeque<(u64, u64)>,
    topics: HashMap<Box<str>, Track>,
    /// Topics with messages that wait.
    holding: HashSet<Box<str>>,
    /// Connections whose successor is already there.
    retiring: HashSet<LinkId>,
    legs: Vec<LegMeters>,
}

struct Seen {
    first: Stamp,
    published: u32,
    by: Vec<(LinkId, u32)>,
}

/// What is known of one topic.
#[derive(Default)]
struct Track {
    last: Option<i64>,
    owner: Option<LinkId>,
    held: BTreeMap<i64, Held>,
    /// When the first of those that wait is given up.
    until_ns: u64,
}

struct Held {
    treatment: Treatment,
    message: Vec<u8>,
    element: Element,
    kind: PayloadKind,
    numbers: Option<Numbers>,
    snapshot: bool,
    received: Stamp,
}

enum Element {
    /// A part of the message.
    Inside(Range<usize>),
    Apart(Vec<u8>),
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
    InOrder,
    /// Newer ones were published before it.
    Late,
}

/// Where a message stands towards the last one of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Next,
    Old,
    Ahead,
}

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
            contents: HashMap::new(),
            ages: VecDeque::new(),
            topics: HashMap::new(),
            holding: HashSet::new(),
            retiring: HashSet::new(),
            legs: (0..legs).map(leg).collect(),
        }
    }

    /// Takes one piece and gives those that are to be published now, in their order.
    pub fn take(&mut self, source: Source, piece: &Piece<'_>, publish: &mut dyn FnMut(&Piece<'_>, Turn)) {
        let strict = piece.treatment.sequence.map(|rule| rule.follow).filter(|follow| *follow != Follow::Monotonic);
        match (strict, piece.numbers) {
            (Some(follow), Some(numbers)) if numbers.last.is_some() => {
                self.take_numbered(source, piece, (follow, numbers), publish);
            }
            _ if piece.treatment.mode.builds_up() => self.take_owned(source, piece, publish),
            _ => self.take_by_content(source, piece, publish),
        }
    }

    fn take_numbered(
        &mut self,
        source: Source,
        piece: &Piece<'_>,
        (follow, numbers): (Follow, Numbers),
        publish: &mut dyn FnMut(&Piece<'_>, Turn),
    ) {
        let track = track(&mut self.topics, piece.topic);
        let number = numbers.last.unwrap_or_default();
        let relation = match track.last {
            None => Relation::Next,
            Some(last) if piece.snapshot => {
                if number > last {
                    Relation::Next
                } else {
                    Relation::Old
                }
            }
            Some(last) => relation(follow, last, numbers),
        };
        match relation {
            Relation::Old => self.duplicate(source, None),
            Relation::Next => {
                track.last = Some(number);
                publish(piece, Turn::InOrder);
                self.win(source);
                self.release(piece.topic, Some(follow), publish);
            }
            Relation::Ahead => {
                if track.held.is_empty() {
                    track.until_ns = piece.received.mono_ns + HOLD_NS;
                    self.holding.insert(piece.topic.into());
                }
                let is_new = !track.held.contains_key(&number);
                track.held.entry(number).or_insert_with(|| Held::of(piece));
                let is_full = track.held.len() > HELD_MAX;
                if is_new {
                    self.win(source)
                } else {
                    self.duplicate(source, None)
                }
                if is_full {
                    self.release(piece.topic, None, publish);
                }
            }
        }
    }

    /// Publishes what waits: with a rule only what follows now, without one everything.
    fn release(&mut self, topic: &str, follow: Option<Follow>, publish: &mut dyn FnMut(&Piece<'_>, Turn)) {
        let Some(track) = self.topics.get_mut(topic) else { return };
        while let Some(entry) = track.held.first_entry() {
            let held = entry.get();
            let relation = match (follow, track.last) {
                (Some(follow), Some(last)) => relation(follow, last, held.numbers.unwrap_or_default()),
                _ => Relation::Next,
            };
            if relation == Relation::Ahead {
                return;
            }
            let (number, held) = entry.remove_entry();
            if relation == Relation::Next {
                track.last = track.last.max(Some(number));
                publish(&held.piece(topic), Turn::InOrder);
            }
        }
        self.holding.remove(topic);
    }

    fn take_owned(&mut self, source: Source, piece: &Piece<'_>, publish: &mut dyn FnMut(&Piece<'_>, Turn)) {
        let track = track(&mut self.topics, piece.topic);
        let owner = *track.owner.get_or_insert(source.link);
        let takes_over = piece.snapshot && self.retiring.contains(&owner);
        if owner == source.link || takes_over {
            track.owner = Some(source.link);
            publish(piece, Turn::InOrder);
            self.win(source);
        } else {
            self.duplicate(source, None);
        }
    }

    fn take_by_content(&mut self, source: Source, piece: &Piece<'_>, publish: &mut dyn FnMut(&Piece<'_>, Turn)) {
        self.forget(piece.received.mono_ns);
        let mut hasher = DefaultHasher::new();
        (piece.topic, piece.element).hash(&mut hasher);
        let content = hasher.finish();
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
        if let Some(number) = number {
            let track = track(&mut self.topics, piece.topic);
            if track.last.is_some_and(|last| number < last) {
                turn = Turn::Late;
            }
            track.last = track.last.max(Some(number));
        }
        publish(piece, turn);
        self.win(source);
    }

    /// Gives up waiting where it has lasted long enough.
    pub fn tick(&mut self, now: Stamp, publish: &mut dyn FnMut(&Piece<'_>, Turn)) {
        let late = self
            .holding
            .iter()
            .filter(|topic| self.topics.get(&***topic).is_some_and(|track| track.until_ns <= now.mono_ns));
        for topic in late.cloned().collect::<Vec<_>>() {
            self.release(&topic, None, publish);
        }
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        self.holding.iter().filter_map(|topic| Some(self.topics.get(topic)?.until_ns)).min()
    }

    /// The connection has a successor, whose snapshots count from now on.
    pub fn retires(&mut self, link: LinkId) {
        self.retiring.insert(link);
    }

    /// The connection is gone. Gives the topics for which it was believed: others must bring snapshots of them.
    pub fn gone(&mut self, link: LinkId) -> Vec<String> {
        self.retiring.remove(&link);
        let mut orphans = Vec::new();
        for (topic, track) in &mut self.topics {
            if track.owner == Some(link) {
                track.owner = None;
                orphans.push(topic.to_string());
            }
        }
        orphans
    }

    /// There is only one connection now, and has been for a window: nothing needs to be known.
    pub fn clear(&mut self) {
        self.contents.clear();
        self.ages.clear();
        self.topics.clear();
        self.holding.clear();
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

fn track<'t>(topics: &'t mut HashMap<Box<str>, Track>, topic: &str) -> &'t mut Track {
    if !topics.contains_key(topic) {
        topics.insert(topic.into(), Track::default());
    }
    topics.get_mut(topic).expect("it was just put there")
}

fn relation(follow: Follow, last: i64, numbers: Numbers) -> Relation {
    let number = numbers.last.unwrap_or_default();
    let follows = match follow {
        Follow::Inc => number == last.saturating_add(1),
        Follow::Range => numbers.first.is_some_and(|first| first <= last.saturating_add(1)),
        Follow::Prev => numbers.prev == Some(last),
        Follow::Monotonic => true,
    };
    match (number <= last, follows) {
        (true, _) => Relation::Old,
        (false, true) => Relation::Next,
        (false, false) => Relation::Ahead,
    }
}

impl Held {
    fn of(piece: &Piece<'_>) -> Held {
        let start = (piece.element.as_ptr() as usize).wrapping_sub(piece.message.as_ptr() as usize);
        let range = start..start.wrapping_add(piece.element.len());
        let is_inside = piece.message.get(range.clone()).is_some_and(|part| part == piece.element);
        Held {
            treatment: piece.treatment.clone(),
            message: piece.message.to_vec(),
            element: if is_inside { Element::Inside(range) } else { Element::Apart(piece.element.to_vec()) },
            kind: piece.kind,
            numbers: piece.numbers,
            snapshot: piece.snapshot,
            received: piece.received,
        }
    }

    fn piece<'a>(&'a self, topic: &'a str) -> Piece<'a> {
        Piece {
            treatment: &self.treatment,
            topic,
            message: &self.message,
            kind: self.kind,
            element: match &self.element {
                Element::Inside(range) => &self.message[range.clone()],
                Element::Apart(element) => element,
            },
            numbers: self.numbers,
            snapshot: self.snapshot,
            received: self.received,
        }
    }
}
