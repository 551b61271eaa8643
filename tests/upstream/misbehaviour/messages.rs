//! Messages that are large, compressed, unknown, or named by a number.

use super::*;

#[tokio::test]
async fn a_snapshot_of_5_mb_is_accepted_and_one_beyond_the_limit_reported() {
    let profile = numbered().replace("[keepalive]", "[connect]\nmax_message = \"6MiB\"\n[keepalive]");
    let harness =
        IntakeHarness::open_with(&profile, &["a"], "/feed", |settings| settings.message_bytes_max = 1000).await;
    let big = |bytes: usize| format!(r#"{{"t":"a","levels":"{}"}}"#, "x".repeat(bytes));
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.misbehave("5 MB in one frame", big(5_080_000)).await;
    assert_eq!(harness.until_frames(1).await[0].1, big(5_080_000));
    caller.overdo("more than the limit", big(6 << 20)).await;
    let limit = format!("at most {} bytes", 6 << 20);
    harness.until_stale(StaleReason::UpstreamDown, &limit).await;
    assert!(harness.log().contains("raise `connect.max_message` in the profile"), "{}", harness.log());
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="message_too_big"} 1"#);
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.say(price("a", 2)).await;
    harness.until_frames(2).await;
    harness.end(&[("5 MB in one frame", 1), ("more than the limit", 1)]).await;
}

#[tokio::test]
async fn channels_renumbered_after_a_reconnect_keep_their_topics() {
    let harness = IntakeHarness::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = harness.accept().await;
    grant(&mut caller, [1, 2]).await;
    caller.say("[1,[0.1,7],1]").await;
    caller.say(r#"[2,"te",[10],2]"#).await;
    harness.until_frames(2).await;
    caller.cut("cut");
    let mut caller = harness.accept().await;
    grant(&mut caller, [2, 1]).await;
    caller.misbehave("numbers exchanged", "[2,[0.2,7],1]").await;
    caller.misbehave("numbers exchanged", r#"[1,"te",[11],2]"#).await;
    let expected = [
        ("ticker.tBTCUSD", r#"{"topic":"ticker.tBTCUSD","data":[1,[0.1,7],1]}"#),
        ("trades.tBTCUSD", r#"{"topic":"trades.tBTCUSD","data":[2,"te",[10],2]}"#),
        ("ticker.tBTCUSD", r#"{"topic":"ticker.tBTCUSD","data":[2,[0.2,7],1]}"#),
        ("trades.tBTCUSD", r#"{"topic":"trades.tBTCUSD","data":[1,"te",[11],2]}"#),
    ];
    assert_eq!(harness.until_frames(4).await, expected.map(|(topic, text)| (topic.to_string(), text.to_string())));
    harness.end(&[("cut", 1), ("numbers exchanged", 2)]).await;
}

#[tokio::test]
async fn data_of_a_channel_wait_for_its_explanation_and_others_are_counted() {
    let harness = IntakeHarness::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = harness.accept().await;
    caller.misbehave("data before its number is bound", "[7,[0.1,7],1]").await;
    caller.misbehave("data before its number is bound", "[7,[0.2,7],2]").await;
    grant(&mut caller, [7, 8]).await;
    let frames = harness.until_frames(2).await;
    assert!(frames[0].1.contains("0.1") && frames[1].1.contains("0.2"), "in their order: {frames:?}");
    // 64 may wait; the 65th pushes out the first.
    for n in 3..=67 {
        caller.misbehave("number that is never bound", format!("[9,[{n}],{n}]")).await;
    }
    harness.until_metric(r#"fanline_upstream_messages_total{class="unmatched"} 1"#).await;
    caller.say("[8,\"te\",[68],68]").await;
    harness.until_frames(3).await;
    caller.cut("cut");
    harness.until_metric(r#"fanline_upstream_messages_total{class="data"} 3"#).await;
    let mut caller = harness.accept().await;
    grant(&mut caller, [9, 8]).await;
    caller.say("[9,[0.3],1]").await;
    let frames = harness.until_frames(4).await;
    assert!(frames[3].1.contains("[9,[0.3],1]"), "what waited on the old connection is not of the new one: {frames:?}");
    harness.until_metric(r#"fanline_upstream_messages_total{class="unmatched"} 65"#).await;
    let faults = [("data before its number is bound", 2), ("number that is never bound", 65), ("cut", 1)];
    harness.end(&faults).await;
}

#[tokio::test]
async fn plain_text_without_a_rule_is_counted_and_later_messages_are_read() {
    let harness = IntakeHarness::open(&numbered(), &[]).await;
    let mut caller = harness.accept().await;
    caller.misbehave("plain text", "Connected").await;
    caller.say(price("a", 1)).await;
    harness.until_frames(1).await;
    harness.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 1"#);
    harness.assert_metric(CONNECTED_ONCE);
    harness.end(&[("plain text", 1)]).await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn compressed_frames_are_read_and_a_bomb_is_not() {
    let profile = format!("{}\n[decode]\nbinary = \"gzip\"\n", numbered());
    // The settings' limit holds where the profile has none.
    let harness =
        IntakeHarness::open_with(&profile, &[], "/feed", |settings| settings.message_bytes_max = 100_000).await;
    let mut caller = harness.accept().await;
    caller.say(gzip(price("a", 1).as_bytes())).await;
    let bomb = gzip(price(&" ".repeat(2_000_000), 1).as_bytes());
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    caller.misbehave("bomb", bomb).await;
    caller.misbehave("not gzip", b"\x1f\x8b\x08nothing".to_vec()).await;
    caller.misbehave("cut gzip", gzip(price("a", 2).as_bytes())[..12].to_vec()).await;
    caller.say(gzip(price("a", 3).as_bytes())).await;
    assert_eq!(harness.until_frames(2).await, [frame("a", 1), frame("a", 3)]);
    harness.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 3"#);
    harness.assert_metric(CONNECTED_ONCE);
    harness.end(&[("bomb", 1), ("not gzip", 1), ("cut gzip", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sends_one_line_to_a_feed_of_lines() {
    let irc = "profile = 1\nname = \"irc\"\n[decode]\nformat = \"irc\"\n[client]\n\
               send = \"PRIVMSG ${item} :${data|text}\"\n[subscribe]\nsend = \"JOIN ${item}\"\nack = { per = \"none\" }\n\
               [[on]]\nname = \"any\"\nas = \"ignore\"\n";
    let venue = ScriptedFeed::open().await;
    let profile = file("irc", irc);
    let server = Program::serve(&[&venue.ws("/"), "--profile", &profile], &[("UPSTREAM_SEND", "*")]);
    let mut caller = venue.accept().await;
    let mut client = Client::connect(&server.ws("/v1/ws")).await;
    client.expect_op("welcome").await;
    for evil in ["hi\r\nQUIT", "hi\nQUIT", "hi\u{0}"] {
        client.command(json!({"op": "send", "topic": "room", "data": evil})).await;
        assert_eq!(client.expect_op("error").await["code"], "not_sent", "{evil:?}");
    }
    client.command(json!({"op": "send", "topic": "room", "data": "hi"})).await;
    client.expect_op("sent").await;
    assert_eq!(caller.hear().await, "PRIVMSG room :hi", "nothing else came before");
}
