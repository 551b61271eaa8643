//! Everything that a client is shown or refused, from its opening to its end, is a line of the audit log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fanline::audit::files;
use kit::eventually;
use kit::http;
use kit::program::{Program, run};
use kit::raw_client::RawClient;
use serde_json::Value;

const TEXT: u8 = 0x81;
const SECRET: &str = "a secret of more than thirty-two bytes";

/// The next message that is one of these.
fn answer(client: &mut RawClient, ops: &[&str]) -> Value {
    loop {
        let (first, payload) = client.next_frame().expect("the server stays");
        let message: Value = if first == TEXT { serde_json::from_slice(&payload).expect("JSON") } else { continue };
        if message["op"].as_str().is_some_and(|op| ops.contains(&op)) {
            return message;
        }
    }
}

/// A folder with a secret and a configuration, and the directory of its audit log.
fn configuration() -> (PathBuf, PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit_events");
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a writable target directory");
    let (secret, file, audit) = (folder.join("secret"), folder.join("fanline.toml"), folder.join("audit"));
    fs::write(&secret, SECRET).expect("writable");
    let text = format!(
        "[simulate]\n[audit]\ndir = '{}'\n[admin]\nlisten = '127.0.0.1:0'\n[[auth.issuer]]\nissuer = 'development'\n\
         audience = ['fanline']\nalgorithms = ['HS256']\nsecret_file = '{}'\n[auth.tier.pro]\ntopics = ['>']\n\
         [auth.tier.free]\ntopics = ['quote.*']\n",
        audit.display(),
        secret.display()
    );
    fs::write(&file, text).expect("writable");
    (file, secret, audit)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn lines(dir: &Path) -> Vec<Value> {
    let files = files::list(dir).expect("readable");
    let text: String = files.iter().map(|path| fs::read_to_string(path).expect("readable")).collect();
    // The last line may be on its way.
    text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line.strip_suffix('\n')?).ok()).collect()
}

#[test]
fn a_client_is_recorded_from_its_token_to_the_kick_of_the_operator() {
    let (file, secret, audit) = configuration();
    let mut server = Program::serve(&["--config", text(&file)], &[("DRAIN_READINESS_DELAY", "0s")]);
    let admin: SocketAddr = server.admin_address().parse().expect("an address");
    let token = |tier: &str| {
        let args = ["token", "--secret-file", text(&secret), "--sub", "alice", "--tier", tier, "--status", "private"];
        let (status, token, error) = run(&args, &[]);
        assert!(status.success(), "{error}");
        token.trim().to_owned()
    };
    let (free, pro) = (token("free"), token("pro"));
    let headers = format!("Authorization: Bearer {free}\r\nUser-Agent: probe/1\r\n");
    let mut client = RawClient::connect(server.addr(), "/v1/ws", &headers);
    assert_eq!(answer(&mut client, &["authenticated", "error"])["tier"], "free");
    client.command(r#"{"op":"subscribe","id":1,"topics":["quote.AAPL","trade.AAPL"]}"#);
    assert_eq!(answer(&mut client, &["subscribed", "error"])["forbidden"][0], "trade.AAPL");
    client.command(&format!(r#"{{"op":"auth","id":2,"token":"{pro}"}}"#));
    assert_eq!(answer(&mut client, &["authenticated", "error"])["tier"], "pro");
    let bad = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJkZXZlbG9wbWVudCJ9.c2VjcmV0LXNpZ25hdHVyZQ";
    let head = format!("GET /v1/snapshot HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {bad}\r\n\r\n");
    assert_eq!(http::ask(server.addr(), &head).status, 401);
    for _ in 0..5 {
        let head = format!(
            "GET /v1/snapshot?topics=quote.* HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {free}\r\n\r\n"
        );
        assert_eq!(http::ask(server.addr(), &head).status, 200);
    }
    let body = r#"{"sub":"alice","code":"kicked","reconnect_ms":0}"#;
    let kick = format!(
        "POST /admin/disconnect HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let kicked = http::ask(admin, &kick);
    assert_eq!(kicked.status, 200, "{}", kicked.body);
    assert_eq!(client.expect_close().0, 4412);
    drop(client);
    eventually("the session is closed in the log", || {
        lines(&audit).iter().any(|line| line["event"] == "session_close").then_some(())
    });
    server.terminate();
    assert!(server.wait().success());
    let (status, told, error) = run(&["audit", "verify", text(&audit)], &[]);
    assert!(status.success(), "{told}{error}");
    let lines = lines(&audit);
    let of_session: Vec<&Value> = lines.iter().filter(|line| !line["session"].is_null()).collect();
    let short: Vec<String> = of_session
        .iter()
        .map(|line| {
            ["event", "sub", "tier", "status", "patterns", "reason"].map(|name| line[name].to_string()).join(" ")
        })
        .collect();
    assert_eq!(
        short,
        [
            r#""session_open" null null null null null"#,
            r#""auth" "alice" "free" "private" null null"#,
            r#""refuse" "alice" "free" "private" ["trade.AAPL"] "forbidden""#,
            r#""subscribe" "alice" "free" "private" ["quote.AAPL"] null"#,
            r#""refresh" "alice" "pro" "private" null null"#,
            r#""kick" "alice" "pro" "private" null "kicked""#,
            r#""session_close" "alice" "pro" "private" null "kicked""#,
        ]
    );
    let opened = of_session[0];
    assert_eq!(
        (&opened["address"], &opened["user_agent"], &opened["transport"]),
        (&"127.0.0.1".into(), &"probe/1".into(), &"websocket".into())
    );
    let refused = lines.iter().find(|line| line["event"] == "auth_refused").expect("a refused request");
    assert_eq!((&refused["transport"], &refused["reason"]), (&"http".into(), &"signature".into()), "{refused}");
    let queries: Vec<&Value> = lines.iter().filter(|line| line["event"] == "query").collect();
    let counts: Vec<u64> = queries.iter().filter_map(|line| line["queries"].as_u64()).collect();
    assert_eq!(counts, [1, 4], "the first at once, the others together");
    assert!(queries.iter().all(|line| line["sub"] == "alice" && line["patterns"][0] == "quote.*"), "{queries:?}");
    let month = &queries[0]["ts"].as_str().expect("a time")[..7];
    let (status, report, error) = run(&["audit", "report", "--month", month, "--subjects", text(&audit)], &[]);
    let of_alice: Vec<&str> = report.lines().filter(|line| line.contains(",alice,")).collect();
    assert!(status.success() && !of_alice.is_empty(), "{report}{error}");
    assert!(of_alice.iter().all(|line| line.ends_with(",1,1,5")), "a session and five queries: {report}");
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!((events.first(), events.last()), (Some(&"start"), Some(&"stop")));
    assert!(events.contains(&"admin"), "{events:?}");
    let all: String = lines.iter().map(Value::to_string).collect();
    assert!(![&*free, &*pro, bad, SECRET].iter().any(|secret| all.contains(secret)), "{all}");
}
