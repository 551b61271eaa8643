//! What is recorded of sessions, read from the files of a log.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::access::rights::ViewId;
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::audit::files;
use crate::audit::log::AuditLog;
use crate::audit::verify::verify;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::shard::authentication::tests::{Door, rights};
use crate::settings::table::{Audit, OnAuditFull};
use crate::words::metrics::Meters;

/// A log in a directory of its own.
pub struct TestLog {
    pub log: AuditLog,
    dir: PathBuf,
}

impl TestLog {
    pub fn open(name: &str) -> TestLog {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/audit-events").join(name);
        // It may be there from an earlier run.
        let _ = std::fs::remove_dir_all(&dir);
        let settings = Audit { dir: Some(dir.to_str().expect("UTF-8").into()), on_full: OnAuditFull::Drop };
        let log = AuditLog::open(&settings, "digest", &Meters::unread()).expect("a writable directory");
        TestLog { log, dir }
    }

    /// The lines of sessions, after which nothing is recorded any more.
    pub fn close(self) -> Vec<Value> {
        self.log.close();
        let files = files::list(&self.dir).expect("readable");
        verify(&files, None).expect("unbroken");
        let text: String = files.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| !line["session"].is_null()).collect()
    }
}

/// Event, tier, patterns and reason of each line.
fn short(lines: &[Value]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let members = ["event", "tier", "patterns", "reason"];
    lines.iter().map(|line| members.map(|name| text(&line[name])).join(" ")).collect()
}

fn door(anonymous: Option<&'static str>, log: &TestLog) -> Door {
    let mut door = Door::new(anonymous);
    door.harness.shard.audit = log.log.clone();
    door
}

#[test]
fn a_session_is_recorded_from_its_opening_to_its_close_and_no_token_is() {
    let log = TestLog::open("whole");
    let mut door = door(Some("free"), &log);
    let address = Some([10, 0, 0, 7].into());
    let user_agent = Some("Bot/1".into());
    let client = door.harness.adopt(SessionOptions { address, user_agent, ..SessionOptions::default() });
    let subscribe = |topics: &[&str]| json!({"op": "subscribe", "topics": topics});
    for command in [
        subscribe(&["ticker.A", "book.A"]),
        // Nothing new, and what is no matter of rights.
        subscribe(&["ticker.A"]),
        json!({"op": "unsubscribe", "topics": ["book.Z"]}),
        json!({"op": "ping"}),
        json!({"op": "send", "topic": "chat.a", "data": 1}),
        json!({"op": "auth", "token": "alice:pro:60000"}),
        subscribe(&["book.A"]),
        json!({"op": "auth", "token": "bad token"}),
        json!({"op": "auth", "token": "alice:free:90000"}),
        json!({"op": "unsubscribe", "topics": ["ticker.A"]}),
    ] {
        door.answers(&client, command);
    }
    door.keeper.set(rights("free", &["ticker.A"]));
    door.harness.shard.order(SessionSelector::All, SessionOrder::Reassess, Box::new(|| 1));
    door.settle();
    let spread = Duration::ZERO;
    let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread };
    door.harness.shard.order(SessionSelector::All, order, Box::new(|| 1));
    door.settle();
    door.harness.vanish(&client);
    door.settle();
    let lines = log.close();
    assert_eq!(
        short(&lines),
        [
            "session_open free - -",
            r#"refuse free ["book.A"] forbidden"#,
            r#"subscribe free ["ticker.A"] -"#,
            "refuse free - forbidden",
            "auth pro - -",
            r#"subscribe pro ["book.A"] -"#,
            "auth_refused pro - played",
            "refresh free - -",
            r#"unsubscribe free ["book.A"] forbidden"#,
            r#"unsubscribe free ["ticker.A"] -"#,
            "rights_change free - -",
            "kick free - kicked",
            "session_close free - kicked",
        ]
    );
    assert!(lines.iter().all(|line| line["session"] == lines[0]["session"] && line["address"] == "10.0.0.7"));
    assert_eq!((&lines[0]["transport"], &lines[0]["user_agent"]), (&json!("websocket"), &json!("Bot/1")));
    assert!(lines[..4].iter().all(|line| line["sub"].is_null()), "{lines:?}");
    assert!(lines[4..].iter().all(|line| line["sub"] == "alice" && line["iss"] == "issuer"), "{lines:?}");
    assert_eq!(lines[2]["delay_ms"], 0);
    let text = Value::from(lines).to_string();
    assert!(!text.contains("bad token") && !text.contains(":free:"), "{text}");
}

#[test]
fn patterns_are_recorded_with_each_delay_of_what_they_show() {
    let pattern = |text: &str| Pattern::parse(text).expect(text);
    let granted = [("a.x", 5), ("a.*", 0), ("b.>", 900), ("c.t*", 60), (">", 900)];
    let granted = granted.map(|(text, s)| GrantedPattern { pattern: pattern(text), delay: Duration::from_secs(s) });
    let all = Rights::unlimited();
    let matching = Rights { topics: GrantedTopics::Matching(Box::new(granted.clone())), ..Rights::unlimited() };
    let named = Box::new([pattern("a.>")]);
    let within = Box::new(granted);
    let narrowed = Rights { topics: GrantedTopics::Narrowed { named, within }, view: ViewId(1), ..Rights::unlimited() };
    let cases: &[(&Rights, &str, &[u64])] = &[
        (&all, ">", &[0]),
        (&matching, "a.x", &[5]),
        (&matching, "a.y", &[0]),
        (&matching, "d", &[900]),
        (&matching, "a.*", &[5, 0]),
        (&matching, "a.z*", &[0]),
        (&matching, "a.>", &[5, 0, 900]),
        (&matching, "b.*", &[900]),
        (&matching, "b.>", &[900]),
        (&matching, "c.tt*", &[60]),
        (&matching, "c.*", &[60, 900]),
        (&matching, ">", &[5, 0, 900, 60]),
        (&narrowed, "a.x", &[5]),
        (&narrowed, "b.x", &[]),
    ];
    for (rights, text, expected) in cases {
        let expected: Vec<Duration> = expected.iter().map(|s| Duration::from_secs(*s)).collect();
        assert_eq!(delays_of(rights, &pattern(text)), expected, "{text}");
    }
    let patterns = [pattern("a.y"), pattern("b.y"), pattern("a.*")];
    let seconds = Duration::from_secs;
    let expected = vec![(seconds(0), vec!["a.y", "a.*"]), (seconds(900), vec!["b.y"]), (seconds(5), vec!["a.*"])];
    assert_eq!(by_delay(&matching, &patterns), expected);
}
