//! Silence, and the pings of both sides.

use super::*;

#[tokio::test]
async fn one_topic_that_stops_is_reported_while_the_others_flow() {
    let profile = numbered().replace("idle_timeout = \"none\"", "idle_timeout = \"none\"\nstale_after = \"300ms\"");
    let harness = IntakeHarness::open(&profile, &["a", "b"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    caller.say(price("b", 0)).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut n = 0;
    while harness.notes().is_empty() {
        pace.tick().await;
        n += 1;
        assert!(n < 500, "nothing was reported");
        caller.misbehave("data of the other topic only", price("a", n)).await;
    }
    let stale = harness.until_note("stale", "b").await;
    assert_eq!((&stale["topics"], &stale["reason"]), (&json!(["b"]), &json!("topic_silent")));
    harness.assert_metric(r#"fanline_upstream_state{state="live"} 1"#);
    caller.say(price("b", 1)).await;
    assert_eq!(harness.until_note("live", "b").await["topics"], json!(["b"]));
    assert_eq!(harness.notes().iter().filter(|(topic, _)| topic == "a").count(), 0, "{:?}", harness.notes());
    harness.assert_metric(CONNECTED_ONCE);
    harness.end(&[("data of the other topic only", u64::from(n))]).await;
}

#[tokio::test]
async fn pings_in_every_form_are_answered_as_they_came() {
    let pings = r#"
        [[on]]
        name = "text_ping"
        as = "ping"
        when = ['text == "ping"']
        reply = "pong"
        [[on]]
        name = "json_ping"
        as = "ping"
        when = ['/ping exists']
        reply = '{"pong":${/ping}}'
    "#;
    let profile = format!("{}{pings}{PRICES}", NUMBERED.replace("'/beat exists'", "'/beat exists', '/ping absent'"));
    let harness = IntakeHarness::open(&profile, &[]).await;
    let mut caller = harness.accept().await;
    for (ping, pong) in [
        ("ping", "pong"),
        (r#"{"ping":9007199254740993}"#, r#"{"pong":9007199254740993}"#),
        (r#"{"ping":123456789012345678901234567890.50}"#, r#"{"pong":123456789012345678901234567890.50}"#),
        (r#"{"ping": "é\u0041\"" }"#, r#"{"pong":"é\u0041\""}"#),
    ] {
        caller.misbehave("ping", ping).await;
        assert_eq!(caller.hear().await, pong);
    }
    harness.assert_metric(r#"fanline_upstream_messages_total{class="ping"} 4"#);
    assert_eq!(harness.frames(), []);
    harness.end(&[("ping", 4)]).await;
}

#[tokio::test]
async fn bare_pings_to_the_venue_are_answered_by_bare_pongs_or_the_connection_ends() {
    let beat = "ping = { every = \"50ms\", send = 'ping', expect = \"pong\", timeout = \"100ms\" }";
    let profile = format!(
        "profile = 1\nname = \"bare\"\n[keepalive]\n{beat}\n\
         [[on]]\nname = \"pong\"\nas = \"pong\"\nwhen = ['text == \"pong\"']\n{PRICES}"
    );
    let harness = IntakeHarness::open(&profile, &[]).await;
    let mut caller = harness.accept().await;
    for _ in 0..5 {
        assert_eq!(caller.hear().await, "ping");
        caller.say("pong").await;
    }
    harness.until_metric(r#"fanline_upstream_messages_total{class="pong"} 5"#).await;
    harness.assert_metric(CONNECTED_ONCE);
    caller.omit("no pong");
    assert!(caller.ended().await.iter().all(|said| said == "ping"));
    harness.accept().await;
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="heartbeat_timeout"} 1"#);
    harness.end(&[("no pong", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_up_again_but_quiet_is_reported_as_such() {
    let venue = ScriptedFeed::open().await;
    let profile = file("quiet", &numbered());
    let backoff = [("UPSTREAM_BACKOFF_MAX", "50ms"), ("UPSTREAM_BACKOFF_MIN", "20ms")];
    let server = Program::serve(&[&venue.ws("/feed"), "--profile", &profile], &backoff);
    venue.turn_away("away", "HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n").await;
    let mut caller = venue.accept().await;
    let ready = until_ready_says(&server, "is up again");
    assert_eq!((&ready["state"], &ready["reason"]), (&json!("silent"), &json!("upstream_silent")));
    assert!(server.get("/metrics").body.contains(r#"fanline_upstream_state{state="silent"} 1"#));
    caller.say(price("a", 1)).await;
    until_ready_says(&server, "\"ready\":true");
}
