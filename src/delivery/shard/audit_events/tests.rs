//! What is recorded of sessions, read from the files of a log.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
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
    let now = door.harness.now;
    door.harness.shard.order_uncounted(SessionSelector::All, SessionOrder::Reassess, Box::new(|| 1), now);
    door.settle();
    let spread = Duration::ZERO;
    let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread };
    door.harness.shard.order_uncounted(SessionSelector::All, order, Box::new(|| 1), now);
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
fn a_session_that_expires_and_one_that_is_revoked_each_leave_their_reason() {
    let log = TestLog::open("ends");
    let mut door = door(None, &log);
    let expiring = door.join_as("alice:free:10000");
    let revoked = door.join_as("bob:pro:600000");
    door.keeper.revoked.lock().expect("no holder panics").push("bob".into());
    let now = door.harness.now;
    door.harness.shard.order_uncounted(SessionSelector::All, SessionOrder::Reassess, Box::new(|| 1), now);
    door.settle();
    door.pass(60_000);
    assert!(![&expiring, &revoked].iter().any(|client| door.harness.shard.sessions.contains(client.id)));
    assert_eq!(
        short(&log.close()),
        [
            "session_open - - -",
            "auth free - -",
            "session_open - - -",
            "auth pro - -",
            "revoke pro - played",
            "session_close pro - forbidden",
            "expire free - token",
            "session_close free - unauthenticated",
        ]
    );
}

#[test]
fn strangers_that_come_and_go_leave_a_bounded_log_and_those_with_an_identity_are_all_in_it() {
    let log = TestLog::open("strangers");
    let mut door = door(None, &log);
    let address = Some([10, 0, 0, 7].into());
    let stranger = |door: &mut Door| {
        let client = door.harness.adopt(SessionOptions { address, ..SessionOptions::default() });
        door.harness.send(&client, r#"{"op":"auth","token":"bad"}"#);
        door.settle();
        door.harness.vanish(&client);
        door.settle();
    };
    (0..3000).for_each(|_| stranger(&mut door));
    let known = door.harness.adopt(SessionOptions { address, ..SessionOptions::default() });
    door.answers(&known, json!({"op": "auth", "token": "alice:pro:60000"}));
    door.answers(&known, json!({"op": "subscribe", "topics": ["ticker.A"]}));
    door.harness.vanish(&known);
    door.settle();
    let lines = log.close();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert!((500..2000).contains(&count("session_open")), "{}", count("session_open"));
    assert_eq!(count("session_open") + 1, count("session_close"), "each that was opened, and that of alice");
    let last = short(&lines[lines.len() - 3..]);
    assert_eq!(last, ["auth pro - -", r#"subscribe pro ["ticker.A"] -"#, "session_close pro - connection_lost"]);
}
