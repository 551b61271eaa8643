//! A server whose feed is a faucet, and one client of it whose every message is compared with the tape.
//!
//! The tape is poured as fast as the client reads. The server's metrics prove that what should happen to the client did
//! happen.

use serde_json::json;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::certificate::CertificateFiles;
use super::http::sum;
use super::ledger::Ledger;
use super::program::Program;
use super::raw_client::{Blind, RawClient};
use super::stacks::Launch;
use super::stock_client::StockClient;
use super::tape::{PROFILE, Tape};
use super::tape_feed::{ON_TAP, TapeFeed};
use super::tls_server::TlsServer;
use super::{DEADLINE, eventually};

/// Frames poured at once, and how many a client that reads may be behind: its buffers in the kernel hold more.
pub const STEP: u64 = 500;
pub const AHEAD: u64 = 2_000;
/// Looks, with messages between them, at which a client that reads nothing is behind.
const LOOKS_BEHIND: u32 = 2;
/// Pings without an answer.
const PINGS_MAX: u64 = 8;

/// Messages that a client decodes in a test of its window: 12,500, or DECODED_MESSAGES.
pub fn decoded_messages() -> u64 {
    let named = std::env::var("DECODED_MESSAGES").ok();
    named.map_or(12_500, |count| count.parse().expect("DECODED_MESSAGES is a number"))
}

/// One shard, so that all on one set of patterns share a lane. A client that must not miss anything
/// says so; any other skips as soon as it is behind.
const SETTINGS: [(&str, &str); 4] =
    [("SHARDS_COUNT", "1"), ("SLOW_UNSENT_BYTES_MAX", "1KiB"), ("SLOW_REPLAY_MAX", "0s"), ("PING_INTERVAL", "1h")];

/// What browsers offer.
const BROWSER_OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// A server whose feed is a faucet, one client that is looked at, and company for its lanes.
pub struct Harness {
    pub server: Program,
    tls: Option<TlsPlace>,
    pub faucet: TapeFeed,
    tape: Arc<Tape>,
    pub puppet: StockClient,
    pub ledger: Ledger,
    lookout: RawClient,
    pings: u64,
    _turn: Turn,
}

/// A place among those that decode at the same time. Each of them keeps a core busy for as long as it lives: with more than
/// two, on two cores, a client that reads as fast as it can is behind nevertheless.
struct Turn;

const TURNS: usize = 2;
static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Turn {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *FREED.wait_while(taken, |taken| *taken == TURNS).unwrap_or_else(PoisonError::into_inner) += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Where the client connects over TLS, and what it trusts.
struct TlsPlace {
    port: u16,
    files: CertificateFiles,
}

/// What `/metrics` says at one moment.
pub struct Metrics(String);

impl Metrics {
    pub fn boarded(&self) -> f64 {
        sum(&self.0, "fanline_window_sessions", "")
    }

    pub fn behind(&self) -> f64 {
        sum(&self.0, "fanline_sessions_behind", "")
    }

    pub fn saved(&self, scheme: &str) -> f64 {
        sum(&self.0, "fanline_saved_bytes_total", &format!("scheme=\"{scheme}\""))
    }

    pub fn sent(&self, encoding: &str) -> f64 {
        sum(&self.0, "fanline_sent_bytes_total", &format!("encoding=\"{encoding}\""))
    }

    /// Bytes of frames that reached somebody compressed, and not through a window.
    pub fn sent_apart(&self) -> f64 {
        self.sent("envelope_tokens") + self.sent("envelope_deflate")
    }

    /// Frames that were compressed each alone; every other referred to messages before it.
    pub fn stateless(&self) -> u64 {
        sum(&self.0, "fanline_encodings_total", "encoding=\"envelope_deflate\"") as u64
    }

    /// Grows with every report of a shard during which frames were sent.
    pub fn made(&self) -> f64 {
        sum(&self.0, "fanline_encodings_total", "")
    }

    pub fn sessions(&self) -> f64 {
        sum(&self.0, "fanline_sessions", "")
    }

    pub fn head(&self) -> u64 {
        sum(&self.0, "fanline_head_offset", "") as u64
    }
}

impl Harness {
    /// A server whose lanes get a window with so many members, for a client that begins with this path. Company of so
    /// many sessions is on `company_path` when it comes.
    pub fn set(
        members_min: usize,
        client: (&Launch, &str),
        path: &str,
        company: (&str, usize),
    ) -> (Harness, Vec<Blind>) {
        Harness::set_over(None, members_min, client, path, company)
    }

    /// The same with TLS, for the client that is looked at.
    pub fn set_over_tls(
        files: CertificateFiles,
        members_min: usize,
        client: (&Launch, &str),
        path: &str,
        company: (&str, usize),
    ) -> (Harness, Vec<Blind>) {
        Harness::set_over(Some(files), members_min, client, path, company)
    }

    fn set_over(
        files: Option<CertificateFiles>,
        members_min: usize,
        client: (&Launch, &str),
        path: &str,
        (company_path, company): (&str, usize),
    ) -> (Harness, Vec<Blind>) {
        let turn = Turn::take();
        let tape = Arc::new(Tape::open());
        let mut faucet = TapeFeed::open(tape.clone());
        let members = members_min.to_string();
        let settings = [&SETTINGS[..], &ON_TAP, &[("COMPRESSION_WINDOW_MEMBERS_MIN", &members)]].concat();
        let args = [&*faucet.ws("/stream"), "--profile", PROFILE];
        let (server, tls) = match files {
            None => (Program::serve(&args, &settings), None),
            Some(files) => {
                let TlsServer { program, port } = TlsServer::serve(&files.pair(), &args, &settings);
                (program, Some(TlsPlace { port, files }))
            }
        };
        faucet.pour(STEP);
        let company = join(&server, company_path, company);
        let puppet = start(&server, tls.as_ref(), client, path);
        let (ledger, lookout) = (Ledger::default(), RawClient::connect(server.addr(), "/v1/ws", ""));
        (Harness { server, tls, faucet, tape, puppet, ledger, lookout, pings: 0, _turn: turn }, company)
    }

    pub fn metrics(&self) -> Metrics {
        Metrics(self.server.get("/metrics").body)
    }

    pub fn order(&mut self, order: &str) {
        self.puppet.order(order);
    }

    /// Sends a command, and goes on until it was answered.
    pub fn command(&mut self, command: &str) {
        let answers = self.ledger.answers;
        self.order(&format!("send {command}"));
        self.flow_while(command, |harness| harness.ledger.answers == answers);
    }

    /// Changes the pace, 0 for every frame.
    pub fn pace(&mut self, every_ms: u64) {
        self.ledger.expect_pace(every_ms > 0);
        let topics = self.ledger.patterns().to_vec();
        self.command(&json!({"op": "subscribe", "topics": topics, "every_ms": every_ms}).to_string());
    }

    /// The client leaves in the middle of the stream, misses some of it, and comes back with its cursor.
    pub fn resume(&mut self, client: (&Launch, &str)) {
        self.flow(1);
        let topics = self.ledger.patterns().join(",");
        let (tape, ledger) = (&self.tape, &mut self.ledger);
        self.puppet.close().iter().filter(|text| !text.is_empty()).for_each(|text| ledger.take(text, tape));
        self.faucet.pour(STEP);
        let path = format!("/v1/ws?policy=lossless&topics={topics}&since={}", self.ledger.resume());
        self.puppet = start(&self.server, self.tls.as_ref(), client, &path);
        // What was not answered before will not be.
        self.pings = self.ledger.pongs;
        self.flow(STEP);
    }

    pub fn take(&mut self, patience: Duration) {
        let mut next = self.puppet.line(patience);
        while let Some(text) = next {
            self.ledger.take(&text, &self.tape);
            next = self.puppet.line(Duration::ZERO);
        }
    }

    /// Pours while the condition holds, as fast as the client reads; with pings in between.
    pub fn flow_while(&mut self, what: &str, mut goes_on: impl FnMut(&mut Harness) -> bool) {
        let mut moved = Instant::now();
        while goes_on(self) {
            // At a pace the position passes whatever was published meanwhile.
            let ahead = if self.ledger.is_paced() { STEP } else { AHEAD };
            if self.faucet.poured() < self.ledger.position() + ahead {
                moved = Instant::now();
                self.faucet.pour(STEP);
                // More would wait for the second to be over, and whatever is asked then behind them.
                if self.pings < self.ledger.pongs + PINGS_MAX {
                    self.pings += 1;
                    self.order(r#"send {"op":"ping"}"#);
                }
            }
            assert!(moved.elapsed() < DEADLINE, "{what}: the client has stopped at {}", self.ledger.position());
            self.take(Duration::from_millis(5));
        }
    }

    pub fn flow(&mut self, frames: u64) {
        let until = self.ledger.live + frames;
        self.flow_while("the stream", |harness| harness.ledger.live < until);
    }

    /// Flows until a report that was begun from now on says that so many sessions are on board.
    pub fn until_boarded(&mut self, sessions: usize) {
        let start = Instant::now();
        while self.report().boarded() != sessions as f64 {
            assert!(start.elapsed() < DEADLINE, "expected {sessions} on board");
        }
    }

    /// Flows until there is a report that was begun from now on.
    pub fn report(&mut self) -> Metrics {
        let (mut reports, mut newest) = (0, self.metrics());
        self.flow_while("a report", |harness| {
            let metrics = harness.metrics();
            // The first one that is seen may have been begun before.
            reports += usize::from(metrics.made() > newest.made());
            newest = metrics;
            reports < 2
        });
        newest
    }

    /// The client stops reading until it has fallen behind, then reads again until it has caught up.
    pub fn stall(&mut self) {
        let start = Instant::now();
        self.order("pause");
        // A browser that is busy stops later than it is told, and falls behind for a moment before: once is not enough.
        let mut looks = 0;
        while looks < LOOKS_BEHIND {
            // No faster than the shard, which would be overrun by a whole ring, and everyone with it.
            if self.lookout.position() == self.faucet.poured() {
                looks = if self.metrics().behind() > 0.0 { looks + 1 } else { 0 };
                self.faucet.pour(if looks == 0 { 4 * STEP } else { STEP });
            } else {
                // The cores are the server's and the browsers' meanwhile.
                self.take(Duration::from_millis(5));
            }
            assert!(start.elapsed() < 2 * DEADLINE, "expected a client that reads nothing to fall behind");
        }
        // Some of them are for the way back.
        self.faucet.pour(AHEAD);
        let until = self.faucet.poured();
        while self.lookout.position() < until {
            assert!(start.elapsed() < 3 * DEADLINE, "expected offset {until} to be published");
        }
        self.order("resume");
        self.settle();
    }

    /// Everything that was poured arrives, and every ping is answered.
    pub fn settle(&mut self) {
        let (poured, start) = (self.faucet.poured(), Instant::now());
        while !self.ledger.is_at(poured, &self.tape) || self.ledger.pongs < self.pings {
            self.take(Duration::from_millis(5));
            assert!(start.elapsed() < DEADLINE, "expected offset {poured}, found {}", self.ledger.position());
        }
        assert_eq!(self.ledger.pongs, self.pings);
    }

    /// Nothing is outstanding, and nothing else comes. Says what has happened; gives how many frames came.
    pub fn finish(mut self, name: &str) -> (u64, Metrics) {
        self.settle();
        // A report that counts sessions which come only now, more than ever before, has counted all frames before them.
        // One scrape may show an old count beside a new gauge: the next one is sound.
        const NEWCOMERS: usize = 20;
        let _newcomers = join(&self.server, "/v1/ws", NEWCOMERS);
        // The client, the lookout, and nobody of the company.
        let expected = (NEWCOMERS + 2) as f64;
        eventually("a report after the last frame", || (self.metrics().sessions() == expected).then_some(()));
        let metrics = self.metrics();
        let Ledger { live, values, skipped, skips, .. } = self.ledger;
        eprintln!(
            "{name}: {live} frames and {values} current values were right, {skipped} skipped in {skips} notices; \
             {} of {} frames were compressed each alone",
            metrics.stateless(),
            metrics.head()
        );
        assert_eq!(self.puppet.close(), [""; 0], "{name}");
        (live + values, metrics)
    }
}

fn start(server: &Program, tls: Option<&TlsPlace>, (launch, offer): (&Launch, &str), path: &str) -> StockClient {
    let Some(TlsPlace { port, files }) = tls else { return StockClient::start(launch(&server.ws(path), offer)) };
    let mut command = launch(&format!("wss://localhost:{port}{path}"), offer);
    files.trust(&mut command);
    StockClient::start(command)
}

/// As many sessions more, on the lane of `path`.
pub fn join(server: &Program, path: &str, count: usize) -> Vec<Blind> {
    (0..count).map(|_| RawClient::connect(server.addr(), path, BROWSER_OFFER).look_away()).collect()
}
