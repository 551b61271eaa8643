//! What clients send wrong gets its answer, which names place and remedy; nobody else notices.

use std::sync::Arc;

use kit::bystander::Bystander;
use kit::client::Client;
use kit::http::{HANDSHAKE, ask, refused_upgrade, sum};
use kit::program::Program;
use kit::raw_client::{BINARY, DEFLATED, Flood, OFFER, RawClient, TEXT, masked};
use serde_json::{Value, json};
use shared_deflate::deflate::Deflater;
use tokio_tungstenite::tungstenite::Message;

/// A server with one shard, so that all its clients share everything, and a client that must not notice the others.
struct Harness {
    // Before the server, so that it leaves first.
    bystander: Bystander,
    server: Arc<Program>,
}

impl Harness {
    async fn open() -> Harness {
        let settings = [
            ("SHARDS_COUNT", "1"),
            ("LIMITS_PATTERNS_MAX", "300"),
            // Only what a client reads shall hold back what it asks.
            ("LIMITS_MESSAGES_PER_SECOND_MAX", "1000000"),
            ("SLOW_REPLAY_MAX", "1h"),
        ];
        let server = Arc::new(Program::serve(&[], &settings));
        let bystander = Bystander::watch(&server).await;
        Harness { bystander, server }
    }

    /// Runs what blocks beside the bystander.
    async fn abuse(&self, abuse: impl FnOnce(&Program) + Send + 'static) {
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || abuse(&server)).await.expect("as promised");
    }

    async fn others_are_unaffected(mut self) {
        self.bystander.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_is_refused_with_place_and_remedy_and_the_session_goes_on() {
    let harness = Harness::open().await;
    let mut client = Client::connect(&harness.server.ws("/v1/ws")).await;
    let epoch = client.expect_op("welcome").await["epoch"].as_str().expect("an epoch").to_string();
    let too_many: Vec<String> = (0..301).map(|n| format!("t{n}")).collect();
    let future = format!("{epoch}:999999999");
    for (command, code, parts) in [
        (json!({"op": "subscrbe", "id": 1}), "unknown_op", ["`subscrbe`", "did you mean `subscribe`?"]),
        (json!(["subscribe"]), "bad_json", ["expected a JSON object such as", "\"op\":\"subscribe\""]),
        (json!({"topics": [">"], "id": 2}), "bad_request", ["`op`", "found nothing"]),
        (
            json!({"op": "subscribe", "id": 3, "topic": "a", "topics": ["a"]}),
            "bad_request",
            ["`topic`", "did you mean `topics`?"],
        ),
        (json!({"op": "subscribe", "id": 4, "topics": ["a..b"]}), "bad_pattern", ["`a..b`", "single dots"]),
        (json!({"op": "subscribe", "id": 5, "topics": ["a.>.b"]}), "bad_pattern", ["`a.>.b`", "write `prefix.>`"]),
        (
            json!({"op": "subscribe", "id": 6, "topics": too_many}),
            "too_many_patterns",
            ["limits.patterns_max", "at most 300"],
        ),
        (
            json!({"op": "subscribe", "id": 7, "topics": ["a"], "policy": "lossles"}),
            "unknown_policy",
            ["`lossles`", "`lossless`"],
        ),
        (
            json!({"op": "subscribe", "id": 8, "topics": ["a"], "every_ms": 5}),
            "bad_pace",
            ["5 ms", "10 ms to 60000 ms"],
        ),
        (
            json!({"op": "subscribe", "id": 9, "topics": ["a"], "since": "yesterday"}),
            "bad_cursor",
            ["`yesterday`", "EPOCH:OFFSET"],
        ),
        (
            json!({"op": "subscribe", "id": 10, "topics": ["a"], "since": future}),
            "bad_cursor",
            [&future, "still to come"],
        ),
        (json!({"op": "unsubscribe", "id": 11, "topics": ["a"]}), "not_subscribed", ["`a`", "not in force"]),
        (json!({"op": "ping", "id": [12]}), "bad_request", ["`id`", "a number or a string"]),
    ] {
        client.command(command.clone()).await;
        expect_refusal(&mut client, &command["id"], code, &parts).await;
    }
    client.send(Message::text("{\"op\":\"ping\"")).await;
    expect_refusal(&mut client, &Value::Null, "bad_json", &["column 12", "EOF"]).await;
    client.send(Message::binary(&b"{\"op\":\"ping\"}"[..])).await;
    expect_refusal(&mut client, &Value::Null, "not_text", &["a text message", "a binary one"]).await;

    client.command(json!({"op": "subscribe", "id": "at last", "topics": ["quote.*"]})).await;
    assert_eq!(client.expect_op("subscribed").await["id"], "at last", "none of it has ended the session");
    client.frame().await;
    let metrics = harness.server.get("/metrics").body;
    assert_eq!(sum(&metrics, "fanline_commands_total", r#"result="refused""#), 15.0);
    assert_eq!(sum(&metrics, "fanline_goodbyes_total", ""), 0.0);
    harness.others_are_unaffected().await;
}

async fn expect_refusal(client: &mut Client, id: &Value, code: &str, parts: &[&str]) {
    let error = client.expect_op("error").await;
    // An id that is neither a number nor a string is no id.
    let expected = if id.is_array() { &Value::Null } else { id };
    assert_eq!((&error["code"], &error["id"]), (&json!(code), expected), "{error}");
    let message = error["message"].as_str().expect("a message");
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_epoch_receives_skipped_and_the_current_values() {
    let harness = Harness::open().await;
    for by_query in [true, false] {
        let since = "00000000deadbeef:7";
        let query = format!("?topics=quote.AAPL&since={since}");
        let mut client =
            Client::connect(&harness.server.ws(&format!("/v1/ws{}", if by_query { &query } else { "" }))).await;
        client.expect_op("welcome").await;
        if !by_query {
            client.command(json!({"op": "subscribe", "topics": ["quote.AAPL"], "since": since})).await;
        }
        let offset = client.expect_op("subscribed").await["offset"].clone();
        let skipped = client.expect_op("skipped").await;
        assert_eq!((&skipped["reason"], &skipped["from"], &skipped["to"]), (&json!("epoch"), &json!(0), &offset));
        let frame: Value = serde_json::from_str(&client.frame().await).expect("a frame");
        assert_eq!(frame["topic"], "quote.AAPL");
    }
    harness.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_query_is_refused_before_the_upgrade() {
    let harness = Harness::open().await;
    harness
        .abuse(|server| {
            let epoch = server.get("/v1/topics").json()["epoch"].as_str().expect("an epoch").to_string();
            let too_many = vec!["t"; 301].join(",");
            for (query, code, parts) in [
                ("topics=a..b", "bad_pattern", ["`topics`", "`a..b`"]),
                ("topics=a.%3E.b", "bad_pattern", ["`topics`", "write `prefix.>`"]),
                ("topics=", "bad_pattern", ["`topics`", "empty"]),
                (&format!("topics={too_many}"), "too_many_patterns", ["limits.patterns_max", "found 301"]),
                ("topics=a&format=xml", "unknown_format", ["`envelope` or `raw`", "`xml`"]),
                ("topics=a&policy=best", "unknown_policy", ["`lossless`", "`best`"]),
                ("topics=a&every=fast", "bad_pace", ["`every`", "`250ms`"]),
                ("topics=a&every=1ms", "bad_pace", ["10 ms", "1 ms"]),
                ("topics=a&since=12", "bad_cursor", ["`12`", "EPOCH:OFFSET"]),
                (&format!("topics=a&since={epoch}:999999999"), "bad_cursor", ["999999999", "still to come"]),
                ("since=0000000000000001:1", "bad_request", ["`topics`", "`since`"]),
                ("topic=a", "bad_request", ["`topic`", "did you mean `topics`?"]),
                ("topics=a&topics=b", "bad_request", ["`topics` once", "commas"]),
            ] {
                let answer = refused_upgrade(server.addr(), &format!("/v1/ws?{query}"), HANDSHAKE);
                assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(code)), "{query}: {}", answer.body);
                let body = answer.json();
                let message = body["message"].as_str().expect("a message");
                for part in parts {
                    assert!(message.contains(part), "{query}: expected `{part}` in {message}");
                }
            }
        })
        .await;
    harness.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_a_handshake_is_refused_with_what_is_missing() {
    let harness = Harness::open().await;
    harness
        .abuse(|server| {
            let plain = server.get("/v1/ws");
            assert_eq!((plain.status, &plain.json()["code"]), (426, &json!("not_websocket")), "{}", plain.body);
            assert_eq!(plain.header("upgrade"), Some("websocket"));
            assert!(plain.body.contains("connect with a WebSocket client"), "{}", plain.body);

            let old = refused_upgrade(server.addr(), "/v1/ws", &HANDSHAKE.replace("Version: 13", "Version: 8"));
            assert_eq!((old.status, &old.json()["code"]), (426, &json!("bad_handshake")), "{}", old.body);
            assert_eq!(old.header("sec-websocket-version"), Some("13"), "RFC 6455, 4.4");
            assert!(old.body.contains("expected `Sec-WebSocket-Version: 13`, found `8`"), "{}", old.body);

            let short_key =
                refused_upgrade(server.addr(), "/v1/ws", &HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "aGk="));
            assert_eq!(
                (short_key.status, &short_key.json()["code"]),
                (400, &json!("bad_handshake")),
                "{}",
                short_key.body
            );
            assert!(short_key.body.contains("16 bytes in base64"), "{}", short_key.body);

            let huge = format!("{HANDSHAKE}Cookie: {}\r\n", "x".repeat(200 * 1024));
            assert_eq!(refused_upgrade(server.addr(), "/v1/ws", &huge).status, 431, "RFC 6585, 5");
            assert_eq!(ask(server.addr(), "HELO fanline\r\n\r\n").status, 400);
        })
        .await;
    harness.others_are_unaffected().await;
}

/// Bytes that break a rule, and how their session ends.
struct Breach {
    what: &'static str,
    deflate: bool,
    bytes: Vec<u8>,
    code: u16,
    part: &'static str,
}

impl Breach {
    fn new(what: &'static str, bytes: Vec<u8>, code: u16, part: &'static str) -> Breach {
        Breach { what, deflate: false, bytes, code, part }
    }

    fn deflated(what: &'static str, bytes: Vec<u8>, code: u16, part: &'static str) -> Breach {
        Breach { deflate: true, ..Breach::new(what, bytes, code, part) }
    }
}

fn breaches() -> Vec<Breach> {
    const PONG_IN_PARTS: u8 = 0x0A;
    const CONTINUATION: u8 = 0x80;
    const RSV2: u8 = 0x20;
    let oversized = vec![b' '; 64 * 1024 + 1];
    let in_parts = [masked(TEXT & 0x7F, &oversized[..40_000]), masked(CONTINUATION, &oversized[..40_000])].concat();
    let mut bomb = Vec::new();
    Deflater::new(9, 15).deflate(&vec![b' '; 16 << 20], &mut bomb);
    assert!(bomb.len() < 64 * 1024, "the bomb is small enough to be let in");
    let too_big = "at most 65536 bytes (limits.message_bytes_max)";
    vec![
        Breach::new("unmasked", b"\x81\x02hi".to_vec(), 1002, "expected a masked frame"),
        Breach::new("reserved bit", masked(TEXT | RSV2, b"hi"), 1002, "expected reserved bits 0"),
        Breach::new("RSV1 without deflate", masked(DEFLATED, b"hi"), 1002, "expected reserved bits 0"),
        Breach::new("reserved opcode", masked(0x83, b"hi"), 1002, "found 0x3"),
        Breach::new("control frame in parts", masked(PONG_IN_PARTS, b""), 1002, "a control frame in one piece"),
        Breach::new("stray continuation", masked(CONTINUATION, b"hi"), 1002, "only inside a fragmented message"),
        Breach::new("close code 1005", masked(0x88, &[0x03, 0xED]), 1002, "a valid status code"),
        Breach::new("no UTF-8", masked(TEXT, &[b'{', 0xC3, 0x28]), 1007, "expected UTF-8"),
        Breach::new("oversized text", masked(TEXT, &oversized), 1009, too_big),
        Breach::new("oversized binary", masked(BINARY, &oversized), 1009, too_big),
        Breach::new("oversized in parts", in_parts, 1009, too_big),
        Breach::new("2^62 bytes announced", b"\x81\xFF\x40\0\0\0\0\0\0\0mask".to_vec(), 1009, too_big),
        Breach::deflated("deflate bomb", masked(DEFLATED, &bomb), 1009, too_big),
        Breach::deflated("broken deflate", masked(DEFLATED, &[0xFF; 32]), 1007, "expected DEFLATE data"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bytes_end_their_session_with_code_and_sentence_and_no_other() {
    let harness = Harness::open().await;
    harness
        .abuse(|server| {
            let breaches = breaches();
            for Breach { what, deflate, bytes, code, part } in &breaches {
                let mut client = if *deflate {
                    RawClient::connect(server.addr(), "/v1/ws", OFFER)
                } else {
                    RawClient::connect(server.addr(), "/v1/ws", "")
                };
                // The answer to a right command comes first.
                assert!(client.send(TEXT, br#"{"op":"ping","id":1}"#));
                // The server may hang up before it has read all of it.
                client.write(bytes);
                let (found, sentence) = client.expect_close();
                assert_eq!(found, *code, "{what}: {sentence}");
                assert!(sentence.contains(part), "{what}: expected `{part}` in `{sentence}`");
            }
            let ended = breaches.len() as f64;
            kit::eventually("each session is counted with its reason", || {
                let metrics = server.get("/metrics").body;
                let count = |reason| sum(&metrics, "fanline_goodbyes_total", reason);
                let told = count("protocol_error") + count("invalid_payload") + count("message_too_big");
                (told == ended && count("") == ended).then_some(())
            });
        })
        .await;
    harness.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_without_reading_is_waited_for_and_costs_no_memory() {
    const COMMANDS: u64 = 10_000;
    /// What the answers would take, were they queued, is three times this; the rest is noise of the allocator.
    const GROWTH_BYTES_MAX: u64 = 16 << 20;
    let mut harness = Harness::open().await;
    harness.bystander.goes_on().await;
    harness
        .abuse(|server| {
            let before = server.resident_bytes();
            let mut flood = Flood::start(server, COMMANDS);
            assert!(flood.answer_bytes as u64 * COMMANDS > 3 * GROWTH_BYTES_MAX);
            let answered = sum(&server.get("/metrics").body, "fanline_commands_total", "");
            assert!(answered < COMMANDS as f64 / 2.0, "the server waits after {answered} answers");
            match (before, server.resident_bytes()) {
                (Some(before), Some(now)) => {
                    assert!(now < before + GROWTH_BYTES_MAX, "{before} bytes before the flood, {now} in it");
                }
                _ => kit::skip_loudly("memory of a flooded server", "this system has no /proc"),
            }
            // Once it reads, it gets every answer, in order.
            let mut expected = 0;
            while expected <= flood.commands {
                let (_, payload) = flood.client.next_frame().expect("the session has survived");
                let answer: Value = serde_json::from_slice(&payload).expect("JSON");
                if answer["op"] == "subscribed" {
                    assert_eq!(answer["id"], expected, "one answer for each command, in order");
                    expected += 1;
                }
            }
        })
        .await;
    harness.others_are_unaffected().await;
}
