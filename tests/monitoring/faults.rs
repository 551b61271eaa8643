//! Alerts fire with a fault of the real server, and clear when it is over. All faults happen at a time, each to a server
//! of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanline::audit::files;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;

use crate::MACHINE;
use crate::prometheus::{Prometheus, hasty};
use kit::certificate;
use kit::document::read;
use kit::fake_feed::FakeFeed;
use kit::http::{HANDSHAKE, refused_upgrade};
use kit::program::Program;
use kit::raw_client::{RawClient, TEXT, masked};
use kit::relay::Relay;
use kit::tiers::TierFolder;
use kit::{eventually, skip_without_tool};

const SOON: [(&str, &str); 2] = [("UPSTREAM_BACKOFF_MIN", "100ms"), ("UPSTREAM_BACKOFF_MAX", "200ms")];

/// Each message has a topic; none is known to the other profile.
const ITEMS: &str = r#"
profile = 1
name = "items"
[subscribe]
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
name = "data"
as = "data"
topic = "${/t}"
seq = { rule = "inc", last = "/n" }
"#;
const FOREIGN: &str =
    "profile = 1\nname = 'foreign'\n[[on]]\nname = 'it'\nas = 'data'\ntopic = 'a'\nwhen = ['/nothing exists']\n";

/// More waits for the view than it may hold.
const DELAYED: &str = r#"
[delay]
bytes_max = "1MiB"
[auth.tier.late]
topics = [">"]
delay = "10m"
[auth.tier.all]
topics = [">"]
[auth.anonymous]
tier = "all"
"#;

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("monitoring-faults");
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}

fn profile(name: &str, text: &str) -> String {
    let path = folder().join(name);
    std::fs::write(&path, text).expect("a file for the test");
    path.to_str().expect("UTF-8").to_owned()
}

/// A market that can be cut off.
struct Line {
    market: Program,
    gate: Relay,
}

impl Line {
    fn open(rate: &str) -> Line {
        let line = Line::shut(rate);
        line.gate.open(line.market.addr());
        line
    }

    fn shut(rate: &str) -> Line {
        Line { market: Program::simulate(&["--rate", rate]), gate: Relay::shut() }
    }

    fn url(&self) -> String {
        self.gate.ws("/")
    }
}

fn subscribe(server: SocketAddr, topics: &str) -> RawClient {
    let mut client = RawClient::connect(server, "/v1/ws", "");
    client.command(&json!({"op": "subscribe", "topics": [topics]}).to_string());
    client
}

fn the_feed_is_lost(prometheus: &Prometheus, line: &Line, server: &Program) {
    line.gate.cut();
    for alert in ["FanlineLogDropped", "FanlineFeedFlapping", "FanlineFeedDown"] {
        prometheus.fires(alert, server.addr());
    }
    line.gate.open(line.market.addr());
    for alert in ["FanlineFeedDown", "FanlineFeedFlapping", "FanlineLogDropped"] {
        prometheus.clears(alert, server.addr());
    }
}

fn nothing_is_scraped(rules: &str, server: &Program) {
    let prometheus = Prometheus::start("monitoring-no-server", rules, &[]).expect("it is there");
    prometheus.fires_anywhere("FanlineNotScraped");
    prometheus.look_at(&[server.addr()]);
    prometheus.clears_anywhere("FanlineNotScraped");
}

/// It begins with invented prices, is stopped, and started with a feed again and again.
fn the_process_ends(prometheus: &Prometheus, line: &Line, mut server: Program) {
    let (address, url) = (server.addr(), line.url());
    prometheus.fires("FanlineSimulated", address);
    server.kill();
    prometheus.fires("FanlineDown", address);
    let start = || Program::serve_on(&address.to_string(), &[&url, "--profile", "generic"], &SOON);
    server = start();
    prometheus.clears("FanlineDown", address);
    prometheus.clears("FanlineSimulated", address);
    let started = format!("process_start_time_seconds{{instance=\"{address}\"}}");
    prometheus.fires_by("FanlineRestarts", address, || {
        let before = prometheus.query(&started)[0]["value"][1].clone();
        server.kill();
        server = start();
        eventually("a restart is seen", || {
            let found = prometheus.query(&started).first()?["value"][1].clone();
            (found != before).then_some(())
        });
    });
    prometheus.clears("FanlineRestarts", address);
}

fn limits_are_reached(prometheus: &Prometheus, server: &Program) {
    let _first = subscribe(server.addr(), "quote.AAPL");
    let mut other = RawClient::connect(server.addr(), "/v1/ws", "");
    let request = json!({"op": "subscribe", "topics": ["quote.MSFT"]}).to_string();
    prometheus.fires_by("FanlineSubscriptionsRefused", server.addr(), || other.command(&request));
    prometheus.fires_by("FanlineClientsRefused", server.addr(), || {
        let refused = refused_upgrade(server.addr(), "/v1/ws", HANDSHAKE);
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"too_many_sessions".into()));
    });
    prometheus.clears("FanlineSubscriptionsRefused", server.addr());
    prometheus.clears("FanlineClientsRefused", server.addr());
}

/// By clients and by connections that say nothing, as far as they are let.
fn files_run_out(prometheus: &Prometheus, server: &Program) {
    let clients: Vec<RawClient> = (0..130).map(|_| RawClient::connect(server.addr(), "/v1/ws", "")).collect();
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(server.addr()).expect("a place in the queue")).collect();
    prometheus.fires("FanlineFilesNearlyUsed", server.addr());
    drop((silent, clients));
    prometheus.clears("FanlineFilesNearlyUsed", server.addr());
}

fn a_client_is_slow(prometheus: &Prometheus, server: &Program) {
    let mut client = RawClient::connect_narrow(server.addr());
    client.command(&json!({"op": "subscribe", "topics": [">"]}).to_string());
    prometheus.fires_by("FanlineClientsSkip", server.addr(), || {
        client.read(256, Duration::from_millis(1));
    });
    drop(client);
    prometheus.clears("FanlineClientsSkip", server.addr());
}

/// They begin messages and do not end them.
fn clients_hold_memory(prometheus: &Prometheus, server: &Program) {
    let message = masked(TEXT, &[b' '; 30_000]);
    let mut clients = Vec::new();
    prometheus.fires_by("FanlineClientsOverloaded", server.addr(), || {
        let mut client = RawClient::connect(server.addr(), "/v1/ws", "");
        client.write(&message[..20_000]);
        clients.push(client);
    });
    drop(clients);
    prometheus.clears("FanlineClientsOverloaded", server.addr());
}

/// Until the feed ends, as it is the feed that these suffer from.
fn the_feed_is_too_much(prometheus: &Prometheus, line: &Line, faults: &[(&str, &Program)]) {
    for (alert, server) in faults {
        prometheus.fires(alert, server.addr());
    }
    line.gate.cut();
    for (alert, server) in faults {
        prometheus.clears(alert, server.addr());
    }
}

/// Its numbers leave some out later.
fn items_are_refused_or_silent(prometheus: &Prometheus, venue: &FakeFeed, server: &Program) {
    let _client = subscribe(server.addr(), "mute.1");
    let mut other = RawClient::connect(server.addr(), "/v1/ws", "");
    let mut names = (0..).map(|n| json!({"op": "subscribe", "topics": [format!("bad.{n}")]}).to_string());
    prometheus.fires_by("FanlineItemsRefused", server.addr(), || other.command(&names.next().expect("endless")));
    prometheus.fires("FanlineItemsSilent", server.addr());
    let publish = |n: u32| venue.publish("mute.1", &json!({"t": "mute.1", "n": n}).to_string(), |_| false);
    eventually("the item is there", || (publish(0) > 0).then_some(()));
    prometheus.clears("FanlineItemsSilent", server.addr());
    prometheus.clears("FanlineItemsRefused", server.addr());
    let mut numbers = (10..).step_by(10);
    prometheus.fires_by("FanlineFeedGaps", server.addr(), || {
        assert_eq!(publish(numbers.next().expect("endless")), 1);
    });
    prometheus.clears("FanlineFeedGaps", server.addr());
}

fn a_shard_hangs(prometheus: &Prometheus, server: &Program) {
    let _client = subscribe(server.addr(), "quote.AAPL");
    drop(subscribe(server.addr(), "quote.AAPL"));
    prometheus.fires("FanlinePartHangs", server.addr());
    prometheus.clears("FanlinePartHangs", server.addr());
}

/// Of two lanes one is a client's that came before there was a topic for the canary, and whoever joins begins on the other.
fn the_canary_sees_nothing(prometheus: &Prometheus, line: &Line, server: &Program) {
    let client = subscribe(server.addr(), "nothing.at.all");
    line.gate.open(line.market.addr());
    prometheus.fires("FanlineCanaryBlind", server.addr());
    drop(client);
    prometheus.clears("FanlineCanaryBlind", server.addr());
    let measured = format!("fanline_canary_receipt_to_delivery_seconds_count{{instance=\"{}\"}} > 0", server.addr());
    eventually("the canary measures", || (!prometheus.query(&measured).is_empty()).then_some(()));
}

/// For three days from now.
fn certificate_near_its_end(stem: &str) -> String {
    let files = certificate::write(stem, &["localhost"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(3 * 86_400);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(&files.certificate, certificate.pem()).expect("a writable file");
    std::fs::write(&files.key, key.serialize_pem()).expect("a writable file");
    files.pair()
}

fn a_certificate_is_near_its_end(prometheus: &Prometheus, stem: &str, server: &Program) {
    prometheus.fires("FanlineCertificateExpires", server.addr());
    certificate::write(stem, &["localhost"]);
    prometheus.clears("FanlineCertificateExpires", server.addr());
}

/// Files of these names cannot be made while there are directories of the same name.
fn in_the_way(folder: &Path) -> [PathBuf; 2] {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("writable");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let days = [now, now + 86_400_000].map(|ms| folder.join(files::name_of(&files::timestamp(ms)[..10])));
    days.iter().for_each(|path| std::fs::create_dir(path).expect("writable"));
    days
}

fn the_audit_log_cannot_be_written(prometheus: &Prometheus, days: &[PathBuf], server: &Program) {
    prometheus.fires("FanlineAuditFailing", server.addr());
    days.iter().for_each(|path| std::fs::remove_dir(path).expect("writable"));
    prometheus.clears("FanlineAuditFailing", server.addr());
}

/// Gives the keys of an issuer, once it is reached.
fn key_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    // Ends with the test process.
    thread::spawn(move || {
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
        let body = keys.to_string();
        for mut guest in listener.incoming().filter_map(Result::ok) {
            let _ = guest.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length:";
            let _ = write!(guest, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

fn a_reload_is_refused(prometheus: &Prometheus, configuration: &str, server: &Program) {
    let valid = std::fs::read_to_string(configuration).expect("it was written");
    std::fs::write(configuration, format!("{valid}\n[limits]\nsession_max = 1\n")).expect("writable");
    server.signal("HUP");
    prometheus.fires("FanlineReloadRefused", server.addr());
    std::fs::write(configuration, valid).expect("writable");
    server.signal("HUP");
    prometheus.clears("FanlineReloadRefused", server.addr());
}

fn keys_are_missing(prometheus: &Prometheus, gate: &Relay, server: &Program) {
    prometheus.fires("FanlineKeysMissing", server.addr());
    prometheus.fires("FanlineKeysNotFetched", server.addr());
    gate.open(key_server());
    prometheus.clears("FanlineKeysMissing", server.addr());
    prometheus.clears("FanlineKeysNotFetched", server.addr());
}

#[test]
fn alerts_fire_with_a_fault_of_the_real_server_and_clear_when_it_is_over() {
    let _beside = MACHINE.read();
    let full = || File::options().write(true).open("/dev/full").expect("a full disk");
    let (line, flood, steady) = (Line::open("100"), Line::open("2000"), Line::open("20"));
    let late = Line::shut("100");
    let watched = [("CANARY_ENABLED", "true"), ("LIMITS_LANES_MAX", "2"), ("SHARDS_COUNT", "1"), SOON[0], SOON[1]];
    let watched = Program::serve(&[&late.url(), "--profile", "generic"], &watched);
    let lost = Program::serve_logging_to(full(), &[&line.url(), "--profile", "generic"], &SOON);
    let stopped = Program::serve(&[], &[]);
    let limited = [("LIMITS_SESSIONS_MAX", "2"), ("LIMITS_LANES_MAX", "1"), ("SHARDS_COUNT", "1")];
    let limited = Program::serve(&[], &limited);
    let narrow = Program::serve_within(256, &[], &[("SHARDS_COUNT", "2")]);
    let slow = Program::serve(&[], &[("SIMULATE_RATE", "1000"), ("SLOW_REPLAY_MAX", "100ms")]);
    let held = Program::serve(&[], &[("LIMITS_INBOUND_BYTES_TOTAL_MAX", "64KiB"), ("SHARDS_COUNT", "1")]);
    let crowded = Program::serve(&[&flood.url(), "--profile", "generic"], &[("LIMITS_TOPICS_MAX", "10")]);
    let unknown = Program::serve(&[&flood.url(), "--profile", &profile("foreign.toml", FOREIGN)], &[]);
    let tiers = TierFolder::new("monitoring-faults", DELAYED);
    let delayed = Program::serve(&["--config", &tiers.path("fanline.toml"), &flood.url(), "--profile", "generic"], &[]);
    let venue = FakeFeed::open();
    let demand = [("UPSTREAM_DEMAND", "on"), ("UPSTREAM_FIRST_MESSAGE_TIMEOUT", "300ms")];
    let items = Program::serve(&[&venue.url(), "--profile", &profile("items.toml", ITEMS)], &demand);
    let hangs = Program::serve_knowing(&[], &[("SHARDS_COUNT", "2")], &[("INJECTED_FAULT", "shard sleep")]);
    let stem = "monitoring-faults";
    let pair = certificate_near_its_end(stem);
    let certified = [("TLS_CERTIFICATES", &*pair), ("TLS_RELOAD_INTERVAL", "200ms")];
    let certified = Program::serve_on("127.0.0.1:0,tls://127.0.0.1:0", &[], &certified);
    let audit = folder().join("audit");
    let days = in_the_way(&audit);
    let audited = Program::serve(&[], &[("AUDIT_DIR", audit.to_str().expect("UTF-8"))]);
    let gate = Relay::shut();
    let issuer = format!(
        "[simulate]\n[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['EdDSA']\njwks = '{}'\n\
         [auth.tier.all]\ntopics = ['>']\n[auth.anonymous]\ntier = 'all'\n",
        gate.ws("/keys").replace("ws://", "http://")
    );
    let issuer = profile("issuer.toml", &issuer);
    let keyless = Program::serve(&["--config", &issuer], &[]);

    let servers = [
        &lost, &stopped, &limited, &narrow, &slow, &held, &crowded, &unknown, &delayed, &items, &hangs, &certified,
        &audited, &keyless, &watched,
    ];
    let addresses = servers.map(Program::addr);
    let rules = hasty(&read("deploy/prometheus/alerts.yml"));
    let Some(prometheus) = Prometheus::start("monitoring-faults", &rules, &addresses) else {
        return skip_without_tool("faults", "prometheus");
    };
    eventually("every server is seen", || (prometheus.query("up == 1").len() == servers.len()).then_some(()));
    let prometheus = &prometheus;
    thread::scope(|scope| {
        scope.spawn(|| the_feed_is_lost(prometheus, &line, &lost));
        scope.spawn(|| the_process_ends(prometheus, &steady, stopped));
        scope.spawn(|| limits_are_reached(prometheus, &limited));
        scope.spawn(|| files_run_out(prometheus, &narrow));
        scope.spawn(|| a_client_is_slow(prometheus, &slow));
        scope.spawn(|| clients_hold_memory(prometheus, &held));
        scope.spawn(|| nothing_is_scraped(&rules, &held));
        let too_much = [
            ("FanlineFramesRefused", &crowded),
            ("FanlineMessagesUnknown", &unknown),
            ("FanlineDelayedViewIncomplete", &delayed),
        ];
        scope.spawn(move || the_feed_is_too_much(prometheus, &flood, &too_much));
        scope.spawn(|| items_are_refused_or_silent(prometheus, &venue, &items));
        if cfg!(debug_assertions) {
            scope.spawn(|| a_shard_hangs(prometheus, &hangs));
        }
        scope.spawn(|| the_canary_sees_nothing(prometheus, &late, &watched));
        scope.spawn(|| a_certificate_is_near_its_end(prometheus, stem, &certified));
        scope.spawn(|| the_audit_log_cannot_be_written(prometheus, &days, &audited));
        scope.spawn(|| {
            keys_are_missing(prometheus, &gate, &keyless);
            a_reload_is_refused(prometheus, &issuer, &keyless);
        });
    });
}
