//! From an empty file to a working server: the configuration of docs/AUTH.md, `fanline token`, and a client that shows it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    eventually("it is read", || server.log().contains("SIGHUP: read again: settings, issuers, tiers").then_some(()));
    eventually("the session follows", || (!subscribed("quote.GOOG")).then_some(()));
    assert!(subscribed("trade.GOOG"));
}

/// A client that takes note of what it is sent, and that nobody may close.
struct Listener {
    client: RawClient,
    frames: usize,
    offset: u64,
    /// Each offset must come, from now on.
    is_dense: bool,
    /// A topic that was withdrawn must not come any more.
    has_lost_trades: bool,
}

impl Listener {
    fn join(server: &Program, headers: &str) -> Listener {
        let client = RawClient::connect(server.addr(), "/v1/ws?topics=%3E&policy=lossless", headers);
        Listener { client, frames: 0, offset: 0, is_dense: false, has_lost_trades: false }
    }

    fn hear(&mut self) {
        self.client.read(usize::MAX, Duration::from_millis(5));
        while let Some(text) = self.client.text() {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let has_offset = matches!(message["op"].as_str(), None | Some("stale" | "live" | "gap" | "refused"));
            if let Some(offset) = message["offset"].as_u64().filter(|_| has_offset) {
                let follows = if self.is_dense { offset == self.offset + 1 } else { offset > self.offset };
                assert!(follows, "after {}: {text}", self.offset);
                self.offset = offset;
            }
            assert!(message["op"] != "skipped" || !self.is_dense, "{text}");
            let topic = message["topic"].as_str().unwrap_or_default();
            assert!(!(self.has_lost_trades && topic.starts_with("trade.")), "{text}");
            self.has_lost_trades |=
                message["reason"] == "rights" && message["within"] == serde_json::json!(["quote.*"]);
            self.frames += usize::from(message["op"].is_null());
        }
    }
}

#[test]
fn reloads_under_load_disconnect_nobody_and_broken_ones_change_nothing() {
    const RELOADS: usize = 20;
    let (file, secret) = configuration("load", "");
    let issuer = std::fs::read_to_string(&file).expect("readable").replace("[simulate]\n", "");
    let whole = |tables: &str| format!("[simulate]\nrate = 500\n[admin]\nlisten = '127.0.0.1:0'\n{issuer}{tables}");
    let tables = |patterns_max: usize, free: &str| {
        format!(
            "[limits]\npatterns_max = {patterns_max}\n[log]\nlevel = 'info,fanline::app::reload=error'\n[auth.tier.pro]\ntopics = ['>']\n\
             [auth.tier.free]\ntopics = {free}\n[auth.anonymous]\ntier = 'free'\n"
        )
    };
    let everything = "['quote.*', 'trade.*']";
    let good = whole(&tables(50, everything));
    std::fs::write(&file, &good).expect("writable");
    let server = Program::serve(&["--config", text(&file)], &[]);
    let admin = server.admin_address();
    let operators: SocketAddr = admin.parse().expect("an address");
    let reload = || {
        let body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        http::ask(operators, &format!("POST /admin/reload HTTP/1.0\r\nHost: localhost\r\n{body}"))
    };
    let (_, token, _) = run(&["token", "--secret-file", text(&secret), "--sub", "alice", "--tier", "pro"], &[]);
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let mut pro: Vec<Listener> = (0..5).map(|_| Listener::join(&server, &bearer)).collect();
    let mut free: Vec<Listener> = (0..5).map(|_| Listener::join(&server, "")).collect();
    let hear = |listeners: &mut [Listener], frames: usize| {
        let heard: Vec<usize> = listeners.iter().map(|it| it.frames + frames).collect();
        eventually("frames of the feed", || {
            listeners.iter_mut().for_each(Listener::hear);
            listeners.iter().zip(&heard).all(|(it, frames)| it.frames >= *frames).then_some(())
        });
    };
    hear(&mut pro, 200);
    hear(&mut free, 200);
    pro.iter_mut().for_each(|it| it.is_dense = true);

    let broken = [
        ("patterns_max", "patterns_mx", "did you mean `limits.patterns_max`?"),
        ("level = 'info,", "level = 'loud,", "log.level"),
        ("topics = ['>']", "topcs = ['>']", "did you mean `topics`?"),
        ("[log]", "[log", "expected TOML"),
    ];
    let mut digests = std::collections::BTreeSet::new();
    for number in 0..RELOADS {
        let max = 100 + number;
        let changed = whole(&tables(max, everything));
        if number % 2 == 0 {
            std::fs::write(&file, &changed).expect("writable");
            let answer = reload();
            assert_eq!(answer.status, 200, "{}", answer.body);
            let answer = answer.json();
            assert_eq!(answer["changed"][0]["name"], "limits.patterns_max", "{answer}");
            assert_eq!(answer["changed"][0]["now"], max.to_string(), "{answer}");
            digests.insert(answer["digest"].as_str().expect("a digest").to_owned());
        } else {
            let (right, wrong, remedy) = broken[number / 2 % broken.len()];
            let text_of_it = changed.replace(right, wrong);
            let line = 1 + text_of_it.lines().position(|line| line.contains(wrong)).expect("the fault");
            std::fs::write(&file, text_of_it).expect("writable");
            let answer = reload();
            assert_eq!(answer.status, 409, "{}", answer.body);
            let message = answer.json()["message"].to_string();
            assert!(message.contains(&format!("{}:{line}:", text(&file))), "{wrong}, line {line}: {message}");
            assert!(message.contains(remedy), "{message}");
        }
        hear(&mut pro, 5);
        hear(&mut free, 5);
    }
    assert_eq!(digests.len(), RELOADS / 2, "each configuration has a digest of its own");

    let last = whole(&tables(3, "['quote.*']")).replace(",fanline::app::reload=error", "");
    std::fs::write(&file, format!("{last}[ring]\nframes_max = 4096\n")).expect("writable");
    let (status, said, stderr) = run(&["admin", "--address", &admin, "reload"], &[]);
    assert!(status.success(), "{stderr}");
    for line in [
        "changed: limits.patterns_max from 118 to 3",
        "changed: log.level from \"info,fanline::app::reload=error\" to \"info\"",
        "changed: auth.tier.free",
        "unchanged until a restart: ring.frames_max",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    eventually("the tier has lost a pattern", || {
        free.iter_mut().for_each(Listener::hear);
        free.iter().all(|it| it.has_lost_trades).then_some(())
    });
    hear(&mut free, 100);
    hear(&mut pro, 100);
    pro[0].client.command(r#"{"op":"subscribe","id":9,"topics":["a","b","c","d"]}"#);
    let refused = eventually("the limit is in force", || {
        pro[0].client.read(usize::MAX, Duration::from_millis(5));
        std::iter::from_fn(|| pro[0].client.text()).find(|text| text.contains("\"id\":9"))
    });
    assert!(refused.contains("too_many_patterns") && refused.contains('3'), "{refused}");

    server.signal("HUP");
    eventually("SIGHUP does the same, and the log has the new level", || {
        server.log().contains("SIGHUP: read again: settings").then_some(())
    });
    assert_eq!(server.log().matches(" read again: ").count(), 2, "the former level had no such lines");
    let metrics = http::get(operators, "/metrics").body;
    let reloads = |result: &str| http::sum(&metrics, "fanline_reloads_total", &format!("result=\"{result}\""));
    assert_eq!((reloads("applied"), reloads("refused")), (RELOADS as f64 / 2.0 + 2.0, RELOADS as f64 / 2.0));
    let digest = said.lines().find_map(|line| line.strip_prefix("digest: ")).expect("a digest");
    let number = u64::from_str_radix(&digest[..12], 16).expect("hexadecimal");
    assert_eq!(http::sum(&metrics, "fanline_configuration_digest", ""), number as f64);
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
