//! Joining of a feed's deltas with a snapshot that comes from elsewhere.
//!
//! Deltas are held until a snapshot fits: one whose number none of them skips. It is passed on first, then the deltas
//! after it. Nothing of the topic is passed on before, and after a gap nothing until the next snapshot.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::bus::topic_status::{GapReason, TopicStatus};
use crate::profile::rules::numbers::{Continuity, GapRemedy, Number, Numbers};
use crate::profile::rules::treatment::{DeltaLimit, Treatment};
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

use crate::intake::assemble::sequence::{GapVerdict, Sequence, proves};
use crate::intake::misfit::{Misfit, in_words};
use crate::intake::update::{Generation, Oddity, Release, Update, UpdateSink};

/// 10 s: a snapshot that does not fit by then is asked for again, and reported as missing.
const NO_SNAPSHOT_NS: u64 = 10_000_000_000;

/// Passes an update on.
type Pass<'p> = dyn FnMut(&Update<'_>, Release, &mut dyn UpdateSink) + 'p;

/// State of one topic.
pub(super) struct Join {
    state: JoinState,
    generation: Option<Generation>,
    held: VecDeque<HeldDelta>,
    held_bytes: usize,
    /// Of the held deltas.
    treatment: Arc<Treatment>,
    /// Deltas since the last fitting snapshot.
    waiting: u64,
    report_ns: u64,
}

enum JoinState {
    Waiting,
    /// A snapshot of this number was passed on, and no delta after it yet.
    Fitted(Number),
    Joined(Sequence),
}

/// A delta in memory, without its topic.
struct HeldDelta {
    message: Box<[u8]>,
    kind: PayloadKind,
    element: Range<usize>,
    numbers: Numbers,
    received: Stamp,
    release: Release,
}

/// A message lacks the number that tells its place.
fn without_number(expected: &'static str) -> Oddity {
    let (place, found) = (String::new(), in_words(None));
    Oddity::Malformed(Box::new(Misfit { key: "seq", expected: expected.into(), place, found }))
}

impl Default for Join {
    fn default() -> Join {
        Join {
            state: JoinState::Waiting,
            generation: None,
            held: VecDeque::new(),
            held_bytes: 0,
            treatment: Arc::default(),
            waiting: 0,
            report_ns: u64::MAX,
        }
    }
}

impl Join {
    /// Generation `new` continues `old`, and nothing is missing in between.
    pub(super) fn hand_over(&mut self, old: Generation, new: Generation) {
        if self.generation == Some(old) {
            self.generation = Some(new);
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Gives up all held deltas but the newest.
    pub(super) fn shrink_to_newest(&mut self) {
        self.shrink(&DeltaLimit { count: 1, ..DeltaLimit::default() });
    }

    /// Takes an update, and gives what can be passed on now to `pass`.
    pub(super) fn take(
        &mut self,
        update: &Update<'_>,
        release: Release,
        out: &mut dyn UpdateSink,
        pass: &mut Pass<'_>,
    ) {
        if update.snapshot {
            return self.snapshot(update, release, out, pass);
        }
        let (Some(rule), Some(numbers)) = (update.treatment.sequence, update.numbers) else {
            return out.oddity(update.topic, without_number("a number to join by"), update.received);
        };
        let generation = match release {
            Release::Of(generation) => Some(generation),
            Release::InOrder | Release::Restart | Release::Late => None,
        };
        let before = self.generation;
        self.generation = generation.or(before);
        let is_anew = before.zip(generation).is_some_and(|(before, now)| before != now);
        let verdict = match &mut self.state {
            JoinState::Waiting => return self.hold(update, (numbers, release), out),
            JoinState::Fitted(last) if numbers.last.is_none_or(|number| number <= *last) => return,
            JoinState::Fitted(last) => match covers(rule.follow, numbers, *last) {
                true => GapVerdict::First,
                false => GapVerdict::Gap { missed: None },
            },
            JoinState::Joined(sequence) => sequence.step(rule.follow, numbers, update.received.mono_ns),
        };
        let is_proven = verdict == GapVerdict::Next && proves(rule.follow, numbers);
        match verdict {
            GapVerdict::First => {
                let JoinState::Fitted(last) = self.state else { return };
                let mut sequence = Sequence::default();
                sequence.reset(Some(numbers));
                self.state = JoinState::Joined(sequence);
                // For those after, it follows the snapshot.
                let numbers = Numbers { first: Some(last + 1), prev: Some(last), last: numbers.last };
                pass(&Update { numbers: Some(numbers), ..update.clone() }, release, out);
            }
            _ if is_anew && !is_proven => self.break_off(update, GapReason::Reconnect, (None, numbers, release), out),
            GapVerdict::Next => pass(update, release, out),
            GapVerdict::Duplicate | GapVerdict::Old => {}
            GapVerdict::Restart => self.break_off(update, GapReason::Sequence, (None, numbers, release), out),
            GapVerdict::Gap { missed } => {
                self.break_off(update, GapReason::Sequence, (missed, numbers, release), out);
            }
        }
    }

    /// Deltas are missing before this one, which is held until the next snapshot.
    fn break_off(
        &mut self,
        update: &Update<'_>,
        reason: GapReason,
        (missed, numbers, release): (Option<u64>, Numbers, Release),
        out: &mut dyn UpdateSink,
    ) {
        out.status(update.topic, TopicStatus::Gap { reason, missed }, update.received);
        self.state = JoinState::Waiting;
        self.waiting = 0;
        self.hold(update, (numbers, release), out);
    }

    fn hold(&mut self, update: &Update<'_>, (numbers, release): (Numbers, Release), out: &mut dyn UpdateSink) {
        let now_ns = update.received.mono_ns;
        if self.waiting == 0 {
            self.report_ns = now_ns.saturating_add(NO_SNAPSHOT_NS);
            out.remedy(update.topic, GapRemedy::Fetch);
        }
        self.waiting += 1;
        if self.report_ns <= now_ns {
            self.report_ns = now_ns.saturating_add(NO_SNAPSHOT_NS);
            out.oddity(update.topic, Oddity::NoSnapshot { changes: self.waiting }, update.received);
            out.remedy(update.topic, GapRemedy::Fetch);
        }
        if self.held.is_empty() {
            self.treatment = Arc::new(update.treatment.clone());
        }
        self.held_bytes += update.message.len();
        self.held.push_back(HeldDelta {
            message: update.message.into(),
            kind: update.kind,
            element: update.element.clone(),
            numbers,
            received: update.received,
            // Once it is passed on, it is in its place.
            release: if release == Release::Late { Release::InOrder } else { release },
        });
        self.shrink(&update.treatment.mode.delta_limit());
    }

    /// The oldest are given up: a later snapshot fits without them.
    fn shrink(&mut self, limit: &DeltaLimit) {
        while self.held.len() as u64 > limit.count || self.held_bytes > limit.bytes {
            let Some(oldest) = self.held.pop_front() else { return };
            self.held_bytes -= oldest.message.len();
        }
    }

    fn snapshot(&mut self, update: &Update<'_>, release: Release, out: &mut dyn UpdateSink, pass: &mut Pass<'_>) {
        let Some(number) = update.numbers.and_then(|numbers| numbers.last) else {
            return out.oddity(update.topic, without_number("the number of the snapshot"), update.received);
        };
        // One that was asked for twice.
        if !matches!(self.state, JoinState::Waiting) {
            return;
        }
        if !self.fits(number) {
            return out.remedy(update.topic, GapRemedy::Fetch);
        }
        self.state = JoinState::Fitted(number);
        (self.waiting, self.report_ns) = (0, u64::MAX);
        pass(update, release, out);
        self.held_bytes = 0;
        let treatment = self.treatment.clone();
        for held in std::mem::take(&mut self.held) {
            let delta = Update {
                treatment: &treatment,
                topic: update.topic,
                message: &held.message,
                kind: held.kind,
                element: held.element,
                numbers: Some(held.numbers),
                snapshot: false,
                received: held.received,
            };
            self.take(&delta, held.release, out, pass);
        }
    }

    /// Whether the held deltas continue a snapshot of this number. Those that it holds already do not count.
    fn fits(&self, number: Number) -> bool {
        let is_before = |held: &&HeldDelta| held.numbers.last.is_none_or(|last| last <= number);
        let Some(first) = self.held.iter().find(|held| !is_before(held)) else { return true };
        let Some(rule) = self.treatment.sequence else { return false };
        match rule.follow {
            // The numbers cannot show it; but what came before the snapshot was received.
            Continuity::Monotonic => self.held.front().is_some_and(|held| is_before(&held)),
            follow => covers(follow, first.numbers, number),
        }
    }
}

/// Whether a delta begins no later than after this number.
fn covers(follow: Continuity, numbers: Numbers, number: Number) -> bool {
    match follow {
        Continuity::Inc => numbers.last.is_some_and(|last| last <= number + 1),
        Continuity::Range => numbers.first.is_some_and(|first| first <= number + 1),
        Continuity::Prev => numbers.prev.is_some_and(|prev| prev <= number),
        Continuity::Monotonic => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::retention::Retention;
    use crate::profile::rules::numbers::SequenceRule;
    use crate::protocol::encoding::Payload;

    /// What was passed on: the last number, with `!` for a snapshot; `gap`, `fetch`.
    #[derive(Default)]
    struct Passed(Vec<String>);

    impl UpdateSink for Passed {
        fn publish(&mut self, _: &str, _: Payload, _: Retention, _: Stamp) {}

        fn status(&mut self, _: &str, _: TopicStatus, _: Stamp) {
            self.0.push("gap".to_string());
        }

        fn remedy(&mut self, _: &str, _: GapRemedy) {
            self.0.push("fetch".to_string());
        }

        fn oddity(&mut self, _: &str, _: Oddity, _: Stamp) {
            self.0.push("oddity".to_string());
        }
    }

    /// Numbers of a delta as first or previous one, and last; or of a snapshot. Of this generation.
    #[derive(Clone, Copy)]
    enum Step {
        Delta(Number, Number, u32),
        Snapshot(Number),
    }
    use Step::{Delta, Snapshot};

    fn passed(follow: Continuity, steps: &[Step]) -> Vec<String> {
        let sequence = Some(SequenceRule { follow, remedy: GapRemedy::Resubscribe });
        let treatment = Treatment { sequence, ..Treatment::default() };
        let (mut join, mut out) = (Join::default(), Passed::default());
        let mut names = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let (numbers, generation, snapshot) = match *step {
                Delta(before, last, generation) => {
                    (Numbers { first: Some(before), prev: Some(before), last: Some(last) }, generation, false)
                }
                Snapshot(last) => (Numbers { last: Some(last), ..Numbers::default() }, 0, true),
            };
            let update = Update {
                treatment: &treatment,
                topic: "t",
                message: b"{}",
                kind: PayloadKind::Json,
                element: 0..2,
                numbers: Some(numbers),
                snapshot,
                received: Stamp { wall_ms: 0, mono_ns: at as u64 },
            };
            let mut pass = |update: &Update<'_>, _: Release, _: &mut dyn UpdateSink| {
                let last = update.numbers.and_then(|numbers| numbers.last).expect("a number");
                names.push(format!("{last}{}", if update.snapshot { "!" } else { "" }));
            };
            join.take(&update, Release::Of(Generation(generation)), &mut out, &mut pass);
            names.append(&mut out.0);
        }
        names
    }

    #[test]
    fn deltas_follow_the_snapshot_that_they_fit() {
        for (follow, steps, expected) in [
            (
                Continuity::Range,
                &[Delta(5, 6, 1), Snapshot(3), Snapshot(5), Delta(7, 7, 1), Delta(9, 9, 1), Snapshot(9)][..],
                &["fetch", "fetch", "5!", "6", "7", "gap", "fetch", "9!"][..],
            ),
            // The numbers count changes, so that a snapshot may lie inside one.
            (
                Continuity::Prev,
                &[Delta(4, 6, 1), Delta(6, 9, 1), Snapshot(7), Delta(9, 12, 1), Delta(9, 12, 1)],
                &["fetch", "7!", "9", "12"],
            ),
            (Continuity::Prev, &[Delta(4, 6, 1), Snapshot(6), Delta(6, 9, 1)], &["fetch", "6!", "9"]),
            (Continuity::Prev, &[Delta(4, 6, 1), Snapshot(7), Delta(9, 12, 1)], &["fetch", "7!", "gap", "fetch"]),
            (Continuity::Inc, &[Delta(0, 5, 1), Snapshot(4), Delta(0, 6, 1)], &["fetch", "4!", "5", "6"]),
            // That nothing came before the snapshot does not show that nothing is missing after it.
            (
                Continuity::Monotonic,
                &[Delta(0, 50, 1), Snapshot(40), Snapshot(60), Delta(0, 55, 1), Delta(0, 70, 1), Delta(0, 90, 1)],
                &["fetch", "fetch", "60!", "70", "90"],
            ),
            // A connection that is opened anew continues if its numbers show it.
            (
                Continuity::Range,
                &[Delta(5, 5, 1), Snapshot(5), Delta(6, 6, 1), Delta(7, 7, 2), Delta(9, 9, 3), Snapshot(9)],
                &["fetch", "5!", "6", "7", "gap", "fetch", "9!"],
            ),
            (
                Continuity::Monotonic,
                &[Delta(0, 5, 1), Snapshot(5), Delta(0, 6, 1), Delta(0, 7, 2)],
                &["fetch", "5!", "6", "gap", "fetch"],
            ),
        ] {
            assert_eq!(passed(follow, steps), expected, "{follow:?}");
        }
    }

    #[test]
    fn held_deltas_are_bounded() {
        let limit = DeltaLimit::default().count as Number;
        let deltas = (1..=2 * limit).map(|n| Delta(n, n, 1));
        let steps: Vec<Step> = deltas.chain([Snapshot(limit - 1), Snapshot(limit)]).collect();
        let found = passed(Continuity::Range, &steps);
        assert_eq!(found[..3], ["fetch".to_string(), "fetch".to_string(), format!("{limit}!")]);
        assert_eq!(found.len(), 3 + limit as usize);
    }
}
