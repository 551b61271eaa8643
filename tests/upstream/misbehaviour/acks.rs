//! Answers to subscriptions: late, missing, partial, or a refusal.

use super::*;

#[tokio::test]
async fn data_long_before_the_ack_are_published_and_are_the_answer() {
    let harness = IntakeHarness::open(&numbered(), &["a", "b", "mute"]).await;
    let mut caller = harness.accept().await;
    assert_eq!(caller.hear_json().await, json!({"sub": ["a", "b", "mute"], "id": 1}));
    for n in 0..10 {
        caller.misbehave("data before the ack", price(["a", "b"][n as usize % 2], n)).await;
    }
    harness.until_frames(10).await;
    // The three were asked for at the same moment: when one is late, all would be.
    harness.until_metric(&format!("{REFUSED} 1")).await;
    caller.misbehave("late ack", r#"{"ok":true,"id":1}"#).await;
    caller.say(price("mute", 11)).await;
    assert_eq!(harness.until_frames(11).await[10], frame("mute", 11), "the ack came after its time");
    caller.expect_silence().await;
    harness.assert_metric(&format!("{REFUSED} 1"));
    harness.assert_metric(CONNECTED_ONCE);
    let refused = harness.until_note("refused", "mute").await;
    assert_eq!(refused["message"], NOT_ANSWERED);
    let log = harness.log();
    assert!(log.contains("the feed has not answered the subscription to `mute`"), "{log}");
    harness.end(&[("data before the ack", 10), ("late ack", 1)]).await;
}

#[tokio::test]
async fn a_venue_that_never_answers_is_reported_item_by_item_and_still_read() {
    let harness = IntakeHarness::open(&numbered(), &["a", "b"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.omit("no answer");
    harness.until_note("refused", "a").await;
    harness.until_note("refused", "b").await;
    harness.assert_metric(&format!("{REFUSED} 2"));
    caller.expect_silence().await;
    caller.say(price("b", 1)).await;
    assert_eq!(harness.until_frames(1).await, [frame("b", 1)]);
    caller.cut("cut");
    let mut caller = harness.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "b"]), "another connection is another chance");
    harness.end(&[("no answer", 1), ("cut", 1)]).await;
}

#[tokio::test]
async fn one_bad_item_of_a_request_is_refused_alone() {
    let harness = IntakeHarness::open(&numbered(), &["a", "b", "bad", "d", "e"]).await;
    let mut caller = harness.accept().await;
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
    let refused = harness.until_note("refused", "bad").await;
    assert_eq!(refused["message"], NOT_SENT, "what the venue says is for the log");
    assert!(harness.log().contains("refused: `bad`: no bad"), "{}", harness.log());
    for (n, topic) in (1..).zip(["a", "b", "d", "e"]) {
        caller.say(price(topic, n)).await;
    }
    harness.until_frames(4).await;
    caller.expect_silence().await;
    harness.assert_metric(&format!("{REFUSED} 1"));
    harness.end(&[("whole batch refused", 3)]).await;
}

#[tokio::test]
async fn an_item_with_data_is_not_requested_again_although_its_batch_was_refused() {
    // Slow enough for data to come before the halves of the batch are asked for.
    let profile = numbered().replace("[keepalive]", "[send]\nrate = \"1/500ms\"\n[keepalive]");
    let harness = IntakeHarness::open(&profile, &["a", "bad"]).await;
    let mut caller = harness.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "bad"]));
    // The venue has granted one of the two, and says only what it has refused.
    caller.misbehave("refusal of a part", r#"{"ok":false,"id":1,"why":"no bad"}"#).await;
    caller.say(price("a", 1)).await;
    harness.until_frames(1).await;
    let request = caller.hear_json().await;
    assert_eq!(request["sub"], json!(["bad"]));
    let nack = json!({"ok": false, "id": request["id"], "why": "no bad"});
    caller.misbehave("refusal of a part", nack.to_string()).await;
    harness.until_note("refused", "bad").await;
    caller.expect_silence().await;
    caller.say(price("a", 2)).await;
    harness.until_frames(2).await;
    assert_eq!(harness.notes().len(), 1, "nothing was said about topics that flow: {:?}", harness.notes());
    harness.end(&[("refusal of a part", 2)]).await;
}

#[tokio::test]
async fn a_list_that_grants_a_part_refuses_the_rest() {
    let ack = "ack = { per = \"list\", ok = \"/granted\", bad = [\"/denied\", \"/unknown\"], timeout = \"5s\" }";
    let profile = format!(
        "profile = 1\nname = \"list\"\n[subscribe]\nsend = '{{\"sub\":${{items|json}}}}'\n{ack}\n\
         [[on]]\nname = \"ack\"\nas = \"ack\"\nwhen = ['/granted exists']\n{PRICES}"
    );
    let harness = IntakeHarness::open(&profile, &["a", "b", "c", "d"]).await;
    let mut caller = harness.accept().await;
    assert_eq!(caller.hear_json().await["sub"], json!(["a", "b", "c", "d"]));
    let part = r#"{"granted":["b","d"],"denied":["a"],"unknown":["c"]}"#;
    caller.misbehave("a part is granted", part).await;
    for topic in ["a", "c"] {
        harness.until_note("refused", topic).await;
    }
    harness.assert_metric(&format!("{REFUSED} 2"));
    caller.say(price("b", 1)).await;
    assert_eq!(harness.until_frames(1).await, [frame("b", 1)]);
    assert_eq!(harness.notes().len(), 2);
    harness.end(&[("a part is granted", 1)]).await;
}

#[tokio::test]
async fn heartbeats_after_a_refusal_keep_the_connection_and_hide_nothing() {
    let profile = numbered().replace("idle_timeout = \"none\"", "idle_timeout = \"200ms\"");
    let harness = IntakeHarness::open(&profile, &["a"]).await;
    let mut caller = harness.accept().await;
    caller.hear().await;
    caller.misbehave("refusal", r#"{"ok":false,"id":1,"why":"depth not supported"}"#).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    // Three times as long as a silent connection would be kept.
    for n in 0..60 {
        beat.tick().await;
        caller.misbehave("heartbeat without data", format!(r#"{{"beat":{n}}}"#)).await;
    }
    harness.until_metric(r#"fanline_upstream_messages_total{class="heartbeat"} 60"#).await;
    harness.assert_metric(CONNECTED_ONCE);
    harness.assert_metric(&format!("{REFUSED} 1"));
    harness.assert_metric(r#"fanline_upstream_state{state="live"} 0"#);
    assert_eq!(harness.until_note("refused", "a").await["message"], NOT_SENT);
    assert!(harness.log().contains("refused: `a`: depth not supported"), "{}", harness.log());
    harness.end(&[("refusal", 1), ("heartbeat without data", 60)]).await;
}

#[tokio::test]
async fn clients_receive_the_status_of_each_topic() {
    let venue = ScriptedFeed::open().await;
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
