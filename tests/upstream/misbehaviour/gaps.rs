//! Numbers that tell of missing messages, and the remedies.

use super::*;

fn counted(gap: &str) -> String {
    let seq = format!("seq = {{ rule = \"inc\", last = \"/n\", gap = \"{gap}\" }}");
    format!("{}snapshot_when = ['/n == 0']\nmode = \"delta\"\n{seq}\n", numbered())
}

#[tokio::test]
async fn a_gap_renews_only_its_topic_and_not_again_at_once() {
    let harness = IntakeHarness::open(&counted("resubscribe"), &["a", "b"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    for topic in ["a", "b"] {
        caller.say(price(topic, 0)).await;
    }
    caller.misbehave("gap", price("a", 5)).await;
    assert_eq!(caller.hear_json().await, json!({"unsub": ["a"], "id": 2}));
    assert_eq!(caller.hear_json().await, json!({"sub": ["a"], "id": 3}));
    caller.say(r#"{"ok":true,"id":2}"#).await;
    caller.say(r#"{"ok":true,"id":3}"#).await;
    caller.say(price("a", 0)).await;
    for n in 1..4 {
        caller.misbehave("gap", price("a", 10 * n)).await;
    }
    caller.say(price("b", 1)).await;
    harness.until_frames(8).await;
    caller.expect_silence().await;
    harness.assert_metric(r#"fanline_upstream_gaps_total{scope="topic"} 4"#);
    harness.assert_metric("fanline_upstream_renewals_total 1");
    harness.assert_metric(CONNECTED_ONCE);
    let gap = harness.until_note("gap", "a").await;
    assert_eq!((&gap["reason"], &gap["missed"]), (&json!("sequence"), &json!(4)));
    assert!(harness.notes().iter().all(|(topic, _)| topic == "a"), "{:?}", harness.notes());
    // The other topic has had no trouble yet.
    caller.misbehave("gap", price("b", 7)).await;
    assert_eq!(caller.hear_json().await["unsub"], json!(["b"]));
    harness.end(&[("gap", 5)]).await;
}

#[tokio::test]
async fn a_renewed_topic_that_is_then_refused_is_reported() {
    let harness = IntakeHarness::open(&counted("resubscribe"), &["a"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    caller.misbehave("gap", price("a", 5)).await;
    assert_eq!(caller.hear_json().await["unsub"], json!(["a"]));
    assert_eq!(caller.hear_json().await["sub"], json!(["a"]));
    caller.say(r#"{"ok":true,"id":2}"#).await;
    caller.misbehave("refusal", r#"{"ok":false,"id":3,"why":"delisted"}"#).await;
    assert_eq!(harness.until_note("refused", "a").await["message"], NOT_SENT);
    assert!(harness.log().contains("refused: `a`: delisted"), "{}", harness.log());
    harness.end(&[("gap", 1), ("refusal", 1)]).await;
}

#[tokio::test]
async fn after_a_gap_the_old_connection_goes_on_until_a_new_one_delivers() {
    let harness = IntakeHarness::open(&counted("reconnect"), &["a"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    for n in [2, 5, 8] {
        caller.misbehave("gap", price("a", n)).await;
    }
    let mut next = harness.accept().await;
    next.hear().await;
    caller.say(price("a", 9)).await;
    harness.until_frames(5).await;
    next.say(price("a", 0)).await;
    caller.ended().await;
    harness.until_metric("fanline_upstream_connections 1").await;
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="gap"} 1"#);
    harness.assert_metric("fanline_upstream_connects_total 2");
    harness.assert_metric(r#"fanline_upstream_state{state="live"} 1"#);
    assert!(!harness.log().contains("attempt"), "{}", harness.log());
    harness.end(&[("gap", 3)]).await;
}

#[tokio::test]
async fn a_gap_of_the_connection_is_reported_for_all_its_topics() {
    let seq = "[seq]\nscope = \"connection\"\nrule = \"inc\"\nlast = \"/n\"\n";
    let profile = NUMBERED.replace("[subscribe]", &format!("{seq}[subscribe]"));
    let harness = IntakeHarness::open(&format!("{profile}{PRICES}"), &["a", "b"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 1)).await;
    caller.misbehave("gap", price("a", 4)).await;
    for topic in ["a", "b"] {
        assert_eq!(harness.until_note("gap", topic).await["reason"], "sequence");
    }
    harness.until_metric(r#"fanline_upstream_gaps_total{scope="connection"} 1"#).await;
    harness.until_frames(2).await;
    harness.assert_metric(CONNECTED_ONCE);
    harness.end(&[("gap", 1)]).await;
}

#[tokio::test]
async fn after_a_gap_of_the_connection_another_takes_over() {
    let harness = IntakeHarness::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = harness.accept().await;
    grant(&mut caller, [1, 2]).await;
    caller.say("[1,[0.1],1]").await;
    harness.until_frames(1).await;
    caller.misbehave("gap", "[1,[0.2],3]").await;
    let mut next = harness.accept().await;
    grant(&mut next, [3, 4]).await;
    caller.say("[1,[0.3],4]").await;
    harness.until_frames(3).await;
    next.say("[3,[0.4],1]").await;
    caller.ended().await;
    harness.until_frames(4).await;
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="gap"} 1"#);
    assert!(harness.log().contains("messages are missing on a connection"), "{}", harness.log());
    harness.end(&[("gap", 1)]).await;
}

#[tokio::test]
async fn a_feed_with_a_cursor_is_resumed_where_it_ended() {
    let profile = format!("{}\n[resume]\ncursor = \"/n\"\nrewind = 5\n", numbered());
    let path = "/feed?kind=a${resume?&since=${resume}}";
    let harness = IntakeHarness::open_with(&profile, &[], path, |_| {}).await;
    let mut caller = harness.accept().await;
    assert_eq!(caller.uri, "/feed?kind=a");
    for n in [100, 120, 110] {
        caller.say(price("a", n)).await;
    }
    caller.say(r#"{"beat":1,"n":999}"#).await;
    harness.until_frames(3).await;
    caller.cut("cut");
    let mut caller = harness.accept().await;
    assert_eq!(caller.uri, "/feed?kind=a&since=115", "the newest, less the rewind; only data count");
    caller.say(price("a", 130)).await;
    harness.until_frames(4).await;
    caller.cut("cut");
    assert_eq!(harness.accept().await.uri, "/feed?kind=a&since=125");
    harness.end(&[("cut", 2)]).await;
}
