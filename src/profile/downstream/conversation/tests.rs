//! What clients of a dialect say and hear, as texts.

use std::path::Path;

use super::*;
use crate::profile::{Profile, check};

fn dialect(section: &str) -> std::sync::Arc<Dialect> {
    let text =
        format!("profile = 1\nname = \"x\"\n[[on]]\nname = \"all\"\nas = \"data\"\ntopic = \"${{/s}}\"\n{section}");
    check(&text, "x.toml").expect("a valid profile").dialect.expect("a dialect")
}

/// The replies where nothing is refused by the server.
fn replies(dialect: &Dialect, says: &str) -> Result<Vec<String>, Unspeakable> {
    let request = dialect.hear(says).expect("a rule fits");
    let faults = request.items().iter().enumerate();
    let refused: Vec<(usize, String)> = faults.filter_map(|(place, item)| Some((place, item.fault.clone()?))).collect();
    let now = Stamp { wall_ms: 1_700_000_000_123, mono_ns: 0 };
    request.replies(&SaidOutcome { refused: &refused, all: &["a.b".to_string()], kept: &KeptValues::default(), now })
}

/// The conversation beside each built-in profile that has one.
#[test]
fn built_in_dialects_speak_as_their_conversations_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/built_in");
    for name in Profile::built_in_names() {
        let profile = Profile::built_in(name).expect("a built-in profile");
        let path = folder.join(format!("{name}.dialect.jsonl"));
        let Some(dialect) = profile.dialect else {
            assert!(!path.exists(), "{name} has no dialect for its conversation");
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let steps = dialect.check_conversation(&text, name).unwrap_or_else(|error| panic!("{error}"));
        assert!(steps > 2, "{name}");
    }
}

#[test]
fn an_answer_per_item_has_the_client_s_own_tokens() {
    let dialect = dialect(
        r#"[downstream.paths]
"/v2" = {}
[[downstream.on]]
name   = "subscribe"
when   = ['/op == "subscribe"']
do     = "subscribe"
each   = "/args/*"
item   = "${./channel}.${./id}"
per    = "item"
reply  = '{"event":"subscribe","arg":${.},"req":${/req},"t":${now.ms},"us":${now.us},"at":"${now.iso}"}'
refuse = '{"event":"error","item":${item|json},"msg":${reason|json}${/req?,"req":${/req}}}'
"#,
    );
    let says = r#"{"op":"subscribe","req":1.0,"args":[{"channel":"books", "id":"BTC-USD"},{"channel":"*","id":7}]}"#;
    assert_eq!(
        replies(&dialect, says),
        Ok(vec![
            r#"{"event":"subscribe","arg":{"channel":"books", "id":"BTC-USD"},"req":1.0,"t":1700000000123,"us":1700000000123000,"at":"2023-11-14T22:13:20.123Z"}"#.to_string(),
            r#"{"event":"error","item":"*.7","msg":"expected a topic without wildcards, found `*.7`","req":1.0}"#.to_string(),
        ])
    );
    // A long value is not repeated with each item.
    let long = format!(r#"{{"op":"subscribe","req":"{}","args":[{{"channel":"a","id":"b"}}]}}"#, "x".repeat(300));
    let answer = replies(&dialect, &long).expect("an answer");
    assert!(answer[0].contains(r#""req":null"#), "{answer:?}");
    assert!(dialect.hear("subscribe").is_none(), "a text that is not JSON has no members");
    let request = dialect.hear(says).expect("a rule fits");
    assert_eq!(request.items()[0].name, "books.BTC-USD");
}

#[test]
fn a_text_may_hold_several_items_and_what_cannot_be_said_ends_the_session() {
    let dialect = dialect(
        r#"[downstream]
items_max = 3
[downstream.paths]
"/" = {}
[[downstream.on]]
name  = "ping"
when  = ['text == "ping"']
do    = "answer"
reply = "pong"
[[downstream.on]]
name  = "subscribe"
when  = ['/action == "subscribe"']
do    = "subscribe"
split = "/params"
item  = "${.|upper}"
reply = '[{"status":"success","message":"subscribed to: ${items|join:,}"}]'
"#,
    );
    assert_eq!(replies(&dialect, "ping"), Ok(vec!["pong".to_string()]));
    assert_eq!(
        replies(&dialect, r#"{"action":"subscribe","params":"t.aapl, q.msft,"}"#),
        Ok(vec![r#"[{"status":"success","message":"subscribed to: T.AAPL,Q.MSFT"}]"#.to_string()])
    );
    let too_many = replies(&dialect, r#"{"action":"subscribe","params":"a,b,c,d"}"#);
    assert_eq!(too_many, Err(Unspeakable("expected at most 3 items, found 4".to_string())));
    let none = replies(&dialect, r#"{"action":"subscribe"}"#);
    assert_eq!(none, Err(Unspeakable("expected an item, found none".to_string())));
    let quoted = replies(&dialect, r#"{"action":"subscribe","params":"a\"b"}"#);
    assert_eq!(quoted, Ok(vec![r#"[{"status":"success","message":"subscribed to: A\"B"}]"#.to_string()]));
    assert!(dialect.hear(r#"{"action":"dance"}"#).is_none());
}

#[test]
fn a_value_of_a_client_stays_inside_its_place() {
    let dialect = dialect(
        r#"[downstream.paths]
"/" = {}
[[downstream.on]]
name   = "subscribe"
do     = "subscribe"
each   = "/args/*"
reply  = '{"items":${items|json},"id":${/id}}'
refuse = '{"msg":${reason|json}}'
"#,
    );
    for id in [r#""a\"b""#, "7", "null", r#"{"x":[1]}"#, r#""\u0000""#] {
        let answer = replies(&dialect, &format!(r#"{{"args":["a.\"quoted\""],"id":{id}}}"#)).expect("an answer");
        assert!(crate::json::is_json(&answer[0]), "{answer:?}");
        assert!(answer[0].ends_with(&format!("\"id\":{id}}}")), "{answer:?}");
    }
}

#[test]
fn items_of_two_lists_are_asked_for_in_pairs_and_answered_by_channel() {
    let dialect = dialect(
        r#"[downstream]
items_max = 4
group = '{"name":${channel|json},"ids":${symbols|json}}'
[downstream.paths]
"/" = {}
[[downstream.on]]
name   = "subscribe"
do     = "subscribe"
each   = "/channels/*"
with   = "/ids/*"
item   = "${.}.${with|upper}"
reply  = '{"all":[${groups|join:,}]}'
refuse = '{"error":${reason|json}}'
"#,
    );
    let asked = |says: &str| {
        let request = dialect.hear(says).expect("a rule fits");
        request.items().iter().map(|item| item.name.clone()).collect::<Vec<_>>()
    };
    let names = asked(r#"{"channels":["a","b"],"ids":["x","y"]}"#);
    assert_eq!(names, ["a.X", "a.Y", "b.X", "b.Y"]);
    for (says, fault) in [
        (r#"{"channels":["a","b","c"],"ids":["x","y"]}"#, "expected at most 4 items, found 6"),
        (r#"{"channels":["a"],"ids":["1","2","3","4","5"]}"#, "expected at most 4 items, found 5"),
        (r#"{"channels":["a"],"ids":[]}"#, "expected an item, found none"),
        (r#"{"channels":[],"ids":["x"]}"#, "expected an item, found none"),
        (r#"{"channels":["a"]}"#, "expected an item, found none"),
        (r#"{"channels":["a"],"ids":[{"x":1}]}"#, "expected an item, found none"),
    ] {
        assert_eq!(replies(&dialect, says), Ok(vec![format!(r#"{{"error":"{fault}"}}"#)]), "{says}");
    }
    let request = r#"{"channels":["a"],"ids":["b"]}"#;
    let request = dialect.hear(request).expect("a rule fits");
    let all = ["alone", "book.B", "book.a", "book_2.a"].map(str::to_string);
    let (kept, now) = (KeptValues::default(), Stamp::default());
    let answer = request.replies(&SaidOutcome { refused: &[], all: &all, kept: &kept, now }).expect("an answer");
    let lists = r#"{"name":"alone","ids":[]},{"name":"book","ids":["B","a"]},{"name":"book_2","ids":["a"]}"#;
    assert_eq!(answer, [format!("{{\"all\":[{lists}]}}")]);
}

#[test]
fn what_a_session_keeps_is_in_later_answers() {
    let dialect = dialect(
        r#"[downstream]
split = "lines"
[downstream.paths]
"/" = {}
[[downstream.on]]
name  = "nick"
when  = ['text ^= "NICK "']
do    = "answer"
keep  = { nick = "${text|after: }", whole = "${text}" }
reply = "hello ${kept.nick}"
[[downstream.on]]
name  = "who"
do    = "answer"
reply = "${kept.nick|or:nobody}"
"#,
    );
    let mut kept = KeptValues::default();
    let mut hears = |says: &str| {
        let request = dialect.hear(says).expect("a rule fits");
        kept.keep(&request);
        let outcome = SaidOutcome { refused: &[], all: &[], kept: &kept, now: Stamp::default() };
        request.replies(&outcome).expect("an answer")
    };
    assert_eq!(hears("who"), ["nobody"]);
    assert_eq!(hears("NICK ann"), ["hello ann"]);
    assert_eq!(hears("who"), ["ann"]);
    // Too long to be repeated with each answer.
    assert_eq!(hears(&format!("NICK {}", "x".repeat(257))), ["hello ann"]);
    assert_eq!(dialect.messages("NICK a\r\n\r\nwho\n"), Ok(vec!["NICK a", "who"]));
    assert_eq!(dialect.messages(&"x\n".repeat(LINES_MAX)).map(|lines| lines.len()), Ok(LINES_MAX));
    assert!(dialect.messages(&"x\n".repeat(LINES_MAX + 1)).is_err());
}
