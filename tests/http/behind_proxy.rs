//! Clients behind a proxy are told apart by their own addresses, whatever they say about themselves.

use std::net::SocketAddr;
use std::sync::Arc;

use kit::http::{HANDSHAKE, sum};
use kit::http_client::{Answer, HttpClient};
use kit::program::Program;
use kit::real_proxy::{Proxy, nginx_around};
use kit::{eventually, project};
use tokio::sync::Barrier;

/// Sessions that one address may have in these tests.
const SESSIONS: usize = 2;

/// A server behind proxies at 127.0.0.1, which admits [`SESSIONS`] of each address.
fn server(listen: &str, settings: &[(&str, &str)]) -> Program {
    let max = SESSIONS.to_string();
    let usual = [("LIMITS_SESSIONS_PER_ADDRESS_MAX", &*max), ("PROXY_TRUSTED", "127.0.0.1")];
    Program::serve(&["--listen", listen], &[&usual, settings].concat())
}

/// An upgrade from this address of the loopback.
async fn upgrade(address: SocketAddr, own: u8, headers: &str) -> (HttpClient, Answer) {
    let mut client = HttpClient::connect_from(address, [127, 0, 0, own], 1 << 16).await;
    let headers = format!("Connection: Upgrade\r\n{HANDSHAKE}{headers}");
    let answer = client.request("GET", "/v1/ws", &headers).await;
    (client, answer)
}

/// Clients at 127.0.0.`first` and the address after it, who each name another address in each attempt.
async fn check_that_clients_are_told_apart(address: SocketAddr, first: u8) {
    let mut sessions = Vec::new();
    let lie = |n: usize| {
        format!("X-Forwarded-For: 198.51.100.{n}\r\nForwarded: for=198.51.100.{n}\r\nX-Real-IP: 198.51.100.{n}\r\n")
    };
    for n in 0..SESSIONS {
        let (client, answer) = upgrade(address, first, &lie(n)).await;
        assert_eq!(answer.status, 101, "session {n}: {}", answer.text());
        sessions.push(client);
    }
    for n in 0..3 {
        let (_, answer) = upgrade(address, first, &lie(100 + n)).await;
        answer.check_refusal(503, "too_many_sessions", "limits.sessions_per_address_max");
    }
    let (_client, answer) = upgrade(address, first + 1, "").await;
    assert_eq!(answer.status, 101, "the other address: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_names_its_clients_and_nobody_else_does() {
    let server = server("127.0.0.1:0", &[]);
    // As deployed, but for the certificate.
    let deployed = std::fs::read_to_string(project("deploy/proxy/nginx.conf")).expect("it is there");
    let proxy = Proxy::start("nginx_deployed", "nginx", |port| {
        let lines = deployed.lines().filter(|line| !line.contains("ssl_certificate"));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
        nginx_around(&text.replace("127.0.0.1:8080", &server.addr().to_string()))
    });
    if let Some(proxy) = proxy {
        check_that_clients_are_told_apart(proxy.address, 2).await;
    }
    // Past the proxy: the header counts for nothing.
    check_that_clients_are_told_apart(server.addr(), 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_names_clients_where_it_is_configured() {
    let server = server("127.0.0.1:0", &[("PROXY_HEADER", "forwarded")]);
    let header = "proxy_set_header Forwarded \"$http_forwarded, for=$remote_addr;proto=$scheme\";";
    if let Some(proxy) = Proxy::nginx("nginx_forwarded", server.addr(), header) {
        check_that_clients_are_told_apart(proxy.address, 2).await;
    }
    check_that_clients_are_told_apart(server.addr(), 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_names_its_clients_in_the_proxy_protocol() {
    for (test, how) in [("haproxy_v1", "send-proxy"), ("haproxy_v2", "send-proxy-v2")] {
        let server = server("tcp+proxy://127.0.0.1:0", &[]);
        if let Some(proxy) = Proxy::haproxy(test, server.addr(), "tcp", how) {
            check_that_clients_are_told_apart(proxy.address, 2).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_proxies_speak_at_a_listener_of_the_proxy_protocol() {
    let settings = [("HTTP_HEADER_TIMEOUT", "500ms"), ("ADMIN_LISTEN", "127.0.0.1:0")];
    let server = server("tcp+proxy://127.0.0.1:0,127.0.0.1:0", &settings);
    let plain: SocketAddr =
        server.next_address().strip_prefix("http://").and_then(|text| text.parse().ok()).expect("TCP");
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n";
    let ask = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
    let from = |own: u8| HttpClient::connect_from(server.addr(), [127, 0, 0, own], 1 << 16);

    let mut stranger = from(5).await;
    stranger.write_some(&[&header[..], ask].concat()).await;
    assert!(stranger.is_at_end().await, "not even an answer");
    for bytes in [&ask[..], b"PROXY TCP4 192.0.2.7\r\n\r\n\r\n\r\n\r\n", b"PROXY TCP4 192.0.2.7 127", b""] {
        let mut proxy = from(1).await;
        proxy.write_some(bytes).await;
        assert!(proxy.is_at_end().await, "{}", bytes.escape_ascii());
    }
    for bytes in [&header[..], b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut proxy = from(1).await;
        proxy.write(&[bytes, ask].concat()).await;
        assert_eq!(proxy.answer("GET").await.status, 200, "{}", bytes.escape_ascii());
    }
    // A header in pieces.
    let mut proxy = from(1).await;
    for byte in header {
        proxy.write(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.request("GET", "/healthz", "").await.status, 200);
    let mut plain = HttpClient::connect_from(plain, [127, 0, 0, 5], 1 << 16).await;
    assert_eq!(plain.request("GET", "/healthz", "").await.status, 200);

    let admin =
        server.log().lines().find_map(|line| Some(line.split_once("address=")?.1.split(' ').next()?.to_owned()));
    let admin = admin.and_then(|text| text.parse().ok()).expect("the operator's address is logged");
    let metrics = kit::http::get(admin, "/metrics").body;
    assert_eq!(sum(&metrics, "fanline_http_dropped_total", "\"proxy_untrusted\""), 1.0);
    assert_eq!(sum(&metrics, "fanline_http_dropped_total", "\"proxy_header\""), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheme_of_a_page_is_that_of_the_proxys_clients() {
    let server = server("127.0.0.1:0", &[("UPSTREAM_REQUEST", "true"), ("LIMITS_SESSIONS_PER_ADDRESS_MAX", "0")]);
    for (own, proto, origin, status) in [
        (1, "X-Forwarded-Proto: https\r\n", "https://test", 101),
        (1, "X-Forwarded-Proto: https\r\n", "http://test", 403),
        (1, "X-Forwarded-Proto: http\r\n", "http://test", 101),
        (1, "", "http://test", 101),
        (1, "", "https://test", 403),
        // Not from a proxy.
        (6, "X-Forwarded-Proto: https\r\n", "https://test", 403),
        (6, "X-Forwarded-Proto: https\r\n", "http://test", 101),
    ] {
        let (_, answer) = upgrade(server.addr(), own, &format!("{proto}Origin: {origin}\r\n")).await;
        assert_eq!(answer.status, status, "from 127.0.0.{own}: {proto:?} {origin}");
    }
    let (_, answer) = upgrade(server.addr(), 6, "Origin: https://test\r\n").await;
    answer.check_refusal(403, "origin_not_allowed", "proxy.trusted");
}

/// Clients of one topic that poll, and answers that each of them waits for.
const POLLERS: usize = 200;
const POLLS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_answers_all_that_poll_for_the_same_with_one_request_in_twenty() {
    let market = Program::simulate(&[]);
    let server = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &[]);
    eventually("the feed is live", || (server.get("/readyz").status == 200).then_some(()));
    // As docs/FALLBACKS.md has it, but for the names of hosts and folders.
    let text = std::fs::read_to_string(project("docs/FALLBACKS.md")).expect("it is there");
    let recipe = text.split("```nginx\n").nth(2).and_then(|rest| rest.split("```").next()).expect("the second snippet");
    let (zone, location) = recipe.split_once("\n\n").expect("a zone and a location");
    let proxy = Proxy::start("nginx_cache", "nginx", |port| {
        let location = location.replace("http://fanline", &format!("http://{}", server.addr()));
        let zone = zone.replace("/var/cache/nginx/fanline", "cache");
        nginx_around(&format!("{zone}\nserver {{ listen 127.0.0.1:{port}; {location} }}\n"))
    });
    let Some(proxy) = proxy else { return };
    let topics = server.get("/v1/topics").json();
    let topic = topics["topics"][0]["topic"].as_str().expect("a topic").to_owned();
    let address = proxy.address;
    // Nobody is a round ahead of another, however busy the machine is.
    let round = Arc::new(Barrier::new(POLLERS));
    let polled = (0..POLLERS).map(|_| {
        let (topic, round) = (topic.clone(), round.clone());
        tokio::spawn(async move {
            let mut client = HttpClient::connect(address).await;
            let mut since = String::new();
            for _ in 0..POLLS {
                round.wait().await;
                let path = format!("/v1/poll?topics={topic}&wait_ms=20000{since}");
                let answer = client.request("GET", &path, "").await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                let next = answer.json()["next"].as_str().expect("a cursor").to_owned();
                assert_ne!(since, format!("&since={next}"), "the cursor moves on");
                since = format!("&since={next}");
            }
        })
    });
    for polled in polled.collect::<Vec<_>>() {
        polled.await.expect("no client fails");
    }
    let asked = sum(&server.get("/metrics").body, "fanline_http_requests_total", "route=\"/v1/poll\"");
    let answered = POLLERS * POLLS;
    println!("{answered} answers, {asked} of them from the server");
    assert!(asked >= POLLS as f64 && asked <= answered as f64 / 20.0, "{asked} of {answered}");
}
