//! HTTP holds neither memory nor places nor turns: a client that asks for too much, or takes too
//! long, pays for it alone.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fanline::edge::settings::{OriginRules, Settings};
use fanline::protocol::encoding::PayloadKind;
use kit::DEADLINE;
use kit::edge::{EdgeHarness, HANDSHAKE as UPGRADE, bounded, settings};
use kit::http::{HANDSHAKE, ask, refused_upgrade, sum};
use kit::http_client::HttpClient;
use kit::program::Program;

const LOCAL: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];
const HOUR: Duration = Duration::from_secs(3600);

/// As small as the kernel makes it.
const LITTLE: usize = 4096;
const ENOUGH: usize = 1 << 20;

/// Waits until a series has the value, asking at an address that serves metrics.
async fn until(address: SocketAddr, name: &str, labels: &str, right: impl Fn(f64) -> bool) -> f64 {
    let start = Instant::now();
    loop {
        let metrics =
            HttpClient::connect_from(address, [127, 0, 0, 9], ENOUGH).await.request("GET", "/metrics", "").await;
        let found = sum(&metrics.text(), name, labels);
        if right(found) {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{name}{{{labels}}} is {found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An edge with so many topics that a snapshot has 200 bytes for each.
fn crowded(settings: Settings, topics: usize) -> EdgeHarness {
    let mut harness = EdgeHarness::open(settings);
    let data: &'static str = Box::leak(format!("\"{}\"", "x".repeat(120)).into_boxed_str());
    for n in 0..topics {
        harness.publish(&format!("quote.symbol{n:06}.bid"), data, PayloadKind::Json);
    }
    harness
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_take_nothing_share_one_answer_and_are_disconnected() {
    const READERS: usize = 300;
    const GROWTH_MAX: u64 = 64 << 20;
    let start = || {
        let args = ["--simulate-symbols", "20000", "--simulate-rate", "20000"];
        Program::serve(&args, &[("HTTP_WRITE_TIMEOUT", "2s"), ("RING_FRAMES_MAX", "1024")])
    };
    let server = tokio::task::spawn_blocking(start).await.expect("a server");
    let address = server.addr();
    until(address, "fanline_topics", "", |topics| topics >= 20_000.0).await;
    let whole = HttpClient::connect_from(address, OTHER, ENOUGH).await.request("GET", "/v1/snapshot", "").await;
    assert!(whole.status == 200 && whole.body.len() > 3 << 20, "{}: {} bytes", whole.status, whole.body.len());
    let Some(before) = server.resident_bytes() else { return kit::skip_loudly("readers", "there is no /proc") };

    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = HttpClient::connect_from(address, LOCAL, LITTLE).await;
        reader.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: test\r\n\r\n").await;
        readers.push(reader);
    }
    until(address, "fanline_http_requests_total", "/v1/snapshot", |made| made >= READERS as f64).await;
    let mut grown = 0;
    let mut look = || grown = grown.max(server.resident_bytes().unwrap_or(0).saturating_sub(before));
    look();
    let honest = HttpClient::connect_from(address, OTHER, ENOUGH).await.request("GET", "/v1/snapshot", "").await;
    assert_eq!(honest.status, 200, "of another address");
    look();
    let cut = until(address, "fanline_http_dropped_total", "write_timeout", |cut| cut >= 100.0).await;
    look();
    until(address, "fanline_http_connections", "busy", |busy| busy <= 1.0).await;
    until(address, "fanline_http_answer_bytes", "", |bytes| bytes < (16 << 20) as f64).await;
    assert!(grown < GROWTH_MAX, "{READERS} readers, of whom {cut} were cut, took {} MiB", grown >> 20);
    drop(readers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_disconnected_and_a_slow_one_is_not() {
    let harness = crowded(bounded(|limits| limits.write_timeout = Duration::from_millis(500)), 40_000);
    let mut stuck = HttpClient::connect_from(harness.address, LOCAL, LITTLE).await;
    stuck.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: test\r\n\r\n").await;
    until(harness.address, "fanline_http_dropped_total", "write_timeout", |cut| cut == 1.0).await;
    let slow = HttpClient::connect_from(harness.address, LOCAL, LITTLE).await.request("GET", "/v1/snapshot", "").await;
    let topics = slow.json()["frames"].as_array().map(Vec::len);
    assert_eq!(topics, Some(40_000), "in a few hundred pieces, each of which takes its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_beyond_the_share_of_an_address_are_refused_with_a_time_to_retry() {
    let mut limits = settings();
    limits.answers.bytes_per_address_max = Some(1 << 20);
    let harness = crowded(limits, 40_000);
    let mut stuck = HttpClient::connect_from(harness.address, LOCAL, LITTLE).await;
    stuck.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: test\r\n\r\n").await;
    until(harness.address, "fanline_http_answer_bytes", "", |bytes| bytes > 1e6).await;
    let again = HttpClient::connect_from(harness.address, LOCAL, ENOUGH).await.request("GET", "/v1/topics", "").await;
    again.check_refusal(503, "too_many_answers", "http.answer_bytes_per_address_max");
    assert_eq!(again.header("retry-after"), Some("1"));
    let honest = HttpClient::connect_from(harness.address, OTHER, ENOUGH).await.request("GET", "/v1/topics", "").await;
    assert_eq!(honest.status, 200);
    until(harness.address, "fanline_refusals_total", "too_many_answers_per_address", |refused| refused == 1.0).await;
    drop(stuck);
    until(harness.address, "fanline_http_connections", "busy", |busy| busy <= 1.0).await;
    let after = HttpClient::connect_from(harness.address, LOCAL, ENOUGH).await.request("GET", "/v1/topics", "").await;
    assert_eq!(after.status, 200, "once it is read or given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn costly_requests_of_one_address_do_not_delay_the_snapshot_of_another() {
    const COSTLY: usize = 8;
    let harness = crowded(Settings { patterns_max: 1000, wildcards_max: 1000, ..settings() }, 40_000);
    let mut costly = Vec::new();
    for n in 0..COSTLY {
        let patterns: Vec<String> = (0..999).map(|p| format!("*s*{n}{p:03}*x*.*")).collect();
        let mut client = HttpClient::connect_from(harness.address, LOCAL, ENOUGH).await;
        let head = format!("GET /v1/snapshot?topics={},q*.%3E HTTP/1.1\r\nHost: test\r\n\r\n", patterns.join(","));
        client.write(head.as_bytes()).await;
        costly.push(tokio::spawn(async move { client.answer("GET").await.status }));
    }
    until(harness.address, "fanline_http_connections", "busy", |busy| busy > COSTLY as f64 / 2.0).await;
    let honest =
        HttpClient::connect_from(harness.address, OTHER, ENOUGH).await.request("GET", "/v1/snapshot", "").await;
    assert_eq!(honest.status, 200);
    let waiting = costly.iter().filter(|answer| !answer.is_finished()).count();
    assert!(waiting > 0, "the honest one came last and was not answered last");
    for answer in costly {
        assert_eq!(answer.await.expect("no panic"), 200);
    }
}

#[tokio::test]
async fn wildcards_of_a_request_are_bounded_like_those_of_a_session() {
    let harness = EdgeHarness::open(settings());
    for path in ["/v1/snapshot", "/v1/topics"] {
        let answer = harness.get(&format!("{path}?topics=a.*,b.*,c.*,d.*,e.*,f.*"), "").await;
        answer.check_refusal(400, "too_many_wildcards", "limits.wildcards_max");
        assert_eq!(harness.get(&format!("{path}?topics=a.*,b.*,c.*,d.*,e.*,f,g"), "").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_delay_no_other_client() {
    let server = || Program::serve(&[], &[("HTTP_HEADER_TIMEOUT", "1h")]);
    let server = tokio::task::spawn_blocking(server).await.expect("a server");
    let mut silent = Vec::new();
    let mut open = || silent.push(TcpStream::connect(server.addr()).expect("the kernel takes it"));
    for n in 0..1500 {
        open();
        if n % 250 == 0 {
            // An honest one of the same address, among them.
            assert_eq!(HttpClient::connect(server.addr()).await.request("GET", "/healthz", "").await.status, 200);
        }
    }
    // A burst is spared for 100 ms.
    let mut pending = 1500.0;
    while pending > 700.0 {
        open();
        pending = until(server.addr(), "fanline_http_connections", "pending", |_| true).await;
    }
    until(server.addr(), "fanline_http_dropped_total", "address", |dropped| dropped >= 800.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_longer_than_a_head_may_take() {
    let harness = EdgeHarness::open(bounded(|limits| limits.header_timeout = Duration::from_millis(100)));
    let mut idle = HttpClient::connect(harness.address).await;
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    let mut half = HttpClient::connect(harness.address).await;
    assert_eq!(half.request("GET", "/healthz", "").await.status, 200);
    half.write(b"GET / HTTP/1.1\r\nHost: slow").await;
    assert!(half.is_at_end().await, "the second head of a connection, too");
    assert!(HttpClient::connect(harness.address).await.is_at_end().await, "nothing was sent");
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    until(harness.address, "fanline_http_dropped_total", "header_timeout", |dropped| dropped == 2.0).await;

    let harness = EdgeHarness::open(bounded(|limits| limits.keep_alive = Duration::from_millis(100)));
    let mut silent = HttpClient::connect(harness.address).await;
    let mut idle = HttpClient::connect(harness.address).await;
    assert_eq!(idle.request("GET", "/healthz", "").await.status, 200);
    assert!(idle.is_at_end().await);
    assert_eq!(silent.request("GET", "/healthz", "").await.status, 200, "it had longer for its first head");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_endless_requests_is_answered_within_its_bound() {
    let harness = EdgeHarness::open(bounded(|limits| limits.requests_per_second_max = 20));
    let mut greedy = HttpClient::connect(harness.address).await;
    let start = Instant::now();
    greedy.write("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50).as_bytes()).await;
    assert_eq!(harness.get("/healthz", "").await.status, 200);
    for _ in 0..50 {
        assert_eq!(greedy.answer("GET").await.status, 200);
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "20, 20 and 10");
}

#[tokio::test]
async fn a_head_of_more_than_32_kib_is_refused_however_it_arrives() {
    let harness = EdgeHarness::open(settings());
    for (bytes, status) in [(30 << 10, 200), (40 << 10, 431), (300 << 10, 431)] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(bytes));
        let mut client = HttpClient::connect(harness.address).await;
        client.write_some(head.as_bytes()).await;
        assert_eq!(client.answer("GET").await.status, status, "{bytes} bytes");
    }
}

#[tokio::test]
async fn foreign_pages_may_not_send_in_the_servers_name() {
    let rules = OriginRules { requests_open: true, ..OriginRules::default() };
    let harness = EdgeHarness::open(Settings { visitors: rules, ..settings() });
    let evil = "Origin: https://evil.example\r\n";
    harness.upgrade("", evil).await.check_refusal(403, "origin_not_allowed", "`https://evil.example`");
    let refused = harness.get("/v1/snapshot", evil).await;
    refused.check_refusal(403, "origin_not_allowed", "http.allowed_origins");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(harness.upgrade("", "").await.status, 101, "no browser");
    assert_eq!(harness.upgrade("", "Origin: http://test\r\n").await.status, 101, "the host that is asked");
    let own = harness.get("/v1/snapshot", "Origin: http://test\r\n").await;
    assert_eq!(own.header("access-control-allow-origin"), Some("http://test"));
    assert_eq!(own.header("vary"), Some("origin"));
    until(harness.address, "fanline_refusals_total", "\"origin\"", |refused| refused == 2.0).await;

    let harness = EdgeHarness::open(settings());
    assert_eq!(harness.upgrade("", evil).await.status, 101, "public data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_passes_on_requests_refuses_foreign_pages_by_default() {
    let server = tokio::task::spawn_blocking(|| {
        let open = Program::serve(&[], &[]);
        let asking = Program::serve(&["--upstream-request", "true"], &[]);
        let listed = [("UPSTREAM_REQUEST", "true"), ("HTTP_ALLOWED_ORIGINS", "https://app.example.com")];
        let listed = Program::serve(&[], &listed);
        let origin = |origin: &str| format!("{HANDSHAKE}Origin: {origin}\r\n");
        let refused = refused_upgrade(asking.addr(), "/v1/ws", &origin("https://app.example.com"));
        assert_eq!((refused.status, &refused.json()["code"]), (403, &"origin_not_allowed".into()));
        for server in [&open, &listed] {
            let request = format!(
                "GET /v1/snapshot HTTP/1.0\r\nHost: {}\r\nOrigin: https://app.example.com\r\n\r\n",
                server.addr()
            );
            assert_eq!(ask(server.addr(), &request).status, 200);
        }
    });
    server.await.expect("as promised");
}

#[tokio::test]
async fn a_server_with_names_answers_to_no_other() {
    let rules = OriginRules { allowed_hosts: vec!["feed.example.com".into()], ..OriginRules::default() };
    let harness = EdgeHarness::open(Settings { visitors: rules, ..settings() });
    for (path, host, status) in [
        ("/v1/snapshot", "evil.example", 421),
        ("/", "evil.example", 421),
        ("/v1/snapshot", "feed.example.com:8443", 200),
        ("/healthz", "10.0.0.1", 200),
    ] {
        let mut client = HttpClient::connect(harness.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        let answer = client.answer("GET").await;
        assert_eq!(answer.status, status, "{path} at {host}");
        if status == 421 {
            answer.check_refusal(421, "host_not_allowed", "http.allowed_hosts");
        }
    }
}

#[tokio::test]
async fn a_page_that_adds_a_header_may_read_the_data() {
    let harness = EdgeHarness::open(settings());
    let asked = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: authorization, x-mine\r\n";
    for path in ["/v1/snapshot", "/v1/topics?topics=a", "/v1/ws"] {
        let answer = HttpClient::connect(harness.address).await.request("OPTIONS", path, asked).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization, x-mine"));
        assert!(answer.header("access-control-max-age").is_some());
    }
    let plain = HttpClient::connect(harness.address).await.request("OPTIONS", "/v1/snapshot", "").await;
    assert_eq!((plain.status, plain.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(plain.header("access-control-allow-headers"), None, "nobody asked");
    let page = HttpClient::connect(harness.address).await.request("OPTIONS", "/", asked).await;
    page.check_refusal(405, "method_not_allowed", "`OPTIONS`");
    assert_eq!(page.header("access-control-allow-origin"), None);
    let head = HttpClient::connect(harness.address).await.request("HEAD", "/v1/snapshot", "").await;
    let get = harness.get("/v1/snapshot", "").await;
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn metrics_on_the_operators_listener_are_served_nowhere_else() {
    let admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let full = bounded(|limits| (limits.total_max, limits.keep_alive) = (1, HOUR));
    let harness = EdgeHarness::open(Settings { admin, ..full });
    let admin = harness.admin.expect("bound");
    harness.get("/metrics", "").await.check_refusal(404, "not_found", "/metrics");
    for path in ["/healthz", "/readyz"] {
        assert_ne!(harness.get(path, "").await.status, 404, "{path}");
    }
    let mut operator = HttpClient::connect(admin).await;
    assert!(operator.request("GET", "/metrics", "").await.text().contains("fanline_build_info"));
    assert_eq!(operator.request("GET", "/healthz", "").await.status, 200);
    assert_eq!(operator.request("GET", "/readyz", "").await.status, 503);
    for path in ["/v1/snapshot", "/v1/poll", "/v1/sse", "/v1/ws"] {
        operator.request("GET", path, "").await.check_refusal(404, "not_found", path);
    }
    assert_eq!(harness.get("/healthz", "").await.status, 200);
    assert_eq!(operator.request("GET", "/metrics", "").await.status, 200, "it has places of its own");
}

#[tokio::test]
async fn answers_other_than_pages_can_do_nothing_as_a_page() {
    let mut harness = EdgeHarness::open(settings());
    harness.publish("a", "1", PayloadKind::Json);
    for path in ["/v1/snapshot", "/healthz", "/nothing", "/static/favicon.svg", "/metrics"] {
        let answer = harness.get(path, "").await;
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn the_page_finds_its_files_wherever_a_proxy_shows_it() {
    let harness = EdgeHarness::open(settings());
    let page = harness.get("/", "").await.text();
    let named: Vec<&str> = page.split('"').filter(|part| part.contains("static/")).collect();
    assert!(named.len() >= 3, "{page}");
    for reference in named {
        assert!(reference.starts_with("static/"), "{reference} is found at the root alone");
        assert_eq!(harness.get(&format!("/{reference}"), "").await.status, 200, "{reference}");
    }
}

#[tokio::test]
async fn idle_connections_do_not_delay_an_upgrade() {
    let mut harness = EdgeHarness::open(bounded(|limits| limits.per_address_max = Some(3)));
    let mut idle = Vec::new();
    for _ in 0..6 {
        let mut client = HttpClient::connect(harness.address).await;
        assert_eq!(client.request("GET", "/healthz", "").await.status, 200);
        idle.push(client);
    }
    assert!(idle[0].is_at_end().await, "it was idle for longest");
    assert_eq!(harness.get("/v1/ws", UPGRADE).await.status, 101);
    assert!(harness.newcomers.recv().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_waits_while_all_slots_are_being_answered() {
    const ROUND_TRIPS: usize = 20;
    let admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let full = bounded(|limits| limits.total_max = 1);
    let harness = crowded(Settings { admin, ..full }, 50_000);
    let operator = harness.admin.expect("bound");
    let mut first = HttpClient::connect_from(harness.address, LOCAL, LITTLE).await;
    first.write(b"GET /v1/snapshot HTTP/1.1\r\nHost: test\r\n\r\n").await;
    // It is being answered, and takes no more than its buffer holds.
    first.peek().await;
    let mut second = HttpClient::connect(harness.address).await;
    second.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let others = async {
        for _ in 0..ROUND_TRIPS {
            until(operator, "fanline_http_requests_total", "route=\"/healthz\"", |answered| answered == 0.0).await;
        }
    };
    tokio::select! {
        biased;
        answer = second.answer("GET") => panic!("expected it to wait, found {answer:?}"),
        () = others => {}
    }
    assert_eq!(first.answer("GET").await.status, 200);
    assert_eq!(second.answer("GET").await.status, 200);
}
