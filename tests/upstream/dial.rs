//! The way to the feed: proxies, redirects, a certificate of fanline's own, and compression by the feed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fanline::bus::Limits;
use fanline::bus::feed_state::StaleReason;
use fanline::intake::upstream::Settings;
use fanline::profile::{Profile, check};
use futures_util::SinkExt;
use kit::certificate::{self, CertificateFiles};
use kit::intake::{self, Intake};
use kit::real_proxy::{Proxy, nginx_around};
use kit::tape::capture;
use kit::tunnel::{NAME, Tunnel, TunnelKind};
use kit::{program, project, skip_without_tool, tool};
use shared_deflate::deflate::Deflater;
use shared_deflate::frame::{Opcode, put_deflated, put_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Messages of the venue on each connection.
const MESSAGES: usize = 500;
const PROFILE: &str =
    "profile = 1\nname = \"dialed\"\n[[on]]\nname = \"data\"\nwhen = ['/s exists']\nas = \"data\"\ntopic = \"${/s}\"\n";

fn message(n: usize) -> String {
    format!(r#"{{"s":"EURUSD","n":{n}}}"#)
}

/// Gives each guest all messages.
async fn venue() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((guest, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut guest = accept_async(guest).await.expect("a handshake");
                for n in 0..MESSAGES {
                    guest.send(Message::text(message(n))).await.expect("the guest reads");
                }
                std::future::pending::<()>().await
            });
        }
    });
    address
}

/// A server that answers every handshake with this location.
async fn referrer(location: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut guest, _)) = listener.accept().await {
            assert!(guest.read(&mut [0; 4096]).await.expect("a request") > 0);
            let answer =
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            guest.write_all(answer.as_bytes()).await.expect("the guest listens");
        }
    });
    address
}

fn settings(url: &str) -> Settings {
    intake::settings(url, check(PROFILE, "dialed.toml").expect("a profile"), &[])
}

/// Every message, each once and in order.
async fn assert_whole(intake: &Intake) {
    intake.until("every message", |_| intake.reader.head().0 >= MESSAGES as u64).await;
    let expected: Vec<(String, String)> = (0..MESSAGES).map(|n| ("EURUSD".to_string(), message(n))).collect();
    assert_eq!(intake.published(), expected);
}

#[tokio::test]
async fn a_feed_behind_a_proxy_loses_nothing() {
    let venue = venue().await;
    for kind in [TunnelKind::Connect, TunnelKind::Socks] {
        for user in ["", "me:p%40ss@"] {
            let tunnel = Tunnel::open(kind, venue, !user.is_empty()).await;
            let settings = Settings { proxy: Some(tunnel.url(user)), ..settings(&format!("ws://{NAME}:9/feed")) };
            let intake = Intake::start(settings);
            assert_whole(&intake).await;
            assert_eq!(tunnel.opened(), 1, "{kind:?}");
            intake.end().await.expect("a clean end");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_opens_no_way_is_named_with_the_remedy() {
    let venue = venue().await;
    for (kind, user, host, part) in [
        (TunnelKind::Connect, "", NAME, "HTTP status 407 Proxy Authentication Required; check user and password"),
        (TunnelKind::Connect, "me:wrong@", NAME, "HTTP status 407"),
        (TunnelKind::Connect, "me:p%40ss@", "elsewhere.test", "502 Bad Gateway; the proxy cannot reach the feed"),
        (TunnelKind::Socks, "", NAME, "check user and password in `upstream.proxy`"),
        (TunnelKind::Socks, "me:wrong@", NAME, "check user and password in `upstream.proxy`"),
        (TunnelKind::Socks, "me:p%40ss@", "elsewhere.test", "the proxy cannot reach the feed"),
        (TunnelKind::Mute, "", NAME, "no answer within"),
    ] {
        let tunnel = Tunnel::open(kind, venue, true).await;
        let mut settings = Settings { proxy: Some(tunnel.url(user)), ..settings(&format!("ws://{host}:9/feed")) };
        if kind == TunnelKind::Mute {
            settings.connect_timeout = Duration::from_millis(300);
        }
        let intake = Intake::start(settings);
        let expected = format!("no way to `{host}` through the proxy `{}`", tunnel.url(""));
        intake.until_stale(StaleReason::UpstreamDown, &expected).await;
        let log = intake.log();
        assert!(log.contains(part) && !log.contains("wrong"), "expected `{part}` in {log}");
        assert_eq!(tunnel.opened(), 0);
        intake.end().await.expect("a clean end");
    }
}

#[tokio::test]
async fn redirects_are_followed_where_allowed() {
    let venue = venue().await;
    let near = referrer(format!("http://{venue}/feed")).await;
    let far = referrer(format!("ws://{near}/feed")).await;
    let intake = Intake::start(Settings { redirects_max: 2, ..settings(&format!("ws://{far}/feed")) });
    assert_whole(&intake).await;
    intake.end().await.expect("a clean end");

    for (redirects_max, user, part) in [
        (0, "", "found HTTP status 307; use the address it points to, or set `upstream.redirects_max`"),
        (1, "", "and 1 redirects were followed already; raise `upstream.redirects_max`"),
        (2, "me:word@", "credentials never follow to another host"),
    ] {
        let intake = Intake::start(Settings { redirects_max, ..settings(&format!("ws://{user}{far}/feed")) });
        intake.until_stale(StaleReason::UpstreamDown, part).await;
        assert!(intake.published().is_empty());
        intake.end().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_wants_a_certificate_gets_it_through_a_proxy_too() {
    let venue = venue().await;
    let server = certificate::write("dial-server", &["localhost", NAME]);
    let client = certificate::write("dial-client", &["fanline"]);
    let nginx = Proxy::start("upstream_dial", "nginx", |port| {
        nginx_around(&format!(
            "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_verify_client on; ssl_client_certificate {};\n\
             location / {{ proxy_pass http://{venue}; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }}\n",
            server.certificate.display(),
            server.key.display(),
            client.certificate.display(),
        ))
    });
    let Some(nginx) = nginx else { return };
    let direct = format!("wss://localhost:{}/feed", nginx.address.port());

    let known = probe(&direct, &server, &[("UPSTREAM_CLIENT_CERTIFICATE", &client.pair())]).await;
    assert!(known.status.success() && text(&known.stdout).contains("EURUSD"), "{known:?}");

    let tunnel = Tunnel::open(TunnelKind::Socks, nginx.address, false).await;
    let through = [("UPSTREAM_CLIENT_CERTIFICATE", &*client.pair()), ("UPSTREAM_PROXY", &*tunnel.url(""))];
    let known = probe(&format!("wss://{NAME}/feed"), &server, &through).await;
    assert!(known.status.success() && text(&known.stdout).contains("EURUSD"), "{known:?}");
    assert_eq!(tunnel.opened(), 1);

    let unknown = probe(&direct, &server, &[]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(text(&unknown.stderr).contains("upstream.client_certificate"), "{unknown:?}");

    let mixed = format!("{}:{}", client.certificate.display(), server.key.display());
    let mixed = probe(&direct, &server, &[("UPSTREAM_CLIENT_CERTIFICATE", &mixed)]).await;
    assert!(text(&mixed.stderr).contains("expected a certificate and its own key"), "{mixed:?}");
}

async fn probe(url: &str, trusted: &CertificateFiles, settings: &[(&str, &str)]) -> Output {
    let mut command = program::command(&["probe", url, "--seconds", "1"], settings);
    command.env("SSL_CERT_FILE", &trusted.certificate);
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.expect("no panic")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A venue of the package `ws`, as a child process.
struct NodeVenue {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    url: String,
}

impl NodeVenue {
    fn start(node: &Path, recording: &Path, options: &str) -> NodeVenue {
        let mut command = Command::new(node);
        command.arg(project("tests/stock/venue.mjs")).arg(recording).arg(options);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("Node starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut venue = NodeVenue { child, output, url: String::new() };
        venue.url = format!("ws://127.0.0.1:{}", venue.line());
        venue
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a readable line");
        line.trim_end().to_string()
    }
}

impl Drop for NodeVenue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_feed_that_compresses_says_the_same_as_one_that_does_not() {
    let Some(recording) = capture("coinbase-exchange") else { return };
    let node = tool("node").filter(|_| project("tests/stock/node_modules/ws").is_dir());
    let Some(node) = node else { return skip_without_tool("upstream_dial", "Node with its package `ws`") };
    let lines = std::fs::read_to_string(&recording).expect("a readable recording");
    let is_data = |line: &&str| line.contains(r#""dir":"in""#) && !line.contains("subscriptions");
    let messages = lines.lines().filter(is_data).count();
    let mut expected = None;
    for (deflate, options, agreed) in [
        (false, "{}", ""),
        (true, "{}", "permessage-deflate"),
        (true, r#"{"serverNoContextTakeover":true}"#, "permessage-deflate; server_no_context_takeover"),
        (true, r#"{"serverMaxWindowBits":9}"#, "permessage-deflate; server_max_window_bits=9"),
    ] {
        let mut venue = NodeVenue::start(&node, &recording, options);
        let profile = Profile::built_in("coinbase-exchange").expect("built in");
        let settings = Settings { deflate, ..intake::settings(&venue.url, profile, &["ticker.BTC-USD"]) };
        let limits = Limits { ring_frames_max: 1 << 14, ring_bytes_max: 64 << 20, topics_max: 1000 };
        let intake = Intake::start_within(limits, settings);
        intake.until("every message", |_| intake.reader.head().0 >= messages as u64).await;
        assert_eq!(venue.line(), agreed);
        let published = intake.published();
        assert_eq!(*expected.get_or_insert(published.clone()), published, "{agreed}");
        intake.end().await.expect("a clean end");
    }
}

/// Takes a caller's handshake and accepts its offer to compress.
async fn accept_compressing(listener: &TcpListener, answer: &str) -> TcpStream {
    let (mut guest, _) = listener.accept().await.expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(guest.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text");
    let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).expect("the header is there");
    assert_eq!(line("sec-websocket-extensions: "), "permessage-deflate");
    let key = derive_accept_key(line("Sec-WebSocket-Key: ").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n"
    );
    guest.write_all(answer.as_bytes()).await.expect("the guest listens");
    guest
}

#[tokio::test]
async fn compressed_messages_that_cannot_be_read_end_the_connection_and_the_next_one_serves() {
    let mut bomb = Vec::new();
    put_deflated(&mut bomb, Opcode::Text, &vec![b' '; 2 << 20], &mut Deflater::new(9, 15));
    assert!(bomb.len() < 4096);
    let mut broken = Vec::new();
    put_header(&mut broken, Opcode::Text, true, 4);
    broken.extend_from_slice(&[0xFF; 4]);
    for (answer, sent, part) in [
        ("permessage-deflate", &bomb[..], "expected messages of at most 1048576 bytes, found a larger one; raise"),
        ("permessage-deflate", &broken, "expected DEFLATE data (RFC 7692 section 7.2.2)"),
        ("permessage-deflate; surprise", b"", "found another extension or parameter; switch `upstream.deflate` off"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}/feed", listener.local_addr().expect("bound"));
        let intake = Intake::start(Settings { deflate: true, message_bytes_max: 1 << 20, ..settings(&url) });
        let mut guest = accept_compressing(&listener, answer).await;
        guest.write_all(sent).await.expect("the guest listens");
        let mut guest = accept_compressing(&listener, "permessage-deflate").await;
        let (mut stream, mut deflater) = (Vec::new(), Deflater::new(6, 15));
        (0..MESSAGES).for_each(|n| put_deflated(&mut stream, Opcode::Text, message(n).as_bytes(), &mut deflater));
        guest.write_all(&stream).await.expect("the guest listens");
        assert_whole(&intake).await;
        let log = intake.log();
        assert!(log.contains(part), "expected `{part}` in {log}");
        intake.end().await.expect("a clean end");
    }
}
