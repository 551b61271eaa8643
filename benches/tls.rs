//! What TLS costs, as ratios to the same without TLS in one run: a delivery, an idle connection, and a new client. Then a
//! delivery and an idle connection beside those of nginx with TLS in front of fanline, if there is an nginx.
//!
//! `cargo bench --bench tls -- [CLIENTS] [SECONDS] [IDLE] [NEWCOMERS]`, by default 1000, 5, 10,000 and 1000. Deliveries
//! are those of one shard in this process, whose sockets have the keys of real handshakes; one thread drains the clients
//! and decrypts nothing, and its CPU is not counted. Memory and CPU of connections are those of the real server in a
//! process of its own. IDLE is reduced to what the limit of open files allows.

#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/server.rs"]
mod server;
#[path = "support/server_handshake.rs"]
mod server_handshake;
#[path = "support/stage.rs"]
mod stage;
mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bench::cpu::Usage;
use fanline::bus::retention::Retention;
use fanline::delivery::handoff::{Handoff, SessionOptions};
use fanline::delivery::shards::Delivery;
use fanline::delivery::transport::client_socket::ClientSocket;
use fanline::delivery::transport::tls_socket::{TlsHandover, TlsSocket};
use fanline::open_files::{open_files_limit, raise_open_files_limit};
use fanline::protocol::encoding::{Format, Payload, PayloadKind};
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use nginx::Nginx;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, StreamOwned};
use server::{Server, upgrade};
use server_handshake::advance;
use stage::Stage;
use support::{Crowd, Outcome, adopt, measure, start_shard};

const HEADER_BYTES: usize = 4;
const RECORDS_PER_KEY: u64 = 1 << 23;
/// Files of this process that are not connections.
const OTHER_FILES: u64 = 200;
/// Messages that the feed may be ahead of the average client, where clients take as many as they can: a tenth of a
/// second's.
const AHEAD_MAX: u64 = 2000;
/// Of the feed beside nginx: one write per delivery.
const RATE: f64 = 100.0;
const SYMBOLS: usize = 50;
/// Until a server's memory is at rest.
const SETTLE: Duration = Duration::from_secs(2);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (clients, span) = (number(0, 1000) as usize, Duration::from_secs(number(1, 5)));
    raise_open_files_limit().expect("a limit of open files");
    let idle = number(2, 10_000).min(open_files_limit().saturating_sub(OTHER_FILES)) as usize;
    println!("{:<52}{:>12}{:>12}{:>8}", "", "TLS", "plain", "ratio");
    let identity = Identity::new(KeyPair::generate().expect("a key"));
    for (name, message_bytes, rate) in [
        ("one write of 160 bytes", 160, Some(100)),
        ("one write of 4 KiB", 4096, Some(100)),
        ("160 bytes, saturated", 160, None),
    ] {
        let feed = Feed { clients, message_bytes, rate };
        let (tls, plain) = (feed.measure(span, Some(&identity)), feed.measure(span, None));
        row(&format!("CPU us per delivery, {name}"), tls.cpu_us(), plain.cpu_us());
        row(&format!("wire bytes per delivery, {name}"), tls.bytes / tls.deliveries, plain.bytes / plain.deliveries);
        if rate.is_none() {
            row(&format!("deliveries/s (M), {name}"), tls.rate() / 1e6, plain.rate() / 1e6);
        }
    }
    connections(&identity, idle, number(3, 1000) as usize);
    beside_nginx(clients, span, idle);
}

fn row(name: &str, tls: f64, plain: f64) {
    println!("{name:<52}{tls:>12.3}{plain:>12.3}{:>8.2}", tls / plain);
}

/// A certificate, its key, and a client that trusts it.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    fn new(key: KeyPair) -> Identity {
        let certificate = CertificateParams::new(["localhost".to_owned()]).and_then(|params| params.self_signed(&key));
        Identity { certificate: certificate.expect("a certificate"), key }
    }

    /// With a key of RSA-2048, which `openssl` makes; none without it.
    fn rsa() -> Option<Identity> {
        let args = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        let made = Command::new("openssl").args(args).output().ok().filter(|made| made.status.success())?;
        let pem = String::from_utf8(made.stdout).expect("PEM");
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).expect("a key of RSA");
        Some(Identity::new(key))
    }

    /// As `tls.certificates` takes them.
    fn files(&self, stem: &str) -> String {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let write = |end: &str, text: String| -> PathBuf {
            let path = folder.join(format!("bench-{stem}-{end}.pem"));
            std::fs::write(&path, text).expect("a writable file");
            path
        };
        let (certificate, key) = (write("certificate", self.certificate.pem()), write("key", self.key.serialize_pem()));
        format!("{}:{}", certificate.display(), key.display())
    }

    fn client_config(&self, resumption: Resumption) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.resumption = resumption;
        Arc::new(config)
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let certificates = vec![self.certificate.der().clone()];
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).expect("a pair");
        config.enable_secret_extraction = true;
        Arc::new(config)
    }
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").expect("a name")).expect("a client")
}

/// What a real handshake leaves to the server. The client's side is dropped.
fn shake_hands(server: &Arc<ServerConfig>, config: &Arc<ClientConfig>) -> TlsHandover {
    let mut client = client(config);
    let mut server = UnbufferedServerConnection::new(server.clone()).expect("a server");
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        while client.wants_write() {
            client.write_tls(&mut to_server).expect("a vector");
        }
        let is_done = advance(&mut server, &mut to_server, &mut to_client).expect("a good client");
        let mut received = &to_client[..];
        while !received.is_empty() {
            client.read_tls(&mut received).expect("a slice");
            client.process_new_packets().expect("a good server");
        }
        to_client.clear();
        if is_done && !client.is_handshaking() && !client.wants_write() {
            break;
        }
    }
    let (secrets, connection) = server.dangerous_into_kernel_connection().expect("secrets");
    TlsHandover { secrets, connection, unread: to_server, unsent: Vec::new(), records_per_key: RECORDS_PER_KEY }
}

/// Hands the crowd over with keys, as the edge would.
fn adopt_with_keys(crowd: &mut Crowd, delivery: &Delivery, options: &SessionOptions, identity: &Identity) {
    let (server, client) = (identity.server_config(), identity.client_config(Resumption::disabled()));
    for socket in crowd.sockets.drain(..) {
        let tls = TlsSocket::new(socket, shake_hands(&server, &client)).expect("a known cipher");
        let options =
            SessionOptions { format: options.format, patterns: options.patterns.clone(), ..Default::default() };
        let socket = ClientSocket::Tls(Box::new(tls));
        delivery.adopt(Handoff { socket, unread: Bytes::new(), options, permit: None });
    }
}

/// What is delivered: everything to everybody.
struct Feed {
    clients: usize,
    /// With the header of its WebSocket frame.
    message_bytes: usize,
    /// Messages per second; none for as many as the clients take.
    rate: Option<u32>,
}

impl Feed {
    fn measure(&self, span: Duration, identity: Option<&Identity>) -> Outcome {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        let (mut publisher, delivery, threads, clock) = start_shard(&Meters::new(Arc::new(recorder)));
        let mut crowd = Crowd::connect(self.clients);
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let options = SessionOptions { patterns, format: Format::Raw, ..SessionOptions::default() };
        match identity {
            Some(identity) => adopt_with_keys(&mut crowd, &delivery, &options, identity),
            None => adopt(&mut crowd, &delivery, &options),
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, received) = (stop.clone(), crowd.received.clone());
        let (message_bytes, clients, rate) = (self.message_bytes, self.clients, self.rate);
        let publishing = std::thread::spawn(move || {
            let text = Bytes::from(vec![b'x'; message_bytes - HEADER_BYTES]);
            let payload = Payload { bytes: text, kind: PayloadKind::Text };
            let started = Instant::now();
            let mut published = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                publisher.publish("topic", payload.clone(), Retention::NEWEST, clock.now()).expect("a good topic");
                published += 1;
                if let Some(rate) = rate {
                    let due = started + Duration::from_secs_f64(published as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    continue;
                }
                // Little waits in sockets, so that what is counted has arrived.
                while published > received.load(Ordering::Relaxed) / (message_bytes * clients) as u64 + AHEAD_MAX
                    && !stopped.load(Ordering::Relaxed)
                {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let outcome = measure(&crowd, span, || deliveries(&prometheus));
        stop.store(true, Ordering::Relaxed);
        publishing.join().expect("the publisher ends");
        delivery.stop();
        threads.join();
        outcome
    }
}

fn deliveries(prometheus: &PrometheusHandle) -> f64 {
    let text = prometheus.render();
    let lines = text.lines().filter(|line| line.starts_with("fanline_deliveries_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The real server, with a plain listener and one of TLS.
struct TwoListeners {
    server: Server,
    tls: SocketAddr,
}

impl TwoListeners {
    fn start(identity: &Identity, stem: &str) -> TwoListeners {
        let listen = ["--simulate-rate", "1", "--listen", "127.0.0.1:0,tls://127.0.0.1:0"];
        let certificates = ["--tls-certificates", &identity.files(stem)];
        let limits = ["--http-connections-per-address-max", "0", "--http-pending-per-address-max", "0"];
        let mut server = Server::start(&[&listen[..], &certificates, &limits].concat());
        let tls = server.next_address();
        TwoListeners { server, tls }
    }

    /// A session without subscriptions.
    fn join(&self, config: Option<&Arc<ClientConfig>>) -> (TcpStream, Option<HandshakeKind>) {
        let address = if config.is_some() { self.tls } else { self.server.address };
        let mut socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("an open socket");
        let Some(config) = config else {
            upgrade(&mut socket, "");
            return (socket, None);
        };
        let mut tls = StreamOwned::new(client(config), socket);
        upgrade(&mut tls, "");
        let kind = tls.conn.handshake_kind();
        (tls.sock, kind)
    }

    /// CPU of the server for one client that connects, upgrades and goes, in microseconds.
    fn newcomer_us(&self, count: usize, config: Option<&Arc<ClientConfig>>, kind: Option<HandshakeKind>) -> f64 {
        // The first one has nothing to resume.
        self.join(config);
        let before = self.server.usage().cpu;
        for _ in 0..count {
            let (_, found) = self.join(config);
            assert_eq!(found, kind, "another handshake than the one to measure");
        }
        (self.server.usage().cpu - before).as_secs_f64() * 1e6 / count as f64
    }

    /// Memory of the server for each of so many idle clients, in bytes.
    fn idle_bytes(&self, count: usize, config: Option<&Arc<ClientConfig>>) -> f64 {
        let before = self.server.usage().resident_bytes;
        let clients: Vec<TcpStream> = (0..count).map(|_| self.join(config).0).collect();
        std::thread::sleep(SETTLE);
        let sessions = self.server.metric("fanline_sessions");
        assert!(sessions >= count as f64, "expected {count} sessions, found {sessions}");
        let after = self.server.usage().resident_bytes;
        drop(clients);
        after.saturating_sub(before) as f64 / count as f64
    }
}

fn connections(identity: &Identity, idle: usize, newcomers: usize) {
    let full = identity.client_config(Resumption::disabled());
    // Each on a server that has served nobody, because memory once used is not given back.
    let bytes = |config| TwoListeners::start(identity, "idle").idle_bytes(idle, config);
    row(&format!("KiB per idle connection, {idle} of them"), bytes(Some(&full)) / 1024.0, bytes(None) / 1024.0);
    let server = TwoListeners::start(identity, "p256");
    let plain = server.newcomer_us(newcomers, None, None);
    let title = |name: &str| format!("CPU us per connect and upgrade, {name}");
    row(&title("P-256"), server.newcomer_us(newcomers, Some(&full), Some(HandshakeKind::Full)), plain);
    let resuming = identity.client_config(Resumption::default());
    row(&title("resumed"), server.newcomer_us(newcomers, Some(&resuming), Some(HandshakeKind::Resumed)), plain);
    let Some(identity) = Identity::rsa() else {
        eprintln!("SKIPPED RSA-2048: expected `openssl` to make a key, found none");
        return;
    };
    let (server, full) = (TwoListeners::start(&identity, "rsa"), identity.client_config(Resumption::disabled()));
    row(&title("RSA-2048"), server.newcomer_us(newcomers, Some(&full), Some(HandshakeKind::Full)), plain);
}

/// A server with TLS at one listener, or nginx with TLS in front of its other one.
struct Front {
    stage: Stage,
    nginx: Option<Nginx>,
}

impl Front {
    /// None without an nginx.
    fn open(with_nginx: bool) -> Option<Front> {
        let stage = Stage::open("bench-front", SYMBOLS, RATE);
        let nginx = if with_nginx { Some(Nginx::start(stage.plain(), &stage.pair)?) } else { None };
        Some(Front { stage, nginx })
    }

    fn join(&mut self, clients: usize) {
        let address = self.nginx.as_ref().map_or(self.stage.tls, |nginx| nginx.address);
        self.stage.join(address, clients);
    }

    /// Of all processes between the feed and the clients.
    fn usage(&self) -> Usage {
        let (server, nginx) = (self.stage.usage(), self.nginx.as_ref().map(Nginx::usage).unwrap_or_default());
        Usage { cpu: server.cpu + nginx.cpu, resident_bytes: server.resident_bytes + nginx.resident_bytes }
    }

    /// CPU per delivery where everything goes to everybody, in microseconds.
    fn delivery_us(mut self, clients: usize, span: Duration) -> f64 {
        self.join(clients);
        self.stage.begin();
        let before = self.usage().cpu;
        let totals = self.stage.during(|| std::thread::sleep(span)).totals;
        let lost = (totals.tally.gaps, totals.tally.skips, totals.ended);
        assert_eq!(lost, (0, 0, 0), "gaps, skips and ends");
        (self.usage().cpu - before).as_secs_f64() * 1e6 / totals.tally.deliveries as f64
    }

    /// Memory for each of so many idle clients, in KiB.
    fn idle_kib(mut self, clients: usize) -> f64 {
        let before = self.usage().resident_bytes;
        self.join(clients);
        std::thread::sleep(SETTLE);
        self.usage().resident_bytes.saturating_sub(before) as f64 / 1024.0 / clients as f64
    }
}

fn beside_nginx(clients: usize, span: Duration, idle: usize) {
    // Each client takes two files of nginx.
    let idle = idle.min((open_files_limit().saturating_sub(OTHER_FILES) / 2) as usize);
    let fronts = || Front::open(true).zip(Front::open(false));
    let Some((nginx, ours)) = fronts() else {
        eprintln!("SKIPPED nginx in front: expected nginx, found none; tests/setup unpacks it");
        return;
    };
    println!("\n{:<52}{:>12}{:>12}{:>8}", "", "TLS", "nginx", "ratio");
    let (nginx, ours) = (nginx.delivery_us(clients, span), ours.delivery_us(clients, span));
    row(&format!("CPU us per delivery, {RATE} messages/s"), ours, nginx);
    if let Some((nginx, ours)) = fronts() {
        row(&format!("KiB per idle connection, {idle} of them"), ours.idle_kib(idle), nginx.idle_kib(idle));
    }
}
