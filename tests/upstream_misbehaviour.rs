//! A venue that misbehaves in every way that venues are known to: nothing is lost that came, nothing is told that is not so,
//! and what cannot be mended is said.

mod kit;

use std::path::Path;
use std::time::Duration;

use fanline::bus::feed_state::StaleReason;
use hmac::{Hmac, KeyInit, Mac};
use kit::client::Client;
use kit::eventually;
use kit::program::{Program, run};
use kit::stage::{Caller, Stage, Venue};
use serde_json::{Value, json};

/// Items are topics; requests have numbers and are answered by them.
const NUMBERED: &str = r#"
profile = 1
name = "numbered"
[keepalive]
idle_timeout = "none"
[subscribe]
send = '{"sub":${items|json},"id":${req}}'
unsubscribe = '{"unsub":${items|json},"id":${req}}'
ack = { per = "request", id = "/id", message = "/why", timeout = "300ms" }
[[on]]
name = "nack"
as = "nack"
when = ['/ok == false']
[[on]]
name = "ack"
as = "ack"
when = ['/ok == true']
[[on]]
name = "heartbeat"
as = "heartbeat"
when = ['/beat exists']
"#;

const PRICES: &str = r#"
[[on]]
name = "price"
as = "data"
topic = "${/t}"
"#;

fn numbered() -> String {
    format!("{NUMBERED}{PRICES}")
}

fn price(topic: &str, n: u32) -> String {
    format!(r#"{{"t":"{topic}","n":{n}}}"#)
}

fn frame(topic: &str, n: u32) -> (String, String) {
    (topic.to_string(), price(topic, n))
}

/// All that clients are told of a topic that does not come.
const NOT_SENT: &str = "the feed does not send this topic";
const REFUSED: &str = "fanline_upstream_refused_total";
const CONNECTED_ONCE: &str = "fanline_upstream_connects_total 1";

#[tokio::test]
async fn data_long_before_the_ack_are_published_and_are_the_answer() {
    let stage = Stage::open(&numbered(), &["a", "b", "mute"]).await;
    let mut caller = stage.accept().await;
    assert_eq!(caller.hear_json().await, json!({"sub": ["a", "b", "mute"], "id": 1}));
    for n in 0..10 {
        caller.misbehave("data before the ack", price(["a", "b"][n as usize % 2], n)).await;
    }
    stage.until_frames(10).await;
    // The three were asked for at the same moment: when one is late, all would be.
    stage.until_metric(&format!("{REFUSED} 1")).await;
    caller.misbehave("late ack", r#"{"ok":true,"id":1}"#).await;
    caller.say(price("mute", 11)).await;
    assert_eq!(stage.until_frames(11).await[10], frame("mute", 11), "the ack came after its time");
    caller.expect_silence().await;
    stage.assert_metric(&format!("{REFUSED} 1"));
    stage.assert_metric(CONNECTED_ONCE);
    let refused = stage.until_note("refused", "mute").await;
    assert_eq!(refused["message"], NOT_SENT);
    assert!(stage.log().contains("the upstream has not answered"), "{}", stage.log());
    stage.end(&[("data before the ack", 10), ("late ack", 1)]).await;
}

#[tokio::test]
async fn a_venue_that_never_answers_is_told_item_by_item_and_listened_to() {
    let stage = Stage::open(&numbered(), &["a", "b"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.omit("no answer");
    stage.until_note("refused", "a").await;
    stage.until_note("refused", "b").await;
    stage.assert_metric(&format!("{REFUSED} 2"));
    caller.expect_silence().await;
    caller.say(price("b", 1)).await;
    assert_eq!(stage.until_frames(1).await, [frame("b", 1)]);
    caller.cut("cut");
    let mut caller = stage.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "b"]), "another connection is another chance");
    stage.end(&[("no answer", 1), ("cut", 1)]).await;
}

#[tokio::test]
async fn one_bad_item_of_a_request_is_refused_alone() {
    let stage = Stage::open(&numbered(), &["a", "b", "bad", "d", "e"]).await;
    let mut caller = stage.accept().await;
    let mut granted = Vec::new();
    let mut nacks = 0;
    while granted.len() < 4 || nacks < 3 {
        let request = caller.hear_json().await;
        let items: Vec<String> = serde_json::from_value(request["sub"].clone()).expect("items");
        let id = &request["id"];
        if items.contains(&"bad".to_string()) {
            nacks += 1;
            caller.misbehave("whole batch refused", json!({"ok": false, "id": id, "why": "no bad"}).to_string()).await;
        } else {
            caller.say(json!({"ok": true, "id": id}).to_string()).await;
            granted.extend(items);
        }
    }
    granted.sort();
    assert_eq!(granted, ["a", "b", "d", "e"]);
    let refused = stage.until_note("refused", "bad").await;
    assert_eq!(refused["message"], NOT_SENT, "what the venue says is for the log");
    assert!(stage.log().contains("refused: `bad`: no bad"), "{}", stage.log());
    for (n, topic) in (1..).zip(["a", "b", "d", "e"]) {
        caller.say(price(topic, n)).await;
    }
    stage.until_frames(4).await;
    caller.expect_silence().await;
    stage.assert_metric(&format!("{REFUSED} 1"));
    stage.end(&[("whole batch refused", 3)]).await;
}

#[tokio::test]
async fn an_item_that_flows_although_its_batch_was_refused_is_not_asked_for_again() {
    // Slow enough for data to come before the halves of the batch are asked for.
    let profile = numbered().replace("[keepalive]", "[send]\nrate = \"1/500ms\"\n[keepalive]");
    let stage = Stage::open(&profile, &["a", "bad"]).await;
    let mut caller = stage.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "bad"]));
    // The venue has granted one of the two, and says only what it has refused.
    caller.misbehave("refusal of a part", r#"{"ok":false,"id":1,"why":"no bad"}"#).await;
    caller.say(price("a", 1)).await;
    stage.until_frames(1).await;
    let request = caller.hear_json().await;
    assert_eq!(request["sub"], json!(["bad"]));
    let nack = json!({"ok": false, "id": request["id"], "why": "no bad"});
    caller.misbehave("refusal of a part", nack.to_string()).await;
    stage.until_note("refused", "bad").await;
    caller.expect_silence().await;
    caller.say(price("a", 2)).await;
    stage.until_frames(2).await;
    assert_eq!(stage.notes().len(), 1, "nothing was told of what flows: {:?}", stage.notes());
    stage.end(&[("refusal of a part", 2)]).await;
}

#[tokio::test]
async fn a_list_that_grants_a_part_refuses_the_rest() {
    let ack = "ack = { per = \"list\", ok = \"/granted\", bad = [\"/denied\", \"/unknown\"], timeout = \"5s\" }";
    let profile = format!(
        "profile = 1\nname = \"list\"\n[subscribe]\nsend = '{{\"sub\":${{items|json}}}}'\n{ack}\n\
         [[on]]\nname = \"ack\"\nas = \"ack\"\nwhen = ['/granted exists']\n{PRICES}"
    );
    let stage = Stage::open(&profile, &["a", "b", "c", "d"]).await;
    let mut caller = stage.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "b", "c", "d"]));
    let part = r#"{"granted":["b","d"],"denied":["a"],"unknown":["c"]}"#;
    caller.misbehave("a part is granted", part).await;
    for topic in ["a", "c"] {
        stage.until_note("refused", topic).await;
    }
    stage.assert_metric(&format!("{REFUSED} 2"));
    caller.say(price("b", 1)).await;
    assert_eq!(stage.until_frames(1).await, [frame("b", 1)]);
    assert_eq!(stage.notes().len(), 2);
    stage.end(&[("a part is granted", 1)]).await;
}

#[tokio::test]
async fn heartbeats_after_a_refusal_keep_the_connection_and_hide_nothing() {
    let profile = numbered().replace("idle_timeout = \"none\"", "idle_timeout = \"200ms\"");
    let stage = Stage::open(&profile, &["a"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.misbehave("refusal", r#"{"ok":false,"id":1,"why":"depth not supported"}"#).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    // Three times as long as a silent connection would be kept.
    for n in 0..60 {
        beat.tick().await;
        caller.misbehave("heartbeat without data", format!(r#"{{"beat":{n}}}"#)).await;
    }
    stage.until_metric(r#"fanline_upstream_messages_total{class="heartbeat"} 60"#).await;
    stage.assert_metric(CONNECTED_ONCE);
    stage.assert_metric(&format!("{REFUSED} 1"));
    stage.assert_metric(r#"fanline_upstream_state{state="live"} 0"#);
    assert_eq!(stage.until_note("refused", "a").await["message"], NOT_SENT);
    assert!(stage.log().contains("refused: `a`: depth not supported"), "{}", stage.log());
    stage.end(&[("refusal", 1), ("heartbeat without data", 60)]).await;
}

#[tokio::test]
async fn one_topic_that_stops_is_told_while_the_others_flow() {
    let profile = numbered().replace("idle_timeout = \"none\"", "idle_timeout = \"none\"\nstale_after = \"300ms\"");
    let stage = Stage::open(&profile, &["a", "b"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    caller.say(price("b", 0)).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut n = 0;
    while stage.notes().is_empty() {
        pace.tick().await;
        n += 1;
        assert!(n < 500, "nothing was told");
        caller.misbehave("data of the other topic only", price("a", n)).await;
    }
    let stale = stage.until_note("stale", "b").await;
    assert_eq!((&stale["topics"], &stale["reason"]), (&json!(["b"]), &json!("topic_silent")));
    stage.assert_metric(r#"fanline_upstream_state{state="live"} 1"#);
    caller.say(price("b", 1)).await;
    assert_eq!(stage.until_note("live", "b").await["topics"], json!(["b"]));
    assert_eq!(stage.notes().iter().filter(|(topic, _)| topic == "a").count(), 0, "{:?}", stage.notes());
    stage.assert_metric(CONNECTED_ONCE);
    stage.end(&[("data of the other topic only", u64::from(n))]).await;
}

#[tokio::test]
async fn a_snapshot_of_5_mb_is_taken_and_one_beyond_the_limit_told() {
    let profile = numbered().replace("[keepalive]", "[connect]\nmax_message = \"6MiB\"\n[keepalive]");
    let stage = Stage::open_with(&profile, &["a"], "/feed", |settings| settings.message_bytes_max = 1000).await;
    let big = |bytes: usize| format!(r#"{{"t":"a","levels":"{}"}}"#, "x".repeat(bytes));
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.misbehave("5 MB in one frame", big(5_080_000)).await;
    assert_eq!(stage.until_frames(1).await[0].1, big(5_080_000));
    caller.overdo("more than the limit", big(6 << 20)).await;
    let limit = format!("at most {} bytes", 6 << 20);
    stage.until_stale(StaleReason::UpstreamDown, &limit).await;
    assert!(stage.log().contains("raise `connect.max_message` in the profile"), "{}", stage.log());
    stage.assert_metric(r#"fanline_upstream_reconnects_total{reason="message_too_big"} 1"#);
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 2)).await;
    stage.until_frames(2).await;
    stage.end(&[("5 MB in one frame", 1), ("more than the limit", 1)]).await;
}

/// Bitfinex-like: subscribes, and gives ticker and trades the numbers of `ids`.
async fn grant(caller: &mut Caller, ids: [u32; 2]) {
    assert_eq!(caller.hear_json().await["event"], "conf");
    for _ in 0..2 {
        let request = caller.hear_json().await;
        let (channel, symbol) = (request["channel"].as_str().expect("a name"), &request["symbol"]);
        let id = ids[usize::from(channel == "trades")];
        let ack = json!({"event": "subscribed", "channel": channel, "symbol": symbol, "chanId": id});
        caller.say(ack.to_string()).await;
    }
}

#[tokio::test]
async fn channels_that_are_numbered_anew_after_a_reconnect_keep_their_topics() {
    let stage = Stage::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = stage.accept().await;
    grant(&mut caller, [1, 2]).await;
    caller.say("[1,[0.1,7],1]").await;
    caller.say(r#"[2,"te",[10],2]"#).await;
    stage.until_frames(2).await;
    caller.cut("cut");
    let mut caller = stage.accept().await;
    grant(&mut caller, [2, 1]).await;
    caller.misbehave("numbers exchanged", "[2,[0.2,7],1]").await;
    caller.misbehave("numbers exchanged", r#"[1,"te",[11],2]"#).await;
    let expected = [
        ("ticker.tBTCUSD", r#"{"topic":"ticker.tBTCUSD","data":[1,[0.1,7],1]}"#),
        ("trades.tBTCUSD", r#"{"topic":"trades.tBTCUSD","data":[2,"te",[10],2]}"#),
        ("ticker.tBTCUSD", r#"{"topic":"ticker.tBTCUSD","data":[2,[0.2,7],1]}"#),
        ("trades.tBTCUSD", r#"{"topic":"trades.tBTCUSD","data":[1,"te",[11],2]}"#),
    ];
    assert_eq!(stage.until_frames(4).await, expected.map(|(topic, text)| (topic.to_string(), text.to_string())));
    stage.end(&[("cut", 1), ("numbers exchanged", 2)]).await;
}

#[tokio::test]
async fn data_of_a_channel_that_is_not_explained_yet_wait_and_others_are_counted() {
    let stage = Stage::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = stage.accept().await;
    caller.misbehave("data before its number is bound", "[7,[0.1,7],1]").await;
    caller.misbehave("data before its number is bound", "[7,[0.2,7],2]").await;
    grant(&mut caller, [7, 8]).await;
    let frames = stage.until_frames(2).await;
    assert!(frames[0].1.contains("0.1") && frames[1].1.contains("0.2"), "in their order: {frames:?}");
    // 64 may wait; the 65th pushes out the first.
    for n in 3..=67 {
        caller.misbehave("number that is never bound", format!("[9,[{n}],{n}]")).await;
    }
    stage.until_metric(r#"fanline_upstream_messages_total{class="unmatched"} 1"#).await;
    caller.say("[8,\"te\",[68],68]").await;
    stage.until_frames(3).await;
    caller.cut("cut");
    stage.until_metric(r#"fanline_upstream_messages_total{class="data"} 3"#).await;
    let mut caller = stage.accept().await;
    grant(&mut caller, [9, 8]).await;
    caller.say("[9,[0.3],1]").await;
    let frames = stage.until_frames(4).await;
    assert!(frames[3].1.contains("[9,[0.3],1]"), "what waited on the old connection is not of the new one: {frames:?}");
    stage.until_metric(r#"fanline_upstream_messages_total{class="unmatched"} 65"#).await;
    let faults = [("data before its number is bound", 2), ("number that is never bound", 65), ("cut", 1)];
    stage.end(&faults).await;
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
    let stage = Stage::open(&profile, &[]).await;
    let mut caller = stage.accept().await;
    for (ping, pong) in [
        ("ping", "pong"),
        (r#"{"ping":9007199254740993}"#, r#"{"pong":9007199254740993}"#),
        (r#"{"ping":123456789012345678901234567890.50}"#, r#"{"pong":123456789012345678901234567890.50}"#),
        (r#"{"ping": "é\u0041\"" }"#, r#"{"pong":"é\u0041\""}"#),
    ] {
        caller.misbehave("ping", ping).await;
        assert_eq!(caller.hear().await, pong);
    }
    stage.assert_metric(r#"fanline_upstream_messages_total{class="ping"} 4"#);
    assert_eq!(stage.frames(), []);
    stage.end(&[("ping", 4)]).await;
}

#[tokio::test]
async fn bare_pings_to_the_venue_are_answered_by_bare_pongs_or_the_connection_ends() {
    let beat = "ping = { every = \"50ms\", send = 'ping', expect = \"pong\", timeout = \"100ms\" }";
    let profile = format!(
        "profile = 1\nname = \"bare\"\n[keepalive]\n{beat}\n\
         [[on]]\nname = \"pong\"\nas = \"pong\"\nwhen = ['text == \"pong\"']\n{PRICES}"
    );
    let stage = Stage::open(&profile, &[]).await;
    let mut caller = stage.accept().await;
    for _ in 0..5 {
        assert_eq!(caller.hear().await, "ping");
        caller.say("pong").await;
    }
    stage.until_metric(r#"fanline_upstream_messages_total{class="pong"} 5"#).await;
    stage.assert_metric(CONNECTED_ONCE);
    caller.omit("no pong");
    assert!(caller.ended().await.iter().all(|said| said == "ping"));
    stage.accept().await;
    stage.assert_metric(r#"fanline_upstream_reconnects_total{reason="heartbeat_timeout"} 1"#);
    stage.end(&[("no pong", 1)]).await;
}

#[tokio::test]
async fn a_close_code_is_a_reason_to_come_back_or_to_stay_away() {
    let profile = format!("{}\n[backoff]\nfatal_codes = [1008, 4001]\n", numbered());
    let stage = Stage::open(&profile, &[]).await;
    for code in [1000, 1001, 4000] {
        stage.accept().await.close("close", code, "see you").await;
        stage.until_stale(StaleReason::UpstreamDown, &format!("with code {code} (`see you`)")).await;
    }
    stage.accept().await.close("close for good", 4001, "key revoked").await;
    let reason = stage.given_up(&[("close", 3), ("close for good", 1)]).await;
    assert!(reason.contains("rule `backoff.fatal_codes`") && reason.contains("4001 `key revoked`"), "{reason}");
}

#[tokio::test]
async fn an_announced_end_brings_a_new_connection_before_the_old_one_is_closed() {
    let restart = "[[on]]\nname = \"restart\"\nas = \"reconnect\"\nwhen = ['/event == \"restart\"']\n";
    let stage = Stage::open(&format!("{NUMBERED}{restart}{PRICES}"), &["a"]).await;
    let mut old = stage.accept().await;
    old.hear().await;
    // An announcement in the first second of a connection is obeyed as a loss, or two could go on for ever.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for n in 0..12 {
        pace.tick().await;
        old.say(price("a", n)).await;
    }
    stage.until_frames(12).await;
    old.misbehave("announced end", r#"{"event":"restart"}"#).await;
    let mut new = stage.accept().await;
    old.say(price("a", 12)).await;
    stage.until_frames(13).await;
    new.hear().await;
    new.say(r#"{"ok":true,"id":1}"#).await;
    new.say(price("a", 12)).await;
    new.say(price("a", 13)).await;
    old.ended().await;
    let frames = stage.until_frames(14).await;
    assert_eq!(frames, (0..14).map(|n| frame("a", n)).collect::<Vec<_>>(), "each once");
    stage.assert_metric("fanline_upstream_rotations_total 1");
    stage.assert_metric("fanline_upstream_connects_total 2");
    stage.until_live().await;
    stage.end(&[("announced end", 1)]).await;
}

#[tokio::test]
async fn a_ban_is_obeyed_for_as_long_as_it_is_said_to_last() {
    for status in ["429 Too Many Requests", "418 I'm a teapot"] {
        let stage = Stage::open(&numbered(), &[]).await;
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n");
        stage.venue.turn_away("ban", &answer).await;
        stage.until_stale(StaleReason::UpstreamDown, "reconnecting in 2.0 s (attempt 1)").await;
        // The longest wait without a ban is a tenth of a second.
        assert!(!stage.venue.is_called(Duration::from_secs(1)).await, "{status}");
        let mut caller = stage.accept().await;
        caller.say(price("a", 1)).await;
        stage.until_frames(1).await;
        stage.end(&[("ban", 1)]).await;
    }
}

const LOGIN: &str = r#"
profile = 1
name = "club"
[login]
after = "hello"
send = '{"login":"me"}'
ok = "welcome"
timeout = "5s"
[subscribe]
after = "welcome"
send = '{"sub":${items|json}}'
[[on]]
name = "hello"
as = "greeting"
when = ['text ^= "HELLO"']
[[on]]
name = "welcome"
as = "auth_ok"
when = ['/login == "ok"']
[[on]]
name = "turned_away"
as = "fatal"
when = ['/login exists']
"#;

#[tokio::test]
async fn nothing_is_asked_for_before_greeting_and_log_in() {
    let stage = Stage::open(&format!("{LOGIN}{PRICES}"), &["a"]).await;
    let mut caller = stage.accept().await;
    caller.expect_silence().await;
    caller.misbehave("greeting in plain text", "HELLO 1.0\r\n").await;
    assert_eq!(caller.hear().await, r#"{"login":"me"}"#);
    caller.misbehave("data before the log-in", price("a", 1)).await;
    caller.expect_silence().await;
    caller.say(r#"{"login":"ok"}"#).await;
    assert_eq!(caller.hear().await, r#"{"sub":["a"]}"#);
    caller.say(price("a", 2)).await;
    stage.until_frames(2).await;
    stage.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 0"#);
    stage.end(&[("greeting in plain text", 1), ("data before the log-in", 1)]).await;
}

#[tokio::test]
async fn a_refused_log_in_is_for_good() {
    let stage = Stage::open(&format!("{LOGIN}{PRICES}"), &["a"]).await;
    let mut caller = stage.accept().await;
    caller.say("HELLO").await;
    caller.hear().await;
    caller.misbehave("log-in refused", r#"{"login":"wrong key"}"#).await;
    caller.ended().await;
    let called = stage.venue.is_called(Duration::from_millis(500)).await;
    let reason = stage.given_up(&[("log-in refused", 1)]).await;
    assert!(reason.contains("rule `turned_away`") && reason.contains("wrong key"), "{reason}");
    assert!(!called, "it was tried again");
}

#[tokio::test]
async fn a_refusal_for_good_is_not_covered_up_by_what_comes_with_it() {
    let lines = "[decode]\nsplit = \"lines\"\n[seq]\nscope = \"connection\"\nrule = \"inc\"\nlast = \"/n\"\n";
    let profile = LOGIN.replace("[login]", &format!("{lines}[login]"));
    let stage = Stage::open(&format!("{profile}{PRICES}"), &[]).await;
    let mut caller = stage.accept().await;
    let text = format!("{}\n{{\"login\":\"wrong key\"}}\n{}", price("a", 1), price("a", 5));
    caller.misbehave("refusal between data", text).await;
    let reason = stage.given_up(&[("refusal between data", 1)]).await;
    assert!(reason.contains("wrong key"), "{reason}");
}

#[tokio::test]
async fn plain_text_that_no_rule_knows_is_counted_and_what_follows_is_read() {
    let stage = Stage::open(&numbered(), &[]).await;
    let mut caller = stage.accept().await;
    caller.misbehave("plain text", "Connected").await;
    caller.say(price("a", 1)).await;
    stage.until_frames(1).await;
    stage.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 1"#);
    stage.assert_metric(CONNECTED_ONCE);
    stage.end(&[("plain text", 1)]).await;
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
    let stage = Stage::open_with(&profile, &[], "/feed", |settings| settings.message_bytes_max = 100_000).await;
    let mut caller = stage.accept().await;
    caller.say(gzip(price("a", 1).as_bytes())).await;
    let bomb = gzip(price(&" ".repeat(2_000_000), 1).as_bytes());
    assert!(bomb.len() < 100_000, "{} bytes", bomb.len());
    caller.misbehave("bomb", bomb).await;
    caller.misbehave("not gzip", b"\x1f\x8b\x08nothing".to_vec()).await;
    caller.misbehave("cut gzip", gzip(price("a", 2).as_bytes())[..12].to_vec()).await;
    caller.say(gzip(price("a", 3).as_bytes())).await;
    assert_eq!(stage.until_frames(2).await, [frame("a", 1), frame("a", 3)]);
    stage.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 3"#);
    stage.assert_metric(CONNECTED_ONCE);
    stage.end(&[("bomb", 1), ("not gzip", 1), ("cut gzip", 1)]).await;
}

fn counted(gap: &str) -> String {
    let seq = format!("seq = {{ rule = \"inc\", last = \"/n\", gap = \"{gap}\" }}");
    format!("{}snapshot_when = ['/n == 0']\nmode = \"delta\"\n{seq}\n", numbered())
}

#[tokio::test]
async fn a_gap_renews_its_topic_alone_and_not_again_at_once() {
    let stage = Stage::open(&counted("resubscribe"), &["a", "b"]).await;
    let mut caller = stage.accept().await;
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
    stage.until_frames(8).await;
    caller.expect_silence().await;
    stage.assert_metric(r#"fanline_upstream_gaps_total{scope="topic"} 4"#);
    stage.assert_metric("fanline_upstream_renewals_total 1");
    stage.assert_metric(CONNECTED_ONCE);
    let gap = stage.until_note("gap", "a").await;
    assert_eq!((&gap["reason"], &gap["missed"]), (&json!("sequence"), &json!(4)));
    assert!(stage.notes().iter().all(|(topic, _)| topic == "a"), "{:?}", stage.notes());
    // The other topic has had no trouble yet.
    caller.misbehave("gap", price("b", 7)).await;
    assert_eq!(caller.hear_json().await["unsub"], json!(["b"]));
    stage.end(&[("gap", 5)]).await;
}

#[tokio::test]
async fn a_renewed_topic_that_is_then_refused_is_told() {
    let stage = Stage::open(&counted("resubscribe"), &["a"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    caller.misbehave("gap", price("a", 5)).await;
    assert_eq!(caller.hear_json().await["unsub"], json!(["a"]));
    assert_eq!(caller.hear_json().await["sub"], json!(["a"]));
    caller.say(r#"{"ok":true,"id":2}"#).await;
    caller.misbehave("refusal", r#"{"ok":false,"id":3,"why":"delisted"}"#).await;
    assert_eq!(stage.until_note("refused", "a").await["message"], NOT_SENT);
    assert!(stage.log().contains("refused: `a`: delisted"), "{}", stage.log());
    stage.end(&[("gap", 1), ("refusal", 1)]).await;
}

#[tokio::test]
async fn a_gap_may_ask_for_a_new_connection() {
    let stage = Stage::open(&counted("reconnect"), &["a"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    caller.misbehave("gap", price("a", 2)).await;
    stage.until_stale(StaleReason::UpstreamDown, "something is missing in `a`").await;
    caller.ended().await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 0)).await;
    stage.until_frames(3).await;
    stage.until_live().await;
    stage.assert_metric(r#"fanline_upstream_reconnects_total{reason="gap"} 1"#);
    stage.assert_metric("fanline_upstream_connects_total 2");
    stage.end(&[("gap", 1)]).await;
}

#[tokio::test]
async fn a_gap_of_the_connection_is_told_to_all_its_topics() {
    let seq = "[seq]\nscope = \"connection\"\nrule = \"inc\"\nlast = \"/n\"\n";
    let profile = NUMBERED.replace("[subscribe]", &format!("{seq}[subscribe]"));
    let stage = Stage::open(&format!("{profile}{PRICES}"), &["a", "b"]).await;
    let mut caller = stage.accept().await;
    caller.hear().await;
    caller.say(price("a", 1)).await;
    caller.misbehave("gap", price("a", 4)).await;
    for topic in ["a", "b"] {
        assert_eq!(stage.until_note("gap", topic).await["reason"], "sequence");
    }
    stage.until_metric(r#"fanline_upstream_gaps_total{scope="connection"} 1"#).await;
    stage.until_frames(2).await;
    stage.assert_metric(CONNECTED_ONCE);
    stage.end(&[("gap", 1)]).await;
}

#[tokio::test]
async fn a_gap_of_the_connection_may_end_it_once() {
    let stage = Stage::open("bitfinex-v2", &["ticker.tBTCUSD", "trades.tBTCUSD"]).await;
    let mut caller = stage.accept().await;
    grant(&mut caller, [1, 2]).await;
    caller.say("[1,[0.1],1]").await;
    stage.until_frames(1).await;
    // The venue hangs up as well: that is one loss, not two.
    caller.misbehave("gap", "[1,[0.2],3]").await;
    caller.cut("cut");
    stage.until_stale(StaleReason::UpstreamDown, "(attempt 1)").await;
    let mut caller = stage.accept().await;
    grant(&mut caller, [1, 2]).await;
    caller.say("[1,[0.3],1]").await;
    stage.until_frames(3).await;
    stage.assert_metric(r#"fanline_upstream_reconnects_total{reason="gap"} 1"#);
    stage.assert_metric(r#"fanline_upstream_reconnects_total{reason="cut"} 0"#);
    stage.end(&[("gap", 1), ("cut", 1)]).await;
}

#[tokio::test]
async fn a_feed_with_a_cursor_is_resumed_where_it_ended() {
    let profile = format!("{}\n[resume]\ncursor = \"/n\"\nrewind = 5\n", numbered());
    let path = "/feed?kind=a${resume?&since=${resume}}";
    let stage = Stage::open_with(&profile, &[], path, |_| {}).await;
    let mut caller = stage.accept().await;
    assert_eq!(caller.uri, "/feed?kind=a");
    for n in [100, 120, 110] {
        caller.say(price("a", n)).await;
    }
    caller.say(r#"{"beat":1,"n":999}"#).await;
    stage.until_frames(3).await;
    caller.cut("cut");
    let mut caller = stage.accept().await;
    assert_eq!(caller.uri, "/feed?kind=a&since=115", "the newest, less the rewind; only data count");
    caller.say(price("a", 130)).await;
    stage.until_frames(4).await;
    caller.cut("cut");
    assert_eq!(stage.accept().await.uri, "/feed?kind=a&since=125");
    stage.end(&[("cut", 2)]).await;
}

/// A profile as a file, whose path is given.
fn file(name: &str, profile: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstream_misbehaviour");
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, profile).expect("a file for the test");
    path.to_str().expect("a path in UTF-8").to_string()
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
async fn without_its_secrets_a_feed_is_not_even_called() {
    let venue = Venue::open().await;
    let profile = file("without_secrets", &format!("{SIGNED}{PRICES}"));
    let (status, _, log) = run(&[&venue.ws("/feed"), "--profile", &profile, "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("MISBEHAVIOUR_KEY") || log.contains("MISBEHAVIOUR_SECRET"), "{log}");
    assert!(!venue.is_called(Duration::from_millis(100)).await, "{log}");
}

#[tokio::test]
async fn a_signature_is_the_one_that_the_venue_computes() {
    let venue = Venue::open().await;
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
async fn logged_in(venue: &Venue, profile: &str) -> (Caller, Value) {
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
async fn a_venue_that_still_holds_the_old_connection_is_asked_again() {
    for (profile, secrets, refusal, item) in ONE_AT_A_TIME {
        let venue = Venue::open().await;
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
async fn clients_are_told_of_each_topic_what_the_venue_does_with_it() {
    let venue = Venue::open().await;
    let stale = "idle_timeout = \"none\"\nstale_after = \"400ms\"";
    let profile = file("clients", &numbered().replace("idle_timeout = \"none\"", stale));
    let items = ["--subscribe", "a", "--subscribe", "b", "--subscribe", "bad"];
    let server = Program::serve(&[&[&venue.ws("/feed"), "--profile", &profile], &items[..]].concat(), &[]);
    let mut caller = venue.accept().await;
    let mut client = Client::connect(&server.ws("/v1/ws?topics=%3E")).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    let mut asked = Vec::new();
    while asked.last().is_none_or(|request: &Value| request["sub"] != json!(["bad"])) {
        let request = caller.hear_json().await;
        if request["sub"].as_array().is_some_and(|items| items.contains(&json!("bad"))) {
            caller.misbehave("refusal", json!({"ok": false, "id": request["id"], "why": "no bad"}).to_string()).await;
        }
        asked.push(request);
    }
    caller.say(price("b", 1)).await;
    let mut seen: Vec<(Value, Value)> = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let (mut n, mut has_resumed) = (0, false);
    while seen.len() < 3 {
        tokio::select! {
            _ = pace.tick() => {
                n += 1;
                caller.say(price("a", n)).await;
            }
            text = client.text() => {
                let told: Value = serde_json::from_str(&text).expect("JSON");
                let topic = told.get("topic").unwrap_or(&told["topics"][0]).clone();
                if told.get("op").is_some() && topic != ">" {
                    seen.push((told["op"].clone(), topic));
                }
            }
        }
        if !has_resumed && seen.last().is_some_and(|(op, _)| op == "stale") {
            caller.say(price("b", 2)).await;
            has_resumed = true;
        }
    }
    let expected = [("refused", "bad"), ("stale", "b"), ("live", "b")];
    assert_eq!(seen, expected.map(|(op, topic)| (json!(op), json!(topic))));
    let mut late = Client::connect(&server.ws("/v1/ws?topics=bad")).await;
    late.expect_op("welcome").await;
    late.expect_op("subscribed").await;
    assert_eq!(late.expect_op("refused").await["message"], NOT_SENT);
    eventually("the log has the venue's words", || server.log().contains("refused: `bad`: no bad").then_some(()));
}

/// Asks until `/readyz` says this, and gives its whole answer.
fn until_ready_says(server: &Program, part: &str) -> Value {
    eventually(part, || Some(server.get("/readyz").json()).filter(|ready| ready.to_string().contains(part)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_venue_says_is_in_the_log_and_nowhere_else() {
    const KEY: &str = "sk-live-7f3a9c";
    const PATH_KEY: &str = "0123456789abcdef0123456789abcdef";
    let venue = Venue::open().await;
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
    // Who comes in the middle of it is told what is so now, and nothing that was so once.
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
    for part in ["invalid api key ***", "points to: `wss://other.example/ws`", "4001 (`bad token ***`)", "/v2/***"] {
        assert!(log.contains(part), "expected `{part}` in\n{log}");
    }
    assert!(![KEY, PATH_KEY, "topsecret"].iter().any(|secret| log.contains(secret)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stands_again_and_is_quiet_is_told_as_it_is() {
    let venue = Venue::open().await;
    let profile = file("quiet", &numbered());
    let backoff = [("UPSTREAM_BACKOFF_MAX", "50ms"), ("UPSTREAM_BACKOFF_MIN", "20ms")];
    let server = Program::serve(&[&venue.ws("/feed"), "--profile", &profile], &backoff);
    venue.turn_away("away", "HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n").await;
    let mut caller = venue.accept().await;
    let ready = until_ready_says(&server, "stands again");
    assert_eq!((&ready["state"], &ready["reason"]), (&json!("silent"), &json!("upstream_silent")));
    assert!(server.get("/metrics").body.contains(r#"fanline_upstream_state{state="silent"} 1"#));
    caller.say(price("a", 1)).await;
    until_ready_says(&server, "\"ready\":true");
}

#[tokio::test]
async fn a_wait_in_any_form_holds_all_connections_to_that_host_back() {
    let date = std::time::SystemTime::now() + Duration::from_secs(4);
    for after in [httpdate::fmt_http_date(date), "2.0".to_string()] {
        let stage = Stage::open_with(&numbered(), &[], "/feed", |settings| settings.connections = 2).await;
        let first = stage.accept().await;
        let answer = format!("HTTP/1.1 429 Slow\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n");
        stage.venue.turn_away("ban", &answer).await;
        stage.until_logged("HTTP status 429").await;
        first.cut("cut");
        stage.until_stale(StaleReason::UpstreamDown, "cut by the upstream").await;
        // The longest wait without a ban is a tenth of a second.
        assert!(!stage.venue.is_called(Duration::from_secs(1)).await, "{after}");
        stage.accept().await;
        stage.accept().await;
        stage.end(&[("ban", 1), ("cut", 1)]).await;
    }
}

#[tokio::test]
async fn the_feed_is_told_who_calls() {
    let headers = "[connect]\nheaders = { \"X-Key\" = \"${env.MISBEHAVIOUR_KEY}\", \"X-From\" = \"profile\" }\n";
    let profile = file("headers", &numbered().replace("[keepalive]", &format!("{headers}[keepalive]")));
    let venue = Venue::open().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_one_line_to_a_feed_of_lines() {
    let irc = "profile = 1\nname = \"irc\"\n[decode]\nformat = \"irc\"\n[client]\n\
               send = \"PRIVMSG ${item} :${data|text}\"\n[subscribe]\nsend = \"JOIN ${item}\"\nack = { per = \"none\" }\n\
               [[on]]\nname = \"any\"\nas = \"ignore\"\n";
    let venue = Venue::open().await;
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
