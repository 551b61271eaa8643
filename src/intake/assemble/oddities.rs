//! Oddities never silence a topic: they are reported, and the topic continues.

use crate::intake::assemble::Assembler;
use crate::intake::assemble::tests::{AssemblerLines, at, treatment, update};
use crate::intake::update::{Generation, Release, Update};
use crate::profile::rules::numbers::{Continuity, GapRemedy, SequenceRule};
use crate::profile::rules::treatment::Treatment;

const BOOK: &str = "mode = \"book\"\nsnapshot_when = ['/snapshot exists']\n\
                    book = { sides = [\"./b\", \"./a\"], price = 0, size = 1 }";

fn numbered(mode: &str, follow: Continuity, remedy: GapRemedy) -> Treatment {
    Treatment { sequence: Some(SequenceRule { follow, remedy }), ..treatment(mode) }
}

/// An assembler's output for these messages of one connection, 50 ms apart.
fn assembled(treatment: &Treatment, texts: &[String], apart_ms: u64) -> Vec<String> {
    let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
    for (text, ms) in texts.iter().zip((0..).step_by(apart_ms as usize)) {
        let update = Update { received: at(ms), ..update(treatment, "t", text) };
        assembler.take(&update, Release::Of(Generation(1)), &mut lines);
    }
    lines.0
}

fn numbers(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|n| format!("{{\"n\":{n}}}")).collect()
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// Real cases: a book ticker with one number a billion times too large, or a price a year ahead, 20 per second.
#[test]
fn a_number_out_of_line_does_not_freeze_a_topic() {
    let texts = || numbers((1001..1006).chain([1_000_000_000_000]).chain(1006..1066));
    let lines = assembled(&numbered("", Continuity::Monotonic, GapRemedy::DropOld), &texts(), 50);
    assert_eq!((count(&lines, " value of 1"), count(&lines, "odd: Old"), count(&lines, "odd: Restart")), (59, 7, 1));
    assert!(lines.last().is_some_and(|line| line.contains("1065")), "the newest is the current value");
    let slow = assembled(&numbered("", Continuity::Monotonic, GapRemedy::DropOld), &texts(), 1500);
    assert_eq!(count(&slow, "odd: Old"), 1, "a slow topic waits for one more message at most");
}

#[test]
fn a_count_that_restarts_on_an_open_connection_is_followed() {
    let texts = numbers((5000..5010).chain(1..100));
    let lines = assembled(&numbered("", Continuity::Monotonic, GapRemedy::DropOld), &texts, 50);
    assert_eq!(count(&lines, " value of 1"), 102);
    for remedy in [GapRemedy::Mark, GapRemedy::Resubscribe] {
        let lines = assembled(&numbered("mode = \"none\"", Continuity::Inc, remedy), &texts, 50);
        assert_eq!(count(&lines, " transient"), 109, "what is old is published as well");
        assert_eq!(count(&lines, "gap sequence"), 1, "{lines:?}");
        let again = numbers((5000..5010).chain(1..50).chain(60..70));
        let lines = assembled(&numbered("mode = \"none\"", Continuity::Inc, remedy), &again, 50);
        assert_eq!(count(&lines, "gap sequence"), 2, "gaps are seen in the new count");
        assert_eq!(count(&lines, "Resubscribe"), if remedy == GapRemedy::Mark { 0 } else { 2 });
    }
}

#[test]
fn a_book_without_a_snapshot_is_reported_and_requested() {
    let changes: Vec<String> = (0..300).map(|n| format!("{{\"b\":[[\"{n}\",\"1\"]]}}")).collect();
    let lines = assembled(&treatment(BOOK), &changes, 100);
    assert_eq!(lines.iter().filter(|line| line.ends_with(" change")).count(), 300);
    assert_eq!((count(&lines, "gap no_snapshot"), count(&lines, "Resubscribe")), (1, 2));
    assert_eq!(count(&lines, "odd: NoSnapshot"), 2, "once in ten seconds");
    assert!(lines.iter().any(|line| line.ends_with("odd: NoSnapshot { changes: 201 }")), "{lines:?}");

    let unfolded = assembled(&treatment("mode = \"delta\""), &changes, 100);
    assert_eq!((count(&unfolded, "gap no_snapshot"), count(&unfolded, "Resubscribe")), (1, 0));

    let snapshot = "{\"snapshot\":1,\"b\":[],\"a\":[]}".to_string();
    let whole: Vec<String> = changes[..50].iter().chain([&snapshot]).chain(&changes[50..]).cloned().collect();
    assert_eq!(count(&assembled(&treatment(BOOK), &whole, 100), "odd:"), 0, "it came in time");
}

#[test]
fn a_snapshot_that_does_not_match_the_profile_is_reported() {
    let texts = ["{\"snapshot\":1,\"bids\":[]}", "{\"b\":[[\"1\",\"1\"]]}"].map(String::from);
    let lines = assembled(&treatment(BOOK), &texts, 100);
    assert_eq!(count(&lines, "odd: expected a list of levels at `./b`, found nothing"), 1, "{lines:?}");
}
