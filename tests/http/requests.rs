//! The edge answers each request as docs/PROTOCOL.md says, over a real socket.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use fanline::bus::feed_state::{FeedState, StaleReason};
use fanline::bus::retention::Retention;
use fanline::bus::topic_status::{GapReason, TopicStatus};
use fanline::delivery::transport::client_socket::ClientSocket;
use fanline::edge::http::terms::EdgeTerms;
use fanline::edge::phase::Phase;
use fanline::edge::settings::Settings;
use fanline::edge::{Edge, EdgeError};
use fanline::protocol::command::Policy;
use fanline::protocol::encoding::{Format, Payload, PayloadKind};
use fanline::words::stamp::Stamp;
use kit::edge::{EdgeHarness, HANDSHAKE, bounded, parts, settings};
use kit::http_client::HttpClient;
use serde_json::{Value, json};
use tokio::sync::watch;

#[tokio::test]
async fn an_upgraded_socket_is_handed_over_with_its_unread_bytes_and_options() {
    let mut harness = EdgeHarness::open(settings());
    let mut client = HttpClient::connect(harness.address).await;
    let path = "/v1/ws?topics=a.*,b.%3E&format=raw&policy=lossless&since=00000000fee1900d:0&every=250ms";
    let headers = format!(
        "{HANDSHAKE}Sec-WebSocket-Protocol: other, fanline.v1\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    );
    let answer = client.request_with_more("GET", path, &headers, b"\x81\x80more").await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455, 1.3");
    assert_eq!(answer.header("sec-websocket-protocol"), Some("fanline.v1"));
    assert_eq!(answer.header("sec-websocket-extensions"), Some("permessage-deflate; client_no_context_takeover"));

    let newcomer = harness.newcomers.recv().await.expect("handed over");
    assert_eq!(newcomer.options.patterns.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["a.*", "b.>"]);
    assert_eq!((newcomer.options.format, newcomer.options.policy), (Format::Raw, Policy::Lossless));
    assert!(newcomer.options.deflate.is_some());
    assert_eq!(newcomer.options.every, Some(Duration::from_millis(250)));
    assert_eq!(newcomer.options.since.map(|c| c.to_string()).as_deref(), Some("00000000fee1900d:0"));
    let ClientSocket::Tcp(mut socket) = newcomer.socket else { panic!("expected a TCP socket") };
    assert!(socket.nodelay().expect("an open socket"));
    let blocked = socket.read(&mut [0; 64]).map_err(|e| e.kind());
    let unread = match blocked {
        // What had not arrived with the request is still in the socket.
        Ok(_) => panic!("all bytes were sent in one packet with the request"),
        Err(kind) => {
            assert_eq!(kind, std::io::ErrorKind::WouldBlock, "non-blocking");
            &newcomer.unread
        }
    };
    assert_eq!(&unread[..], b"\x81\x80more");
    socket.write_all(b"\x81\x02hi").expect("room for four bytes");
    assert_eq!(client.read_exactly(4).await, b"\x81\x02hi");
}

#[tokio::test]
async fn a_plain_handshake_gets_the_defaults() {
    let mut harness = EdgeHarness::open(Settings { compression: false, ..settings() });
    let answer = harness.upgrade("", "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-extensions"), None, "compression is off");
    assert_eq!(answer.header("sec-websocket-protocol"), None, "none was offered");
    let newcomer = harness.newcomers.recv().await.expect("handed over");
    assert_eq!((newcomer.options.format, newcomer.options.policy), (Format::Envelope, Policy::Conflate));
    assert!(
        newcomer.options.patterns.is_empty() && newcomer.options.since.is_none() && newcomer.options.deflate.is_none()
    );
    assert!(newcomer.unread.is_empty());
}

#[tokio::test]
async fn a_wrong_handshake_is_refused_with_the_reason_and_the_remedy() {
    let harness = EdgeHarness::open(settings());
    for (from, to, status, code, part) in [
        (HANDSHAKE, "", 426, "not_websocket", "/v1/snapshot"),
        ("Upgrade: WebSocket", "Upgrade: h2c", 426, "not_websocket", "WebSocket client"),
        ("keep-alive, Upgrade", "keep-alive", 400, "bad_handshake", "proxy"),
        ("Version: 13", "Version: 8", 426, "bad_handshake", "`8`"),
        ("Version: 13", "Version-Not: 13", 426, "bad_handshake", "found none"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400, "bad_handshake", "16 bytes"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64 at all", 400, "bad_handshake", "`not base64 at all`"),
        ("Key: ", "Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: ", 400, "bad_handshake", "several"),
        ("Key: ", "Not-Key: ", 400, "bad_handshake", "Sec-WebSocket-Key"),
        ("Upgrade: WebSocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: a;", 400, "bad_handshake", "byte 2"),
    ] {
        let answer = harness.get("/v1/ws", &HANDSHAKE.replace(from, to)).await;
        answer.check_refusal(status, code, part);
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"), "RFC 9110, 15.5.22");
        }
        let version = answer.header("sec-websocket-version");
        assert_eq!(version, (status == 426 && code == "bad_handshake").then_some("13"), "RFC 6455, 4.4");
    }
    let metrics = harness.get("/metrics", "").await.text();
    assert!(metrics.contains("fanline_refusals_total{reason=\"not_websocket\"} 2\n"), "{metrics}");
    assert!(metrics.contains("fanline_refusals_total{reason=\"bad_handshake\"} 8\n"), "{metrics}");
}

#[tokio::test]
async fn a_wrong_query_is_refused_before_the_upgrade_and_named() {
    let harness = EdgeHarness::open(settings());
    for (query, code, part) in [
        ("?topic=a", "bad_request", "did you mean `topics`?"),
        ("?Formt=raw", "bad_request", "did you mean `format`?"),
        ("?speed=1", "bad_request", "found the parameter `speed`"),
        ("?topics=a&every=soon", "bad_pace", "`soon`"),
        ("?topics=a&topics=b", "bad_request", "`topics` once"),
        ("?topics=", "bad_pattern", "empty text"),
        ("?topics=a,,b", "bad_pattern", "empty text"),
        ("?topics=a..b", "bad_pattern", "`a..b`"),
        ("?topics=a,b,c,d,e,f,g,h,i,j,k", "too_many_patterns", "at most 10"),
        ("?format=xml", "unknown_format", "`xml`"),
        ("?policy=best", "unknown_policy", "`best`"),
        ("?topics=a&since=12", "bad_cursor", "`12`"),
        ("?topics=a&since=00000000fee1900d:1", "bad_cursor", "still to come"),
        ("?since=00000000fee1900d:0", "bad_request", "`topics` beside `since`"),
    ] {
        harness.upgrade(query, "").await.check_refusal(400, code, part);
    }
    let other_epoch = harness.upgrade("?topics=a&since=0000000000000001:77", "").await;
    assert_eq!(other_epoch.status, 101, "the delivery tells what was skipped");
}

#[tokio::test]
async fn a_session_holds_its_slot_until_its_permit_is_dropped() {
    let mut harness = EdgeHarness::open(Settings { sessions_max: 2, sessions_per_address_max: Some(1), ..settings() });
    assert_eq!(harness.upgrade("", "").await.status, 101);
    let refused = harness.upgrade("", "").await;
    refused.check_refusal(503, "too_many_sessions", "limits.sessions_per_address_max");
    assert!(refused.header("retry-after").is_some());
    drop(harness.newcomers.recv().await.expect("handed over"));
    assert_eq!(harness.upgrade("", "").await.status, 101, "the first has left");

    let harness = EdgeHarness::open(Settings { sessions_max: 1, ..settings() });
    assert_eq!(harness.upgrade("", "").await.status, 101);
    harness.upgrade("", "").await.check_refusal(503, "too_many_sessions", "limits.sessions_max");
}

#[tokio::test]
async fn readiness_follows_the_feed_and_goes_first_when_draining() {
    let mut harness = EdgeHarness::open(settings());
    let stale = |reason| FeedState::Stale { reason, since_ms: 1, message: "trying again".into() };
    for (state, status, expected) in [
        (FeedState::Connecting, 503, json!(["connecting", "connecting"])),
        (FeedState::Live, 200, json!(["live", null])),
        (stale(StaleReason::UpstreamDown), 503, json!(["down", "upstream_down"])),
        (stale(StaleReason::UpstreamSilent), 503, json!(["silent", "upstream_silent"])),
        (FeedState::Live, 200, json!(["live", null])),
    ] {
        harness.publisher.announce(state);
        let answer = harness.get("/readyz", "").await;
        assert_eq!(answer.status, status);
        let body = answer.json();
        assert_eq!(json!([body["state"], body["reason"]]), expected);
        assert_eq!(body["ready"], json!(status == 200));
        assert!(body["message"].is_string());
    }
    harness.phase.send_replace(Phase::Draining);
    let answer = harness.get("/readyz", "").await;
    assert_eq!((answer.status, answer.json()["state"].clone()), (503, json!("draining")));
    harness.upgrade("", "").await.check_refusal(503, "draining", "another");
    assert_eq!(harness.get("/healthz", "").await.status, 200, "the process still works");

    let mut idle = HttpClient::connect(harness.address).await;
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    harness.phase.send_replace(Phase::Stopped);
    harness.served.await.expect("no panic").expect("no error");
    assert!(idle.is_at_end().await, "idle connections are closed");
    assert!(tokio::net::TcpStream::connect(harness.address).await.is_err(), "nothing is accepted");
}

#[tokio::test]
async fn while_another_process_may_go_on_connections_wait_and_those_that_are_there_end_with_an_answer() {
    let harness = EdgeHarness::open(settings());
    let mut there = HttpClient::connect(harness.address).await;
    assert_eq!(there.request("GET", "/healthz", "").await.header("connection"), None);
    let mut upgraded = HttpClient::connect(harness.address).await;
    assert_eq!(upgraded.request("GET", "/healthz", "").await.status, 200);
    harness.phase.send_replace(Phase::Waiting);
    let answer = there.request("GET", "/healthz", "").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(there.is_at_end().await);
    assert_eq!(upgraded.request("GET", "/v1/ws", HANDSHAKE).await.status, 101, "nobody is refused");

    let mut waiting = HttpClient::connect(harness.address).await;
    waiting.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    harness.phase.send_replace(Phase::Serving);
    let answer = waiting.answer("GET").await;
    assert_eq!((answer.status, answer.header("connection")), (200, None), "it was taken only now");
}

#[tokio::test]
async fn a_snapshot_holds_the_latest_of_each_topic_byte_for_byte() {
    let mut harness = EdgeHarness::open(settings());
    harness.publish("b.x", "{\"p\": 1.50}", PayloadKind::Json);
    harness.publish("a.x", "say \"hi\"", PayloadKind::Text);
    harness.publish("c", "[ ]", PayloadKind::Json);
    harness.publish("b.x", "{\"p\": 2.50}", PayloadKind::Json);
    harness.publisher.announce(FeedState::Live);
    let answer = harness.get("/v1/snapshot?topics=*.x", "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1, stale-while-revalidate=5"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"epoch":"00000000fee1900d","offset":4,"feed":{"state":"live"},"frames":["#,
            r#"{"topic":"a.x","offset":2,"ts":1700000000000,"data":"say \"hi\""},"#,
            r#"{"topic":"b.x","offset":4,"ts":1700000000000,"data":{"p": 2.50}}],"notes":[]}"#,
        )
    );
    let all = harness.get("/v1/snapshot", "").await.json();
    assert_eq!(all["frames"].as_array().map(Vec::len), Some(3));
    let one = harness.get("/v1/snapshot?topics=c,c,none", "").await.json();
    assert_eq!(one["frames"], json!([{"topic": "c", "offset": 3, "ts": 1_700_000_000_000_u64, "data": []}]));
    harness.get("/v1/snapshot?topcs=c", "").await.check_refusal(400, "bad_request", "did you mean `topics`?");

    let stale = FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: 5, message: "trying".into() };
    harness.publisher.announce(stale);
    let feed = harness.get("/v1/snapshot?topics=none", "").await.json()["feed"].clone();
    assert_eq!(feed, json!({"state": "down", "reason": "upstream_down", "since_ms": 5, "message": "trying"}));
}

#[tokio::test]
async fn a_snapshot_holds_whole_values_later_deltas_and_topic_statuses() {
    let mut harness = EdgeHarness::open(settings());
    let payload = |text: &'static str| Payload { bytes: Bytes::from_static(text.as_bytes()), kind: PayloadKind::Json };
    let mut publish = |topic: &str, data, keeping| {
        harness.publisher.publish(topic, payload(data), keeping, Stamp::default()).expect("published");
    };
    publish("book", "1", Retention::Snapshot);
    publish("book", "2", Retention::Delta { whole: None });
    publish("chat", "3", Retention::Value { keep: 5 });
    publish("chat", "4", Retention::Value { keep: 5 });
    publish("book", "5", Retention::Delta { whole: Some(payload("[1,2,5]")) });
    publish("book", "6", Retention::Delta { whole: None });
    publish("moment", "7", Retention::Transient);
    publish("late", "8", Retention::Delta { whole: Some(payload("[8]")) });
    let stale = TopicStatus::Stale { since_ms: 3, message: "quiet".to_string() };
    let refused = TopicStatus::Refused { message: "unknown".to_string() };
    for (topic, note) in [
        ("book", TopicStatus::Gap { reason: GapReason::Sequence, missed: Some(2) }),
        ("chat", TopicStatus::Gap { reason: GapReason::Sequence, missed: None }),
        ("chat", stale.clone()),
        ("new", refused),
        ("moment", stale),
        ("moment", TopicStatus::Live),
    ] {
        harness.publisher.publish_status(topic, note, Stamp::default()).expect("published");
    }
    let answer = harness.get("/v1/snapshot", "").await.json();
    let frame =
        |topic: &str, offset: u64, data: Value| json!({"topic": topic, "offset": offset, "ts": 0, "data": data});
    let mut expected = [
        frame("chat", 4, json!(4)),
        frame("book", 5, json!([1, 2, 5])),
        frame("book", 6, json!(6)),
        frame("late", 8, json!([8])),
    ];
    expected[1]["kind"] = "snapshot".into();
    expected[2]["kind"] = "delta".into();
    expected[3]["kind"] = "snapshot".into();
    assert_eq!(answer["frames"], json!(expected));
    let said: Vec<_> = answer["notes"].as_array().expect("a list").iter().collect();
    let said: Vec<_> = said.iter().map(|note| (note["op"].as_str(), note["offset"].as_u64())).collect();
    assert_eq!(said, [(Some("gap"), Some(9)), (Some("stale"), Some(11)), (Some("refused"), Some(12))]);
    assert_eq!(answer["offset"], 14);

    let topics = harness.get("/v1/topics", "").await.json();
    let counts: Vec<_> =
        topics["topics"].as_array().expect("a list").iter().map(|line| line["count"].as_u64()).collect();
    assert_eq!(counts, [4, 2, 1, 1, 0].map(Some), "notes do not count");
    let metrics = harness.get("/metrics", "").await.text();
    for line in ["fanline_frames_total 8", "fanline_head_offset 14", "fanline_topic_status_total{kind=\"stale\"} 2"] {
        assert!(metrics.lines().any(|found| found == line), "expected {line} in {metrics}");
    }
}

#[tokio::test]
async fn topics_are_listed_with_their_counts_sorted_by_name() {
    let mut harness = EdgeHarness::open(settings());
    for topic in ["b", "a", "b", "b"] {
        harness.publish(topic, "1", PayloadKind::Json);
    }
    let ts = 1_700_000_000_000_u64;
    let (a, b) = (
        json!({"topic": "a", "offset": 2, "ts": ts, "count": 1}),
        json!({"topic": "b", "offset": 4, "ts": ts, "count": 3}),
    );
    let head = json!({"epoch": "00000000fee1900d", "offset": 4, "topics": [a, b]});
    assert_eq!(harness.get("/v1/topics", "").await.json(), head);
    assert_eq!(harness.get("/v1/topics?topics=a", "").await.json()["topics"], json!([a]));
}

#[tokio::test]
async fn metrics_are_text_in_the_format_of_prometheus() {
    let harness = EdgeHarness::open(settings());
    assert_eq!(harness.get("/healthz", "").await.status, 200);
    let answer = harness.get("/metrics", "").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "# TYPE fanline_http_requests_total counter\n",
        "fanline_http_requests_total{route=\"/healthz\",status=\"200\"} 1\n",
        "fanline_refusals_total{reason=\"draining\"} 0\n",
        "fanline_build_info{version=",
        "fanline_upstream_state{state=\"connecting\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn the_page_is_sent_once_and_then_revalidated() {
    let harness = EdgeHarness::open(settings());
    let page = harness.get("/", "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("ws: wss:") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert!(!page.text().contains("@version@"));
    let etag = page.header("etag").expect("an ETag");
    let again = harness.get("/", &format!("If-None-Match: W/\"old\", {etag}\r\n")).await;
    assert_eq!((again.status, again.header("etag"), again.body.len()), (304, Some(etag), 0));
    assert_eq!(again.header("cache-control"), Some("no-cache"));
    let head = HttpClient::connect(harness.address).await.request("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(page.body.len().to_string().as_str()));
}

#[tokio::test]
async fn an_unknown_path_is_refused_in_json() {
    let harness = EdgeHarness::open(settings());
    for path in
        ["/nothing", "/v1", "/static/", "/static/nothing.js", "/static/../Cargo.toml", "/static/%2e%2e/Cargo.toml"]
    {
        harness.get(path, "").await.check_refusal(404, "not_found", "`/");
    }
    for (path, allowed) in [
        ("/v1/ws", "GET,HEAD,OPTIONS"),
        ("/v1/snapshot", "GET,HEAD,OPTIONS"),
        ("/", "GET,HEAD"),
        ("/metrics", "GET,HEAD"),
    ] {
        let answer = HttpClient::connect(harness.address).await.request("POST", path, "Content-Length: 0\r\n").await;
        answer.check_refusal(405, "method_not_allowed", "`POST`");
        assert_eq!(answer.header("allow"), Some(allowed), "RFC 9110, 15.5.6");
    }
}

#[tokio::test]
async fn one_connection_can_send_several_requests_and_then_upgrade() {
    let mut harness = EdgeHarness::open(settings());
    let mut client = HttpClient::connect(harness.address).await;
    assert_eq!(client.request("GET", "/v1/topics", "").await.status, 200);
    assert_eq!(client.request("GET", "/v1/ws", "").await.status, 426, "a refusal does not end the connection");
    assert_eq!(client.request("GET", "/v1/ws", HANDSHAKE).await.status, 101);
    assert!(harness.newcomers.recv().await.is_some());
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_disconnected() {
    let harness = EdgeHarness::open(bounded(|limits| limits.header_timeout = Duration::from_millis(50)));
    let mut client = HttpClient::connect(harness.address).await;
    client.write(b"GET / HTTP/1.1\r\nHost: slow").await;
    assert!(client.is_at_end().await);
}

#[tokio::test]
async fn a_full_edge_closes_an_idle_connection_for_a_new_one_and_upgrades_free_their_slots() {
    let mut harness = EdgeHarness::open(bounded(|limits| limits.total_max = 2));
    let mut idle = HttpClient::connect(harness.address).await;
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    let mut second = HttpClient::connect(harness.address).await;
    assert_eq!(second.request("GET", "/v1/ws", HANDSHAKE).await.status, 101);
    let mut third = HttpClient::connect(harness.address).await;
    assert_eq!(third.request("GET", "/healthz", "").await.status, 200);
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200, "the upgraded connection has left the edge");
    let mut fourth = HttpClient::connect(harness.address).await;
    assert_eq!(fourth.request("GET", "/healthz", "").await.status, 200);
    assert!(third.is_at_end().await, "it was idle for longest");
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    assert!(harness.newcomers.recv().await.is_some());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let harness = EdgeHarness::open(settings());
    let settings = Settings { listen: vec![harness.address.into()], ..settings() };
    let terms = EdgeTerms::new(&settings);
    let error = Edge::bind(settings, terms, parts().0).err().expect("in use");
    assert!(matches!(error, EdgeError::AddressInUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&harness.address.to_string()) && text.contains("--listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_taken_during_publishing_is_exact_at_its_offset() {
    const TOPICS: u64 = 40;
    let mut harness = EdgeHarness::open(settings());
    let address = harness.address;
    let (enough, asked_enough) = watch::channel(());
    // Frame `n` is on topic `n % TOPICS`, so the latest of each topic at any offset follows by counting.
    let publishing = tokio::task::spawn_blocking(move || {
        let mut published = 0_u64;
        // Also ends if an assertion below fails and drops the sender.
        while asked_enough.has_changed().is_ok_and(|asked| !asked) {
            published += 1;
            harness.publish(&format!("t{:02}", published % TOPICS), "0", PayloadKind::Json);
            std::hint::spin_loop();
        }
        harness
    });
    let mut client = HttpClient::connect(address).await;
    let (mut moved, mut last) = (0, 0);
    while moved < 200 {
        let picture: Value = client.request("GET", "/v1/topics", "").await.json();
        let offset = picture["offset"].as_u64().expect("an offset");
        moved += u32::from(offset > last);
        last = offset;
        for line in picture["topics"].as_array().expect("topics") {
            let topic: u64 = line["topic"].as_str().and_then(|t| t[1..].parse().ok()).expect("a topic");
            let newest = line["offset"].as_u64().expect("an offset");
            assert_eq!(newest % TOPICS, topic);
            assert!(newest + TOPICS > offset, "offset {offset} hides a frame of {line}");
        }
    }
    enough.send_replace(());
    publishing.await.expect("no panic");
}
