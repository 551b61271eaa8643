//! The assembler's output for updates.

use std::time::Duration;

use rand::{RngExt, SeedableRng};

use super::*;
use crate::intake::update::Oddity;
use crate::profile::mode::tests::read as read_mode;
use crate::profile::rules::numbers::{Continuity, SequenceRule};
use crate::profile::rules::numbers::{GapRemedy, Numbers};
use crate::protocol::encoding::{Payload, PayloadKind};

/// Everything that leaves an assembler, as lines.
#[derive(Default)]
pub(super) struct AssemblerLines(pub Vec<String>);

impl UpdateSink for AssemblerLines {
    fn publish(&mut self, topic: &str, payload: Payload, retention: Retention, _: Stamp) {
        let text = |payload: Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
        let retention = match retention {
            Retention::Value { keep } => format!("value of {keep}"),
            Retention::Snapshot => "start".to_string(),
            Retention::Delta { whole: None } => "change".to_string(),
            Retention::Delta { whole: Some(whole) } => format!("change to {}", text(whole)),
            Retention::Transient => "transient".to_string(),
        };
        self.0.push(format!("{topic} {} {retention}", text(payload)));
    }

    fn status(&mut self, topic: &str, status: TopicStatus, _: Stamp) {
        let status = match status {
            TopicStatus::Gap { reason, missed } => format!("gap {} {missed:?}", reason.label()),
            TopicStatus::Stale { since_ms, message } => format!("stale since {since_ms}: {message}"),
            TopicStatus::Live => "live".to_string(),
            TopicStatus::Refused { message } => format!("refused: {message}"),
        };
        self.0.push(format!("{topic} {status}"));
    }

    fn remedy(&mut self, topic: &str, remedy: GapRemedy) {
        self.0.push(format!("{topic} {remedy:?}"));
    }

    fn oddity(&mut self, topic: &str, oddity: Oddity, _: Stamp) {
        self.0.push(match oddity {
            Oddity::Malformed(misfit) => format!("{topic} odd: {misfit}"),
            other => format!("{topic} odd: {other:?}"),
        });
    }
}

pub(super) fn at(ms: u64) -> Stamp {
    Stamp { wall_ms: 1_000_000 + ms, mono_ns: ms * 1_000_000 }
}

pub(super) fn treatment(mode: &str) -> Treatment {
    Treatment { mode: read_mode(mode).expect(mode), ..Treatment::default() }
}

/// An update that is a snapshot if it contains `snapshot`, with a number if it contains `"n":`.
pub(super) fn update<'a>(treatment: &'a Treatment, topic: &'a str, text: &'a str) -> Update<'a> {
    let number: Option<Number> = text.split_once("\"n\":").and_then(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Update {
        treatment,
        topic,
        message: text.as_bytes(),
        kind: PayloadKind::Json,
        element: 0..text.len(),
        numbers: number.map(|last| Numbers { last: Some(last), ..Numbers::default() }),
        snapshot: text.contains("snapshot"),
        received: at(0),
    }
}

/// An assembler's output for these messages of the topic `t`.
fn assembled(treatment: &Treatment, messages: &[&str]) -> Vec<String> {
    let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
    messages.iter().for_each(|text| assembler.take(&update(treatment, "t", text), Release::InOrder, &mut lines));
    lines.0
}

/// The whole value after these messages; the first is the snapshot.
fn image(mode: &str, messages: &[&str]) -> Option<String> {
    // With a limit of one delta each delta gives a whole value.
    let treatment = treatment(&format!("{mode}\ndelta_limit = {{ count = 1 }}"));
    let last = assembled(&treatment, messages).pop().expect("something");
    last.split_once(" change to ").map(|(_, image)| image.to_string())
}

#[test]
fn values_are_published_as_received() {
    for (mode, retention) in
        [("", "value of 1"), ("mode = \"tail\"\ntail = 7", "value of 7"), ("mode = \"none\"", "transient")]
    {
        assert_eq!(assembled(&treatment(mode), &["{\"a\": 1.50}"]), [format!("t {{\"a\": 1.50}} {retention}")]);
    }
    let delta = treatment("mode = \"delta\"");
    let expected = ["t [0] change", "t [\"snapshot\"] start", "t [1] change"];
    assert_eq!(assembled(&delta, &["[0]", "[\"snapshot\"]", "[1]"]), expected);
}

#[test]
fn a_payload_is_wrapped_with_its_topic() {
    let wrapping = Treatment { wrap: true, ..Treatment::default() };
    let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
    assembler.take(&update(&wrapping, "a\"b", "[1.50]"), Release::InOrder, &mut lines);
    assembler.take(
        &Update { kind: PayloadKind::Text, ..update(&wrapping, "t", "say \"hi\"") },
        Release::InOrder,
        &mut lines,
    );
    assembler.take(
        &Update { kind: PayloadKind::Binary, ..update(&wrapping, "t", "bin") },
        Release::InOrder,
        &mut lines,
    );
    let expected = [
        r#"a"b {"topic":"a\"b","data":[1.50]} value of 1"#,
        r#"t {"topic":"t","data":"say \"hi\""} value of 1"#,
        "t bin value of 1",
    ];
    assert_eq!(lines.0, expected);
    let book = Treatment { wrap: true, ..treatment(BITFINEX) };
    let lines = assembled(&book, &["[7,[[10,1,5]],\"snapshot\"]", "[7,[9,1,-5],1]"]);
    assert!(lines[1].ends_with(r#"change to {"topic":"t","data":[7,[[10,1,5],[9,1,-5]],"snapshot"]}"#), "{lines:?}");
}

#[test]
fn a_gap_is_reported_once_before_the_update_and_its_remedy_requested() {
    let numbered = |mode: &str, remedy| Treatment {
        sequence: Some(SequenceRule { follow: Continuity::Inc, remedy }),
        ..treatment(mode)
    };
    let texts = ["{\"n\":1}", "{\"n\":2}", "{\"n\":5}", "{\"n\":6}", "{\"n\":4}"];
    for (remedy, reported) in [
        (GapRemedy::Mark, vec!["t gap sequence Some(2)"]),
        (GapRemedy::Resubscribe, vec!["t gap sequence Some(2)", "t Resubscribe"]),
        (GapRemedy::Reconnect, vec!["t gap sequence Some(2)", "t Reconnect"]),
        (GapRemedy::Ignore, vec![]),
        (GapRemedy::DropOld, vec![]),
    ] {
        let mut expected: Vec<String> = texts.iter().map(|text| format!("t {text} transient")).collect();
        if remedy == GapRemedy::DropOld {
            expected.pop();
            expected.push("t odd: Old".to_string());
        }
        reported.iter().rev().for_each(|reported| expected.insert(2, reported.to_string()));
        assert_eq!(assembled(&numbered("mode = \"none\"", remedy), &texts), expected, "{remedy:?}");
    }
    let delta = numbered("mode = \"delta\"", GapRemedy::Mark);
    let lines = assembled(&delta, &["{\"n\":9,\"snapshot\":1}", "{\"n\":10}", "{\"n\":2,\"snapshot\":1}", "{\"n\":3}"]);
    assert!(lines.iter().all(|line| !line.contains("gap")), "a snapshot restarts the count: {lines:?}");
}

#[test]
fn a_new_connection_is_a_gap_where_messages_depend_on_each_other() {
    let numbered = |mode: &str, follow| Treatment {
        sequence: Some(SequenceRule { follow, remedy: GapRemedy::Mark }),
        ..treatment(mode)
    };
    for (treatment, text, gap) in [
        (treatment("mode = \"delta\""), "[1]", true),
        (treatment("mode = \"delta\""), "[\"snapshot\"]", false),
        (numbered("mode = \"delta\"", Continuity::Inc), "{\"n\":1}", true),
        (numbered("mode = \"delta\"", Continuity::Inc), "{\"n\":6}", false),
        (numbered("mode = \"none\"", Continuity::Inc), "{\"n\":9}", true),
        (numbered("mode = \"delta\"", Continuity::Monotonic), "{\"n\":6}", true),
        (numbered("mode = \"delta\"", Continuity::Prev), "{\"n\":6}", true),
        (numbered("", Continuity::Inc), "{\"n\":9}", false),
        (numbered("mode = \"none\"", Continuity::Monotonic), "{\"n\":1}", false),
    ] {
        let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
        let [first, second] = [1, 3].map(|number| Release::Of(Generation(number)));
        assembler.take(&update(&treatment, "t", "{\"n\":5}"), first, &mut lines);
        assembler.take(&update(&treatment, "t", text), second, &mut lines);
        assembler.take(&update(&treatment, "t", "[2]"), second, &mut lines);
        let reported: Vec<&String> = lines.0.iter().filter(|line| line.contains("gap")).collect();
        let expected = if gap { vec!["t gap reconnect None"] } else { vec![] };
        assert_eq!(reported, expected, "{treatment:?} {text}");
    }
}

#[test]
fn levels_with_an_id_are_folded_from_insert_update_and_delete() {
    let by_id = "mode = \"merge\"\nsnapshot_when = ['/action == \"partial\"']\n\
                 merge = { at = \"./data\", key = [\"id\", \"side\"], remove = '/action == \"delete\"' }";
    let pad = "x".repeat(300);
    let last = format!(r#"{{"action":"update","data":[{{"id":1,"side":"Buy","size":8}}],"pad":"{pad}"}}"#);
    let lines = assembled(
        &treatment(by_id),
        &[
            r#"{"table":"snapshot","action":"partial","data":[{"id":1,"side":"Buy","size":5,"price":10},{"id":2,"side":"Sell","size":1,"price":11}]}"#,
            r#"{"action":"insert","data":[{"id":3,"side":"Sell","size":4,"price":12}]}"#,
            r#"{"action":"delete","data":[{"id":2,"side":"Sell"},{"id":9,"side":"Sell"}]}"#,
            &last,
        ],
    );
    let whole = r#"{"table":"snapshot","action":"partial","data":[{"id":1,"side":"Buy","size":8,"price":10},{"id":3,"side":"Sell","size":4,"price":12}]}"#;
    assert!(lines.last().expect("a line").ends_with(&format!(" change to {whole}")), "{lines:?}");
    let unfit = assembled(
        &treatment(by_id),
        &[r#"{"table":"snapshot","data":[{"id":1,"side":"Buy"}]}"#, r#"{"action":"update","data":[{"id":1}]}"#],
    );
    let expected =
        "t odd: expected a part of the row's key at `./data/0/side`, found nothing; correct `merge.key` of the rule";
    assert!(unfit.contains(&expected.to_string()), "{unfit:?}");
}

const TICKER: &str = r#"
    mode = "merge"
    snapshot_when = ['/type == "snapshot"']
    merge = { at = "./data", carry = ["./cs", "./ts"] }
"#;

#[test]
fn a_ticker_is_merged_as_its_venue_documents() {
    let lines = assembled(
        &treatment(TICKER),
        &[
            r#"{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","lastPrice":"65114.30","bid1Price":"65114.20","ask1Price":"65114.30"},"cs":24987956059,"ts":1673272861686}"#,
            r#"{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","ask1Price":"65115.00"},"cs":24987956060,"ts":1673272861786}"#,
            r#"{"topic":"tickers.BTCUSDT","type":"delta","data":{"lastPrice":"65115.10","ask1Size":"0.50"},"ts":1673272861886}"#,
        ],
    );
    assert!(lines[0].ends_with(" start"), "{lines:?}");
    let image = r#"{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","lastPrice":"65114.30","bid1Price":"65114.20","ask1Price":"65115.00"},"cs":24987956060,"ts":1673272861786}"#;
    assert!(lines[1].ends_with(&format!(" change to {image}")), "{lines:?}");
    let image = r#"{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","lastPrice":"65115.10","bid1Price":"65114.20","ask1Price":"65115.00","ask1Size":"0.50"},"cs":24987956060,"ts":1673272861886}"#;
    assert!(lines[2].ends_with(&format!(" change to {image}")), "{lines:?}");
}

const BOOK: &str = r#"
    mode = "book"
    snapshot_when = ['/snapshot exists']
    book = { sides = ["./b", "./a"], price = 0, size = 1, depth = 3, carry = ["./n"] }
"#;
const BITFINEX: &str = r#"
    mode = "book"
    snapshot_when = ['/2 == "snapshot"']
    book = { changes = "/1", sign = 2, price = 0, count = 1, size = 2, remove = "count == 0" }
    delta_limit = { count = 1 }
"#;

#[test]
fn levels_are_folded_in_the_forms_that_venues_use() {
    let objects = BOOK.replace("price = 0, size = 1", "price = \"p\", size = \"q\"");
    let words = BOOK.replace("price = 0, size = 1", "price = 1, size = 2");
    let sides = r#"
        mode = "book"
        snapshot_when = ['/snapshot exists']
        book = { sides = ["./b", "./a"], changes = "./c", side = 0, bid = "buy", ask = "sell", price = 1, size = 2 }
    "#;
    let changes_only = sides.replace("sides = [\"./b\", \"./a\"], ", "");
    for (mode, messages, expected) in [
        (
            BOOK,
            vec![
                r#"{"snapshot":1,"n":5,"b":[["10","1"],["9.50","2"],["9","3"]],"a":[["11","1"]]}"#,
                r#"{"n":6,"b":[["10.0","0.00"],["9.7","4"],["8","9"]],"a":[["10.5","2","x"],["12",7],[13,"1"]]}"#,
                r#"{"n":7,"b":[["20","0"]]}"#,
            ],
            r#"{"snapshot":1,"n":7,"b":[["9.7","4"],["9.50","2"],["9","3"]],"a":[["10.5","2","x"],["11","1"],["12",7]]}"#,
        ),
        (
            BOOK,
            vec![
                r#"{"a":[["12","1"],["11","1"]],"b":[],"snapshot":1}"#,
                r#"{"a":[["11.5","2"]],"b":[["1e1","5"]],"n":3}"#,
            ],
            r#"{"a":[["12","1"],["11.5","2"],["11","1"]],"b":[["1e1","5"]],"snapshot":1}"#,
        ),
        (
            &objects,
            vec![
                r#"{"snapshot":1,"b":[{"p":10,"q":1}],"a":[{"q":5,"p":11}]}"#,
                r#"{"b":[{"q":0,"p":10.0}],"a":[{"p":11,"q":6.50,"x":[1]}]}"#,
            ],
            r#"{"snapshot":1,"b":[],"a":[{"p":11,"q":6.50,"x":[1]}]}"#,
        ),
        (
            &words,
            vec![
                r#"{"snapshot":1,"b":[["new",0.002,5.0]],"a":[]}"#,
                r#"{"b":[["change",0.002,6.0],["new",0.001,1.0],["new",0.003,1.0],["delete",0.003,0.0]],"a":[]}"#,
            ],
            r#"{"snapshot":1,"b":[["change",0.002,6.0],["new",0.001,1.0]],"a":[]}"#,
        ),
        (
            sides,
            vec![
                r#"{"snapshot":1,"b":[["10","1"]],"a":[["11","1"]]}"#,
                r#"{"c":[["buy", "10.1","2"],["sell","11","0"],["sell","12","3"]]}"#,
            ],
            r#"{"snapshot":1,"b":[["10.1","2"],["10","1"]],"a":[["12","3"]]}"#,
        ),
        (
            &changes_only,
            vec![
                r#"{"snapshot":1,"c":[["buy","10","1"],["buy","9","1"],["sell","11","1"]]}"#,
                r#"{"c":[["buy","9","0"],["sell","10.5","2"]]}"#,
            ],
            r#"{"snapshot":1,"c":[["buy","10","1"],["sell","10.5","2"],["sell","11","1"]]}"#,
        ),
    ] {
        assert_eq!(image(mode, &messages).as_deref(), Some(expected), "{messages:?}");
    }
    let lines = assembled(
        &treatment(BITFINEX),
        &["[7,[[10,1,5],[11,2,-3]],\"snapshot\"]", "[7,[10.5,1,2],1]", "[7,[11,0,-1],2]"],
    );
    assert!(lines[2].ends_with(r#" change to [7,[[10.5,1,2],[10,1,5]],"snapshot"]"#), "{lines:?}");
}

#[test]
fn levels_of_several_forms_are_kept_in_one() {
    let book = |levels: &str| {
        format!(
            "mode = \"book\"\nsnapshot_when = ['/snapshot exists']\nbook = {{ sides = [\"./b\", \"./a\"], {levels} }}"
        )
    };
    let two_forms = book("price = [\"p\", 0], size = [\"q\", 1], level = '[${price},${size}]'");
    let itself = book(
        "changes = \".\", side = \"s\", bid = \"buy\", ask = \"sell\", price = \"p\", size = \"q\", \
         level = '{\"p\":${price},\"q\":${size}}'",
    );
    let places = book("price = 0, size = 1, depth = \"/name\"")
        .replace("\"./b\", \"./a\"", "[\"/1/bs\", \"/1/b\", \"/2/b\"], [\"/1/as\", \"/1/a\", \"/2/a\"]")
        .replace("/name", "/-1")
        .replace("/snapshot", "/1/snapshot");
    for (mode, messages, expected) in [
        (
            two_forms,
            vec![
                r#"{"snapshot":1,"b":[{"p":"9","q":"1"},{"p":"8","q":"2"}],"a":[{"p":"10","q":"3"}]}"#,
                r#"{"b":[["9","0"],["8.5","4"]],"a":[["10","5"]]}"#,
            ],
            r#"{"snapshot":1,"b":[["8.5","4"],["8","2"]],"a":[["10","5"]]}"#,
        ),
        (
            itself,
            vec![
                r#"{"snapshot":1,"b":[{"p":9,"q":1}],"a":[{"p":10,"q":3}]}"#,
                r#"{"s":"sell","n":2,"p":10.5,"q":2.0,"t":7}"#,
                r#"{"s":"buy","n":3,"p":9,"q":0.0,"t":8}"#,
            ],
            r#"{"snapshot":1,"b":[],"a":[{"p":10,"q":3},{"p":10.5,"q":2.0}]}"#,
        ),
        (
            places,
            vec![
                r#"[7,{"snapshot":1,"bs":[["9","1"],["8","1"]],"as":[["10","1"]]},"book-2"]"#,
                r#"[7,{"a":[["11","1"],["12","1"]]},{"b":[["9","0"]]},"book-2"]"#,
            ],
            r#"[7,{"snapshot":1,"bs":[["8","1"]],"as":[["10","1"],["11","1"]]},"book-2"]"#,
        ),
    ] {
        assert_eq!(image(&mode, &messages).as_deref(), Some(expected), "{messages:?}");
    }
}

#[test]
fn a_wrong_checksum_is_a_gap_and_the_book_is_requested_again() {
    let sum = |text: &str| {
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        crc.sum()
    };
    for (rule, first, second) in [
        ("order = \"alternating\", join = \":\"", "9.0:1:0.5e1:2:8:3", "9.0:4:0.5e1:2:8:3"),
        ("order = \"bids_first\"", "9.01830.5e12", "9.04830.5e12"),
        ("order = \"asks_first\", digits = \"significant\"", "5e1290183", "5e1290483"),
    ] {
        let mode = format!(
            "{}, checksum = {{ at = \"./c\", levels = 2, {rule} }} }}\ndelta_limit = {{ count = 1 }}",
            BOOK.trim().trim_end_matches('}').trim_end()
        );
        let treatment = treatment(&mode);
        let (signed, unsigned) = (sum(first).cast_signed(), sum(second));
        let snapshot =
            format!(r#"{{"snapshot":1,"b":[["9.0","1"],["8","3"],["7","1"]],"a":[["0.5e1","2"]],"c":{signed}}}"#);
        let right = format!(r#"{{"b":[["9.0","4"]],"c":"{unsigned}"}}"#);
        let lines = assembled(&treatment, &[&snapshot, &right, r#"{"b":[["7","2"]]}"#, r#"{"b":[],"c":0}"#]);
        assert!(lines[1..].iter().all(|line| line.contains(" change to ")), "{lines:?}");

        let wrong = format!(r#"{{"b":[],"a":[],"c":{}}}"#, unsigned ^ 1);
        let lines = assembled(&treatment, &[&snapshot, &right, &wrong, &right, &snapshot, &right]);
        let shown: Vec<&str> = lines.iter().map(|line| line.strip_prefix("t ").unwrap_or(line)).collect();
        assert_eq!(shown[2..5], ["odd: WrongChecksum", "gap checksum None", "Resubscribe"], "{lines:?}");
        assert_eq!(shown[5..7], [format!("{wrong} change"), format!("{right} change")]);
        assert!(shown[8].contains(" change to "), "the next snapshot begins anew: {lines:?}");
        let malformed = assembled(&treatment, &[&snapshot, r#"{"b":[],"c":"x"}"#]);
        let expected =
            "expected a whole number of 32 bits at `./c`, found a string; correct `book.checksum.at` of the rule";
        assert_eq!(malformed[1], format!("t odd: {expected}"));
        let from_the_start =
            assembled(&treatment, &[&snapshot.replace(&signed.to_string(), &(signed ^ 1).to_string())]);
        assert_eq!(from_the_start[..3], ["t odd: WrongChecksum", "t gap checksum None", "t Resubscribe"]);
    }
}

#[test]
fn a_malformed_change_ends_the_fold_until_the_next_snapshot() {
    let mode = format!("{BOOK}\ndelta_limit = {{ count = 1 }}");
    let snapshot = r#"{"snapshot":1,"b":[["10","1"]],"a":[]}"#;
    let right = r#"{"b":[["9","1"]]}"#;
    for (wrong, misfit) in [
        (r#"{"b":5}"#, "a list of levels at `./b`, found a number; correct `book.sides`"),
        (r#"{"b":{}}"#, "a number at `./b/0`, found nothing; correct `book.price`"),
        (r#"{"b":[["x","1"]]}"#, "a number at `./b/0/0`, found a string; correct `book.price`"),
        (r#"{"b":[["1","1"],["1",null]]}"#, "a number at `./b/1/1`, found null; correct `book.size`"),
        (r#"{"b":[["1"]]}"#, "a number at `./b/0/1`, found nothing; correct `book.size`"),
        (r#"{"b":[{"0":1}]}"#, "a number at `./b/0/1`, found nothing; correct `book.size`"),
        (r#"{"x":1}"#, "a list of levels at `./b`, found nothing; correct `book.sides`"),
        ("[]", "a list of levels at `./b`, found nothing; correct `book.sides`"),
    ] {
        let lines = assembled(&treatment(&mode), &[snapshot, right, wrong, right, wrong, snapshot, right]);
        let shown = lines.iter().map(|line| line.strip_prefix("t ").unwrap_or(line));
        let (odd, shown): (Vec<&str>, Vec<&str>) = shown.partition(|line| line.starts_with("odd: "));
        let expected = format!("odd: expected {misfit} of the rule");
        assert_eq!(odd, [expected], "{wrong}: what is not folded any more is not reported again");
        let whole = |line: &str| line.contains(" change to ");
        assert_eq!(shown.iter().filter(|line| **line == "Resubscribe").count(), 1, "{wrong}: {shown:?}");
        assert!(whole(shown[1]) && shown[2] == "Resubscribe", "{shown:?}");
        assert_eq!(shown[3], format!("{wrong} change"));
        assert!(!whole(shown[4]) && !whole(shown[5]) && whole(shown[7]), "{shown:?}");
    }
    let ticker = assembled(&treatment(TICKER), &[r#"{"type":"snapshot","data":[1]}"#, r#"{"data":{"a":1}}"#]);
    assert!(ticker[1].ends_with(" start") && ticker[2].ends_with(" change"), "{ticker:?}");
    assert_eq!(ticker[0], "t odd: expected an object at `./data`, found an array; correct `merge.at` of the rule");
}

#[test]
fn more_deltas_than_the_limit_request_one_snapshot() {
    for (limit, reported) in [
        ("count = 2", "t Resubscribe"),
        ("count = 2, over = \"mark\"", "t gap overflow None"),
        ("bytes = 6", "t Resubscribe"),
    ] {
        let delta = treatment(&format!("mode = \"delta\"\ndelta_limit = {{ {limit} }}"));
        let lines = assembled(&delta, &["[0]", "[0]", "[0]", "[\"snapshot\"]", "[1]", "[2]", "[3]", "[4]"]);
        let expected: Vec<&str> = vec![
            "t [0] change",
            "t [0] change",
            "t [0] change",
            "t [\"snapshot\"] start",
            "t [1] change",
            "t [2] change",
            reported,
            "t [3] change",
            "t [4] change",
        ];
        assert_eq!(lines, expected, "{limit}");
        let again = assembled(&delta, &["[\"snapshot\"]", "[1]", "[2]", "[3]", "[\"snapshot\"]", "[1]", "[2]", "[3]"]);
        assert_eq!(again.iter().filter(|line| *line == reported).count(), 2, "{limit}: {again:?}");
    }
    // Where deltas are folded, a whole value comes first.
    let book = treatment(&format!("{BOOK}\ndelta_limit = {{ count = 2 }}"));
    let long = format!(r#"{{"snapshot":1,"b":[["10","1"]],"a":[],"long":"{}"}}"#, "x".repeat(1000));
    let lines = assembled(&book, &[&long, r#"{"b":[]}"#, r#"{"b":[]}"#, r#"{"b":[]}"#, r#"{"b":[]}"#]);
    assert_eq!(
        lines.iter().map(|line| line.contains("change to")).collect::<Vec<_>>(),
        [false, false, true, false, true]
    );
}

#[test]
fn a_whole_value_is_rendered_when_the_deltas_are_longer() {
    let treatment = treatment(BOOK);
    let snapshot = r#"{"snapshot":1,"b":[["10","1"],["9","1"],["8","1"]],"a":[["11","1"],["12","1"]]}"#;
    let mut messages = vec![snapshot];
    messages.extend([r#"{"b":[["10","2"]]}"#; 40]);
    let lines = assembled(&treatment, &messages);
    let (mut since, mut images) = (0, 0);
    for line in &lines[1..] {
        since += messages[1].len();
        assert_eq!(line.contains("change to"), since > snapshot.len(), "{line}");
        if since > snapshot.len() {
            (since, images) = (0, images + 1);
        }
    }
    assert_eq!(images, 8);
}

#[test]
fn the_image_of_a_message_with_several_elements_is_about_one() {
    for (each, message, name, expected) in [
        (
            "/d/*",
            r#"{"d":[{"s":"A","m":{"x":1}} , {"s":"B","m":{"x":2}},{"s":"C","m":{"x":3}}],"z":1}"#,
            "B",
            r#"{"d":[{"s":"B","m":{"y":9}}],"z":1}"#,
        ),
        ("/d/*", r#"{"d":[{"s":"A","m":{"x":1}},{"s":"B","m":{"x":2}}]}"#, "A", r#"{"d":[{"s":"A","m":{"y":9}}]}"#),
        (
            "/d/*",
            r#"{"d":{"k":{"s":"A","m":{"x":1}},"l":{"s":"B","m":{"x":2}}}}"#,
            "B",
            r#"{"d":{"l":{"s":"B","m":{"y":9}}}}"#,
        ),
        (
            "/e/*/d/*",
            r#"{"e":[{"d":[{"s":"A","m":{"x":1}}]},{"d":[{"s":"B","m":{"x":1}},{"s":"C","m":{}}]}]}"#,
            "B",
            r#"{"e":[{"d":[]},{"d":[{"s":"B","m":{"y":9}}]}]}"#,
        ),
        (
            "/e/*/d",
            r#"{"e":[{"d":{"s":"A","m":{"x":1}}},{"d":{"s":"B","m":{"x":1}}}]}"#,
            "A",
            r#"{"e":[{"d":{"s":"A","m":{"y":9}}},{"d":null}]}"#,
        ),
    ] {
        let mode =
            format!("each = \"{each}\"\nmode = \"merge\"\nsnapshot_when = ['/d exists']\nmerge = {{ at = \"./m\" }}");
        let whole = treatment(&mode);
        let element = Treatment { emit_element: true, ..treatment(&format!("{mode}\nemit = \"element\"")) };
        let first = message.find(&format!("{{\"s\":\"{name}\"")).expect("an element");
        let end = first + message[first..].find("}}").expect("its end") + 2;
        let change = r#"{"m":{"x":null,"y":9}}"#;
        for (treatment, expected) in [(&whole, expected), (&element, &*format!(r#"{{"s":"{name}","m":{{"y":9}}}}"#))] {
            let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
            let snapshot = Update { element: first..end, snapshot: true, ..update(treatment, "t", message) };
            assembler.take(&snapshot, Release::InOrder, &mut lines);
            assembler.take(&update(treatment, "t", change), Release::InOrder, &mut lines);
            assert_eq!(lines.0[1], format!("t {change} change to {expected}"), "{each}");
        }
    }
}

#[test]
fn a_gap_ends_the_fold() {
    let sequence = Some(SequenceRule { follow: Continuity::Inc, remedy: GapRemedy::Mark });
    let ticker = Treatment { sequence, ..treatment(TICKER) };
    let [snapshot, next, late] = [("snapshot", 1), ("delta", 2), ("delta", 1)]
        .map(|(kind, n)| format!(r#"{{"type":"{kind}","n":{n},"data":{{"a":{n}}}}}"#));
    let gap = next.replace("\"n\":2", "\"n\":9");
    let lines = assembled(&ticker, &[&snapshot, &next, &late, &gap, &gap.replace('9', "10"), &snapshot, &next]);
    let whole: Vec<bool> = lines.iter().map(|line| line.contains("change to")).collect();
    assert_eq!(whole, [false, true, true, false, false, false, false, true], "{lines:?}");
    assert!(lines[2].contains("\"data\":{\"a\":2}}"), "what is late changes nothing: {lines:?}");
    assert_eq!(lines[3], "t gap sequence Some(6)");
}

#[test]
fn a_silent_topic_is_reported_once_and_again_when_it_is_live() {
    let plain = Treatment::default();
    let run = |stale_after, frames: &[u64], paused: std::ops::Range<u64>, until: u64| {
        let (mut assembler, mut lines) = (Assembler::new(stale_after, 10), AssemblerLines::default());
        for ms in (0..until).step_by(if until < 100_000 { 100 } else { 10_000 }) {
            if ms == paused.start || ms == paused.end {
                assembler.paused(ms == paused.start);
            }
            assembler.tick(at(ms), &mut lines);
            for _ in frames.iter().filter(|frame| **frame == ms) {
                assembler.take(&Update { received: at(ms), ..update(&plain, "t", "1") }, Release::InOrder, &mut lines);
            }
        }
        lines.0.retain(|line| line != "t 1 value of 1");
        lines.0
    };
    let never = u64::MAX..u64::MAX;
    let every = |step: usize, count: usize| -> Vec<u64> { (0..count as u64).map(|n| n * step as u64).collect() };
    let mut busy = every(1000, 30);
    busy.push(60_000);
    let reported = ["t stale since 1029000: no message for 10s; this topic is usually silent for at most 1s", "t live"];
    assert_eq!(run(StaleAfter::Auto, &busy, never.clone(), 61_000), reported);
    assert_eq!(run(StaleAfter::Never, &busy, never.clone(), 61_000), [""; 0]);
    assert_eq!(run(StaleAfter::Auto, &every(1000, 20), never.clone(), 61_000), [""; 0], "no cadence yet");
    assert_eq!(run(StaleAfter::Auto, &busy, 30_000..59_900, 61_000), [""; 0], "no connection");
    let hourly = every(3_600_000, 30);
    assert_eq!(run(StaleAfter::Auto, &hourly, never.clone(), 30 * 3_600_000), [""; 0]);
    let lines = run(StaleAfter::Auto, &hourly, never.clone(), 34 * 3_600_000);
    assert_eq!(lines, ["t stale since 105400000: no message for 4h; this topic is usually silent for at most 1h"]);
    let daily = every(24 * 3_600_000, 30);
    assert_eq!(run(StaleAfter::Auto, &daily, never.clone(), 50 * 24 * 3_600_000), [""; 0], "too slow to be judged");
    // Twenty trades at once, then 40 s of nothing: the pause is the cadence, not the mean.
    let bursts: Vec<u64> = (0..40).flat_map(|n| [n * 40_000; 20]).collect();
    assert_eq!(run(StaleAfter::Auto, &bursts, never.clone(), 40 * 40_000), [""; 0]);
    let fixed = StaleAfter::Fixed(Duration::from_secs(5));
    let lines = run(fixed, &[0], never, 20_000);
    assert_eq!(lines, ["t stale since 1000000: no message for 5s; expected one within 5s"]);
}

#[test]
fn memory_is_bounded_by_the_number_of_topics() {
    let delta = treatment("mode = \"delta\"");
    let (mut assembler, mut lines) = (Assembler::new(StaleAfter::Auto, 3), AssemblerLines::default());
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    for name in &names {
        assembler.take(&update(&delta, name, "[\"snapshot\"]"), Release::InOrder, &mut lines);
        assembler.take(&update(&delta, name, "[1]"), Release::InOrder, &mut lines);
    }
    assert_eq!((assembler.topics.len(), assembler.by_name.len()), (3, 3));
    assert_eq!(lines.0.iter().filter(|line| line.ends_with(" start")).count(), 10);
    assert_eq!(lines.0.iter().filter(|line| line.ends_with(" change")).count(), 10);
    let mut plain = Assembler::default();
    plain.take(&update(&Treatment::default(), "t", "1"), Release::InOrder, &mut lines);
    assert_eq!(plain.topics.len(), 0, "a value without a sequence needs no memory");
}

#[test]
fn a_topic_that_is_forgotten_is_new_when_it_comes_back() {
    let (mut assembler, mut lines) = (Assembler::new(StaleAfter::Auto, 10), AssemblerLines::default());
    for topic in ["a", "b", "c"] {
        assembler.take(&update(&Treatment::default(), topic, "1"), Release::InOrder, &mut lines);
    }
    assembler.forget("a");
    assembler.forget("a");
    assembler.forget("no such topic");
    assert_eq!((assembler.topics.len(), assembler.by_name.len()), (2, 2));
    assert!(assembler.by_name.iter().all(|(name, place)| assembler.topics[*place].name == *name));
    assembler.forget("c");
    assembler.forget("b");
    assert!(assembler.topics.is_empty() && assembler.next == 0);
}

#[test]
fn what_is_folded_is_counted_and_forgotten() {
    let book = treatment(BOOK);
    let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
    assembler.take(
        &update(&book, "t", r#"{"snapshot":1,"b":[["10","1"],["9","1"]],"a":[["11","1"]]}"#),
        Release::InOrder,
        &mut lines,
    );
    let full = assembler.folded_bytes;
    assert!(full > 50, "{full}");
    assembler.take(
        &update(&book, "t", r#"{"b":[["10","0"],["9","0"]],"a":[["11","0"]]}"#),
        Release::InOrder,
        &mut lines,
    );
    assert!(assembler.folded_bytes < full - 50, "{}", assembler.folded_bytes);
    assembler.take(&update(&book, "t", r#"{"b":1}"#), Release::InOrder, &mut lines);
    assert_eq!(assembler.folded_bytes, 0);
    // Without room the deltas come one by one.
    assembler.folded_bytes = FOLDED_BYTES_MAX;
    let lines = [r#"{"snapshot":1,"b":[],"a":[]}"#, r#"{"b":[["1","1"]]}"#].map(|text| {
        let mut lines = AssemblerLines::default();
        assembler.take(&update(&book, "t", text), Release::InOrder, &mut lines);
        lines.0.join(" ")
    });
    assert!(lines[0].ends_with(" start") && lines[1].ends_with(" change"), "{lines:?}");
    assert_eq!(assembler.folded_bytes, FOLDED_BYTES_MAX);
}

/// Messages of random parts.
fn random_text(rng: &mut rand::rngs::SmallRng, parts: &[&str], most: usize) -> String {
    (0..rng.random_range(1..=most)).map(|_| parts[rng.random_range(0..parts.len())]).collect()
}

#[test]
fn no_text_makes_it_panic() {
    let mut rng = rand::rngs::SmallRng::seed_from_u64(11);
    let modes = [BOOK, BITFINEX, TICKER].map(treatment);
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"data\"",
        "1",
        "-2.50",
        "\"3\"",
        "null",
        "\"",
        "\\",
        "é",
        "[1,2]",
        "[\"1\",\"0\",3]",
        "{\"data\":",
        "{\"b\":[",
        "\"a\":[",
        "[7,[",
    ];
    let (mut assembler, mut lines) = (Assembler::default(), AssemblerLines::default());
    for _ in 0..60_000 {
        let text = random_text(&mut rng, &parts, 8);
        let treatment = &modes[rng.random_range(0..modes.len())];
        let snapshot = rng.random_bool(0.2);
        assembler.take(&Update { snapshot, ..update(treatment, "t", &text) }, Release::InOrder, &mut lines);
        lines.0.clear();
    }
    assert!(assembler.folded_bytes < 1 << 20, "{}", assembler.folded_bytes);
}

#[test]
fn whole_values_of_random_messages_are_json() {
    let seed = 12;
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    let book = BOOK.replace("sides =", "changes = \"./c\", side = 2, bid = \"x\", ask = \"y\", sides =");
    let modes = [BOOK, &book, TICKER].map(|mode| treatment(&format!("{mode}\ndelta_limit = {{ count = 3 }}")));
    let lists = ["[]", "[[1,2]]", "[ [\"1.0\" , \"3\"],[2,0] ]", "[[3,1],[4,1],[\"5\",\"0.0\"]]", "[[-1e3,7]]"];
    let marked = ["[]", "[[3,1,\"x\"],[4,1,\"y\"]]", "[ [3,0, \"x\"] ]", "[[1,1,\"y\"],[0.5,2,\"x\"]]"];
    let objects = ["{}", "{\"u\":1,\"v\":{\"w\":[2]}}", "{\"u\":null}", "{ \"v\" : \"}\\\"\" }"];
    let values =
        [("a", &lists[..]), ("b", &lists), ("c", &marked), ("data", &objects), ("n", &objects), ("ts", &lists)];
    let (mut assembler, mut images) = (Assembler::default(), 0);
    for round in 0..60_000 {
        let member = |(key, values): &(&str, &[&str])| {
            let value = if rng.random_bool(0.02) { "5" } else { values[rng.random_range(0..values.len())] };
            let there = rng.random_bool(0.9);
            there.then(|| format!("\"{key}\":{value}"))
        };
        let members: Vec<String> = values.iter().filter_map(member).collect();
        let text = format!("{{{}}}", members.join(","));
        let place = rng.random_range(0..modes.len());
        let (snapshot, topic) = (rng.random_bool(0.3), ["0", "1", "2"][place]);
        let mut lines = AssemblerLines::default();
        let update = Update { snapshot, numbers: None, ..update(&modes[place], topic, &text) };
        assembler.take(&update, Release::InOrder, &mut lines);
        for line in &lines.0 {
            if let Some((_, image)) = line.split_once(" change to ") {
                assert!(crate::json::is_json(image), "seed {seed} round {round}: {image}");
                images += 1;
            }
        }
    }
    assert!(images > 1000, "{images} images");
}
