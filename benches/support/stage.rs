//! The real server with a plain listener and one of TLS, a feed at an even rate, and clients that are measured.

// Each benchmark compiles this for itself and uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanline::bench::client::{AgeSource, MessageFields};
use fanline::bench::client_pool::{ClientPool, PoolTotals};
use fanline::bench::client_tls::{ClientTls, Trust};
use fanline::bench::cpu::Usage;
use fanline::bench::dial::DialTarget;
use fanline::bench::feed::BenchFeed;
use fanline::bench::generator::Generator;
use fanline::bench::options::RateOption;
use fanline::bench::subscription_plan::SubscriptionPlan;
use fanline::bus::clock::Clock;
use fanline::certificate;
use fanline::settings::table::MarketSettings;
use fanline::words::topic::Pattern;

use super::server::Server;

/// What clients of a feed with envelopes read; they want all topics.
const READING: MessageFields =
    MessageFields { notices: true, dense: true, sequenced: false, age: AgeSource::Timestamp };
const START_DEADLINE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);
const WARM_UP: Duration = Duration::from_secs(1);

/// Dropped in this order: a server whose feed ended first would log errors.
pub struct Stage {
    server: Server,
    pub pool: ClientPool,
    feed: BenchFeed,
    /// The listener of TLS.
    pub tls: SocketAddr,
    pub subscriptions: Arc<SubscriptionPlan>,
    /// `CERTIFICATE:KEY`.
    pub pair: String,
}

/// What happened between two moments.
pub struct Span {
    pub totals: PoolTotals,
    /// Of the server.
    pub cpu: Duration,
    pub wall: Duration,
}

impl Stage {
    /// Starts everything; nobody is connected. The certificate is written to a folder of this name.
    pub fn open(name: &str, symbols: usize, rate: f64) -> Stage {
        Stage::open_with(name, symbols, rate, &[])
    }

    /// The same with further arguments of the server.
    pub fn open_with(name: &str, symbols: usize, rate: f64, further: &[&str]) -> Stage {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let pair = certificate::write(&folder, &[], true).expect("a writable folder").pair();
        let market = MarketSettings { symbols, ..MarketSettings::default() };
        let all = [Pattern::parse(">").expect("a pattern")];
        let subscriptions = Arc::new(SubscriptionPlan::alike(market, &all).expect("a market"));
        let (generator, clock) = (Generator::new(market, 0).expect("a market"), Clock::start());
        let rate = RateOption::PerSecond(rate);
        let feed = BenchFeed::open(generator, subscriptions.clone(), rate, None, clock).expect("a free port");
        let listen = ["--profile", "simulated", "--listen", "127.0.0.1:0,tls://127.0.0.1:0"];
        let settings = ["--tls-certificates", &pair, "--upstream-idle-timeout", "1day"];
        let limits = ["--http-connections-per-address-max", "0", "--http-pending-per-address-max", "0"];
        let url = feed.url();
        let mut server = Server::start(&[&[&*url][..], &listen, &settings, &limits, further].concat());
        let tls = server.next_address();
        until("the server connects to the feed", || feed.is_connected());
        feed.send_opening();
        until("the server reads the feed", || feed.is_opened());
        let pool = ClientPool::start(READING, false, None, clock).expect("a thread");
        Stage { server, pool, feed, tls, subscriptions, pair }
    }

    /// Connects clients that want everything, one after the other, to a server that speaks TLS at `address`.
    pub fn join(&mut self, address: SocketAddr, clients: usize) {
        self.join_by(&target(address, "topics=%3E"), clients);
    }

    /// The same with requests of another kind.
    pub fn join_by(&mut self, target: &DialTarget, clients: usize) {
        for index in self.pool.clients()..clients {
            self.pool.join(target.dial(index).unwrap_or_else(|error| panic!("client {index}: {error}")));
        }
    }

    /// The feed speaks from now on, for a while before anything is measured.
    pub fn begin(&self) {
        self.feed.start(self.pool.received(), self.pool.clients());
        std::thread::sleep(WARM_UP);
    }

    /// What happens until `deed` is done.
    pub fn during(&self, deed: impl FnOnce()) -> Span {
        self.pool.restart();
        let (before, since) = (self.server.usage().cpu, Instant::now());
        deed();
        let (cpu, wall) = (self.server.usage().cpu.saturating_sub(before), since.elapsed());
        Span { totals: self.pool.totals(Vec::new()), cpu, wall }
    }

    pub fn usage(&self) -> Usage {
        self.server.usage()
    }

    /// The plain listener.
    pub fn plain(&self) -> SocketAddr {
        self.server.address
    }

    pub fn sessions(&self) -> f64 {
        self.server.metric("fanline_sessions")
    }
}

/// A server that speaks TLS; whoever it is.
pub fn target(address: SocketAddr, query: &str) -> DialTarget {
    let target = DialTarget::parse(&format!("ws://{address}/v1/ws?{query}"), &Trust::Anyone).expect("a URL");
    DialTarget { tls: Some(ClientTls::new("localhost", &Trust::Anyone).expect("a name")), ..target }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < START_DEADLINE, "expected within {START_DEADLINE:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}
