//! How a venue ends a connection, and how long it wants to be left alone.

use super::*;

#[tokio::test]
async fn a_close_code_decides_whether_to_reconnect() {
    let profile = format!("{}\n[backoff]\nfatal_codes = [1008, 4001]\n", numbered());
    let harness = IntakeHarness::open(&profile, &[]).await;
    for code in [1000, 1001, 4000] {
        harness.accept().await.close("close", code, "see you").await;
        harness.until_stale(StaleReason::UpstreamDown, &format!("with code {code} (`see you`)")).await;
    }
    harness.accept().await.close("close for good", 4001, "key revoked").await;
    let reason = harness.given_up(&[("close", 3), ("close for good", 1)]).await;
    assert!(reason.contains("rule `backoff.fatal_codes`") && reason.contains("4001 `key revoked`"), "{reason}");
}

#[tokio::test]
async fn an_announced_end_brings_a_new_connection_before_the_old_one_is_closed() {
    let restart = "[[on]]\nname = \"restart\"\nas = \"reconnect\"\nwhen = ['/event == \"restart\"']\n";
    let harness = IntakeHarness::open(&format!("{NUMBERED}{restart}{PRICES}"), &["a"]).await;
    let mut old = harness.accept().await;
    old.hear().await;
    // An announcement in the first second of a connection is obeyed as a loss, or two could go on for ever.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for n in 0..12 {
        pace.tick().await;
        old.say(price("a", n)).await;
    }
    harness.until_frames(12).await;
    old.misbehave("announced end", r#"{"event":"restart"}"#).await;
    let mut new = harness.accept().await;
    old.say(price("a", 12)).await;
    harness.until_frames(13).await;
    new.hear().await;
    new.say(r#"{"ok":true,"id":1}"#).await;
    new.say(price("a", 12)).await;
    new.say(price("a", 13)).await;
    old.ended().await;
    let frames = harness.until_frames(14).await;
    assert_eq!(frames, (0..14).map(|n| frame("a", n)).collect::<Vec<_>>(), "each once");
    harness.assert_metric("fanline_upstream_rotations_total 1");
    harness.assert_metric("fanline_upstream_connects_total 2");
    harness.until_live().await;
    harness.end(&[("announced end", 1)]).await;
}

#[tokio::test]
async fn a_ban_is_obeyed_for_its_announced_time() {
    for status in ["429 Too Many Requests", "418 I'm a teapot"] {
        let harness = IntakeHarness::open(&numbered(), &[]).await;
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n");
        harness.venue.turn_away("ban", &answer).await;
        harness.until_stale(StaleReason::UpstreamDown, "reconnecting in 2.0 s (attempt 1)").await;
        // The longest wait without a ban is a tenth of a second.
        assert!(!harness.venue.is_called(Duration::from_secs(1)).await, "{status}");
        let mut caller = harness.accept().await;
        caller.say(price("a", 1)).await;
        harness.until_frames(1).await;
        harness.end(&[("ban", 1)]).await;
    }
}

/// Names and values of environment variables.
type Variables = &'static [(&'static str, &'static str)];

/// Venues that let one connection of an account in at a time: profile, variables, what is answered to a log-in, and the
/// item that is asked for.
const ONE_AT_A_TIME: [(&str, Variables, &str, &str); 3] = [
    (
        "alpaca",
        &[("ALPACA_KEY", "key\n"), ("ALPACA_SECRET", "se\"cret")],
        r#"[{"T":"error","code":406,"msg":"connection limit exceeded"}]"#,
        "trades.AAPL",
    ),
    (
        "polygon",
        &[("POLYGON_KEY", "key")],
        r#"[{"ev":"status","status":"max_connections","message":"Maximum number of connections exceeded."}]"#,
        "T.AAPL",
    ),
    ("tradermade-v1", &[("TRADERMADE_KEY", "key")], "User Key Used to many times", "EURUSD"),
];

/// The venue greets, and hears the log-in.
async fn logged_in(venue: &ScriptedFeed, profile: &str) -> (Caller, Value) {
    let mut caller = venue.accept().await;
    let greeting = match profile {
        "alpaca" => r#"[{"T":"success","msg":"connected"}]"#,
        "polygon" => r#"[{"ev":"status","status":"connected"}]"#,
        _ => "Connected",
    };
    caller.say(greeting).await;
    let login = caller.hear_json().await;
    (caller, login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_venue_that_still_holds_the_old_connection_is_retried() {
    for (profile, secrets, refusal, item) in ONE_AT_A_TIME {
        let venue = ScriptedFeed::open().await;
        let url = venue.ws("/");
        let backoff = [("UPSTREAM_BACKOFF_MAX", "100ms"), ("UPSTREAM_BACKOFF_MIN", "20ms")];
        let args = [&*url, "--profile", profile, "--subscribe", item];
        let server = Program::serve_knowing(&args, &backoff, secrets);
        let (caller, login) = logged_in(&venue, profile).await;
        if profile == "alpaca" {
            assert_eq!(login, json!({"action": "auth", "key": "key", "secret": "se\"cret"}));
        }
        caller.cut("cut");
        for _ in 0..2 {
            let (mut caller, again) = logged_in(&venue, profile).await;
            assert_eq!(again, login);
            caller.misbehave("still in use", refusal).await;
            if profile == "polygon" {
                caller.close("close", 1008, "").await;
            } else {
                caller.ended().await;
            }
        }
        let (_, again) = logged_in(&venue, profile).await;
        assert_eq!(again, login, "the fourth time it would have been let in");
        assert!(!server.log().contains("for good"), "{}", server.log());
    }
}

#[tokio::test]
async fn a_wait_in_any_form_delays_all_connections_to_that_host() {
    let date = std::time::SystemTime::now() + Duration::from_secs(4);
    for after in [httpdate::fmt_http_date(date), "2.0".to_string()] {
        let harness = IntakeHarness::open_with(&numbered(), &[], "/feed", |settings| settings.connections = 2).await;
        let first = harness.accept().await;
        let answer = format!("HTTP/1.1 429 Slow\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n");
        harness.venue.turn_away("ban", &answer).await;
        harness.until_logged("HTTP status 429").await;
        first.cut("cut");
        harness.until_stale(StaleReason::UpstreamDown, "cut by the feed").await;
        // The longest wait without a ban is a tenth of a second.
        assert!(!harness.venue.is_called(Duration::from_secs(1)).await, "{after}");
        harness.accept().await;
        harness.accept().await;
        harness.end(&[("ban", 1), ("cut", 1)]).await;
    }
}

#[tokio::test]
async fn a_loss_that_is_over_is_not_told_for_as_long_as_the_feed_is_quiet() {
    let harness = IntakeHarness::open(&numbered(), &["a"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 1)).await;
    harness.until_frames(1).await;
    caller.cut("cut");
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(r#"{"ok":true,"id":1}"#).await;
    harness.until_stale(StaleReason::UpstreamSilent, "connected to").await;
    caller.say(price("a", 2)).await;
    harness.until_live().await;
    harness.end(&[("cut", 1)]).await;
}
