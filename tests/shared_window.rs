//! Real clients decode the shared window: 100,000 messages each, whatever happens to them and around them.
//!
//! Each stack is on a server of its own, with the tape poured as fast as the client reads. Every message it decodes is
//! compared with the tape; the server's metrics prove that what should happen to it did happen.

mod kit;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::http::sum;
use kit::ledger::Ledger;
use kit::program::Program;
use kit::raw_client::{Blind, RawClient};
use kit::stock_client::StockClient;
use kit::tape::{PROFILE, Tape};
use kit::tape_feed::{ON_TAP, TapeFeed};
use kit::{DEADLINE, eventually, project, skip_without_tool, tool};

/// Messages that each client receives through the shared window.
const MESSAGES: u64 = 100_000;
/// Frames poured at once, and how many a client that reads may be behind: its buffers in the kernel hold more.
const STEP: u64 = 500;
const AHEAD: u64 = 2_000;
/// Messages that a client receives which asked for something that the shared window cannot give.
const MESSAGES_APART: u64 = 10_000;

/// One shard, so that all on one set of patterns share a lane. A client that must not miss anything
/// says so; any other skips as soon as it is behind.
const SETTINGS: [(&str, &str); 4] =
    [("SHARDS_COUNT", "1"), ("SLOW_UNSENT_BYTES_MAX", "1KiB"), ("SLOW_REPLAY_MAX", "0s"), ("PING_INTERVAL", "1h")];

/// What browsers offer.
const BROWSER_OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const ONE: &str = "/v1/ws?policy=lossless&topics=btcusdt@*";
const BOTH: &str = "/v1/ws?policy=lossless&topics=btcusdt@*,ethusdt@*";

/// A server whose feed is a faucet, one client that is looked at, and company for its lanes.
struct Harness {
    server: Program,
    faucet: TapeFeed,
    tape: Arc<Tape>,
    puppet: StockClient,
    ledger: Ledger,
    lookout: RawClient,
    pings: u64,
}

/// What `/metrics` says at one moment.
struct Metrics(String);

impl Metrics {
    fn boarded(&self) -> f64 {
        sum(&self.0, "fanline_window_sessions", "")
    }

    fn behind(&self) -> f64 {
        sum(&self.0, "fanline_sessions_behind", "")
    }

    fn saved(&self, scheme: &str) -> f64 {
        sum(&self.0, "fanline_saved_bytes_total", &format!("scheme=\"{scheme}\""))
    }

    fn sent(&self, encoding: &str) -> f64 {
        sum(&self.0, "fanline_sent_bytes_total", &format!("encoding=\"{encoding}\""))
    }

    /// Bytes of frames that reached somebody compressed, and not through a window.
    fn sent_apart(&self) -> f64 {
        self.sent("envelope_tokens") + self.sent("envelope_deflate")
    }

    /// Frames that were compressed each alone; every other referred to messages before it.
    fn stateless(&self) -> u64 {
        sum(&self.0, "fanline_encodings_total", "encoding=\"envelope_deflate\"") as u64
    }

    /// Grows with every report of a shard during which frames were sent.
    fn made(&self) -> f64 {
        sum(&self.0, "fanline_encodings_total", "")
    }

    fn sessions(&self) -> f64 {
        sum(&self.0, "fanline_sessions", "")
    }

    fn head(&self) -> u64 {
        sum(&self.0, "fanline_head_offset", "") as u64
    }
}

/// How a test starts a client: by its URL, and what it should offer.
type Client<'a> = &'a dyn Fn(&str, &str) -> Command;

impl Harness {
    /// A server whose lanes get a window with so many members; that many are there when the client comes.
    fn set(members_min: usize, client: Client, offer: &str) -> (Harness, Vec<Blind>) {
        let tape = Arc::new(Tape::open());
        let mut faucet = TapeFeed::open(tape.clone());
        let members = members_min.to_string();
        let settings = [&SETTINGS[..], &ON_TAP, &[("COMPRESSION_WINDOW_MEMBERS_MIN", &members)]].concat();
        let server = Program::serve(&[&faucet.ws("/stream"), "--profile", PROFILE], &settings);
        faucet.pour(STEP);
        let company = join(&server, ONE, members_min);
        let puppet = StockClient::start(client(&server.ws(ONE), offer));
        let (ledger, lookout) = (Ledger::default(), RawClient::connect(server.addr(), "/v1/ws", ""));
        (Harness { server, faucet, tape, puppet, ledger, lookout, pings: 0 }, company)
    }

    fn metrics(&self) -> Metrics {
        Metrics(self.server.get("/metrics").body)
    }

    fn order(&mut self, order: &str) {
        self.puppet.order(order);
    }

    /// Sends a command, and goes on until it was answered.
    fn command(&mut self, command: &str) {
        let answers = self.ledger.answers;
        self.order(&format!("send {command}"));
        self.flow_while(command, |harness| harness.ledger.answers == answers);
    }

    fn take(&mut self, patience: Duration) {
        let mut next = self.puppet.line(patience);
        while let Some(text) = next {
            self.ledger.take(&text, &self.tape);
            next = self.puppet.line(Duration::ZERO);
        }
    }

    /// Pours while the condition holds, as fast as the client reads; with a ping for every step.
    fn flow_while(&mut self, what: &str, mut goes_on: impl FnMut(&mut Harness) -> bool) {
        let mut moved = Instant::now();
        while goes_on(self) {
            if self.faucet.poured() < self.ledger.position() + AHEAD {
                moved = Instant::now();
                self.faucet.pour(STEP);
                self.pings += 1;
                self.order(r#"send {"op":"ping"}"#);
            }
            assert!(moved.elapsed() < DEADLINE, "{what}: the client has stopped at {}", self.ledger.position());
            self.take(Duration::from_millis(5));
        }
    }

    fn flow(&mut self, frames: u64) {
        let until = self.ledger.live + frames;
        self.flow_while("the stream", |harness| harness.ledger.live < until);
    }

    /// Flows until a report that was begun from now on says that so many sessions are on board.
    fn until_boarded(&mut self, sessions: usize) {
        let (mut reports, mut made) = (0, self.metrics().made());
        let start = Instant::now();
        self.flow_while("boarding", |harness| {
            let metrics = harness.metrics();
            // The first one that is seen may have been begun before.
            reports += usize::from(metrics.made() > made);
            made = metrics.made();
            let boarded = metrics.boarded();
            assert!(start.elapsed() < DEADLINE, "expected {sessions} on board, found {boarded}");
            reports < 2 || boarded != sessions as f64
        });
    }

    /// The client stops reading until it has fallen behind, then reads again until it has caught up.
    fn stall(&mut self) {
        let start = Instant::now();
        self.order("pause");
        while self.metrics().behind() == 0.0 {
            // No faster than the shard, which would be overrun by a whole ring, and everyone with it.
            if self.lookout.position() == self.faucet.poured() {
                self.faucet.pour(4 * STEP);
            }
            assert!(start.elapsed() < DEADLINE, "expected a client that reads nothing to fall behind");
        }
        // Some of them are for the way back.
        self.faucet.pour(AHEAD);
        let until = self.faucet.poured();
        while self.lookout.position() < until {
            assert!(start.elapsed() < 2 * DEADLINE, "expected offset {until} to be published");
        }
        self.order("resume");
        self.settle();
    }

    /// Everything that was poured arrives, and every ping is answered.
    fn settle(&mut self) {
        let (poured, start) = (self.faucet.poured(), Instant::now());
        while !self.ledger.is_at(poured, &self.tape) || self.ledger.pongs < self.pings {
            self.take(Duration::from_millis(5));
            assert!(start.elapsed() < DEADLINE, "expected offset {poured}, found {}", self.ledger.position());
        }
        assert_eq!(self.ledger.pongs, self.pings);
    }

    /// Nothing is outstanding, and nothing else comes. Says what has happened; gives how many frames came.
    fn finish(mut self, name: &str) -> (u64, Metrics) {
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

/// As many sessions more, on the lane of `path`.
fn join(server: &Program, path: &str, count: usize) -> Vec<Blind> {
    (0..count).map(|_| RawClient::connect(server.addr(), path, BROWSER_OFFER).look_away()).collect()
}

/// Lives through everything that a session on board can meet, then through the long way.
fn check_window(name: &str, client: Client) {
    let (mut harness, mut company) = Harness::set(3, client, "window");
    let extensions = &harness.puppet.extensions;
    assert!(extensions.starts_with("permessage-deflate"), "{name}: {extensions}");
    assert!(!extensions.contains("server_no_context_takeover"), "{name}: {extensions}");

    // It boards in the middle of the stream, falls behind, and boards again after the current values.
    harness.until_boarded(4);
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"conflate"}"#);
    harness.until_boarded(4);
    harness.stall();
    assert!(harness.ledger.skips > 0, "{name}: who conflates is skipped for");
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"lossless"}"#);
    harness.until_boarded(4);

    // The window is closed when the others have left, and a new one is opened when others come.
    company.clear();
    harness.until_boarded(0);
    harness.flow(2_000);
    company.extend(join(&harness.server, ONE, 3));
    harness.until_boarded(4);

    // To another lane that has a window, back to this one, and there again.
    company.extend(join(&harness.server, BOTH, 3));
    harness.until_boarded(7);
    for _ in 0..2 {
        harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
        harness.until_boarded(7);
        harness.command(r#"{"op":"unsubscribe","topics":["ethusdt@*"]}"#);
        harness.until_boarded(7);
    }
    harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
    company.drain(..3);
    harness.until_boarded(4);

    // Behind once more; now it gets everything that it missed.
    let skips = harness.ledger.skips;
    harness.stall();
    assert_eq!(harness.ledger.skips, skips, "{name}: who is lossless is replayed to");
    harness.until_boarded(4);
    assert!(harness.ledger.values > 0, "{name}: current values came with changes of the subscription");

    check_long_way(name, harness, company);
}

/// With others coming and going, until enough has come through the window.
fn check_long_way(name: &str, mut harness: Harness, mut company: Vec<Blind>) {
    const ROUNDS_MAX: usize = 100;
    let (mut rounds, mut through_window) = (0, 0);
    while through_window < MESSAGES {
        assert!(rounds < ROUNDS_MAX, "{name}: {through_window} messages through the window in {rounds} rounds");
        company.remove(0);
        company.extend(join(&harness.server, BOTH, 1));
        harness.until_boarded(4);
        let (before, live) = (harness.metrics(), harness.ledger.live);
        harness.flow(MESSAGES / 20);
        let received = harness.ledger.live - live;
        harness.until_boarded(4);
        // All are on this lane: if nothing reached anyone otherwise, all of this came through the window.
        if harness.metrics().sent_apart() == before.sent_apart() {
            through_window += received;
        }
        rounds += 1;
    }
    drop(company);
    let (_, metrics) = harness.finish(name);
    eprintln!("{name}: {through_window} messages came through the window, with {rounds} newcomers");
    // A newcomer receives tokens until it boards.
    assert!(metrics.sent("envelope_tokens") > 0.0, "{name}: newcomers received no tokens");
    // The tape shrinks to less than a quarter; half is a bound that needs no measurement.
    let (saved, sent) = (metrics.saved("window"), metrics.sent("envelope_window"));
    assert!(saved > sent && sent > 0.0, "{name}: {sent} bytes sent through the window, {saved} saved");
}

/// A client that asked for `parameter` never boards, and still gets everything: each message alone if it keeps nothing,
/// else as tokens.
fn check_apart(name: &str, client: Client, (offer, parameter, keeps): Apart) {
    let (mut harness, company) = Harness::set(1, client, offer);
    let extensions = &harness.puppet.extensions;
    assert!(extensions.contains(parameter), "{name}, {offer}: {extensions}");
    while harness.ledger.live < MESSAGES_APART {
        harness.flow(MESSAGES_APART / 5);
        harness.until_boarded(company.len());
    }
    harness.command(r#"{"op":"subscribe","topics":["ethusdt@*"]}"#);
    harness.flow(MESSAGES_APART / 5);
    harness.until_boarded(company.len());
    drop(company);
    let (received, metrics) = harness.finish(&format!("{name}, {offer}"));
    let (stateless, tokens) = (metrics.stateless(), metrics.sent("envelope_tokens"));
    if keeps {
        // In a window of 1 KiB, depth messages are too long to be referred to.
        assert!(stateless < received / 2, "{name}, {offer}: {received} frames, {stateless} compressed each alone");
        assert!(metrics.saved("tokens") > tokens && tokens > 0.0, "{name}, {offer}: {tokens} bytes sent as tokens");
    } else {
        assert!(stateless >= received, "{name}, {offer}: {received} frames, {stateless} compressed each alone");
    }
}

fn python(script: &'static str, package: &str) -> Option<impl Fn(&str, &str) -> Command + use<>> {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"))?;
    let import = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    let found = import.is_ok_and(|output| output.status.success());
    found.then_some(move |url: &str, offer: &str| command(&python, "tests/stock", script, [url, offer]))
}

fn node(folder: &'static str, package: &str) -> Option<impl Fn(&str, &str) -> Command + use<>> {
    let node = tool("node").filter(|_| project(folder).join("node_modules").join(package).is_dir())?;
    Some(move |url: &str, offer: &str| command(&node, folder, "window_client.mjs", [url, offer]))
}

fn command(program: &Path, folder: &str, script: &str, args: [&str; 2]) -> Command {
    let mut command = Command::new(program);
    command.arg(project(folder).join(script)).args(args);
    command
}

#[test]
fn python_websockets_decodes_the_shared_window() {
    let Some(client) = python("window_client.py", "websockets") else {
        return skip_without_tool("shared_window", "`websockets` for Python");
    };
    check_window("websockets", &client);
}

#[test]
fn python_aiohttp_decodes_the_shared_window() {
    let Some(client) = python("window_aiohttp.py", "aiohttp") else {
        return skip_without_tool("shared_window", "`aiohttp` for Python");
    };
    check_window("aiohttp", &client);
}

#[test]
fn node_ws_decodes_the_shared_window() {
    let Some(client) = node("tests/stock", "ws") else {
        return skip_without_tool("shared_window", "Node with its package `ws`");
    };
    check_window("ws", &client);
}

#[test]
fn chromium_decodes_the_shared_window() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| tool(name));
    let Some((client, chromium)) = node("tests/page", "playwright-core").zip(chromium) else {
        return skip_without_tool("shared_window", "Chromium, or Node with its package `playwright-core`");
    };
    check_window("chromium", &|url, offer| {
        let mut command = client(url, offer);
        command.env("CHROMIUM", &chromium);
        command
    });
}

/// What a client offers, what must then be agreed on, and whether it keeps what it has inflated.
type Apart = (&'static str, &'static str, bool);

#[test]
fn a_client_with_no_context_or_a_small_window_never_boards_and_misses_nothing() {
    const NO_TAKEOVER: Apart = ("no_takeover", "server_no_context_takeover", false);
    const BITS_10: Apart = ("bits10", "server_max_window_bits=10", true);
    type Row = (&'static str, Box<dyn Fn(&str, &str) -> Command>, &'static [Apart]);
    let mut clients: Vec<Row> = Vec::new();
    match python("window_client.py", "websockets") {
        Some(client) => clients.push(("websockets", Box::new(client), &[NO_TAKEOVER, BITS_10])),
        None => skip_without_tool("shared_window", "`websockets` for Python"),
    }
    match python("window_aiohttp.py", "aiohttp") {
        Some(client) => clients.push(("aiohttp", Box::new(client), &[BITS_10])),
        None => skip_without_tool("shared_window", "`aiohttp` for Python"),
    }
    match node("tests/stock", "ws") {
        Some(client) => clients.push(("ws", Box::new(client), &[NO_TAKEOVER, BITS_10])),
        None => skip_without_tool("shared_window", "Node with its package `ws`"),
    }
    for (name, client, offers) in &clients {
        for apart in *offers {
            check_apart(name, client, *apart);
        }
    }
}
