//! An upstream that fails in every way it can: clients are notified, and data flows again. Each test drives the venue's
//! side of the socket itself, so that it sees its fault happen.

use std::ops::Deref;
use std::time::Duration;

use fanline::bus::clock::Clock;
use fanline::bus::feed_state::{FeedState, StaleReason};
use fanline::bus::{self, Limits};
use fanline::intake::upstream::{Settings, Upstream};
use fanline::profile::{Profile, check};
use fanline::words::ids::{Epoch, Offset};
use fanline::words::metrics::Meters;
use futures_util::{SinkExt, StreamExt};
use kit::intake::{self, Intake, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// A venue under the test's control, and an intake that is connected to it.
struct Harness {
    listener: TcpListener,
    intake: Intake,
}

impl Deref for Harness {
    type Target = Intake;

    fn deref(&self) -> &Intake {
        &self.intake
    }
}

impl Harness {
    async fn open(change: impl FnOnce(&mut Settings)) -> Harness {
        Harness::open_on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), change)
    }

    fn open_on(listener: TcpListener, change: impl FnOnce(&mut Settings)) -> Harness {
        let address = listener.local_addr().expect("bound");
        let mut settings = settings(&format!("ws://{address}/feed"));
        change(&mut settings);
        Harness { listener, intake: Intake::start(settings) }
    }

    async fn accept_tcp(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time");
        let (socket, _) = accepted.expect("a connection");
        socket.set_nodelay(true).expect("a TCP option");
        socket
    }

    async fn accept(&self) -> WebSocketStream<TcpStream> {
        accept_async(self.accept_tcp().await).await.expect("a handshake")
    }

    async fn until_head(&self, head: u64) {
        self.until("frames", |_| self.reader.head() >= Offset(head)).await;
        self.until_live().await;
        assert_eq!(self.reader.head(), Offset(head), "nothing else was published");
    }
}

fn settings(url: &str) -> Settings {
    let simulated = Profile::built_in("simulated").expect("built in");
    Settings { message_bytes_max: 1 << 20, ..intake::settings(url, simulated, &[]) }
}

fn quote(n: u32) -> String {
    format!(r#"{{"topic":"quote.T{n}","n":{n}}}"#)
}

async fn say(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    socket.send(Message::text(text)).await.expect("the upstream listens");
}

#[tokio::test]
async fn a_lost_connection_is_reported_and_replaced() {
    let harness = Harness::open(|_| {}).await;
    let mut first = harness.accept().await;
    say(&mut first, &quote(1)).await;
    harness.until_head(1).await;
    drop(first);
    harness.until_stale(StaleReason::UpstreamDown, "cut by the feed").await;
    let mut second = harness.accept().await;
    say(&mut second, &quote(2)).await;
    harness.until_head(2).await;
    assert_eq!(harness.published(), [("quote.T1".to_string(), quote(1)), ("quote.T2".to_string(), quote(2))]);
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="cut"} 1"#);
    harness.assert_metric("fanline_upstream_connects_total 2");
    assert!(harness.intake.end().await.is_ok());
}

#[tokio::test]
async fn a_close_frame_is_reported_with_its_code_and_reason() {
    use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    let harness = Harness::open(|_| {}).await;
    let mut first = harness.accept().await;
    let farewell = CloseFrame { code: CloseCode::Restart, reason: "maintenance".into() };
    first.close(Some(farewell)).await.expect("the upstream listens");
    harness.until_stale(StaleReason::UpstreamDown, "closed by the feed with code 1012 (`maintenance`)").await;
    let mut second = harness.accept().await;
    say(&mut second, &quote(1)).await;
    harness.until_head(1).await;
}

#[tokio::test]
async fn a_refused_connection_is_reported_and_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut harness = Harness::open_on(listener, |_| {});
    // Whatever was accepted before the door closed is cut; from then on connections are refused.
    harness.listener = TcpListener::bind("127.0.0.1:0").await.expect("another port");
    let told = format!("`127.0.0.1` could not be reached: {address}: Connection refused");
    harness.until_stale(StaleReason::UpstreamDown, &told).await;
    harness.assert_metric("fanline_upstream_up 0");
    harness.listener = TcpListener::bind(address).await.expect("the same port");
    let mut socket = harness.accept().await;
    say(&mut socket, &quote(1)).await;
    harness.until_head(1).await;
}

#[tokio::test]
async fn a_silent_connection_is_reported_then_replaced() {
    let harness = Harness::open(|settings| settings.idle_timeout = Some(Duration::from_millis(400))).await;
    let mut first = harness.accept().await;
    say(&mut first, &quote(1)).await;
    harness.until_stale(StaleReason::UpstreamSilent, "no message for 0.4 s").await;
    harness.until_stale(StaleReason::UpstreamDown, "no message from the feed").await;
    let mut second = harness.accept().await;
    say(&mut second, &quote(2)).await;
    harness.until_head(2).await;
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="silent"} 1"#);
}

#[tokio::test]
async fn a_connection_that_was_silent_for_a_moment_is_kept() {
    let harness = Harness::open(|settings| settings.idle_timeout = Some(Duration::from_millis(400))).await;
    let mut socket = harness.accept().await;
    say(&mut socket, &quote(1)).await;
    harness.until_stale(StaleReason::UpstreamSilent, "no message").await;
    say(&mut socket, &quote(2)).await;
    harness.until_head(2).await;
    harness.assert_metric("fanline_upstream_connects_total 1");
}

#[tokio::test]
async fn a_slow_connection_is_neither_replaced_nor_misread() {
    let harness = Harness::open(|settings| {
        settings.ping_interval = Duration::from_millis(10);
        settings.pong_timeout = Duration::from_millis(60);
    })
    .await;
    let mut socket = harness.accept().await.into_inner();
    let text = quote(1);
    let mut bytes = vec![0x81, u8::try_from(text.len()).expect("short")];
    bytes.extend_from_slice(text.as_bytes());
    let mut drip = tokio::time::interval(Duration::from_millis(10));
    let started = std::time::Instant::now();
    for byte in bytes {
        drip.tick().await;
        socket.write_all(&[byte]).await.expect("the upstream listens");
    }
    assert!(started.elapsed() > Duration::from_millis(200), "slower than pings are answered");
    harness.until("the frame", |_| harness.reader.head() == Offset(1)).await;
    assert_eq!(harness.published(), [("quote.T1".to_string(), text)]);
    harness.assert_metric("fanline_upstream_connects_total 1");
}

#[tokio::test]
async fn garbled_text_is_counted_and_never_forwarded() {
    let harness = Harness::open(|_| {}).await;
    let mut socket = harness.accept().await;
    say(&mut socket, &quote(1)).await;
    say(&mut socket, r#"{"topic":"quote.T2","n":"#).await;
    say(&mut socket, r#"{"other":1}"#).await;
    socket.send(Message::binary(vec![0xFF, 0xFE])).await.expect("the upstream listens");
    say(&mut socket, r#"{"topic":17}"#).await;
    say(&mut socket, &quote(3)).await;
    harness.until_head(2).await;
    assert_eq!(harness.published(), [("quote.T1".to_string(), quote(1)), ("quote.T3".to_string(), quote(3))]);
    harness.assert_metric(r#"fanline_upstream_messages_total{class="garbled"} 2"#);
    harness.assert_metric(r#"fanline_upstream_messages_total{class="unmatched"} 2"#);
    harness.assert_metric(r#"fanline_upstream_messages_total{class="data"} 2"#);
    harness.assert_metric("fanline_upstream_connects_total 1");
}

#[tokio::test]
async fn broken_frames_are_reported_and_the_connection_replaced() {
    for (bytes, part) in [
        (&[0xFF_u8; 16][..], "found broken ones"),
        (&[0x81, 0x02, 0xC3, 0x28][..], "UTF-8"),
        (&[0x83, 0x00][..], "found broken ones"),
    ] {
        let harness = Harness::open(|_| {}).await;
        let mut first = harness.accept().await;
        say(&mut first, &quote(1)).await;
        harness.until_head(1).await;
        let mut first = first.into_inner();
        first.write_all(bytes).await.expect("the upstream listens");
        harness.until_stale(StaleReason::UpstreamDown, part).await;
        let mut second = harness.accept().await;
        say(&mut second, &quote(2)).await;
        harness.until_head(2).await;
        harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="broken_frames"} 1"#);
    }
}

#[tokio::test]
async fn an_address_that_is_not_a_websocket_is_named_with_the_remedy() {
    for (answer, parts) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            ["found HTTP status 200", "look up the feed's WebSocket path"],
        ),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", ["found HTTP status 401", "wants credentials"]),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ["found HTTP status 404", "path and parameters"]),
        ("HTTP/1.1 429 Too Many\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", ["status 429", "too many attempts"]),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", ["expected a WebSocket at `ws://127.0.0.1:", "found something else"]),
    ] {
        let harness = Harness::open(|_| {}).await;
        let mut first = harness.accept_tcp().await;
        let read = first.read(&mut [0; 4096]).await.expect("a request");
        assert!(read > 0);
        first.write_all(answer.as_bytes()).await.expect("the upstream listens");
        for part in parts {
            harness.until_stale(StaleReason::UpstreamDown, part).await;
        }
        drop(first);
        let mut second = harness.accept().await;
        say(&mut second, &quote(1)).await;
        harness.until_head(1).await;
        harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="not_websocket"} 1"#);
    }
}

#[tokio::test]
async fn an_upstream_that_never_completes_the_handshake_is_given_up() {
    let harness = Harness::open(|settings| settings.connect_timeout = Duration::from_millis(100)).await;
    let held = harness.accept_tcp().await;
    harness.until_stale(StaleReason::UpstreamDown, "did not complete the WebSocket handshake within 0.1 s").await;
    drop(held);
}

#[tokio::test]
async fn an_upstream_without_answers_to_pings_is_replaced() {
    let harness = Harness::open(|settings| {
        settings.ping_interval = Duration::from_millis(20);
        settings.pong_timeout = Duration::from_millis(80);
    })
    .await;
    // Nobody reads from this socket, so nobody answers.
    let mut first = harness.accept().await;
    say(&mut first, &quote(1)).await;
    harness.until_stale(StaleReason::UpstreamDown, "no answer to a WebSocket ping").await;
    let mut second = harness.accept().await;
    say(&mut second, &quote(2)).await;
    harness.until("the frame", |_| harness.reader.head() == Offset(2)).await;
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="pong_timeout"} 1"#);
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_reported_with_both_sizes() {
    let harness = Harness::open(|settings| settings.message_bytes_max = 100).await;
    let mut first = harness.accept().await;
    say(&mut first, &"x".repeat(101)).await;
    harness
        .until_stale(
            StaleReason::UpstreamDown,
            "at most 100 bytes, found one of 101; raise `upstream.message_bytes_max`",
        )
        .await;
    let mut second = harness.accept().await;
    say(&mut second, &quote(1)).await;
    harness.until_head(1).await;
}

#[tokio::test]
async fn a_second_failure_is_a_second_attempt_and_stale_since_the_first() {
    let harness = Harness::open(|_| {}).await;
    let mut first = harness.accept().await;
    say(&mut first, &quote(1)).await;
    harness.until_head(1).await;
    drop(first);
    harness.until_stale(StaleReason::UpstreamDown, "(attempt 1)").await;
    let since = |state: &FeedState| match state {
        FeedState::Stale { since_ms, .. } => *since_ms,
        other => panic!("expected a stale feed, found {other:?}"),
    };
    let told = since(&harness.reader.feed());
    drop(harness.accept().await);
    harness.until_stale(StaleReason::UpstreamDown, "(attempt 2)").await;
    assert_eq!(since(&harness.reader.feed()), told);
}

const TALKATIVE: &str = r#"
profile = 1
name = "talkative"
[subscribe]
batch = 2
send = '{"sub":${items|json},"id":${req}}'
[keepalive]
ping = { every = "50ms", send = 'beat ${req}' }
[[on]]
name = "ping"
as = "ping"
when = ['/ping exists']
reply = '{"pong":${/ping}}'
[[on]]
name = "restart"
as = "reconnect"
when = ['/event == "restart"']
[[on]]
name = "bad_key"
as = "fatal"
when = ['text ^= "bad key"']
[[on]]
name = "trades"
as = "data"
when = ['/trades is array']
each = "/trades/*"
topic = "trade.${./s|lower}"
emit = "element"
"#;

fn talkative(settings: &mut Settings) {
    settings.profile = check(TALKATIVE, "talkative.toml").expect("right");
    settings.items = ["a", "b", "c"].map(String::from).to_vec();
}

async fn hear(socket: &mut WebSocketStream<TcpStream>) -> String {
    let heard = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
    heard.expect("a message").expect("no error").to_text().expect("text").to_string()
}

#[tokio::test]
async fn a_profile_subscribes_answers_and_splits_on_every_connection() {
    let harness = Harness::open(talkative).await;
    for (round, raw) in ["1618678073643", "12345678901234567890.50"].into_iter().enumerate() {
        let mut socket = harness.accept().await;
        assert_eq!(hear(&mut socket).await, r#"{"sub":["a","b"],"id":1}"#);
        assert_eq!(hear(&mut socket).await, r#"{"sub":["c"],"id":2}"#);
        assert_eq!(hear(&mut socket).await, "beat 3");
        say(&mut socket, &format!(r#"{{"ping":{raw}}}"#)).await;
        let mut answer = hear(&mut socket).await;
        while answer.starts_with("beat") {
            answer = hear(&mut socket).await;
        }
        assert_eq!(answer, format!(r#"{{"pong":{raw}}}"#), "the token is copied, not formatted anew");
        say(&mut socket, r#"{"trades":[{"s":"A","p":1.50},{"s":"B","p":0.10 }]}"#).await;
        harness.until_head(2 * (round as u64 + 1)).await;
        say(&mut socket, r#"{"event":"restart"}"#).await;
        harness.until_stale(StaleReason::UpstreamDown, "asked for a new connection (rule `restart`)").await;
    }
    let expected = [("trade.a", r#"{"s":"A","p":1.50}"#), ("trade.b", r#"{"s":"B","p":0.10 }"#)];
    let expected: Vec<_> = expected.into_iter().map(|(topic, text)| (topic.to_string(), text.to_string())).collect();
    assert_eq!(harness.published(), [expected.clone(), expected].concat());
}

#[tokio::test]
async fn a_permanent_refusal_ends_the_upstream_with_the_reason() {
    let harness = Harness::open(talkative).await;
    let mut socket = harness.accept().await;
    say(&mut socket, "bad key: 123").await;
    harness.until_stale(StaleReason::UpstreamDown, "refused permanently").await;
    let error = harness.intake.ended().await.expect_err("fatal").to_string();
    assert!(error.contains("rule `bad_key`") && error.contains("bad key: 123"), "{error}");
}

#[tokio::test]
async fn a_stop_closes_the_connection_to_the_upstream() {
    let harness = Harness::open(|_| {}).await;
    let mut socket = harness.accept().await;
    say(&mut socket, &quote(1)).await;
    harness.until_head(1).await;
    let (ended, heard) = tokio::join!(harness.intake.end(), socket.next());
    assert!(ended.is_ok());
    assert!(matches!(heard, Some(Ok(Message::Close(_)))), "{heard:?}");
}

#[tokio::test]
async fn waiting_for_the_guess_loses_nothing_when_the_connection_is_lost() {
    let harness = Harness::open(|settings| settings.profile = Profile::built_in("generic").expect("built in")).await;
    let mut first = harness.accept().await;
    let tick = |n: u32| format!(r#"{{"type":"tick","symbol":"S{}","n":{n}}}"#, n % 3);
    for n in 0..20 {
        say(&mut first, &tick(n)).await;
    }
    drop(first);
    let mut second = harness.accept().await;
    for n in 20..40 {
        say(&mut second, &tick(n)).await;
    }
    harness.until_head(40).await;
    let expected: Vec<_> = (0..40).map(|n| (format!("tick.S{}", n % 3), tick(n))).collect();
    assert_eq!(harness.published(), expected);
}

#[tokio::test]
async fn a_server_without_tls_is_distinguished_from_one_that_is_gone() {
    let harness = Harness::open(|settings| settings.urls[0] = settings.urls[0].replace("ws://", "wss://")).await;
    let mut socket = harness.accept_tcp().await;
    socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("the upstream listens");
    harness.until_stale(StaleReason::UpstreamDown, "no TLS connection with `127.0.0.1`").await;
}

#[tokio::test]
async fn keys_sent_without_encryption_are_reported() {
    let secret = "ws://me:geheim@feed.invalid/ws";
    let harness = Harness::open(|settings| settings.urls = vec![secret.to_string()]).await;
    harness
        .until_logged("keys and passwords go to ws://feed.invalid/ws without encryption; use TLS if the feed has it")
        .await;
    assert!(!harness.log().contains("geheim"), "{}", harness.log());
    let harness =
        Harness::open(|settings| settings.urls[0] = settings.urls[0].replace("ws://", "ws://me:geheim@")).await;
    harness.accept().await;
    assert!(!harness.log().contains("without encryption"), "nobody else hears it: {}", harness.log());
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_is_connected() {
    for (url, items, part) in [
        ("https://h/ws", &[][..], "write `wss://h/ws`"),
        ("ws://h/ws", &["a"][..], "profile `simulated` has no `[subscribe]`"),
    ] {
        let limits = Limits { ring_frames_max: 8, ring_bytes_max: 1000, topics_max: 1 };
        let (publisher, _) = bus::open(Epoch(1), limits, &Meters::unread());
        let mut settings = settings(url);
        settings.items = items.iter().map(|item| item.to_string()).collect();
        let made = Upstream::new(settings, publisher, Clock::start(), &Meters::unread());
        let error = made.err().expect(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}
