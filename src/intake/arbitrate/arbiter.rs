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

use crate::intake::assemble::Update;
use crate::intake::assemble::sequence::{Continuity, Number, Numbers};
use crate::words::metrics as names;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::arbitrate::pending::PendingUpdate;
use crate::intake::arbitrate::topic_track::{Relation, TopicTrack, relation};
use crate::intake::upstream::assignment::ConnectionId;

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
pub struct UpdateSource {
    pub link: ConnectionId,
    pub leg: usize,
    /// Another number for each connection that was opened, by whichever link.
    pub line: u32,
}

pub struct Arbiter {
    hasher: RandomState,
    contents: HashMap<u64, SeenCopies>,
    /// The same, oldest first.
    ages: VecDeque<(u64, u64)>,
    topics: HashMap<Box<str>, TopicTrack>,
    /// Topics with messages that wait.
    holding: HashSet<Box<str>>,
    held_bytes: usize,
    legs: Vec<LegMeters>,
}

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

/// What becomes of a piece that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Whichever connection it came from, it goes on with what was published before.
    InOrder,
    /// As that, but the numbers of its topic begin anew with it.
    Anew,
    /// It goes on with what came over the connection of this line, and with nothing else.
    OfLine(u32),
    /// Newer ones were published before it.
    Late,
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
            holding: HashSet::new(),
            held_bytes: 0,
            legs: (0..legs).map(leg).collect(),
        }
    }

    /// Takes one piece and gives those that are to be published now, in their order.
    pub fn take(&mut self, source: UpdateSource, piece: &Update<'_>, publish: &mut Publish<'_>) {
        let strict = piece.treatment.sequence.map(|rule| rule.follow).filter(|follow| *follow != Continuity::Monotonic);
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
    pub fn meet(&mut self, (topic, now): (&str, Stamp), newest: impl FnOnce() -> Option<Number>) {
        if self.topics.len() < TOPICS_MAX && !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), TopicTrack::after(newest(), now.mono_ns));
        }
    }

    /// The topic is known to nobody any more.
    pub fn forget_topic(&mut self, topic: &str) {
        if !self.holding.contains(topic) {
            self.topics.remove(topic);
        }
    }

    fn take_numbered(
        &mut self,
        source: UpdateSource,
        piece: &Update<'_>,
        (follow, numbers): (Continuity, Numbers),
        publish: &mut Publish<'_>,
    ) {
        let Some(track) = self.topics.get_mut(piece.topic) else { return };
        let number = numbers.last.unwrap_or_default();
        let mut turn = Release::InOrder;
        if track.starts_over(source, piece, number) {
            turn = Release::Anew;
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
                publish(piece, turn);
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
                let held = PendingUpdate::of(piece);
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
    fn release(&mut self, topic: &str, follow: Continuity, publish: &mut Publish<'_>) {
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
                publish(&piece, Release::InOrder);
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
        publish(&piece, Release::InOrder);
        if let Some(rule) = held.treatment.sequence {
            self.release(topic, rule.follow, publish);
        }
    }

    fn take_owned(&mut self, source: UpdateSource, piece: &Update<'_>, publish: &mut Publish<'_>) {
        let Some(track) = self.topics.get_mut(piece.topic) else { return };
        // Two connections of one leg carry a topic only while it is on its way from one to the other.
        let may_speak =
            track.owner.is_none_or(|owner| owner.link == source.link || (piece.snapshot && owner.leg == source.leg));
        if may_speak {
            track.owner = Some(source);
            publish(piece, Release::OfLine(source.line));
            self.win(source);
        } else {
            self.duplicate(source, None);
        }
    }

    fn take_by_content(&mut self, source: UpdateSource, piece: &Update<'_>, publish: &mut Publish<'_>) {
        self.forget(piece.received.mono_ns);
        let content = self.hasher.hash_one((piece.topic, piece.element));
        let seen = self.contents.entry(content).or_insert_with(|| {
            self.ages.push_back((piece.received.mono_ns, content));
            SeenCopies { first: piece.received, published: 0, by: Vec::new() }
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
        let mut turn = Release::InOrder;
        if let Some((number, track)) = number.zip(self.topics.get_mut(piece.topic)) {
            let starts_over = track.starts_over(source, piece, number);
            if starts_over {
                turn = Release::Anew;
                track.heard.clear();
            }
            track.hears(source, number);
            if track.last.is_some_and(|last| number < last) && !starts_over {
                turn = Release::Late;
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
    pub fn gone(&mut self, link: ConnectionId) -> Vec<String> {
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
    pub fn leaves(&mut self, topic: &str, link: ConnectionId) -> bool {
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
mod tests {
    use super::*;
    use crate::intake::assemble::Treatment;
    use crate::intake::assemble::sequence::{GapRemedy, SequenceRule};
    use crate::profile::check;
    use crate::protocol::encoding::PayloadKind;

    const A: UpdateSource = UpdateSource { link: ConnectionId(0), leg: 0, line: 1 };
    const B: UpdateSource = UpdateSource { link: ConnectionId(1), leg: 1, line: 2 };
    /// Of the same leg as A.
    const A2: UpdateSource = UpdateSource { link: ConnectionId(2), leg: 0, line: 3 };

    struct ArbiterHarness {
        merger: Arbiter,
        treatment: Treatment,
        now_ms: u64,
        published: Vec<String>,
    }

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
    }

    fn desk(mode: &str, follow: Option<Continuity>) -> ArbiterHarness {
        let snapshot = if mode.contains("delta") { "snapshot_when = ['/s exists']" } else { "" };
        let rule = format!("[[on]]\nname = \"r\"\nas = \"data\"\ntopic = \"t\"\n{mode}\n{snapshot}\n");
        let profile =
            check(&format!("profile = 1\nname = \"t\"\n{rule}"), "t").unwrap_or_else(|error| panic!("{error}"));
        let mode = profile.rules.list[0].treatment.mode.clone();
        let sequence = follow.map(|follow| SequenceRule { follow, remedy: GapRemedy::Mark });
        let treatment = Treatment { mode, sequence, ..Treatment::default() };
        ArbiterHarness { merger: Arbiter::new(2, &Meters::unread()), treatment, now_ms: 0, published: Vec::new() }
    }

    impl ArbiterHarness {
        /// Messages of one topic, as `first-last`, `prev>last`, `last` or any text; a snapshot with `S` before it.
        fn take(&mut self, source: UpdateSource, texts: &[&str]) {
            for text in texts {
                let number = |text: &str| text.parse().ok();
                let plain = text.trim_start_matches('S');
                let numbers = match (plain.split_once('-'), plain.split_once('>')) {
                    (Some((first, last)), _) => Numbers { first: number(first), prev: None, last: number(last) },
                    (_, Some((prev, last))) => Numbers { first: None, prev: number(prev), last: number(last) },
                    _ => Numbers { first: None, prev: None, last: number(plain) },
                };
                let piece = Update {
                    treatment: &self.treatment,
                    topic: "t",
                    message: text.as_bytes(),
                    kind: PayloadKind::Json,
                    element: text.as_bytes(),
                    numbers: Some(numbers).filter(|numbers| numbers.last.is_some()),
                    snapshot: text.starts_with('S'),
                    received: at(self.now_ms),
                };
                self.merger.meet(("t", at(self.now_ms)), || None);
                self.merger.take(source, &piece, &mut |piece, turn| tell(&mut self.published, piece, turn));
            }
        }

        fn tick(&mut self, ms: u64) {
            self.now_ms = ms;
            self.merger.tick(at(ms), &mut |piece, turn| tell(&mut self.published, piece, turn));
        }

        /// What was published since this was last asked.
        fn told(&mut self) -> String {
            std::mem::take(&mut self.published).join(" ")
        }
    }

    fn tell(published: &mut Vec<String>, piece: &Update<'_>, turn: Release) {
        let turn = match turn {
            Release::InOrder => String::new(),
            Release::Anew => "/anew".to_string(),
            Release::OfLine(line) => format!("/{line}"),
            Release::Late => "/late".to_string(),
        };
        published.push(String::from_utf8_lossy(piece.message).into_owned() + &turn);
    }

    #[test]
    fn numbered_messages_come_once_and_in_order() {
        let mut desk = desk("mode = \"none\"", Some(Continuity::Inc));
        desk.take(A, &["1", "2", "4"]);
        desk.take(B, &["1", "2", "3", "4", "5"]);
        desk.take(A, &["5", "6"]);
        assert_eq!(desk.told(), "1 2 3 4 5 6");
        assert_eq!(desk.merger.deadline_ns(), None);
    }

    #[test]
    fn ranges_and_chains_are_followed_as_their_rules_say() {
        let mut ranges = desk("mode = \"none\"", Some(Continuity::Range));
        ranges.take(A, &["1-3", "7-9"]);
        ranges.take(B, &["1-3", "4-6", "7-9", "10-10"]);
        assert_eq!(ranges.told(), "1-3 4-6 7-9 10-10");
        let mut chain = desk("mode = \"none\"", Some(Continuity::Prev));
        chain.take(A, &["0>5", "9>12"]);
        chain.take(B, &["0>5", "5>9", "9>12", "12>2"]);
        chain.take(A, &["12>2", "2>4", "4>4"]);
        chain.take(B, &["2>4", "4>4", "4>6"]);
        assert_eq!(chain.told(), "0>5 5>9 9>12 12>2 2>4 4>4 4>6", "numbers may repeat and start over");
    }

    #[test]
    fn what_is_missing_is_awaited_for_a_while_and_each_gap_for_itself() {
        let mut desk = desk("mode = \"none\"", Some(Continuity::Inc));
        desk.take(A, &["1", "3", "4"]);
        desk.tick(200);
        desk.take(A, &["6"]);
        desk.tick(249);
        assert_eq!((desk.told().as_str(), desk.merger.deadline_ns()), ("1", Some(250_000_000)));
        desk.tick(250);
        assert_eq!((desk.told().as_str(), desk.merger.deadline_ns()), ("3 4", Some(450_000_000)));
        desk.take(B, &["2", "5"]);
        assert_eq!(desk.told(), "5 6", "one that comes after all is too late, another is not");
    }

    #[test]
    fn messages_that_wait_are_bounded() {
        let mut desk = desk("mode = \"none\"", Some(Continuity::Inc));
        desk.take(A, &["1"]);
        for number in 3..3 + HELD_MAX + 10 {
            desk.take(A, &[&number.to_string()]);
        }
        assert_eq!(desk.published.len(), 1 + HELD_MAX + 10);
        assert_eq!(desk.merger.held_bytes, 0);
        desk.merger.held_bytes = HELD_BYTES_MAX;
        desk.take(A, &["99999"]);
        assert_eq!(desk.published.last().map(String::as_str), Some("99999"), "there is no room for it to wait");
    }

    #[test]
    fn a_count_that_starts_over_is_no_late_copy() {
        // With a snapshot on the connection that goes back, at once.
        let mut with_snapshot = desk("mode = \"delta\"", Some(Continuity::Inc));
        with_snapshot.take(A, &["S7", "8"]);
        with_snapshot.take(B, &["S7", "8"]);
        with_snapshot.take(A, &["S1", "2"]);
        with_snapshot.take(B, &["S1", "2", "3"]);
        assert_eq!(with_snapshot.told(), "S7 8 S1/anew 2 3");
        // The slower connection's snapshot does not turn the count back.
        let mut slow = desk("mode = \"delta\"", Some(Continuity::Inc));
        slow.take(A, &["S7", "8", "9"]);
        slow.take(B, &["S7", "8", "9"]);
        assert_eq!(slow.told(), "S7 8 9");
        // Without one, after a while.
        let mut without = desk("mode = \"none\"", Some(Continuity::Inc));
        without.take(A, &["8"]);
        without.take(A, &["1"]);
        without.tick(3000);
        without.take(A, &["2", "3"]);
        assert_eq!(without.told(), "8 2/anew 3");
        // When all connections are new ones.
        let mut anew = desk("mode = \"delta\"", Some(Continuity::Inc));
        anew.take(A, &["S7", "8"]);
        anew.merger.gone(A.link);
        anew.take(A2, &["S2", "3"]);
        assert_eq!(anew.told(), "S7 8 S2/anew 3");
    }

    #[test]
    fn a_snapshot_that_was_asked_for_is_published_once() {
        let mut desk = desk("mode = \"delta\"", Some(Continuity::Inc));
        desk.take(A, &["S1", "2", "S2"]);
        desk.take(B, &["S1", "2", "S2", "3"]);
        assert_eq!(desk.told(), "S1 2 S2 3");
    }

    #[test]
    fn changes_come_from_one_connection_until_it_goes() {
        let mut desk = desk("mode = \"delta\"", None);
        desk.take(A, &["Sa", "x"]);
        desk.take(B, &["Sa", "x", "y"]);
        desk.take(A, &["y"]);
        assert_eq!(desk.told(), "Sa/1 x/1 y/1");
        assert_eq!(desk.merger.gone(A.link), ["t"]);
        assert_eq!(desk.merger.gone(A.link), [""; 0]);
        desk.take(B, &["z"]);
        assert_eq!(desk.told(), "z/2", "by its line it is seen that something may be missing");
    }

    #[test]
    fn a_snapshot_on_another_connection_of_the_leg_takes_over() {
        let mut desk = desk("mode = \"delta\"", None);
        desk.take(A, &["Sa", "x"]);
        desk.take(A2, &["x"]);
        desk.take(B, &["Sb"]);
        desk.take(A2, &["Sa", "y"]);
        desk.take(A, &["y"]);
        assert_eq!(desk.told(), "Sa/1 x/1 Sa/3 y/3");
        assert!(!desk.merger.leaves("t", A.link), "nobody needs a snapshot");
        assert!(desk.merger.leaves("t", A2.link));
        desk.take(B, &["z"]);
        assert_eq!(desk.told(), "z/2");
    }

    #[test]
    fn a_content_counts_once_for_all_connections() {
        let mut desk = desk("", None);
        desk.take(A, &["x", "x", "y"]);
        desk.take(B, &["x", "x", "x", "y"]);
        assert_eq!(desk.told(), "x x y x", "what one connection brings again is another message");
        desk.tick(WINDOW_NS / 1_000_000 + 1);
        desk.take(B, &["y"]);
        assert_eq!(desk.told(), "y");
        assert_eq!((desk.merger.contents.len(), desk.merger.ages.len()), (1, 1), "what is old is forgotten");
    }

    #[test]
    fn a_late_value_is_not_the_current_one_again() {
        let mut desk = desk("", Some(Continuity::Monotonic));
        desk.take(A, &["5", "7"]);
        desk.take(B, &["5", "6", "7", "9"]);
        assert_eq!(desk.told(), "5 7 6/late 9");
        desk.tick(3000);
        desk.take(A, &["1", "2"]);
        assert_eq!(desk.told(), "1/anew 2", "a count that starts over is current");
    }

    #[test]
    fn a_number_out_of_line_is_left_behind_on_every_leg() {
        let mut desk = desk("", Some(Continuity::Monotonic));
        desk.take(A, &["5", "999999"]);
        desk.take(B, &["5", "999999", "6"]);
        assert_eq!(desk.told(), "5 999999 6/late");
        desk.tick(2500);
        desk.take(A, &["6", "7"]);
        desk.take(B, &["7", "8"]);
        desk.take(A, &["8"]);
        assert_eq!(desk.told(), "7/anew 8", "and late copies are none the more current");
        // The one that has brought it is gone, and nobody else will ever get there.
        let mut left = self::desk("", Some(Continuity::Monotonic));
        left.take(A, &["5", "999999"]);
        left.take(B, &["4"]);
        left.merger.gone(A.link);
        left.tick(9000);
        left.take(B, &["6"]);
        left.tick(11_000);
        left.take(B, &["7", "8"]);
        assert_eq!(left.told(), "5 999999 4/late 6/late 7/anew 8");
    }

    #[test]
    fn what_a_new_connection_brings_late_does_not_begin_anew() {
        let mut desk = desk("", Some(Continuity::Monotonic));
        desk.now_ms = 60_000;
        desk.merger.meet(("t", at(60_000)), || Some(10));
        desk.take(B, &["9", "11"]);
        assert_eq!(desk.told(), "9/late 11");
    }

    #[test]
    fn a_topic_that_was_known_before_goes_on_from_its_number() {
        let mut desk = desk("mode = \"none\"", Some(Continuity::Inc));
        desk.merger.meet(("t", at(0)), || Some(10));
        desk.take(A2, &["12"]);
        desk.take(A, &["11", "12"]);
        assert_eq!(desk.told(), "11 12");
    }

    #[test]
    fn when_merging_ends_nothing_is_left() {
        let mut desk = desk("mode = \"none\"", Some(Continuity::Inc));
        desk.take(A, &["1", "3"]);
        desk.tick(u64::MAX / 1_000_000);
        desk.merger.clear();
        assert_eq!(desk.told(), "1 3");
        assert!(desk.merger.topics.is_empty() && desk.merger.holding.is_empty() && desk.merger.contents.is_empty());
    }
}
