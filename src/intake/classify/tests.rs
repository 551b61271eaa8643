//! The classifier's findings, message by message.

use super::binding::BINDINGS_MAX;
use super::drive::{self, Onlooker};
use super::waiting::{GUESS_NS, GUESS_SLOW_NS};
use super::*;
use crate::intake::update::Update;
use crate::json::ELEMENTS_MAX;
use crate::profile::{Profile, check};

/// Everything a classifier reports, as lines.
#[derive(Default)]
struct ClassifierLines(Vec<String>);

impl Onlooker for ClassifierLines {
    fn update(&mut self, update: &Update<'_>) {
        let Update { topic, kind, received, .. } = update;
        let bytes = update.published();
        let mut line = format!("{topic} {} {kind:?} at {}", String::from_utf8_lossy(bytes), received.wall_ms);
        let numbers = update.numbers.unwrap_or_default();
        for (name, number) in [("first", numbers.first), ("prev", numbers.prev), ("last", numbers.last)] {
            line += &number.map(|number| format!(" {name} {number}")).unwrap_or_default();
        }
        line += if update.snapshot { " snapshot" } else { "" };
        self.0.push(line);
    }

    fn classified(&mut self, classified: &Classified, _: &FeedMessage<'_>) {
        let problem = classified.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        let reply = classified.reply.as_ref().map(|reply| format!(" answered with {reply}")).unwrap_or_default();
        let gap = classified.gap.map(|gap| {
            let missed = gap.missed.map_or("some".to_string(), |missed| missed.to_string());
            format!(" after {missed} missing: {:?}", gap.remedy)
        });
        self.0.push(format!("{}{reply}{}{problem}", classified.class.label(), gap.unwrap_or_default()));
    }
}

fn at(ms: u64) -> Stamp {
    Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
}

fn classified(profile: &Profile, message: FeedFrame<'_>) -> Vec<String> {
    let mut lines = ClassifierLines::default();
    drive::take(&mut Classifier::new(profile), message, at(7), &mut lines);
    lines.0
}

#[test]
fn a_list_is_published_oldest_first_whatever_its_order() {
    for (order, expected) in
        [("", ["1", "2", "3"]), ("newest_last", ["1", "2", "3"]), ("newest_first", ["3", "2", "1"])]
    {
        let order = if order.is_empty() { String::new() } else { format!("order = \"{order}\"\n") };
        let text = format!(
            "profile = 1\nname = \"t\"\n[[on]]\nname = \"a\"\nas = \"data\"\neach = \"/d/*\"\n{order}\
             emit = \"element\"\ntopic = \"t\"\n"
        );
        let profile = check(&text, "t").expect("a valid profile");
        let lines = classified(&profile, FeedFrame::Text(r#"{"d":[1,2,3]}"#));
        assert_eq!(lines[..3], expected.map(|element| format!("t {element} Json at 7")), "{order}");
    }
    let alone =
        "profile = 1\nname = \"t\"\n[[on]]\nname = \"a\"\nas = \"data\"\norder = \"newest_first\"\ntopic = \"t\"\n";
    let error = check(alone, "t").expect_err("a rule without a list").to_string();
    assert!(error.starts_with("t:6: on.1.order: expected `each` beside `order`"), "{error}");
}

#[test]
fn a_missing_topic_is_reported_with_its_place() {
    let profile = Profile::generic_with_topic("/data/s").expect("right");
    for (text, expected) in [
        (r#"{"data":{"s":1}}"#, "unmatched: expected a topic at `/data/s`, found a number"),
        (r#"{"data":{"s":null}}"#, "unmatched: expected a topic at `/data/s`, found null"),
        (r#"{"data":{"s":""}}"#, "unmatched: expected a topic at `/data/s`, found an empty string"),
        (r#"{"data":3}"#, "unmatched: expected a topic at `/data/s`, found nothing"),
        ("{", "garbled: expected JSON, found other text"),
    ] {
        assert_eq!(classified(&profile, FeedFrame::Text(text)), [expected], "{text}");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let expected = "garbled: expected JSON of at most 127 levels, found more, \
                    which many parsers reject";
    assert_eq!(classified(&profile, FeedFrame::Text(&deep)), [expected]);
    let brackets = format!(r#""{}" x"#, "[".repeat(200));
    assert_eq!(classified(&profile, FeedFrame::Text(&brackets)), ["garbled: expected JSON, found other text"]);
    let long = format!(r#"{{"data":{{"s":"{}"}}}}"#, "x".repeat(300));
    assert!(classified(&profile, FeedFrame::Text(&long))[0].contains("at most 256 bytes, found 300"));
    let usable = classified(&profile, FeedFrame::Text(r#"{"data":{"s":"XBT USD"}}"#));
    assert_eq!(usable, [r#"XBT_USD {"data":{"s":"XBT USD"}} Json at 7"#, "data"]);
}

#[test]
fn binary_messages_are_json_or_nothing_but_for_generic() {
    let simulated = Profile::built_in("simulated").expect("built in");
    let json = br#"{"topic":"a"}"#;
    assert_eq!(classified(&simulated, FeedFrame::Binary(json)), [r#"a {"topic":"a"} Json at 7"#, "data"]);
    let garbled = ["garbled: expected JSON in UTF-8, found other bytes"];
    assert_eq!(classified(&simulated, FeedFrame::Binary(&[0xFF])), garbled);
    let packed =
        "garbled: expected JSON in UTF-8, found other bytes; it looks like gzip: say `binary = \"gzip\"` in `[decode]`";
    for name in ["simulated", "generic"] {
        let profile = Profile::built_in(name).expect("built in");
        assert_eq!(classified(&profile, FeedFrame::Binary(&[0x1f, 0x8b, 8, 0xff])), [packed], "{name}");
    }
    assert_eq!(classified(&simulated, FeedFrame::Binary(b"text")), ["garbled: expected JSON, found other text"]);
    let generic = Profile::built_in("generic").expect("built in");
    assert_eq!(classified(&generic, FeedFrame::Binary(b"\x01")), ["feed \u{1} Binary at 7", "data"]);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let text = r#"
        profile = 1
        name = "x"
        [[on]]
        name = "hello"
        as = "info"
        when = ['text ^= "hello"']
        [[on]]
        name = "prices"
        as = "data"
        when = ['/prices is object']
        each = "/prices/*"
        topic = "${/kind|upper}.${#}"
        emit = "element"
        [[on]]
        name = "batch"
        as = "data"
        when = ['/batch exists']
        each = "/batch/*"
        topic = "${./s}"
        [[on]]
        name = "rest"
        as = "ignore"
        when = ['/kind exists']
    "#;
    let profile = check(text, "x.toml").expect("right");
    for (text, expected) in [
        ("hello world", vec!["info"]),
        ("goodbye", vec!["garbled: expected JSON, found other text"]),
        (
            r#"{"kind":"mid","prices":{"A":1.50,"B":"2"}}"#,
            vec!["MID.A 1.50 Json at 7", r#"MID.B "2" Json at 7"#, "data"],
        ),
        (r#"{"prices":{"A":1}}"#, vec!["unmatched: expected a topic at `/kind`, found nothing"]),
        (r#"{"batch":[]}"#, vec!["data"]),
        (
            r#"{"batch":[{"s":"A"},{"s":9}]}"#,
            vec![r#"A {"batch":[{"s":"A"},{"s":9}]} Json at 7"#, "data: expected a topic at `./s`, found a number"],
        ),
        (r#"{"kind":1}"#, vec!["ignore"]),
        (
            "7",
            vec![
                "unmatched: expected a message that a rule matches, found another; \
                 add a rule, if necessary with `as = \"ignore\"`",
            ],
        ),
    ] {
        assert_eq!(classified(&profile, FeedFrame::Text(text)), expected, "{text}");
    }
}

#[test]
fn a_message_of_several_kinds_has_a_topic_of_each() {
    let text = r#"
        profile = 1
        name = "x"
        [on.book]
        when = ['/book exists']
        topic = "book.${/m}"
        mode = "delta"
        snapshot_when = ['/reset == true']
        continue = true
        [on.trades]
        when = ['/trades exists']
        each = "/trades/*"
        topic = "trades.${/m}"
        emit = "element"
        continue = true
        [on.ack]
        as = "ack"
        when = ['/ok == true']
        [on.ticker]
        when = ['/ticker exists']
        topic = "ticker.${/m}"
        [on.rest]
        topic = "rest.${/m}"
    "#;
    let profile = check(text, "x.toml").expect("right");
    for (text, expected) in [
        (
            r#"{"m":"A","book":1,"reset":true,"trades":[2,3],"ticker":4}"#,
            "book.A snapshot, trades.A, trades.A, ticker.A, data",
        ),
        (r#"{"m":"A","book":1,"trades":[]}"#, "book.A, rest.A, data"),
        (r#"{"m":"A","trades":[2],"ticker":4}"#, "trades.A, ticker.A, data"),
        (r#"{"m":"A","book":1}"#, "book.A, rest.A, data"),
        (r#"{"m":"A","ok":true,"ticker":4}"#, "ack"),
        (r#"{"m":"A","ok":true,"book":1,"ticker":4}"#, "book.A, ticker.A, data"),
    ] {
        let lines = classified(&profile, FeedFrame::Text(text));
        let shortened = lines.iter().map(|line| match line.split_once(' ') {
            Some((topic, rest)) if rest.ends_with(" snapshot") => format!("{topic} snapshot"),
            Some((topic, _)) => topic.to_string(),
            None => line.clone(),
        });
        assert_eq!(shortened.collect::<Vec<_>>().join(", "), expected, "{text}");
    }
}

#[test]
fn a_topic_may_have_a_number_a_part_that_is_missing_or_one_of_two() {
    for (topic, text, expected) in [
        ("t.${number:/id}", r#"{"id":17}"#, "t.17"),
        ("t.${number:/id}", r#"{"id":-3}"#, "t.-3"),
        ("t.${number:/id}", r#"{"id":"x"}"#, "t.x"),
        ("t.${number:/id|map:pairs}", r#"{"id":17}"#, "t.BTC"),
        ("t.${number:/id}", r#"{"id":1.5}"#, "unmatched: expected a topic at `/id`, found a number"),
        ("t.${number:/id}", r#"{"id":true}"#, "unmatched: expected a topic at `/id`, found a bool"),
        ("t.${/id}", r#"{"id":17}"#, "unmatched: expected a topic at `/id`, found a number"),
        ("${/c}${/s?.${/s|lower}}", r#"{"c":"a","s":"B"}"#, "a.b"),
        ("${/c}${/s?.${/s|lower}}", r#"{"c":"a"}"#, "a"),
        ("${/c}${/s?.${/s|lower}}", r#"{"c":"a","s":""}"#, "a"),
        ("${/s|lower|or:${/f|upper}}", r#"{"s":"A","f":"b"}"#, "a"),
        ("${/s|lower|or:${/f|upper}}", r#"{"f":"b"}"#, "B"),
        ("${/s|or:${/f|or:none}}", "{}", "none"),
        ("${/s|or:x.${/f}}", "{}", "unmatched: expected a topic at `/f`, found nothing"),
    ] {
        let profile =
            format!("profile = 1\nname = \"x\"\nalias.pairs = {{ 17 = \"BTC\" }}\n[on.a]\ntopic = \"{topic}\"\n");
        let profile = check(&profile, "x.toml").unwrap_or_else(|error| panic!("{error}"));
        let lines = classified(&profile, FeedFrame::Text(text));
        let found =
            if lines[0].starts_with("unmatched") { &lines[0] } else { lines[0].split(' ').next().expect("a topic") };
        assert_eq!(found, expected, "{topic} of {text}");
    }
}

#[test]
fn a_number_may_be_in_one_of_two_places() {
    let text =
        "profile = 1\nname = \"x\"\n[on.a]\ntopic = \"t\"\nseq = { rule = \"inc\", last = [\"/u\", \"/book/id\"] }\n";
    let profile = check(text, "x.toml").expect("right");
    for (text, expected) in
        [(r#"{"u":5,"book":{"id":9}}"#, " last 5"), (r#"{"book":{"id":9}}"#, " last 9"), (r#"{"book":{}}"#, "")]
    {
        let lines = classified(&profile, FeedFrame::Text(text));
        assert_eq!(lines[0], format!("t {text} Json at 7{expected}"));
    }
}

#[test]
fn what_waits_for_the_guess_is_published_in_order_with_its_own_time() {
    let mut classifier = Classifier::new(&Profile::built_in("generic").expect("built in"));
    let mut lines = ClassifierLines::default();
    let text = |n: u64| format!(r#"{{"s":"A{n}"}}"#);
    assert_eq!(classifier.deadline_ns(), None);
    for n in 0..4 {
        drive::take(&mut classifier, FeedFrame::Text(&text(n)), at(n), &mut lines);
        let wait = if n < 3 { GUESS_SLOW_NS } else { GUESS_NS };
        assert_eq!(classifier.deadline_ns(), Some(wait), "a guess from few messages waits longer");
    }
    classifier.tick(at(1999));
    drive::take_waited(&mut classifier, &mut lines);
    assert_eq!(lines.0, [""; 0]);
    classifier.tick(at(2000));
    drive::take_waited(&mut classifier, &mut lines);
    let expected: Vec<String> =
        (0..4).flat_map(|n| [format!("A{n} {} Json at {n}", text(n)), "data".to_string()]).collect();
    assert_eq!(lines.0, expected);
    assert_eq!(classifier.deadline_ns(), None);
    drive::take(&mut classifier, FeedFrame::Text(&text(9)), at(9), &mut lines);
    assert_eq!(lines.0.last().map(String::as_str), Some("data"), "from now on nothing waits");
}

#[test]
fn a_guess_that_is_not_clear_waits_for_more_messages_but_not_for_long() {
    let (named, plain) = (|n: u64| format!(r#"{{"s":"A{n}"}}"#), |n: u64| format!(r#"{{"x":{n}}}"#));
    for (first, then, expected) in [
        (0, "s", 32),
        // 32 of 64 are not nearly all, and 96 of 128 neither.
        (32, "s", 512),
        (2, "s", 64),
        (512, "x", 512),
    ] {
        let mut classifier = Classifier::new(&Profile::built_in("generic").expect("built in"));
        let mut lines = ClassifierLines::default();
        let text = |n: u64| if n < first || then == "x" { plain(n) } else { named(n) };
        let mut n = 0;
        while classifier.guess().is_none() {
            drive::take(&mut classifier, FeedFrame::Text(&text(n)), at(0), &mut lines);
            n += 1;
        }
        assert_eq!(n, expected, "after {first} without a name");
        let template = if then == "x" { "feed" } else { "${/s}" };
        assert_eq!(classifier.guess().expect("made").template(), template);
    }
}

#[test]
fn many_messages_without_the_guessed_name_are_reported_with_the_remedy() {
    let mut classifier = Classifier::new(&Profile::built_in("generic").expect("built in"));
    let mut lines = ClassifierLines::default();
    for n in 0..232 {
        let text = if n >= 32 && n % 10 == 0 { r#"{"pair":"EUR"}"#.to_string() } else { format!(r#"{{"s":"A{n}"}}"#) };
        drive::take(&mut classifier, FeedFrame::Text(&text), at(n), &mut lines);
    }
    let plain = "unmatched: expected a topic at `/s`, found nothing";
    let remedy =
        "copy `generic`, and before its own rule add one with `when = ['/s absent']` and `topic = \"${/pair}\"`";
    let problems: Vec<&String> = lines.0.iter().filter(|line| line.starts_with("unmatched")).collect();
    assert_eq!(problems.len(), 20);
    assert_eq!(problems[0], plain);
    assert_eq!(*problems[19], format!("{plain}, like 10 of 100 messages; {remedy}"));
}

/// The reports of a classifier of this profile about these frames, one per second.
fn conversation(profile: &str, frames: &[&str]) -> Vec<String> {
    let text = format!("profile = 1\nname = \"x\"\n{profile}");
    let mut classifier = Classifier::new(&check(&text, "x.toml").expect("right"));
    let mut lines = ClassifierLines::default();
    for (second, frame) in (0u64..).zip(frames) {
        classifier.tick(at(second * 1000));
        drive::take_waited(&mut classifier, &mut lines);
        drive::take(&mut classifier, FeedFrame::Text(frame), at(second * 1000), &mut lines);
    }
    lines.0
}

const BOUND: &str = r#"
    bind_via = "${/0}"
    [[on]]
    name = "subscribed"
    as = "ack"
    when = ['/event == "subscribed"']
    bind = { key = "${/chanId}", set = { channel = "/channel", symbol = "/symbol" } }
    [[on]]
    name = "unsubscribed"
    as = "ack"
    when = ['/event == "unsubscribed"']
    unbind = "${/chanId}"
    [[on]]
    name = "beat"
    as = "heartbeat"
    when = ['/1 == "hb"']
    [[on]]
    name = "book"
    as = "data"
    when = ['=channel == "book"']
    topic = "book.${=symbol|strip:t}"
    [[on]]
    name = "other"
    as = "data"
    when = ['=channel exists']
    topic = "${=channel}.${=symbol|or:all}"
"#;

#[test]
fn keys_stand_for_the_values_of_their_acknowledgement() {
    let book = r#"{"event":"subscribed","chanId":5,"channel":"book","symbol":"tBTCUSD"}"#;
    let lines = conversation(
        BOUND,
        &[
            book,
            "[5,[1,2]]",
            r#"{"event":"subscribed","chanId":6,"channel":"status"}"#,
            "[6,[3]]",
            r#"{"event":"unsubscribed","chanId":5}"#,
            r#"{"event":"subscribed","chanId":6,"channel":"ticker","symbol":"tETHUSD"}"#,
            "[6,[4]]",
            "{}",
        ],
    );
    let no_rule = format!("unmatched: {}", Unnamed::NoRule);
    assert_eq!(
        lines,
        [
            "ack",
            "book.BTCUSD [5,[1,2]] Json at 1000",
            "data",
            "ack",
            "status.all [6,[3]] Json at 3000",
            "data",
            "ack",
            "ack",
            "ticker.tETHUSD [6,[4]] Json at 6000",
            "data",
            &no_rule,
        ]
    );
}

#[test]
fn data_wait_for_their_acknowledgement_in_order_but_not_for_ever() {
    let ack = r#"{"event":"subscribed","chanId":5,"channel":"book","symbol":"A"}"#;
    let lines = conversation(BOUND, &["[5,1]", "[6,2]", r#"[6,"hb"]"#, "[5,3]", ack, "[5,4]", "{}", "{}"]);
    let unbound = "unmatched: expected an acknowledgement that binds `6`, found none within 5 s or 64 waiting messages";
    let no_rule = format!("unmatched: {}", Unnamed::NoRule);
    assert_eq!(
        lines,
        [
            "heartbeat",
            "ack",
            "book.A [5,1] Json at 0",
            "data",
            "book.A [5,3] Json at 3000",
            "data",
            "book.A [5,4] Json at 5000",
            "data",
            unbound,
            &no_rule,
            &no_rule,
        ]
    );
    let many: Vec<String> = (0..70).map(|n| format!("[7,{n}]")).collect();
    let mut classifier =
        Classifier::new(&check(&format!("profile = 1\nname = \"x\"\n{BOUND}"), "x.toml").expect("right"));
    let mut lines = ClassifierLines::default();
    many.iter().for_each(|text| drive::take(&mut classifier, FeedFrame::Text(text), at(0), &mut lines));
    assert_eq!(lines.0.len(), 6, "the oldest wait no longer");
    drive::take(&mut classifier, FeedFrame::Text(&format!("[7,\"{}\"]", "x".repeat(2 << 20))), at(0), &mut lines);
    assert_eq!(lines.0.len(), 71, "nothing fits beside what is too long");
    drive::take(&mut classifier, FeedFrame::Text("[7,1]"), at(0), &mut lines);
    classifier.reset();
    drive::take_waited(&mut classifier, &mut lines);
    assert_eq!(lines.0.len(), 72, "every message is counted");
    assert_eq!(classifier.deadline_ns(), None);
}

#[test]
fn a_new_connection_knows_no_keys_and_no_numbers() {
    let text = format!(
        "profile = 1\nname = \"x\"\nseq = {{ scope = \"connection\", rule = \"inc\", last = \"/-1\" }}\n{BOUND}"
    );
    let mut classifier = Classifier::new(&check(&text, "x.toml").expect("right"));
    let mut lines = ClassifierLines::default();
    let ack = r#"{"event":"subscribed","chanId":"5","channel":"book","symbol":"tA"}"#;
    for text in [ack, "[5,0,7]", "[5,0,8]"] {
        drive::take(&mut classifier, FeedFrame::Text(text), at(0), &mut lines);
    }
    assert_eq!(classifier.bound_key(&[("symbol", "tA"), ("channel", "book")]), Some("5"));
    assert_eq!(classifier.bound_key(&[("symbol", "tB")]), None);
    assert_eq!(classifier.bound_key(&[("pair", "tA")]), None);
    classifier.reset();
    drive::take_waited(&mut classifier, &mut lines);
    assert_eq!(classifier.bound_key(&[("symbol", "tA")]), None);
    drive::take(&mut classifier, FeedFrame::Text(ack), at(0), &mut lines);
    drive::take(&mut classifier, FeedFrame::Text("[5,0,1]"), at(0), &mut lines);
    drive::take(&mut classifier, FeedFrame::Text("[5,0,4]"), at(0), &mut lines);
    assert_eq!(lines.0[lines.0.len() - 1], "data after 2 missing: Mark", "{:?}", lines.0);
    assert_eq!(lines.0.iter().filter(|line| line.contains("missing")).count(), 1);
}

#[test]
fn the_numbers_of_a_connection_tell_what_is_missing() {
    let rule = "[[on]]\nname = \"all\"\nas = \"info\"\nwhen = ['text is object']\n";
    for (seq, frames, expected) in [
        (
            r#"rule = "inc", last = "/n", gap = "reconnect""#,
            vec![r#"{"n":1}"#, r#"{"n":"2"}"#, "{}", r#"{"n":2}"#, r#"{"n":5}"#, r#"{"n":6}"#, r#"{"n":0}"#],
            vec![
                "info",
                "info",
                "info",
                "info",
                "info after 2 missing: Reconnect",
                "info",
                "info after some missing: Reconnect",
            ],
        ),
        (
            r#"rule = "range", first = "/U", last = "/u""#,
            vec![r#"{"U":1,"u":4}"#, r#"{"U":5,"u":5}"#, r#"{"U":8,"u":9}"#],
            vec!["info", "info", "info after some missing: Mark"],
        ),
        (
            r#"rule = "prev", prev = "/p", last = "/n""#,
            vec![r#"{"p":-1,"n":4}"#, r#"{"p":4,"n":9}"#, r#"{"p":10,"n":12}"#],
            vec!["info", "info", "info after some missing: Mark"],
        ),
        (r#"rule = "inc", last = "/n", gap = "ignore""#, vec![r#"{"n":1}"#, r#"{"n":9}"#], vec!["info", "info"]),
        (
            r#"rule = "monotonic", last = "/n""#,
            vec![r#"{"n":1}"#, r#"{"n":9}"#, r#"{"n":3}"#],
            vec!["info", "info", "info"],
        ),
    ] {
        let profile = format!("seq = {{ scope = \"connection\", {seq} }}\n{rule}");
        assert_eq!(conversation(&profile, &frames), expected, "{seq}");
    }
}

#[test]
fn pieces_know_their_numbers_and_whether_they_are_snapshots() {
    let profile = r#"
        [[on]]
        name = "books"
        as = "data"
        when = ['/ch == "book"']
        each = "/data/*"
        topic = "${./s}"
        emit = "element"
        seq = { rule = "prev", prev = "./p", last = "./u" }
        snapshot_when = ['/type == "snapshot"', './full exists']
        [[on]]
        name = "depth"
        as = "data"
        when = ['/U exists']
        topic = "${/s}"
        seq = { rule = "range", first = "/U", last = "/d/u" }
        snapshot_when = ['/p == -1']
    "#;
    let lines = conversation(
        profile,
        &[
            r#"{"ch":"book","type":"snapshot","data":[{"s":"A","p":-1,"u":7,"full":1},{"s":"B","u":"9007199254740993"}]}"#,
            r#"{"s":"A","U":1,"d":{"u":"x"},"p":-1}"#,
            r#"{"s":"A","U":18446744073709551615,"d":{"u":1.5}}"#,
            r#"{"s":"A","U":8.0,"d":{"u":9223372036854775808}}"#,
            r#"{"s":"A","U":null,"d":{}}"#,
        ],
    );
    let unread = "data: expected a whole number below 2^64 where the rule's `seq` points, found something else; \
                  the message is published as unnumbered";
    assert_eq!(
        lines,
        [
            r#"A {"s":"A","p":-1,"u":7,"full":1} Json at 0 prev -1 last 7 snapshot"#,
            r#"B {"s":"B","u":"9007199254740993"} Json at 0 last 9007199254740993"#,
            "data",
            r#"A {"s":"A","U":1,"d":{"u":"x"},"p":-1} Json at 1000 first 1 snapshot"#,
            unread,
            r#"A {"s":"A","U":18446744073709551615,"d":{"u":1.5}} Json at 2000 first 18446744073709551615"#,
            unread,
            r#"A {"s":"A","U":8.0,"d":{"u":9223372036854775808}} Json at 3000 first 8 last 9223372036854775808"#,
            "data",
            r#"A {"s":"A","U":null,"d":{}} Json at 4000"#,
            "data",
        ]
    );
}

#[test]
fn wildcards_go_through_arrays_and_maps() {
    let profile = r#"
        [[on]]
        name = "nested"
        as = "data"
        when = ['/events exists']
        each = "/events/*/tickers/*"
        topic = "${/channel}.${#|or:none}.${./p|or:none}"
        emit = "element"
        [[on]]
        name = "list"
        as = "data"
        each = "/*"
        topic = "${./ev}.${./sym}"
        emit = "element"
    "#;
    let lines = conversation(
        profile,
        &[
            r#"{"channel":"t","events":[{"tickers":[{"p":"A"},{"p":"B"}]},{"tickers":[]},{"tickers":{"K":{"p":"C"}}}]}"#,
            r#"{"channel":"t","events":{"X":{"tickers":[{"p":"A"}]},"Y":{"tickers":{"K":1}}}}"#,
            r#"[{"ev":"T","sym":"A"},{"ev":"Q","sym":"B"},7]"#,
        ],
    );
    let last = "data: expected a topic at `./ev`, found nothing";
    assert_eq!(
        lines,
        [
            r#"t.none.A {"p":"A"} Json at 0"#,
            r#"t.none.B {"p":"B"} Json at 0"#,
            r#"t.K.C {"p":"C"} Json at 0"#,
            "data",
            r#"t.X.A {"p":"A"} Json at 1000"#,
            "t.K.none 1 Json at 1000",
            "data",
            r#"T.A {"ev":"T","sym":"A"} Json at 2000"#,
            r#"Q.B {"ev":"Q","sym":"B"} Json at 2000"#,
            last,
        ]
    );
    let long = format!("[{}7]", "{},".repeat(ELEMENTS_MAX));
    let expected = "unmatched: expected a topic at `./ev`, found nothing";
    assert_eq!(conversation(profile, &[&long]), [expected], "elements beyond the limit cost nothing");
}

#[test]
fn lines_of_a_frame_are_messages_and_irc_has_a_form_for_rules() {
    let profile = r##"
        [decode]
        split = "lines"
        format = "irc"
        [[on]]
        name = "ping"
        as = "ping"
        when = ['/command == "PING"']
        reply = "PONG :${/params/0|text}"
        [[on]]
        name = "hello"
        as = "greeting"
        when = ['/command == "001"']
        [[on]]
        name = "chat"
        as = "data"
        when = ['/command == "PRIVMSG"', 'text ~= "PRIVMSG"']
        topic = "chat.${/params/0}"
    "##;
    let chat = "@id=1 :n!u@h PRIVMSG #rust :hi";
    let lines = conversation(profile, &[&format!(":s 001 me :Hi\r\n{chat}\r\n\r\nPING :tmi \"x\"\n"), "@", ""]);
    assert_eq!(
        lines,
        [
            "greeting",
            "chat.#rust @id=1 :n!u@h PRIVMSG #rust :hi Text at 0",
            "data",
            "ping answered with PONG :tmi \"x\"",
            "garbled: expected an IRC message, found other text",
        ]
    );
}

#[test]
fn compressed_frames_are_unpacked() {
    let profile = |binary: &str| {
        let text = format!(
            "profile = 1\nname = \"x\"\n[connect]\nmax_message = 1000\n[decode]\nbinary = \"{binary}\"\n\
             [[on]]\nname = \"ping\"\nas = \"ping\"\nwhen = ['/ping exists']\nreply = '{{\"pong\":${{/ping}},\"x\":${{/x}}}}'\n"
        );
        check(&text, "x.toml").expect("right")
    };
    let gzip = |bytes: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let ping = gzip(br#"{"ping":1618678073643123456789}"#);
    let answered = [r#"ping answered with {"pong":1618678073643123456789,"x":null}"#];
    assert_eq!(classified(&profile("gzip"), FeedFrame::Binary(&ping)), answered);
    let bomb = gzip(&[b' '; 100_000]);
    let too_big = "garbled: expected at most 1000 bytes in a compressed message, found more; \
                   raise `connect.max_message` in the profile, or `upstream.message_bytes_max` if the profile has none";
    assert_eq!(classified(&profile("gzip"), FeedFrame::Binary(&bomb)), [too_big]);
    let not = "garbled: expected zlib in a binary message, found other bytes; say what it holds with `decode.binary`";
    assert_eq!(classified(&profile("zlib"), FeedFrame::Binary(&ping)), [not]);
    let rejected = "garbled: expected text messages, found a binary one; say what it holds with `decode.binary`";
    assert_eq!(classified(&profile("reject"), FeedFrame::Binary(&ping)), [rejected]);
}

#[test]
fn names_go_through_tables_and_what_is_unknown_may_be_published() {
    let profile = r#"
        unmatched = "topic:raw.x"
        [alias.coins]
        "e62d" = "BTC/USD"
        [[on]]
        name = "prices"
        as = "data"
        when = ['/id exists']
        topic = "${/id|map:coins}${/venue?.${/venue|lower}}"
    "#;
    let no_rule = format!("unmatched: {}", Unnamed::NoRule);
    assert_eq!(
        conversation(profile, &[r#"{"id":"e62d"}"#, r#"{"id":"x","venue":"B"}"#, "[1]", "Hello"]),
        [
            r#"BTC/USD {"id":"e62d"} Json at 0"#,
            "data",
            r#"x.b {"id":"x","venue":"B"} Json at 1000"#,
            "data",
            "raw.x [1] Json at 2000",
            &no_rule,
            "raw.x Hello Text at 3000",
            "garbled: expected JSON, found other text",
        ]
    );
}

#[test]
fn another_connection_names_topics_by_the_same_guess() {
    let generic = Profile::built_in("generic").expect("built in");
    let (mut one, mut other, mut lines) =
        (Classifier::new(&generic), Classifier::new(&generic), ClassifierLines::default());
    for n in 0..4 {
        drive::take(&mut one, FeedFrame::Text(&format!(r#"{{"s":"A{n}","x":{n}}}"#)), at(0), &mut lines);
    }
    one.settle();
    drive::take_waited(&mut one, &mut lines);
    let guess = one.guess().expect("made").clone();
    let mut lines = ClassifierLines::default();
    drive::take(&mut other, FeedFrame::Text(r#"{"s":"B","x":0}"#), at(0), &mut lines);
    other.adopt_guess(&guess);
    drive::take_waited(&mut other, &mut lines);
    drive::take(&mut other, FeedFrame::Text(r#"{"s":"C","x":0}"#), at(1), &mut lines);
    assert_eq!(lines.0, [r#"B {"s":"B","x":0} Json at 0"#, "data", r#"C {"s":"C","x":0} Json at 1"#, "data"]);
}

#[test]
fn an_impossible_binding_is_reported() {
    let long = format!(r#"{{"event":"subscribed","chanId":1,"channel":"{}"}}"#, "x".repeat(300));
    assert_eq!(
        conversation(BOUND, &[r#"{"event":"subscribed","chanId":null}"#, &long]),
        [
            "ack: expected a key to bind, found none",
            "ack: expected a key and values of at most 256 bytes to bind, found 300",
        ]
    );
    let acks: Vec<String> = (0..=BINDINGS_MAX).map(|n| format!(r#"{{"event":"subscribed","chanId":{n}}}"#)).collect();
    let acks: Vec<&str> = acks.iter().map(String::as_str).collect();
    let last = "ack: expected at most 4096 bound keys on a connection, found more; unsubscribe from some";
    assert_eq!(conversation(BOUND, &acks).iter().filter(|line| *line != "ack").collect::<Vec<_>>(), [last]);
}

#[test]
fn an_excerpt_is_short_and_on_one_line() {
    assert_eq!(FeedMessage::Text("a\nb").excerpt(), "a b");
    let long = "é".repeat(201);
    assert_eq!(FeedMessage::Text(&long).excerpt().chars().count(), 201);
    assert_eq!(FeedMessage::Binary(&[0xFF]).excerpt(), "\u{FFFD}");
}
