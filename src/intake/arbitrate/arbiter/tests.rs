//! The arbiter's stream, made of copies.

use super::*;
use crate::intake::update::Generation;
use crate::profile::check;
use crate::profile::rules::numbers::{GapRemedy, SequenceRule};
use crate::profile::rules::treatment::Treatment;
use crate::protocol::encoding::PayloadKind;

const fn source(connection: u32, leg: usize, generation: u32) -> UpdateSource {
    UpdateSource { connection: ConnectionId(connection), leg, generation: Generation(generation) }
}

const A: UpdateSource = source(0, 0, 1);
const B: UpdateSource = source(1, 1, 2);
/// Of the same leg as A.
const A2: UpdateSource = source(2, 0, 3);

struct ArbiterHarness {
    arbiter: Arbiter,
    treatment: Treatment,
    now_ms: u64,
    published: Vec<String>,
}

fn at(ms: u64) -> Stamp {
    Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
}

fn harness(mode: &str, follow: Option<Continuity>) -> ArbiterHarness {
    let snapshot = if mode.contains("delta") { "snapshot_when = ['/s exists']" } else { "" };
    let rule = format!("[[on]]\nname = \"r\"\nas = \"data\"\ntopic = \"t\"\n{mode}\n{snapshot}\n");
    let profile = check(&format!("profile = 1\nname = \"t\"\n{rule}"), "t").unwrap_or_else(|error| panic!("{error}"));
    let mode = profile.rules.list[0].treatment.mode.clone();
    let sequence = follow.map(|follow| SequenceRule { follow, remedy: GapRemedy::Mark });
    let treatment = Treatment { mode, sequence, ..Treatment::default() };
    ArbiterHarness { arbiter: Arbiter::new(2, &Meters::unread()), treatment, now_ms: 0, published: Vec::new() }
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
            let update = Update {
                treatment: &self.treatment,
                topic: "t",
                message: text.as_bytes(),
                kind: PayloadKind::Json,
                element: 0..text.len(),
                numbers: Some(numbers).filter(|numbers| numbers.last.is_some()),
                snapshot: text.starts_with('S'),
                received: at(self.now_ms),
            };
            self.arbiter.track(("t", at(self.now_ms)), || None);
            self.arbiter.take(source, &update, &mut |update, release| push(&mut self.published, update, release));
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms = ms;
        self.arbiter.tick(at(ms), &mut |update, release| push(&mut self.published, update, release));
    }

    /// Updates published since the last call.
    fn take_published(&mut self) -> String {
        std::mem::take(&mut self.published).join(" ")
    }
}

fn push(published: &mut Vec<String>, update: &Update<'_>, release: Release) {
    let release = match release {
        Release::InOrder => String::new(),
        Release::Restart => "/restart".to_string(),
        Release::Of(Generation(number)) => format!("/{number}"),
        Release::Late => "/late".to_string(),
    };
    published.push(String::from_utf8_lossy(update.message).into_owned() + &release);
}

#[test]
fn numbered_messages_are_published_once_and_in_order() {
    let mut harness = harness("mode = \"none\"", Some(Continuity::Inc));
    harness.take(A, &["1", "2", "4"]);
    harness.take(B, &["1", "2", "3", "4", "5"]);
    harness.take(A, &["5", "6"]);
    assert_eq!(harness.take_published(), "1 2 3 4 5 6");
    assert_eq!(harness.arbiter.deadline_ns(), None);
}

#[test]
fn ranges_and_chains_are_followed_as_their_rules_say() {
    let mut ranges = harness("mode = \"none\"", Some(Continuity::Range));
    ranges.take(A, &["1-3", "7-9"]);
    ranges.take(B, &["1-3", "4-6", "7-9", "10-10"]);
    assert_eq!(ranges.take_published(), "1-3 4-6 7-9 10-10");
    let mut chain = harness("mode = \"none\"", Some(Continuity::Prev));
    chain.take(A, &["0>5", "9>12"]);
    chain.take(B, &["0>5", "5>9", "9>12", "12>2"]);
    chain.take(A, &["12>2", "2>4", "4>4"]);
    chain.take(B, &["2>4", "4>4", "4>6"]);
    assert_eq!(chain.take_published(), "0>5 5>9 9>12 12>2 2>4 4>4 4>6", "numbers may repeat and start over");
}

#[test]
fn what_is_missing_is_awaited_for_a_while_and_each_gap_for_itself() {
    let mut harness = harness("mode = \"none\"", Some(Continuity::Inc));
    harness.take(A, &["1", "3", "4"]);
    harness.tick(200);
    harness.take(A, &["6"]);
    harness.tick(249);
    assert_eq!((harness.take_published().as_str(), harness.arbiter.deadline_ns()), ("1", Some(250_000_000)));
    harness.tick(250);
    assert_eq!((harness.take_published().as_str(), harness.arbiter.deadline_ns()), ("3 4", Some(450_000_000)));
    harness.take(B, &["2", "5"]);
    assert_eq!(harness.take_published(), "5 6", "one that comes after all is too late, another is not");
}

#[test]
fn messages_that_wait_are_bounded() {
    let mut harness = harness("mode = \"none\"", Some(Continuity::Inc));
    harness.take(A, &["1"]);
    for number in 3..3 + PENDING_MAX + 10 {
        harness.take(A, &[&number.to_string()]);
    }
    assert_eq!(harness.published.len(), 1 + PENDING_MAX + 10);
    assert_eq!(harness.arbiter.pending_bytes, 0);
    harness.arbiter.pending_bytes = PENDING_BYTES_MAX;
    harness.take(A, &["99999"]);
    assert_eq!(harness.published.last().map(String::as_str), Some("99999"), "there is no room for it to wait");
}

#[test]
fn a_count_that_starts_over_is_no_late_copy() {
    // With a snapshot on the connection that goes back: at once.
    let mut with_snapshot = harness("mode = \"delta\"", Some(Continuity::Inc));
    with_snapshot.take(A, &["S7", "8"]);
    with_snapshot.take(B, &["S7", "8"]);
    with_snapshot.take(A, &["S1", "2"]);
    with_snapshot.take(B, &["S1", "2", "3"]);
    assert_eq!(with_snapshot.take_published(), "S7 8 S1/restart 2 3");
    // The slower connection's snapshot does not restart the count.
    let mut slow = harness("mode = \"delta\"", Some(Continuity::Inc));
    slow.take(A, &["S7", "8", "9"]);
    slow.take(B, &["S7", "8", "9"]);
    assert_eq!(slow.take_published(), "S7 8 9");
    // Without one: after a while.
    let mut without = harness("mode = \"none\"", Some(Continuity::Inc));
    without.take(A, &["8"]);
    without.take(A, &["1"]);
    without.tick(3000);
    without.take(A, &["2", "3"]);
    assert_eq!(without.take_published(), "8 2/restart 3");
    // When all connections are new: at once.
    let mut restarted = harness("mode = \"delta\"", Some(Continuity::Inc));
    restarted.take(A, &["S7", "8"]);
    restarted.arbiter.connection_lost(A.connection);
    restarted.take(A2, &["S2", "3"]);
    assert_eq!(restarted.take_published(), "S7 8 S2/restart 3");
}

#[test]
fn a_requested_snapshot_is_published_once() {
    let mut harness = harness("mode = \"delta\"", Some(Continuity::Inc));
    harness.take(A, &["S1", "2", "S2"]);
    harness.take(B, &["S1", "2", "S2", "3"]);
    assert_eq!(harness.take_published(), "S1 2 S2 3");
}

#[test]
fn deltas_come_from_one_connection_until_it_is_lost() {
    let mut harness = harness("mode = \"delta\"", None);
    harness.take(A, &["Sa", "x"]);
    harness.take(B, &["Sa", "x", "y"]);
    harness.take(A, &["y"]);
    assert_eq!(harness.take_published(), "Sa/1 x/1 y/1");
    assert_eq!(harness.arbiter.connection_lost(A.connection), ["t"]);
    assert_eq!(harness.arbiter.connection_lost(A.connection), [""; 0]);
    harness.take(B, &["z"]);
    assert_eq!(harness.take_published(), "z/2", "by its generation it is seen that something may be missing");
}

#[test]
fn a_snapshot_on_another_connection_of_the_leg_takes_over() {
    let mut harness = harness("mode = \"delta\"", None);
    harness.take(A, &["Sa", "x"]);
    harness.take(A2, &["x"]);
    harness.take(B, &["Sb"]);
    harness.take(A2, &["Sa", "y"]);
    harness.take(A, &["y"]);
    assert_eq!(harness.take_published(), "Sa/1 x/1 Sa/3 y/3");
    assert!(!harness.arbiter.topic_left("t", A.connection), "no snapshot is needed");
    assert!(harness.arbiter.topic_left("t", A2.connection));
    harness.take(B, &["z"]);
    assert_eq!(harness.take_published(), "z/2");
}

#[test]
fn a_content_counts_once_for_all_connections() {
    let mut harness = harness("", None);
    harness.take(A, &["x", "x", "y"]);
    harness.take(B, &["x", "x", "x", "y"]);
    assert_eq!(harness.take_published(), "x x y x", "what one connection brings again is another message");
    harness.tick(WINDOW_NS / 1_000_000 + 1);
    harness.take(B, &["y"]);
    assert_eq!(harness.take_published(), "y");
    assert_eq!((harness.arbiter.contents.len(), harness.arbiter.ages.len()), (1, 1), "what is old is forgotten");
}

#[test]
fn a_late_value_is_not_the_current_one_again() {
    let mut harness = harness("", Some(Continuity::Monotonic));
    harness.take(A, &["5", "7"]);
    harness.take(B, &["5", "6", "7", "9"]);
    assert_eq!(harness.take_published(), "5 7 6/late 9");
    harness.tick(3000);
    harness.take(A, &["1", "2"]);
    assert_eq!(harness.take_published(), "1/restart 2", "a count that starts over is current");
}

#[test]
fn a_number_out_of_line_is_left_behind_on_every_leg() {
    let mut harness = harness("", Some(Continuity::Monotonic));
    harness.take(A, &["5", "999999"]);
    harness.take(B, &["5", "999999", "6"]);
    assert_eq!(harness.take_published(), "5 999999 6/late");
    harness.tick(2500);
    harness.take(A, &["6", "7"]);
    harness.take(B, &["7", "8"]);
    harness.take(A, &["8"]);
    assert_eq!(harness.take_published(), "7/restart 8", "and late copies are none the more current");
    // The connection that brought it is gone, and no other will ever reach that number.
    let mut left = self::harness("", Some(Continuity::Monotonic));
    left.take(A, &["5", "999999"]);
    left.take(B, &["4"]);
    left.arbiter.connection_lost(A.connection);
    left.tick(9000);
    left.take(B, &["6"]);
    left.tick(11_000);
    left.take(B, &["7", "8"]);
    assert_eq!(left.take_published(), "5 999999 4/late 6/late 7/restart 8");
}

#[test]
fn late_messages_of_a_new_connection_do_not_restart_the_count() {
    let mut harness = harness("", Some(Continuity::Monotonic));
    harness.now_ms = 60_000;
    harness.arbiter.track(("t", at(60_000)), || Some(10));
    harness.take(B, &["9", "11"]);
    assert_eq!(harness.take_published(), "9/late 11");
}

#[test]
fn a_topic_that_was_known_before_goes_on_from_its_number() {
    let mut harness = harness("mode = \"none\"", Some(Continuity::Inc));
    harness.arbiter.track(("t", at(0)), || Some(10));
    harness.take(A2, &["12"]);
    harness.take(A, &["11", "12"]);
    assert_eq!(harness.take_published(), "11 12");
}

#[test]
fn when_merging_ends_nothing_is_left() {
    let mut harness = harness("mode = \"none\"", Some(Continuity::Inc));
    harness.take(A, &["1", "3"]);
    harness.tick(u64::MAX / 1_000_000);
    harness.arbiter.clear();
    assert_eq!(harness.take_published(), "1 3");
    assert!(
        harness.arbiter.topics.is_empty() && harness.arbiter.waiting.is_empty() && harness.arbiter.contents.is_empty()
    );
}
