//! One stream from several connections that carry the same: each message once, its first arrival.
//!
//! | a topic's rule | how a copy is recognised |
//! |---|---|
//! | numbers that follow each other | by its number; a message that is ahead waits a little for those in between |
//! | a snapshot and deltas, without numbers | one connection at a time owns the topic, until it is lost or another one of its leg brings a snapshot |
//! | anything else | by its content, seen within the window; a message repeated by the same connection is another message |
//!
//! A late message, by a number that only grows, is published but does not become the current value again. A venue that
//! restarts its numbers differs from late copies: a connection never goes back behind what it has brought.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

use metrics::{Counter, Gauge};

use crate::profile::rules::numbers::{Continuity, Number, Numbers};
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::arbitrate::pending::PendingUpdate;
use crate::intake::arbitrate::topic_track::{Relation, TopicTrack, relation};
use crate::intake::update::{ConnectionId, Release, Update, UpdateSource};

/// How long a content is remembered: much longer than two connections to one venue are ever apart.
const WINDOW_NS: u64 = 10_000_000_000;
/// Contents remembered at most: 10 s of 26,000 messages per second.
const CONTENTS_MAX: usize = 1 << 18;
/// Longest wait of a message for those before it.
const WAIT_NS: u64 = 250_000_000;
/// Messages of one topic that wait at most; with more, the missing ones are given up.
const PENDING_MAX: usize = 1024;
/// Bytes of all waiting messages; with more, those that the newest one waits for are given up.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Topics remembered at most; in further ones a copy is recognised by its content.
const TOPICS_MAX: usize = 1_000_000;
/// Weight of a new lag in the reported mean.
const LAG_WEIGHT: f64 = 0.05;

/// Makes one stream of several connections.
pub struct Arbiter {
    hasher: RandomState,
    contents: HashMap<u64, SeenCopies>,
    /// The same, oldest first.
    ages: VecDeque<(u64, u64)>,
    topics: HashMap<Box<str>, TopicTrack>,
    /// Topics with messages that wait.
    waiting: HashSet<Box<str>>,
    pending_bytes: usize,
    legs: Vec<LegMeters>,
}

/// Copies of one content.
struct SeenCopies {
    first: Stamp,
    published: u32,
    by: Vec<(ConnectionId, u32)>,
}

struct LegMeters {
    wins: Counter,
    duplicates: Counter,
    lag: Gauge,
    lag_s: f64,
}

type Publish<'p> = dyn FnMut(&Update<'_>, Release) + 'p;

impl Arbiter {
    pub fn new(legs: usize, meters: &Meters) -> Arbiter {
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
        Arbiter {
            hasher: RandomState::new(),
            contents: HashMap::new(),
            ages: VecDeque::new(),
            topics: HashMap::new(),
            waiting: HashSet::new(),
            pending_bytes: 0,
            legs: (0..legs).map(leg).collect(),
        }
    }

    /// Takes one update and publishes those that are due, in their order.
    pub fn take(&mut self, source: UpdateSource, update: &Update<'_>, publish: &mut Publish<'_>) {
        let strict =
            update.treatment.sequence.map(|rule| rule.follow).filter(|follow| *follow != Continuity::Monotonic);
        match (strict, update.numbers) {
            _ if !self.topics.contains_key(update.topic) => self.take_by_content(source, update, publish),
            (Some(follow), Some(numbers)) if numbers.last.is_some() => {
                self.take_numbered(source, update, (follow, numbers), publish);
            }
            _ if update.treatment.mode.builds_up() => self.take_owned(source, update, publish),
            _ => self.take_by_content(source, update, publish),
        }
    }

    /// Begins to track the topic, if there is room; `newest` is the last number published while there was one
    /// connection.
    pub fn track(&mut self, (topic, now): (&str, Stamp), newest: impl FnOnce() -> Option<Number>) {
        if self.topics.len() < TOPICS_MAX && !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), TopicTrack::after(newest(), now.mono_ns));
        }
    }

    /// Forgets the topic.
    pub fn forget_topic(&mut self, topic: &str) {
        if !self.waiting.contains(topic) {
            self.topics.remove(topic);
        }
    }

    fn take_numbered(
        &mut self,
        source: UpdateSource,
        update: &Update<'_>,
        (follow, numbers): (Continuity, Numbers),
        publish: &mut Publish<'_>,
    ) {
        let Some(track) = self.topics.get_mut(update.topic) else { return };
        let number = numbers.last.unwrap_or_default();
        let mut release = Release::InOrder;
        if track.starts_over(source, update, number) {
            release = Release::Restart;
            track.brought.clear();
            track.last = None;
            for pending in std::mem::take(&mut track.pending).into_values() {
                self.pending_bytes -= pending.bytes();
            }
        }
        track.brings(source, number);
        let relation = match track.last {
            None => Relation::Next,
            // A requested snapshot brings the newest number once more.
            Some(last) if update.snapshot => {
                let is_new = number > last || (number == last && track.snapshot != Some(number));
                if is_new { Relation::Next } else { Relation::Old }
            }
            Some(last) => relation(follow, last, numbers),
        };
        match relation {
            Relation::Old => self.duplicate(source, None),
            Relation::Again => self.take_by_content(source, update, publish),
            Relation::Next => {
                track.published(update, number);
                publish(update, release);
                self.win(source);
                self.publish_pending(update.topic, follow, publish);
            }
            Relation::Ahead => {
                if track.pending.contains_key(&number) {
                    return self.duplicate(source, None);
                }
                if track.pending.is_empty() {
                    track.missing_since_ns = update.received.mono_ns;
                    self.waiting.insert(update.topic.into());
                }
                let pending = PendingUpdate::of(update);
                self.pending_bytes += pending.bytes();
                track.pending.insert(number, pending);
                self.win(source);
                while self.has_too_much(update.topic) {
                    self.give_up(update.topic, publish);
                }
            }
        }
    }

    fn has_too_much(&self, topic: &str) -> bool {
        let pending = self.topics.get(topic).map_or(0, |track| track.pending.len());
        pending > PENDING_MAX || (pending > 0 && self.pending_bytes > PENDING_BYTES_MAX)
    }

    /// Publishes waiting updates that follow now.
    fn publish_pending(&mut self, topic: &str, follow: Continuity, publish: &mut Publish<'_>) {
        let Some(track) = self.topics.get_mut(topic) else { return };
        while let Some((number, pending)) = track.pending.first_key_value() {
            let number = *number;
            let numbers = pending.numbers.unwrap_or_default();
            let relation = track.last.map_or(Relation::Next, |last| relation(follow, last, numbers));
            if relation == Relation::Ahead {
                track.missing_since_ns = pending.received.mono_ns;
                return;
            }
            let Some(pending) = track.pending.remove(&number) else { return };
            self.pending_bytes -= pending.bytes();
            if relation == Relation::Next {
                let update = pending.update(topic);
                track.published(&update, number);
                publish(&update, Release::InOrder);
            }
        }
        self.waiting.remove(topic);
    }

    /// Gives up what is missing before the first waiting update; this one and those that follow it are published.
    fn give_up(&mut self, topic: &str, publish: &mut Publish<'_>) {
        let first = self.topics.get_mut(topic).and_then(|track| track.pending.first_entry());
        let Some((number, pending)) = first.map(|entry| entry.remove_entry()) else {
            self.waiting.remove(topic);
            return;
        };
        self.pending_bytes -= pending.bytes();
        let update = pending.update(topic);
        if let Some(track) = self.topics.get_mut(topic) {
            track.published(&update, number);
        }
        publish(&update, Release::InOrder);
        if let Some(rule) = pending.treatment.sequence {
            self.publish_pending(topic, rule.follow, publish);
        }
    }

    fn take_owned(&mut self, source: UpdateSource, update: &Update<'_>, publish: &mut Publish<'_>) {
        let Some(track) = self.topics.get_mut(update.topic) else { return };
        // Two connections of one leg carry a topic only while it is on its way from one to the other.
        let may_speak = track
            .owner
            .is_none_or(|owner| owner.connection == source.connection || (update.snapshot && owner.leg == source.leg));
        if may_speak {
            track.owner = Some(source);
            publish(update, Release::Of(source.generation));
            self.win(source);
        } else {
            self.duplicate(source, None);
        }
    }

    fn take_by_content(&mut self, source: UpdateSource, update: &Update<'_>, publish: &mut Publish<'_>) {
        self.forget(update.received.mono_ns);
        let content = self.hasher.hash_one((update.topic, update.element()));
        let seen = self.contents.entry(content).or_insert_with(|| {
            self.ages.push_back((update.received.mono_ns, content));
            SeenCopies { first: update.received, published: 0, by: Vec::new() }
        });
        let count = match seen.by.iter_mut().find(|(connection, _)| *connection == source.connection) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                seen.by.push((source.connection, 1));
                1
            }
        };
        if count <= seen.published {
            let first = seen.first;
            return self.duplicate(source, Some(update.received.ns_since(first)));
        }
        seen.published = count;
        let number = update.numbers.and_then(|numbers| numbers.last);
        let mut release = Release::InOrder;
        if let Some((number, track)) = number.zip(self.topics.get_mut(update.topic)) {
            let starts_over = track.starts_over(source, update, number);
            if starts_over {
                release = Release::Restart;
                track.brought.clear();
            }
            track.brings(source, number);
            if track.last.is_some_and(|last| number < last) && !starts_over {
                release = Release::Late;
            } else {
                track.published(update, number);
            }
        }
        publish(update, release);
        self.win(source);
    }

    /// Gives up waits that have lasted long enough.
    pub fn tick(&mut self, now: Stamp, publish: &mut Publish<'_>) {
        let late: Vec<Box<str>> = self.waiting.iter().filter(|topic| self.is_late(topic, now)).cloned().collect();
        for topic in late {
            while self.is_late(&topic, now) {
                self.give_up(&topic, publish);
            }
        }
    }

    fn is_late(&self, topic: &str, now: Stamp) -> bool {
        let pending = self.topics.get(topic).filter(|track| !track.pending.is_empty());
        pending.is_some_and(|track| track.missing_since_ns.saturating_add(WAIT_NS) <= now.mono_ns)
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let since = self.waiting.iter().filter_map(|topic| Some(self.topics.get(topic)?.missing_since_ns));
        since.min().map(|since| since.saturating_add(WAIT_NS))
    }

    /// The connection is gone. Returns the topics that it owned: others must bring snapshots of them.
    pub fn connection_lost(&mut self, connection: ConnectionId) -> Vec<String> {
        let mut orphans = Vec::new();
        for (topic, track) in &mut self.topics {
            track.brought.retain(|(other, _)| *other != connection);
            if track.owner.is_some_and(|owner| owner.connection == connection) {
                track.owner = None;
                orphans.push(topic.to_string());
            }
        }
        orphans.sort_unstable();
        orphans
    }

    /// The connection no longer carries this topic. Returns whether it owned the topic: then another must bring a
    /// snapshot.
    pub fn topic_left(&mut self, topic: &str, connection: ConnectionId) -> bool {
        let Some(track) = self.topics.get_mut(topic) else { return false };
        track.brought.retain(|(other, _)| *other != connection);
        let was_owner = track.owner.is_some_and(|owner| owner.connection == connection);
        if was_owner {
            track.owner = None;
        }
        was_owner
    }

    /// There has been only one connection for a whole window: forgets everything.
    pub fn clear(&mut self) {
        self.contents.clear();
        self.ages.clear();
        self.topics.clear();
        self.waiting.clear();
        self.pending_bytes = 0;
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

    fn win(&mut self, source: UpdateSource) {
        if let Some(leg) = self.legs.get(source.leg) {
            leg.wins.increment(1);
        }
    }

    fn duplicate(&mut self, source: UpdateSource, lag_ns: Option<u64>) {
        let Some(leg) = self.legs.get_mut(source.leg) else { return };
        leg.duplicates.increment(1);
        if let Some(lag_ns) = lag_ns {
            leg.lag_s += LAG_WEIGHT * (lag_ns as f64 / 1e9 - leg.lag_s);
            leg.lag.set(leg.lag_s);
        }
    }
}

#[cfg(test)]
mod tests;
