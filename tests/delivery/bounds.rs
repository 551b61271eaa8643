//! Every bound of a session: what one client sends, keeps and does not read costs nobody else anything.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use kit::bystander::Bystander;
use kit::client::Client;
use kit::eventually;
use kit::http::{HANDSHAKE, refused_upgrade, sum};
use kit::program::Program;
use kit::raw_client::{DEFLATED, OFFER, RawClient, TEXT};
use kit::relay::Relay;
use serde_json::{Value, json};
use shared_deflate::deflate::Deflater;
use tokio_tungstenite::tungstenite::{Message, accept};

/// A server with one shard, so that all clients share everything.
async fn serve(settings: &'static [(&'static str, &'static str)]) -> Arc<Program> {
    let settings = [&[("SHARDS_COUNT", "1")], settings].concat();
    let server = tokio::task::spawn_blocking(move || Program::serve(&[], &settings)).await;
    Arc::new(server.expect("a server"))
}

async fn blocking<T: Send + 'static>(server: &Arc<Program>, act: impl FnOnce(&Program) -> T + Send + 'static) -> T {
    let server = server.clone();
    tokio::task::spawn_blocking(move || act(&server)).await.expect("as promised")
}

fn metric(server: &Program, name: &str, labels: &str) -> f64 {
    sum(&server.get("/metrics").body, name, labels)
}

fn until_metric(server: &Program, name: &str, labels: &str, holds: impl Fn(f64) -> bool) {
    eventually(&format!("{name}{{{labels}}}"), || holds(metric(server, name, labels)).then_some(()));
}

/// The next message that is an answer.
fn answer(client: &mut RawClient) -> Value {
    loop {
        let (_, payload) = client.next_frame().expect("an answer");
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        if !matches!(message["op"].as_str(), Some("welcome" | "stale" | "live")) {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_bytes_that_inflate_to_a_long_name_are_refused_briefly_and_delay_no_other_client() {
    const COMMANDS: usize = 20;
    let server = serve(&[]).await;
    let mut bystander = Bystander::watch(&server).await;
    blocking(&server, |server| {
        let mut deflated = Vec::new();
        let name = "subscribe".repeat(7200);
        Deflater::new(9, 15).deflate(json!({ "op": name }).to_string().as_bytes(), &mut deflated);
        assert!(deflated.len() < 250, "{}", deflated.len());
        let mut clients =
            [RawClient::connect(server.addr(), "/v1/ws", OFFER), RawClient::connect(server.addr(), "/v1/ws", OFFER)];
        for client in &mut clients {
            (0..COMMANDS).for_each(|_| assert!(client.send(DEFLATED, &deflated)));
        }
        for client in &mut clients {
            for _ in 0..COMMANDS {
                let refused = answer(client);
                assert_eq!(refused["code"], "unknown_op");
                let message = refused["message"].as_str().expect("a message");
                assert!(message.len() < 250 && !message.contains("did you mean"), "{message}");
            }
        }
        // 64 KiB each: more than limits.inbound_bytes_per_second_max lets in at once.
        assert!(metric(server, "fanline_throttled_total", "") >= 2.0);
        let refused = metric(server, "fanline_commands_refused_total", r#"code="unknown_op""#);
        assert_eq!(refused, 2.0 * COMMANDS as f64);
    })
    .await;
    bystander.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_messages_per_second_max_bounds_the_messages_read_and_reaches_its_bound() {
    const MAX: usize = 20;
    let server = serve(&[("LIMITS_MESSAGES_PER_SECOND_MAX", "20")]).await;
    blocking(&server, |server| {
        let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
        for n in 0..MAX {
            assert!(client.send(TEXT, json!({"op": "ping", "id": n}).to_string().as_bytes()));
            assert_eq!(answer(&mut client)["id"], n);
        }
        assert_eq!(metric(server, "fanline_throttled_total", ""), 0.0, "each was sent after the answer to the last");
        for n in 0..3 * MAX {
            assert!(client.send(TEXT, json!({"op": "ping", "id": n}).to_string().as_bytes()));
        }
        (0..3 * MAX).for_each(|n| assert_eq!(answer(&mut client)["id"], n, "none is lost"));
        assert!(metric(server, "fanline_throttled_total", "") >= 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_end_within_limits_message_timeout_ends_its_session() {
    let server = serve(&[("LIMITS_MESSAGE_TIMEOUT", "1s")]).await;
    let mut bystander = Bystander::watch(&server).await;
    blocking(&server, |server| {
        let beginnings: [&[u8]; 4] =
            [b"\x81", b"\x81\xFE\xFF", b"\x81\xFE\xFF\xFF\0\0\0\0{", b"\x01\x81\0\0\0\0{\x89\x80\0\0\0\0"];
        for bytes in beginnings {
            let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
            assert!(client.write(bytes));
            let (code, sentence) = client.expect_close();
            assert_eq!(code, 4411, "{sentence}");
            assert!(sentence.contains("limits.message_timeout"), "{sentence}");
        }
        let ended = beginnings.len() as f64;
        until_metric(server, "fanline_goodbyes_total", r#"reason="message_timeout""#, |count| count == ended);
        until_metric(server, "fanline_inbound_bytes", "", |bytes| bytes == 0.0);
    })
    .await;
    bystander.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_are_bounded_in_bytes_for_a_client_and_for_all_of_them() {
    let server = serve(&[("LIMITS_PATTERN_BYTES_MAX", "1KiB"), ("LIMITS_LANE_BYTES_TOTAL_MAX", "64KiB")]).await;
    let mut bystander = Bystander::watch(&server).await;
    blocking(&server, |server| {
        let subscribe = |client: &mut RawClient, count: usize, name: &str| {
            let topics: Vec<String> = (0..count).map(|n| format!("{name}{n}{}", "x".repeat(200))).collect();
            assert!(client.send(TEXT, json!({"op": "subscribe", "topics": topics}).to_string().as_bytes()));
            answer(client)
        };
        let mut clients: Vec<RawClient> = Vec::new();
        let full = loop {
            let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
            let refused = subscribe(&mut client, 6, "long");
            assert_eq!(refused["code"], "too_many_pattern_bytes", "{refused}");
            assert!(refused["message"].as_str().is_some_and(|text| text.contains("limits.pattern_bytes_max")));
            let answer = subscribe(&mut client, 4, &format!("client{}.", clients.len()));
            clients.push(client);
            if answer["op"] == "error" {
                break answer;
            }
            assert!(clients.len() < 64, "1.6 KiB and more each");
        };
        assert_eq!(full["code"], "lanes_full", "{full}");
        assert!(full["message"].as_str().is_some_and(|text| text.contains("limits.lane_bytes_total_max")), "{full}");
        assert!(clients.len() > 15, "found {}", clients.len());
        assert_eq!(metric(server, "fanline_commands_refused_total", r#"code="lanes_full""#), 1.0);
        let mut last = clients.pop().expect("the one that was refused");
        clients.truncate(1);
        until_metric(server, "fanline_lane_bytes", "", |bytes| bytes < 32.0 * 1024.0);
        assert_eq!(subscribe(&mut last, 4, "again")["op"], "subscribed", "there is room again");
    })
    .await;
    bystander.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_clients_are_closed_while_the_feed_is_stale_and_let_in_once_it_is_live() {
    for keep in [false, true] {
        let (venue, gate) = (Program::simulate(&[]), Relay::shut());
        gate.open(venue.addr());
        let backoff = [("UPSTREAM_BACKOFF_MIN", "20ms"), ("UPSTREAM_BACKOFF_MAX", "50ms")];
        let settings = [&backoff[..], &[("RAW_ON_STALE", if keep { "keep" } else { "close" })]].concat();
        let server = Program::serve(&[&gate.ws("/"), "--profile", "simulated"], &settings);
        let mut raw = Client::connect(&server.ws("/v1/ws?topics=%3E&format=raw")).await;
        raw.text().await;
        assert!(gate.cut() > 0);
        let path = "/v1/ws?topics=%3E&format=raw";
        if keep {
            eventually("/readyz tells that it is down", || (server.get("/readyz").status == 503).then_some(()));
            raw.expect_raw_life().await;
            Client::connect(&server.ws(path)).await;
            continue;
        }
        let close = loop {
            match raw.next().await {
                Message::Close(frame) => break frame.expect("a code"),
                _ => continue,
            }
        };
        assert_eq!(u16::from(close.code), 1013, "{}", close.reason);
        assert!(close.reason.contains("the feed is stale"), "{}", close.reason);
        let refused = refused_upgrade(server.addr(), path, HANDSHAKE);
        assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("feed_stale")));
        assert_eq!(refused.header("retry-after"), Some("1"));
        let mut told = Client::connect(&server.ws("/v1/ws")).await;
        told.expect_op("welcome").await;
        told.expect_op("stale").await;
        gate.open(venue.addr());
        told.expect_op("live").await;
        Client::connect(&server.ws(path)).await.text().await;
        assert_eq!(metric(&server, "fanline_refusals_total", r#"reason="feed_stale""#), 1.0);
        drop(raw);
        until_metric(&server, "fanline_goodbyes_total", r#"reason="feed_stale""#, |count| count == 1.0);
    }
}

/// A venue that says one thing of so many bytes, and then nothing.
fn one_large_message(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    // Ends with the test process.
    thread::spawn(move || {
        let (guest, _) = listener.accept().expect("a guest");
        let mut line = accept(guest).expect("a WebSocket");
        let text = json!({"s": "large", "text": "x".repeat(bytes)}).to_string();
        line.send(Message::text(text)).expect("the guest listens");
        while line.read().is_ok() {}
    });
    address
}

#[test]
fn clients_that_stall_in_one_large_message_share_it_until_the_process_has_ended() {
    const CLIENTS: usize = 60;
    const BYTES: usize = 8 << 20;
    let url = format!("ws://{}/", one_large_message(BYTES));
    let settings = [("SHARDS_COUNT", "1"), ("DRAIN_TIMEOUT", "2s"), ("UPSTREAM_IDLE_TIMEOUT", "1h")];
    let mut server = Program::serve(&[&url, "--topic", "/s"], &settings);
    eventually("the message has come", || (metric(&server, "fanline_frames_total", "") >= 1.0).then_some(()));
    let _stalled: Vec<RawClient> = (0..CLIENTS)
        .map(|_| {
            let mut client = RawClient::connect_narrow(server.addr());
            assert!(client.send(TEXT, br#"{"op":"subscribe","topics":["large"]}"#));
            client
        })
        .collect();
    until_metric(&server, "fanline_sessions_behind", "", |count| count == CLIENTS as f64);
    until_metric(&server, "fanline_unsent_bytes", "", |bytes| bytes > BYTES as f64);
    let held = metric(&server, "fanline_unsent_bytes", "");
    assert!(held < 1.1 * BYTES as f64, "all share one: {held}");
    let Some(before) = server.resident_bytes() else {
        return kit::skip_loudly("memory of a drain", "this system has no /proc");
    };
    server.terminate();
    let mut most = 0;
    eventually("the drain ends", || {
        most = most.max(server.resident_bytes().unwrap_or_default());
        (!server.is_running()).then_some(())
    });
    assert!(most < before + (64 << 20), "{before} bytes before the drain, {most} in it");
    assert_eq!(server.wait().code(), Some(0));
}
