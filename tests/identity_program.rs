//! From an empty file to a working server: the configuration of docs/AUTH.md, `fanline token`, and a client that shows it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kit::program::{Program, run};
use kit::raw_client::RawClient;
use kit::{eventually, http};
use serde_json::Value;

const TEXT: u8 = 0x81;
const SECRET: &str = "a secret of more than thirty-two bytes";

/// A folder for one test, with a secret and a configuration that names it.
fn configuration(name: &str, tables: &str) -> (PathBuf, PathBuf) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("identity_program");
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let (secret, file) = (folder.join(format!("{name}.secret")), folder.join(format!("{name}.toml")));
    std::fs::write(&secret, SECRET).expect("a writable folder");
    let text = format!(
        "[simulate]\n[[auth.issuer]]\nissuer = 'development'\naudience = ['fanline']\nalgorithms = ['HS256']\n\
         secret_file = '{}'\n{tables}",
        secret.display()
    );
    std::fs::write(&file, text).expect("a writable folder");
    (file, secret)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

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

#[test]
fn a_token_of_the_command_line_gives_the_rights_of_its_tier() {
    let tables =
        "[auth.tier.pro]\ntopics = ['>']\n[auth.tier.free]\ntopics = ['quote.*']\n[auth.anonymous]\ntier = 'free'\n";
    let (file, secret) = configuration("rights", tables);
    let server = Program::serve(&["--config", text(&file)], &[]);
    let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
    client.command(r#"{"op":"subscribe","id":1,"topics":["trade.AAPL"]}"#);
    let subscribed = answer(&mut client, &["subscribed", "error"]);
    assert_eq!(subscribed["forbidden"][0], "trade.AAPL", "an anonymous client has the tier `free`: {subscribed}");
    let args = ["token", "--secret-file", text(&secret), "--sub", "alice", "--tier", "pro", "--status", "professional"];
    let (status, token, hint) = run(&args, &[]);
    assert!(status.success() && hint.contains("`alice`") && !hint.contains(token.trim()), "{hint}");
    client.command(&format!(r#"{{"op":"auth","id":2,"token":"{}"}}"#, token.trim()));
    let authenticated = answer(&mut client, &["authenticated", "error"]);
    assert_eq!((&authenticated["sub"], &authenticated["tier"]), (&"alice".into(), &"pro".into()), "{authenticated}");
    client.command(r#"{"op":"subscribe","id":3,"topics":["trade.AAPL"]}"#);
    let subscribed = answer(&mut client, &["subscribed", "error"]);
    assert_eq!(
        (&subscribed["op"], &subscribed["topics"][0]),
        (&"subscribed".into(), &"trade.AAPL".into()),
        "{subscribed}"
    );
    assert!(subscribed["forbidden"].is_null(), "{subscribed}");
    let exposed = server.get("/metrics").body;
    assert!(exposed.contains("fanline_auth_credentials_total{result=\"accepted\"} 1"), "{exposed}");
    let log = server.log();
    assert!(!log.contains(token.trim()) && !log.contains(SECRET), "{log}");
}

#[test]
fn a_bad_token_is_refused_without_the_reason_and_appears_nowhere() {
    let (file, _) = configuration("bad", "[auth.tier.pro]\ntopics = ['>']\n[auth.anonymous]\ntier = 'pro'\n");
    let server = Program::serve(&["--config", text(&file)], &[("LOG_LEVEL", "trace")]);
    let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJkZXZlbG9wbWVudCJ9.c2VjcmV0LXNpZ25hdHVyZQ";
    client.command(&format!(r#"{{"op":"auth","id":1,"token":"{token}"}}"#));
    let (code, sentence) = client.expect_close();
    assert_eq!(code, 4401);
    assert!(!sentence.contains("signature"), "{sentence}");
    let exposed = server.get("/metrics").body;
    assert!(exposed.contains("fanline_auth_credentials_total{result=\"signature\"} 1"), "{exposed}");
    assert!(!server.log().contains("c2VjcmV0LXNpZ25hdHVyZQ"), "{}", server.log());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_line_or_its_remedy() {
    let check = |file: &PathBuf, part: &str| {
        for args in [vec!["check", text(file)], vec!["--config", text(file), "--listen", "127.0.0.1:0"]] {
            let (status, _, stderr) = run(&args, &[]);
            assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.contains(part) && !stderr.contains(SECRET), "{args:?}: {stderr}");
        }
    };
    let (file, _) = configuration("typo", "[auth.tier.pro]\ntopcs = ['>']\n");
    check(
        &file,
        &format!(
            "{}:8: auth.tier.pro: expected a key of this table, found `topcs`; did you mean `topics`?",
            text(&file)
        ),
    );
    check(&configuration("no-tier", "").0, "[auth.tier.NAME]");
    check(&configuration("anonymous", "[auth.tier.pro]\ntopics = ['>']\n[auth.anonymous]\ntier = 'fre'\n").0, "`fre`");
    let (file, secret) = configuration("short", "[auth.tier.pro]\ntopics = ['>']\n");
    std::fs::write(&secret, "short").expect("a writable folder");
    check(&file, "at least 32 bytes");
    std::fs::remove_file(&secret).expect("the file");
    check(&file, "expected a readable file of a secret");
}

#[test]
fn no_token_is_issued_with_a_secret_that_a_server_would_refuse() {
    let (_, secret) = configuration("token", "");
    std::fs::write(&secret, "hunter2").expect("a writable folder");
    let (status, stdout, stderr) = run(&["token", "--secret-file", text(&secret), "--sub", "alice"], &[]);
    assert_eq!((status.code(), &*stdout), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("at least 32 bytes") && !stderr.contains("hunter2"), "{stderr}");
    let (status, _, stderr) = run(&["token", "--secret-file", "/no/such/file", "--sub", "alice"], &[]);
    assert!(status.code() == Some(2) && stderr.contains("/no/such/file"), "{stderr}");
}

#[test]
fn sighup_changes_tiers_of_live_sessions_and_a_wrong_file_changes_nothing() {
    let with = |topics: &str| format!("[auth.tier.free]\ntopics = {topics}\n[auth.anonymous]\ntier = 'free'\n");
    let (file, _) = configuration("hangup", &with("['>']"));
    let server = Program::serve(&["--config", text(&file)], &[]);
    let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
    let mut subscribed = |topic: &str| {
        client.command(&format!(r#"{{"op":"subscribe","id":1,"topics":["{topic}"]}}"#));
        answer(&mut client, &["subscribed", "error"])["forbidden"].is_null()
    };
    assert!(subscribed("quote.AAPL"));

    let whole = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, whole.replace("topics = ['>']", "topcs = ['trade.*']")).expect("writable");
    server.signal("HUP");
    let place = format!("{}:8: auth.tier.free: expected a key of this table, found `topcs`", text(&file));
    eventually("the log names the place", || server.log().contains(&place).then_some(()));
    assert!(server.log().contains("what was in force stays"), "{}", server.log());
    assert!(subscribed("quote.MSFT"));

    std::fs::write(&file, whole.replace("['>']", "['trade.*']")).expect("writable");
    server.signal("HUP");
    eventually("it is read", || server.log().contains("SIGHUP: read again: issuers, tiers").then_some(()));
    eventually("the session follows", || (!subscribed("quote.GOOG")).then_some(()));
    assert!(subscribed("trade.GOOG"));
}

#[test]
fn while_nobody_can_be_admitted_the_server_is_not_ready_and_the_operator_sees_why() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("identity_program");
    std::fs::create_dir_all(&folder).expect("a writable folder");
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    for (name, tables, status) in [("required", "", 503), ("anonymous", "[auth.anonymous]\ntier = 'free'\n", 200)] {
        let file = folder.join(format!("keys-{name}.toml"));
        let issuer = "https://id.example/";
        let configuration = format!(
            "[simulate]\n[admin]\nlisten = '127.0.0.1:0'\n[[auth.issuer]]\nissuer = '{issuer}'\n\
             audience = ['fanline']\nalgorithms = ['ES256']\njwks = 'http://{closed}/keys'\n[auth.tier.free]\n\
             topics = ['>']\n{tables}"
        );
        std::fs::write(&file, configuration).expect("a writable folder");
        let server = Program::serve(&["--config", text(&file)], &[]);
        let public = eventually(name, || Some(server.get("/readyz")).filter(|answer| answer.status == status));
        let body = public.json();
        assert!(body["issuers"].is_null(), "not for everyone: {body}");
        assert_eq!(body["reason"] == "no_keys", status == 503, "{body}");
        let operators: SocketAddr = server.admin_address().parse().expect("an address");
        let head = "GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let trouble = eventually("the operator sees the trouble", || {
            let answer = http::ask(operators, head);
            assert_eq!(answer.status, status);
            Some(answer.json()["issuers"][0].clone())
                .filter(|it| it["message"].to_string().contains("could not connect"))
        });
        assert_eq!(trouble["issuer"], issuer);
    }
}
