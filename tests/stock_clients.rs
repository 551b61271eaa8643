//! Stock clients work unchanged: Python's `websockets` and Node's `ws`, with and without permessage-deflate.
//!
//! Each decodes everything and hands it back, so that it can be compared with the tape byte for byte.
//!
//! Clients of venues, from their registries and unchanged but for the URL, see what they see at the venue itself. That is a
//! replay here: of messages written by the test, and of the recording where there is one.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::http::sum;
use kit::program::Program;
use kit::relay::Relay;
use kit::stock_client::StockClient;
use kit::subscriber::PATIENT;
use kit::tape::{PROFILE, Tape, capture};
use kit::{DEADLINE, eventually, project, skip_without_tool, tool};
use serde::Deserialize;
use serde_json::{Value, json};

/// Frames that a client reads in each of its three ways to subscribe.
const COUNT: usize = 400;

/// What a client prints.
#[derive(Deserialize)]
struct Report {
    query: Visit,
    command: Visit,
    raw: Visit,
}

/// What a client found on one connection.
#[derive(Deserialize)]
struct Visit {
    extensions: String,
    subprotocol: Option<String>,
    /// Offsets grew from each frame to the next.
    increasing: bool,
    /// Frames that had an offset and data.
    offsets: usize,
    texts: Vec<String>,
}

/// A server on the tape in a loop.
struct Harness {
    server: Program,
    _venue: Program,
    tape: Tape,
}

const PATTERNS: &str = "btcusdt@*,*@trade";

impl Harness {
    fn set() -> Harness {
        let tape = Tape::open();
        let venue = Program::replay(tape.path(), &["--speed", "4", "--loop"]);
        let server = Program::serve(&[&venue.ws("/stream"), "--profile", PROFILE], &[]);
        Harness { server, _venue: venue, tape }
    }

    /// Runs a client program, which must succeed.
    fn run(&self, program: PathBuf, script: &str, mode: &str) -> Report {
        let url = self.server.ws("/v1/ws");
        let count = COUNT.to_string();
        let script = project("tests/stock").join(script);
        let args: [&OsStr; 5] = [script.as_ref(), url.as_ref(), mode.as_ref(), PATTERNS.as_ref(), count.as_ref()];
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("the client starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{mode}: the client failed:\n{errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{mode}: {error}\n{errors}"))
    }

    fn check(&self, mode: &str, report: &Report) {
        for (way, visit) in [("query", &report.query), ("command", &report.command), ("raw", &report.raw)] {
            assert_eq!(visit.texts.len(), COUNT, "{mode}, {way}");
            assert_eq!(visit.subprotocol.as_deref(), Some("fanline.v1"), "{mode}, {way}");
            assert_eq!(visit.extensions.contains("permessage-deflate"), mode == "deflate", "{mode}, {way}");
            assert!(visit.increasing, "{mode}, {way}: offsets must grow");
            assert_eq!(visit.offsets, if way == "raw" { 0 } else { COUNT }, "{mode}, {way}");
        }
        for text in report.query.texts.iter().chain(&report.command.texts) {
            self.tape.locate(text);
        }
        for text in &report.raw.texts {
            self.tape.locate_raw(text);
        }
    }

    fn deflated_bytes(&self) -> f64 {
        sum(&self.server.get("/metrics").body, "fanline_sent_bytes_total", "_deflate\"")
    }
}

/// Runs one client in both modes on a server of its own, so that the bytes on the wire can be distinguished.
fn visit(program: PathBuf, script: &str) {
    let harness = Harness::set();
    harness.check("plain", &harness.run(program.clone(), script, "plain"));
    assert_eq!(harness.deflated_bytes(), 0.0, "nothing is compressed for a client that did not ask for it");
    harness.check("deflate", &harness.run(program, script, "deflate"));
    assert!(harness.deflated_bytes() > 0.0, "what was negotiated is used");
}

#[test]
fn python_websockets_decodes_everything_with_and_without_deflate() {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"));
    let Some(python) = python else { return skip_without_tool("stock_clients", "`websockets` for Python") };
    visit(python, "client.py");
}

#[test]
fn node_ws_decodes_everything_with_and_without_deflate() {
    let node = tool("node").filter(|_| project("tests/stock/node_modules/ws").is_dir());
    let Some(node) = node else { return skip_without_tool("stock_clients", "Node with its package `ws`") };
    visit(node, "client.mjs");
}

/// Streams that the clients of Binance ask for; the feed has more.
const BINANCE_STREAMS: [&str; 6] = [
    "btcusdt@trade",
    "btcusdt@bookTicker",
    "btcusdt@depth@100ms",
    "ethusdt@trade",
    "ethusdt@bookTicker",
    "ethusdt@depth@100ms",
];

/// A client of a venue, and what it asks for.
struct VenueClient {
    name: &'static str,
    profile: &'static str,
    items: &'static [&'static str],
    /// Of the replay: some read no faster.
    speed: &'static str,
}

const fn of_binance(name: &'static str) -> VenueClient {
    VenueClient { name, profile: "binance", items: &BINANCE_STREAMS, speed: "max" }
}

#[test]
fn python_binance_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = of_binance("python-binance");
    let written = written("binance-python", &binance_messages());
    client.compare(&written, events_of(&written).len());
    client.survive_a_loss(&written);
    if let Some(recording) = capture("binance-spot") {
        client.compare(&recording, events_of(&recording).len());
    }
}

#[test]
fn unicorn_binance_websocket_api_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = of_binance("unicorn");
    let written = written("binance-unicorn", &binance_messages());
    client.compare(&written, events_of(&written).len());
    client.survive_a_loss(&written);
}

#[test]
fn the_official_client_of_binance_sees_through_fanline_what_it_sees_at_the_venue() {
    let written = written("binance-sdk", &binance_messages());
    // It throws away what comes before it has asked, as all of a replay does.
    of_binance("binance-sdk").see(&written, &events_of(&written));
}

#[test]
fn the_client_of_massive_sees_through_fanline_what_it_sees_at_the_venue() {
    let client =
        VenueClient { name: "massive", profile: "polygon", items: &["T.AAPL", "Q.AAPL", "T.BRK.B"], speed: "max" };
    client.compare(&written("massive", &massive_messages()), 3 * 200);
}

/// It checks every book against the venue's checksum.
#[test]
fn the_client_of_kraken_sees_through_fanline_what_it_sees_at_the_venue() {
    let client = VenueClient { name: "kraken", profile: "kraken-v2", items: &["BTC/USD"], speed: "4" };
    let Some(recording) = capture("kraken-v2") else { return };
    // Up to where the recording begins anew.
    client.compare(&recording, 13);
    // One that joins later begins with a whole book, which is right at every change.
    let venue = Program::replay(&recording, &["--speed", "4", "--loop"]);
    let server = client.serve(&venue.ws("/v2"));
    let Some(mut first) = client.start(&server.ws("/")) else { return };
    take(&mut first, 20);
    let mut late = client.start(&server.ws("/")).expect("it is there");
    let events = take(&mut late, 20);
    let message = |event: &String| serde_json::from_str::<Value>(event).expect("JSON")["data"]["message"].clone();
    assert_eq!(message(&events[0])["type"], "snapshot");
    assert!(events.iter().all(|event| message(event)["error"].is_null()), "a wrong book: {events:?}");
}

impl VenueClient {
    /// Compares what it sees at the venue, which is a replay of this file, and through fanline.
    fn compare(&self, file: &Path, count: usize) {
        let venue = Program::replay(file, &["--speed", self.speed]);
        let Some(mut direct) = self.start(&venue.ws("/")) else { return };
        self.see(file, &take(&mut direct, count));
    }

    /// Through fanline it sees these events of the file.
    fn see(&self, file: &Path, expected: &[String]) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(mut client) = self.start(&server.ws("/")) else { return };
        self.await_subscriptions(&server);
        let venue = Program::replay(file, &["--speed", self.speed]);
        gate.open(venue.addr());
        assert!(take(&mut client, expected.len()) == expected, "{} sees something else through fanline", self.name);
    }

    /// The feed is lost for a moment: a client that would miss trades is hung up on, comes back and goes on.
    fn survive_a_loss(&self, file: &Path) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(mut client) = self.start(&server.ws("/")) else { return };
        self.await_subscriptions(&server);
        let venue = Program::replay(file, &["--speed", "1", "--loop"]);
        gate.open(venue.addr());
        take(&mut client, 20);
        assert_eq!(gate.cut(), 1);
        gate.open(venue.addr());
        while client.line(DEADLINE).expect("the client goes on") != "lost" {}
        take(&mut client, 20);
        assert!(sum(&server.get("/metrics").body, "fanline_goodbyes_total", "\"feed_lost\"") > 0.0);
    }

    /// None, and it is said, if it is not installed.
    fn start(&self, base: &str) -> Option<StockClient> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
        let python = target.join("venues/bin/python");
        if !python.is_file() {
            skip_without_tool("stock_clients", &format!("{} for Python", self.name));
            return None;
        }
        let mut command = Command::new(python);
        command.arg(project("tests/stock/venue_client.py")).args([self.name, base]).args(self.items);
        Some(StockClient::start(command))
    }

    /// A fanline that asks the feed for what clients want.
    fn serve(&self, feed: &str) -> Program {
        let demand = [("UPSTREAM_DEMAND", "on")];
        let settings = [&PATIENT[..], &demand].concat();
        Program::serve_knowing(&[feed, "--profile", self.profile], &settings, &[("POLYGON_KEY", "a key")])
    }

    /// The client has asked for all its items, and fanline for all of them.
    fn await_subscriptions(&self, server: &Program) {
        eventually("the client has subscribed", || {
            let wanted = sum(&server.get("/metrics").body, "fanline_wanted_topics", "");
            (wanted == self.items.len() as f64).then_some(())
        });
    }
}

/// The next events, each as its JSON with sorted names.
fn take(client: &mut StockClient, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    while events.len() < count {
        let line = client.line(DEADLINE).unwrap_or_else(|| panic!("expected {count} events, found {}", events.len()));
        if line.starts_with('{') {
            events.push(line);
        }
    }
    events
}

/// A file to replay.
fn written(name: &str, lines: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
    std::fs::write(&path, lines).expect("a folder to write to");
    path
}

fn put_line(lines: &mut String, t_ms: u64, data: &str) {
    writeln!(lines, "{}", json!({"t_ns": t_ms * 1_000_000, "dir": "in", "data": data})).expect("room in memory");
}

/// Events of the streams of Binance in a file, as `take` gives them.
fn events_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a sound line"));
    let messages = lines.filter(|line| line["dir"] == "in").filter_map(|line| {
        let message: Value = serde_json::from_str(line["data"].as_str()?).ok()?;
        let is_asked_for = message["stream"].as_str().is_some_and(|stream| BINANCE_STREAMS.contains(&stream));
        is_asked_for.then(|| message.to_string())
    });
    messages.collect()
}

/// Numbers follow each other as at the venue, and further streams are among them.
fn binance_messages() -> String {
    let mut lines = String::new();
    for number in 0..600_u64 {
        let symbol = ["btcusdt", "ethusdt", "bnbusdt"][number as usize % 3];
        let upper = symbol.to_uppercase();
        let (first, last) = (number / 3 * 5 + 1, number / 3 * 5 + 5);
        let trade = format!(r#"{{"e":"trade","s":"{upper}","t":{number},"p":"{number}.50000000","q":"1.0"}}"#);
        let ticker = format!(r#"{{"u":{last},"s":"{upper}","b":"{number}.1","B":"1.0","a":"{number}.2","A":"2"}}"#);
        let depth =
            format!(r#"{{"e":"depthUpdate","s":"{upper}","U":{first},"u":{last},"b":[["{number}.1","0.0"]],"a":[]}}"#);
        for (place, (kind, data)) in
            [("trade", trade), ("bookTicker", ticker), ("depth@100ms", depth)].iter().enumerate()
        {
            let t_ms = (number * 3 + place as u64) * 2;
            put_line(&mut lines, t_ms, &format!(r#"{{"stream":"{symbol}@{kind}","data":{data}}}"#));
        }
    }
    lines
}

/// A message holds events of several kinds and symbols.
fn massive_messages() -> String {
    let mut lines = String::new();
    put_line(&mut lines, 0, r#"[{"ev":"status","status":"connected","message":"Connected Successfully"}]"#);
    put_line(&mut lines, 1, r#"[{"ev":"status","status":"auth_success","message":"authenticated"}]"#);
    for number in 0..200 {
        let events = format!(
            r#"[{{"ev":"T","sym":"AAPL","p":{number}.25,"s":1,"t":{number}}},{{"ev":"Q","sym":"AAPL","bp":{number}.2,"ap":{number}.3,"t":{number}}},{{"ev":"T","sym":"BRK.B","p":{number}.5,"s":2,"t":{number}}}]"#
        );
        put_line(&mut lines, 2 + number, &events);
    }
    lines
}
