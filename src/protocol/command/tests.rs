//! Commands are read strictly, and in time proportional to their bytes.

use super::*;

#[test]
fn commands_are_read_with_their_ids() {
    let pattern = |text| Pattern::parse(text).expect("a pattern");
    for (text, id, command) in [
        (
            r#"{"op":"subscribe","id":1,"topics":["a.*","b"]}"#,
            Some("1"),
            Command::Subscribe {
                patterns: vec![pattern("a.*"), pattern("b")],
                every: None,
                since: None,
                policy: None,
                brief: false,
            },
        ),
        (
            r#" {"topics":[">"],"every_ms":0,"policy":"lossless","since":"0000000000000001:2","id":"x","op":"subscribe"}"#,
            Some("\"x\""),
            Command::Subscribe {
                patterns: vec![pattern(">")],
                every: Some(Duration::ZERO),
                since: "0000000000000001:2".parse().ok(),
                policy: Some(Policy::Lossless),
                brief: false,
            },
        ),
        (
            r#"{"op":"unsubscribe","topics":["a"],"brief":true}"#,
            None,
            Command::Unsubscribe { patterns: vec![pattern("a")], brief: true },
        ),
        (r#"{"op":"ping","id":-1.5}"#, Some("-1.5"), Command::Ping),
        (
            r#"{"op":"send","id":3,"topic":"chat.#rust","data": [1.50, "\u00e9"] }"#,
            Some("3"),
            Command::Send { topic: "chat.#rust".into(), data: r#"[1.50, "\u00e9"]"#.into() },
        ),
        (
            r#"{"op":"request","data":{"b":1, "a":2},"timeout_ms":100}"#,
            None,
            Command::Request { data: r#"{"b":1, "a":2}"#.into(), timeout: TIMEOUT_MIN },
        ),
        (r#"{"op":"request","data":{}}"#, None, Command::Request { data: "{}".into(), timeout: TIMEOUT }),
    ] {
        assert_eq!(parse(text, 10), (id.map(|id| CommandId(id.into())), Ok(command)), "{text}");
    }
}

#[test]
fn bad_commands_are_refused_with_code_and_remedy() {
    for (text, code, part) in [
        ("", "bad_json", "JSON object"),
        ("[]", "bad_json", "found an array"),
        ("{\"op\":", "bad_json", "column"),
        ("{}", "bad_request", "`op`"),
        (r#"{"op":7}"#, "bad_request", "`7`"),
        (r#"{"op":"subscrbe"}"#, "unknown_op", "did you mean `subscribe`"),
        (r#"{"op":"subscribe"}"#, "bad_request", "`topics`"),
        (r#"{"op":"subscribe","topics":"a"}"#, "bad_request", "array of strings"),
        (r#"{"op":"subscribe","topics":[]}"#, "bad_request", "at least one"),
        (r#"{"op":"subscribe","topics":["a..b"]}"#, "bad_pattern", "empty token"),
        (r#"{"op":"subscribe","topics":["a"],"topic":1}"#, "bad_request", "did you mean `topics`"),
        (r#"{"op":"subscribe","topics":["a"],"since":"x"}"#, "bad_cursor", "EPOCH:OFFSET"),
        (r#"{"op":"subscribe","topics":["a"],"policy":"x"}"#, "unknown_policy", "lossless"),
        (r#"{"op":"subscribe","topics":["a"],"every_ms":5}"#, "bad_pace", "10 ms"),
        (r#"{"op":"subscribe","topics":["a"],"every_ms":-5}"#, "bad_request", "milliseconds"),
        (r#"{"op":"ping","id":{}}"#, "bad_request", "`id`"),
        (r#"{"op":"send","data":1}"#, "bad_request", "`topic`"),
        (r#"{"op":"send","topic":"a"}"#, "bad_request", "any JSON in `data`, found nothing"),
        (r#"{"op":"send","topic":"a.*","data":1}"#, "bad_request", "without wildcards"),
        (r#"{"op":"send","topic":"a","data":1,"timeout_ms":5}"#, "bad_request", "`timeout_ms`"),
        (r#"{"op":"request","data":[1]}"#, "bad_request", "found `[1]`"),
        (r#"{"op":"request","data":{},"timeout_ms":99}"#, "bad_request", "100 to 60000"),
        (r#"{"op":"request","data":{"a":}}"#, "bad_json", "column"),
    ] {
        let (_, result) = parse(text, 10);
        let refusal = result.expect_err(text);
        assert_eq!(refusal.code, code, "{text}: {refusal:?}");
        assert!(refusal.message.contains(part), "{text}: {refusal:?}");
    }
}
#[test]
fn foreign_text_of_any_length_is_passed_over_and_never_repeated() {
    let long = "subscribe".repeat(7000);
    let many = |each: &str| vec![each; 20_000].join(",");
    let numbered: Vec<String> = (0..5000).map(|n| format!("\"m{n}\":1")).collect();
    for (text, code, part) in [
        (format!(r#"{{"op":"{long}"}}"#), "unknown_op", "(known: `subscribe`"),
        (format!(r#"{{"op":"ping","{long}":1}}"#), "bad_request", "unknown member `subscribe"),
        (format!(r#"{{"op":"subscribe","topics":["a"],"policy":"{long}"}}"#), "unknown_policy", "found `subs"),
        (format!(r#"{{"op":"subscribe","topics":["a"],"since":"{long}"}}"#), "bad_cursor", "found `subs"),
        (format!(r#"{{"op":"subscribe","topics":"{long}"}}"#), "bad_request", "array of strings"),
        (format!(r#"{{"op":"subscribe","topics":["{long}"]}}"#), "bad_pattern", "256 bytes"),
        (format!(r#"{{"op":"subscribe","topics":[{}]}}"#, many("\"a\"")), "too_many_patterns", "at most 10"),
        (format!(r#"{{"op":"unsubscribe","topics":[{}]}}"#, many("\"a\"")), "too_many_patterns", "at most 10"),
        (format!(r#"{{"op":"subscribe","topics":[{},1]}}"#, many("\"a\"")), "too_many_patterns", "at most 10"),
        (format!(r#"{{"op":"ping",{}}}"#, numbered.join(",")), "bad_request", "unknown member `m0`"),
        (format!(r#"{{"op":"request","data":"{long}"}}"#), "bad_request", "a JSON object in `data`"),
        (format!(r#""{long}""#), "bad_json", "found a string"),
        (format!(r#"{{"op":"ping"}}{long}"#), "bad_json", "column"),
    ] {
        let refusal = parse(&text, 10).1.expect_err(part);
        assert_eq!(refusal.code, code, "{part}: {refusal:?}");
        assert!(refusal.message.contains(part), "{part}: {refusal:?}");
        assert!(!refusal.message.contains("did you mean"), "{part}: {refusal:?}");
        assert!(refusal.message.len() < 250, "{part}: {refusal:?}");
    }
    let repeated = format!(r#"{{{},"op":"ping"}}"#, many(r#""op":"pong""#));
    assert_eq!(parse(&repeated, 10).1, Ok(Command::Ping), "of several members with one name the last counts");
}
