//! What comes before the first subscription: greeting, secrets, log-in.

use super::*;

#[tokio::test]
async fn nothing_is_requested_before_greeting_and_login() {
    let harness = IntakeHarness::open(&format!("{LOGIN}{PRICES}"), &["a"]).await;
    let mut caller = harness.accept().await;
    caller.expect_silence().await;
    caller.misbehave("greeting in plain text", "HELLO 1.0\r\n").await;
    assert_eq!(caller.hear().await, r#"{"login":"me"}"#);
    caller.misbehave("data before the log-in", price("a", 1)).await;
    caller.expect_silence().await;
    caller.say(r#"{"login":"ok"}"#).await;
    assert_eq!(caller.hear().await, r#"{"sub":["a"]}"#);
    caller.say(price("a", 2)).await;
    harness.until_frames(2).await;
    harness.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 0"#);
    harness.end(&[("greeting in plain text", 1), ("data before the log-in", 1)]).await;
}

#[tokio::test]
async fn a_refused_log_in_is_for_good() {
    let harness = IntakeHarness::open(&format!("{LOGIN}{PRICES}"), &["a"]).await;
    let mut caller = harness.accept().await;
    caller.say("HELLO").await;
    caller.hear().await;
    caller.misbehave("log-in refused", r#"{"login":"wrong key"}"#).await;
    caller.ended().await;
    let called = harness.venue.is_called(Duration::from_millis(500)).await;
    let reason = harness.given_up(&[("log-in refused", 1)]).await;
    assert!(reason.contains("rule `turned_away`") && reason.contains("wrong key"), "{reason}");
    assert!(!called, "it was tried again");
}

#[tokio::test]
async fn a_permanent_refusal_is_not_hidden_by_later_messages() {
    let lines = "[decode]\nsplit = \"lines\"\n[seq]\nscope = \"connection\"\nrule = \"inc\"\nlast = \"/n\"\n";
    let profile = LOGIN.replace("[login]", &format!("{lines}[login]"));
    let harness = IntakeHarness::open(&format!("{profile}{PRICES}"), &[]).await;
    let mut caller = harness.accept().await;
    let text = format!("{}\n{{\"login\":\"wrong key\"}}\n{}", price("a", 1), price("a", 5));
    caller.misbehave("refusal between data", text).await;
    let reason = harness.given_up(&[("refusal between data", 1)]).await;
    assert!(reason.contains("wrong key"), "{reason}");
}

const SIGNED: &str = r#"
profile = 1
name = "signed"
[sign.it]
alg = "hmac-sha256"
key = { env = "MISBEHAVIOUR_SECRET", decode = "hex" }
message = "${now.ms}GET/login"
[login]
send = '{"key":${env.MISBEHAVIOUR_KEY|json},"at":${now.ms},"signature":"${sign.it}"}'
ok = "welcome"
[subscribe]
send = '{"sub":${items|json}}'
[[on]]
name = "welcome"
as = "auth_ok"
when = ['/login == "ok"']
"#;

#[tokio::test]
async fn without_its_secrets_a_feed_is_not_connected_to() {
    let venue = ScriptedFeed::open().await;
    let profile = file("without_secrets", &format!("{SIGNED}{PRICES}"));
    let (status, _, log) = run(&[&venue.ws("/feed"), "--profile", &profile, "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("MISBEHAVIOUR_KEY") || log.contains("MISBEHAVIOUR_SECRET"), "{log}");
    assert!(!venue.is_called(Duration::from_millis(100)).await, "{log}");
}

#[tokio::test]
async fn a_signature_is_the_one_that_the_venue_computes() {
    let venue = ScriptedFeed::open().await;
    let profile = file("signed", &format!("{SIGNED}{PRICES}"));
    let secrets = [("MISBEHAVIOUR_KEY", "me \"x\""), ("MISBEHAVIOUR_SECRET", "00ff10")];
    let server =
        Program::serve_knowing(&[&venue.ws("/feed"), "--profile", &profile, "--subscribe", "a"], &[], &secrets);
    let mut caller = venue.accept().await;
    let login = caller.hear_json().await;
    assert_eq!(login["key"], "me \"x\"");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[0, 0xFF, 0x10]).expect("any key");
    mac.update(format!("{}GET/login", login["at"]).as_bytes());
    let signature = hex::decode(login["signature"].as_str().expect("a text")).expect("hex");
    assert!(mac.verify_slice(&signature).is_ok(), "{login}");
    caller.say(r#"{"login":"ok"}"#).await;
    assert_eq!(caller.hear().await, r#"{"sub":["a"]}"#);
    assert!(!server.log().contains("00ff10"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_venues_remarks_appear_only_in_the_log() {
    const KEY: &str = "sk-live-7f3a9c";
    const PATH_KEY: &str = "0123456789abcdef0123456789abcdef";
    let venue = ScriptedFeed::open().await;
    let profile =
        file("telling", &numbered().replace("[keepalive]", "[[open]]\nsend = \"KEY ${env.KEY}\"\n[keepalive]"));
    let url = venue.ws(&format!("/v2/{PATH_KEY}?token=topsecret"));
    let backoff = [("UPSTREAM_BACKOFF_MAX", "2s"), ("UPSTREAM_BACKOFF_MIN", "1s")];
    let server = Program::serve_knowing(&[&url, "--profile", &profile], &backoff, &[("KEY", "sk-live-7f3a9c")]);
    let answer = |status: &str, more: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut client = Client::connect(&server.ws("/v1/ws?topics=%3E")).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    let mut told = Vec::new();
    let body = format!("invalid api key {KEY}");
    venue.turn_away("key in the body", &answer("401 Unauthorized", "", &body)).await;
    told.push(until_ready_says(&server, "HTTP status 401"));
    told.push(client.expect_op("stale").await);
    let location = format!("Location: wss://other.example/ws?token={KEY}\r\n");
    venue.turn_away("key in the address", &answer("302 Found", &location, "")).await;
    told.push(until_ready_says(&server, "HTTP status 302"));
    venue.accept().await.close("key in the close reason", 4001, "bad token sk-live-7f3a9c").await;
    told.push(until_ready_says(&server, "closed the connection with code 4001"));
    // A client that joins in the middle of it receives what holds now, and nothing that no longer does.
    let mut late = Client::connect(&server.ws("/v1/ws?topics=%3E")).await;
    late.expect_op("welcome").await;
    late.expect_op("subscribed").await;
    let stale = late.expect_op("stale").await;
    assert_eq!(stale["message"], "the feed has closed the connection with code 4001");
    assert_eq!(stale["since_ms"], told[1]["since_ms"], "since the first of it");
    told.push(stale);
    told.push(server.get("/v1/snapshot").json());
    for told in told {
        let text = told.to_string();
        let secrets = [KEY, PATH_KEY, "topsecret", "127.0.0.1", "other.example", "ws:", "v2", "attempt", "api key"];
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    }
    let log = server.log();
    for part in [
        "invalid api key ***",
        "`upstream.redirects_max`: `wss://other.example/ws`",
        "4001 (`bad token ***`)",
        "/v2/***",
    ] {
        assert!(log.contains(part), "expected `{part}` in\n{log}");
    }
    assert!(![KEY, PATH_KEY, "topsecret"].iter().any(|secret| log.contains(secret)), "{log}");
}

#[tokio::test]
async fn the_feed_receives_a_user_agent() {
    let headers = "[connect]\nheaders = { \"X-Key\" = \"${env.MISBEHAVIOUR_KEY}\", \"X-From\" = \"profile\" }\n";
    let profile = file("headers", &numbered().replace("[keepalive]", &format!("{headers}[keepalive]")));
    let venue = ScriptedFeed::open().await;
    let url = venue.ws("/feed").replace("ws://", "ws://me:pass%40word@");
    let secrets = [("MISBEHAVIOUR_KEY", "key\n")];
    let ours = [("UPSTREAM_HEADERS", "X-From: ${env.MISBEHAVIOUR_KEY}")];
    let _server = Program::serve_knowing(&[&url, "--profile", &profile], &ours, &secrets);
    let caller = venue.accept().await;
    assert_eq!(caller.header("x-key"), Some("key"), "a newline at the end is no part of it");
    assert_eq!(caller.header("x-from"), Some("key"), "the operator goes before the profile");
    assert_eq!(caller.header("user-agent"), Some(concat!("fanline/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(caller.header("authorization"), Some("Basic bWU6cGFzc0B3b3Jk"));
}
