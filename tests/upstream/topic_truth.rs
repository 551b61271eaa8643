//! What is said of each topic is true: asked for and never delivered, refused, written otherwise, out of order; and names
//! that clients invent are nobody else's business.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kit::client::Client;
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::http::sum;
use kit::program::{Program, run};
use serde_json::{Value, json};

/// A feed whose items are its topics, which it writes in lower case.
const PROFILE: &str = r#"
profile = 1
name = "truth"
[subscribe]
case = "lower"
example = "chat.rust"
batch = 100
send = '{"op":"sub","items":${items|json},"id":${req}}'
unsubscribe = '{"op":"unsub","items":${items|json},"id":${req}}'
ack = { per = "list", id = "/id", ok = "/ok", bad = ["/bad"], timeout = "5s" }
[[on]]
name = "ack"
as = "ack"
when = ['/id exists']
[[on]]
name = "book"
as = "data"
when = ['/book exists']
topic = "${/t}"
mode = "delta"
snapshot_when = ['/book == "whole"']
[[on]]
name = "data"
as = "data"
topic = "${/t}"
seq = { rule = "monotonic", last = "/n", gap = "drop_old" }
"#;

/// A venue, and the server that listens to it.
struct Harness {
    exchange: FakeFeed,
    server: Program,
}

impl Harness {
    async fn open(settings: &[(&'static str, &'static str)]) -> Harness {
        let settings = settings.to_vec();
        tokio::task::spawn_blocking(move || {
            let exchange = FakeFeed::open();
            let profile = profile_file();
            let url = exchange.url();
            let all: Vec<(&str, &str)> = settings.iter().copied().chain([("UPSTREAM_URL", &*url)]).collect();
            let server = Program::serve(&["--profile", profile.to_str().expect("UTF-8")], &all);
            Harness { exchange, server }
        })
        .await
        .expect("a server")
    }

    async fn client(&self, topics: &[&str]) -> (Client, Value) {
        let mut client = Client::connect(&self.server.ws("/v1/ws")).await;
        client.expect_op("welcome").await;
        client.command(json!({"op": "subscribe", "topics": topics})).await;
        let answer = client.expect_op("subscribed").await;
        (client, answer)
    }

    /// Waits until the venue was asked for the item, and sends a message of it.
    fn publish(&self, item: &str, n: u64) {
        let text = json!({"t": item, "n": n}).to_string();
        eventually(item, || (self.exchange.publish(item, &text, |_| false) > 0).then_some(()));
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        sum(&self.server.get("/metrics").body, name, labels)
    }

    fn until_metric(&self, name: &str, labels: &str, expected: f64) {
        eventually(&format!("{name} {labels} {expected}"), || (self.metric(name, labels) == expected).then_some(()));
    }
}

/// Tests of this file run side by side, and share it.
fn profile_file() -> PathBuf {
    static WRITTEN: OnceLock<PathBuf> = OnceLock::new();
    let write = || {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("topic_truth.toml");
        std::fs::write(&path, PROFILE).expect("a file for the test");
        path
    };
    WRITTEN.get_or_init(write).clone()
}

/// The next message, of those that are not about silence.
async fn frame(client: &mut Client) -> Value {
    serde_json::from_str(&client.frame().await).expect("JSON")
}

async fn next(client: &mut Client) -> Value {
    serde_json::from_str(&client.text().await).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn names_invented_by_clients_never_become_topics() {
    let settings = [
        ("UPSTREAM_DEMAND", "on"),
        ("UPSTREAM_LINGER", "100ms"),
        ("LIMITS_TOPICS_MAX", "2000"),
        ("UPSTREAM_SUBSCRIBE", "real.1,real.2"),
        ("LIMITS_MESSAGES_PER_SECOND_MAX", "100000"),
    ];
    let harness = Harness::open(&settings).await;
    tokio::task::block_in_place(|| {
        harness.publish("real.1", 1);
        // Clients that are there before would receive `live` now.
        harness.until_metric("fanline_upstream_state", "state=\"live\"", 1.0);
    });
    let (mut everything, _) = harness.client(&[">"]).await;
    assert_eq!(next(&mut everything).await["topic"], "real.1");
    let (mut attacker, _) = harness.client(&["real.1"]).await;
    assert_eq!(next(&mut attacker).await["topic"], "real.1");
    let before = harness.server.resident_bytes();

    // 12,000 names: half of them are refused by the venue, of the others nothing ever comes.
    for turn in 0..24 {
        let names: Vec<String> =
            (0..500).map(|n| format!("{}.{turn}-{n}", if n % 2 == 0 { "bad" } else { "mute" })).collect();
        attacker.command(json!({"op": "subscribe", "topics": names})).await;
        let mut answer = next(&mut attacker).await;
        while answer["op"] == "refused" {
            answer = next(&mut attacker).await;
        }
        assert_eq!(answer["pending"].as_array().map(Vec::len), Some(500), "{answer}");
        if turn % 4 == 3 {
            // Some are held until the venue has answered.
            let refused = loop {
                let notice = next(&mut attacker).await;
                assert_eq!(notice["op"], "refused", "{notice}");
                if notice["topic"].as_str().is_some_and(|topic| topic.starts_with(&format!("bad.{turn}-"))) {
                    break notice;
                }
            };
            assert_eq!(refused.get("offset"), None, "it has no place in the stream");
        }
        attacker.command(json!({"op": "unsubscribe", "topics": names})).await;
        while next(&mut attacker).await["op"] == "refused" {}
    }
    tokio::task::block_in_place(|| {
        harness.until_metric("fanline_wanted_topics", "", 1.0);
        harness.until_metric("fanline_upstream_items", "", 2.0);
        assert_eq!(harness.metric("fanline_topics", ""), 1.0);
        assert_eq!(harness.metric("fanline_topic_status_total", ""), 0.0);
        harness.publish("real.2", 1);
    });
    assert_eq!(next(&mut everything).await["topic"], "real.2", "no other client received anything");
    if let (Some(before), Some(after)) = (before, harness.server.resident_bytes()) {
        assert!(after < before + (16 << 20), "{before} bytes before, {after} after");
    }
    let lines = harness.server.log().lines().filter(|line| line.contains("refused: `bad")).count();
    assert!((1..=10).contains(&lines), "{lines} lines in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_for_a_topic_without_messages_are_notified() {
    let harness = Harness::open(&[("UPSTREAM_DEMAND", "on"), ("UPSTREAM_FIRST_MESSAGE_TIMEOUT", "300ms")]).await;
    let (mut bystander, _) = harness.client(&[">"]).await;
    let (mut waiting, answer) = harness.client(&["mute.1"]).await;
    assert_eq!(answer["pending"], json!(["mute.1"]));
    let told = next(&mut waiting).await;
    assert_eq!((&told["op"], &told["topics"]), (&json!("stale"), &json!(["mute.1"])), "{told}");
    assert_eq!((&told["reason"], told.get("offset")), (&json!("nothing_yet"), None));
    assert!(told["message"].as_str().is_some_and(|message| message.starts_with("no message yet")), "{told}");
    tokio::task::block_in_place(|| {
        harness.until_metric("fanline_upstream_items_silent", "", 1.0);
        assert_eq!(harness.metric("fanline_topics", ""), 0.0);
    });
    assert!(harness.server.log().contains("no message of `mute.1`"), "the operator is notified as well");
    // A client that comes later receives it with the answer; one that has not asked does not receive it.
    let (mut late, answer) = harness.client(&["mute.1", "mute.*"]).await;
    assert_eq!(answer["pending"], json!(["mute.1"]));
    assert_eq!(next(&mut late).await["reason"], "nothing_yet");
    bystander.expect_silence().await;

    tokio::task::block_in_place(|| harness.publish("mute.1", 1));
    for client in [&mut waiting, &mut late, &mut bystander] {
        assert_eq!(next(client).await["topic"], "mute.1");
        let mut said = vec![next(client).await["topics"].clone(), next(client).await["topics"].clone()];
        said.sort_by_key(Value::to_string);
        assert_eq!(said, [json!([">"]), json!(["mute.1"])], "the feed is live, and so is the topic");
    }
    tokio::task::block_in_place(|| harness.until_metric("fanline_upstream_items_silent", "", 0.0));
    let (mut newcomer, answer) = harness.client(&["mute.1"]).await;
    assert_eq!(answer["pending"], json!([]));
    assert_eq!(next(&mut newcomer).await["topic"], "mute.1");
    newcomer.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_returns_to_a_refused_topic_receives_refused_again() {
    let harness = Harness::open(&[("UPSTREAM_DEMAND", "on")]).await;
    let (mut client, _) = harness.client(&["bad.1"]).await;
    let refused = next(&mut client).await;
    assert_eq!((&refused["op"], &refused["topic"]), (&json!("refused"), &json!("bad.1")));
    drop(client);
    // It lingers, so that the venue is not asked again.
    tokio::task::block_in_place(|| harness.until_metric("fanline_wanted_topics", "", 0.0));
    let (mut client, _) = harness.client(&["bad.1"]).await;
    assert_eq!(next(&mut client).await["topic"], "bad.1");
    tokio::task::block_in_place(|| assert_eq!(harness.metric("fanline_topics", ""), 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_another_case_is_refused_with_the_right_one() {
    let harness = Harness::open(&[("UPSTREAM_DEMAND", "on"), ("UPSTREAM_SUBSCRIBE", "chat.Pinned")]).await;
    let (mut client, _) = harness.client(&["chat.xQc"]).await;
    let refused = next(&mut client).await;
    assert_eq!((&refused["op"], &refused["topic"]), (&json!("refused"), &json!("chat.xQc")));
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("`chat.xqc`")), "{refused}");
    client.command(json!({"op": "subscribe", "topics": ["chat.xqc"]})).await;
    client.expect_op("subscribed").await;
    tokio::task::block_in_place(|| harness.publish("chat.xqc", 1));
    assert_eq!(next(&mut client).await["topic"], "chat.xqc");
    let heard = harness.exchange.heard().concat();
    assert!(!heard.contains("xQc") && heard.contains("chat.pinned"), "the operator's items are put right: {heard}");
    assert!(harness.server.log().contains("subscribing to `chat.pinned` instead of `chat.Pinned`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_may_want_is_bounded_by_name_by_client_and_by_address() {
    let harness = Harness::open(&[
        ("UPSTREAM_DEMAND", "on"),
        ("UPSTREAM_DEMAND_TOPICS", "chat.*"),
        ("LIMITS_WANTED_PER_SESSION_MAX", "3"),
        ("LIMITS_WANTED_PER_ADDRESS_MAX", "5"),
    ])
    .await;
    let (mut client, answer) = harness.client(&["chat.a", "orders.x"]).await;
    assert_eq!(answer["pending"], json!(["chat.a"]));
    let refused = next(&mut client).await;
    assert_eq!(refused["topic"], "orders.x", "{refused}");
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("upstream.demand_topics")));
    let refuses = async |client: &mut Client, topics: &[&str], limit: &str| {
        client.command(json!({"op": "subscribe", "topics": topics})).await;
        let error = client.expect_op("error").await;
        assert_eq!(error["code"], "too_many_topics");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(limit)), "{error}");
    };
    refuses(&mut client, &["chat.b", "chat.c", "chat.d"], "limits.wanted_per_session_max").await;
    client.command(json!({"op": "subscribe", "topics": ["chat.b", "chat.c"]})).await;
    client.expect_op("subscribed").await;
    let (mut other, _) = harness.client(&["chat.a", "chat.b"]).await;
    refuses(&mut other, &["chat.c"], "limits.wanted_per_address_max").await;
    client.command(json!({"op": "unsubscribe", "topics": ["chat.c"]})).await;
    client.expect_op("unsubscribed").await;
    other.command(json!({"op": "subscribe", "topics": ["chat.c"]})).await;
    other.expect_op("subscribed").await;
    let heard = harness.exchange.heard().concat();
    assert!(!heard.contains("orders"), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_out_of_line_does_not_freeze_a_topic_whatever_the_legs() {
    for legs in ["1", "2"] {
        let harness = Harness::open(&[("UPSTREAM_SUBSCRIBE", "price.x"), ("UPSTREAM_LEGS", legs)]).await;
        tokio::task::block_in_place(|| {
            let expected: usize = legs.parse().expect("a number");
            eventually("all legs", || (harness.exchange.ready(&["price.x"]).len() == expected).then_some(()));
        });
        let (mut client, _) = harness.client(&["price.x"]).await;
        let says_anew = || harness.server.log().contains("only old numbers arrived, so counting restarted: `price.x`");
        let mut sent = 0;
        let mut publish = |n| {
            sent += 1;
            tokio::task::block_in_place(|| harness.publish("price.x", n));
        };
        (1001..1006).chain([1_000_000_000_000]).for_each(&mut publish);
        // With two legs it takes seconds to tell a number out of line from a copy that is late.
        let mut last = 1006;
        publish(last);
        tokio::task::block_in_place(|| {
            eventually("numbers are counted anew", || {
                last += 1;
                publish(last);
                says_anew().then_some(())
            });
        });
        last += 1;
        publish(last);
        let mut got = Vec::new();
        while got.last() != Some(&last) {
            let message = next(&mut client).await;
            got.extend(message["data"]["n"].as_u64());
        }
        tokio::task::block_in_place(|| {
            let current = harness.server.get("/v1/snapshot?topics=price.x").json();
            assert_eq!(current["frames"][0]["data"]["n"], last, "legs {legs}: {current}");
            let dropped = harness.metric("fanline_frames_refused_total", "reason=\"old\"");
            assert!(
                if legs == "1" { (1.0..=7.0).contains(&dropped) } else { dropped == 0.0 },
                "legs {legs}: {dropped}"
            );
            assert_eq!(got.len() + dropped as usize, sent, "legs {legs}: each came or was dropped: {got:?}");
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_deltas_that_was_silent_for_long_ends_with_a_gap_and_makes_room() {
    let settings = [
        ("UPSTREAM_SUBSCRIBE", "book.x,price.x"),
        ("TOPICS_EXPIRE_AFTER", "1s"),
        ("RING_FRAMES_MAX", "4"),
        ("LIMITS_TOPICS_MAX", "2"),
    ];
    let harness = Harness::open(&settings).await;
    let book = |what: &str, n: u64| {
        let text = json!({"t": "book.x", "book": what, "n": n}).to_string();
        tokio::task::block_in_place(|| {
            eventually("book.x", || (harness.exchange.publish("book.x", &text, |_| false) > 0).then_some(()));
        });
    };
    let (mut client, _) = harness.client(&["book.x"]).await;
    book("whole", 1);
    book("change", 2);
    for (kind, n) in [("snapshot", 1), ("delta", 2)] {
        let frame = frame(&mut client).await;
        assert_eq!((&frame["kind"], &frame["data"]["n"]), (&json!(kind), &json!(n)), "{frame}");
    }

    // Another topic pushes it out of the ring, then the gap, until there is room.
    tokio::task::block_in_place(|| {
        let mut n = 0;
        eventually("the topic is forgotten", || {
            n += 1;
            harness.publish("price.x", n);
            (harness.metric("fanline_topics_expired_total", "") == 1.0).then_some(())
        });
        assert_eq!(harness.metric("fanline_topics", ""), 1.0);
        assert_eq!(harness.server.get("/v1/snapshot?topics=book.x").json()["frames"], json!([]));
    });
    let gap = frame(&mut client).await;
    assert_eq!((&gap["op"], &gap["topic"], &gap["reason"]), (&json!("gap"), &json!("book.x"), &json!("forgotten")));

    // It comes back. Until there is a snapshot, clients that join have nothing to apply deltas to.
    book("change", 3);
    assert_eq!(frame(&mut client).await["kind"], "delta");
    let (mut joined, _) = harness.client(&["book.x"]).await;
    book("whole", 4);
    for client in [&mut client, &mut joined] {
        let frame = frame(client).await;
        assert_eq!((&frame["kind"], &frame["data"]["n"]), (&json!("snapshot"), &json!(4)), "{frame}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_without_subscriptions_reports_what_it_waits_for() {
    let (exchange, url) = tokio::task::block_in_place(|| {
        let exchange = FakeFeed::open();
        let url = exchange.url();
        (exchange, url)
    });
    let readiness = |settings: &[(&str, &str)], part: &str| {
        let settings: Vec<(&str, &str)> = settings.iter().copied().chain([("UPSTREAM_URL", &*url)]).collect();
        let server = Program::serve(&["--profile", "coinbase-exchange"], &settings);
        let ready = eventually(part, || Some(server.get("/readyz")).filter(|ready| ready.body.contains(part)));
        assert!(server.log().contains(part), "{}", server.log());
        (ready.status, ready.json(), server)
    };
    tokio::task::block_in_place(|| {
        let (status, ready, server) = readiness(&[], "nothing to subscribe to");
        assert_eq!((status, &ready["reason"]), (503, &json!("idle")));
        assert!(ready["message"].as_str().is_some_and(|message| message.contains("--subscribe ticker.BTC-USD")));
        drop(server);
        // Clients must be let in, or nothing will ever be asked for.
        let (status, ready, _server) = readiness(&[("UPSTREAM_DEMAND", "on")], "waiting for clients to subscribe");
        assert_eq!((status, &ready["ready"]), (200, &json!(true)));
        let (_, out, err) = run(&["probe", &url, "--profile", "coinbase-exchange", "--seconds", "1"], &[]);
        assert!((out + &err).contains("nothing to subscribe to"), "{err}");
    });
    assert!(exchange.state().connections.is_empty(), "nobody was dialed");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_subscribe_end_the_wait_of_a_feed_without_subscriptions() {
    let harness = Harness::open(&[("UPSTREAM_DEMAND", "on")]).await;
    let state = |state: &'static str| {
        tokio::task::block_in_place(|| {
            eventually(state, || Some(harness.server.get("/readyz")).filter(|ready| ready.json()["state"] == state))
        })
    };
    assert_eq!(state("idle").status, 200);
    let (mut client, _) = harness.client(&["chat.rust"]).await;
    assert_eq!(state("connecting").status, 503);
    tokio::task::block_in_place(|| harness.publish("chat.rust", 1));
    assert_eq!(next(&mut client).await["topic"], "chat.rust");
    assert_eq!(state("live").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_for_which_the_table_has_no_room_is_refused_and_not_called_silent() {
    let settings = [
        ("UPSTREAM_DEMAND", "on"),
        ("UPSTREAM_LINGER", "0s"),
        ("UPSTREAM_FIRST_MESSAGE_TIMEOUT", "300ms"),
        ("LIMITS_TOPICS_MAX", "2"),
    ];
    let harness = Harness::open(&settings).await;
    let (mut first, _) = harness.client(&["t.1", "t.2"]).await;
    for topic in ["t.1", "t.2"] {
        tokio::task::block_in_place(|| harness.publish(topic, 1));
        assert_eq!(frame(&mut first).await["topic"], topic);
    }
    first.command(json!({"op": "unsubscribe", "topics": ["t.1", "t.2"]})).await;
    first.expect_op("unsubscribed").await;
    let (mut second, answer) = harness.client(&["t.3"]).await;
    assert_eq!(answer["pending"], json!(["t.3"]));
    tokio::task::block_in_place(|| (1..=3).for_each(|number| harness.publish("t.3", number)));
    let refused = loop {
        let notice = next(&mut second).await;
        if notice["op"] == "refused" {
            break notice;
        }
        assert_ne!(notice["reason"], "topic_silent", "{notice}");
    };
    assert_eq!((&refused["topic"], refused.get("offset")), (&json!("t.3"), None));
    let message = refused["message"].as_str().expect("a text");
    assert!(message.contains("at most 2 topics") && message.contains("topics.expire_after"), "{message}");
    let (mut third, _) = harness.client(&["t.3"]).await;
    assert_eq!(next(&mut third).await["op"], "refused", "whoever asks later is told with the answer");
    tokio::task::block_in_place(|| harness.until_metric("fanline_upstream_items_silent", "", 0.0));
}
