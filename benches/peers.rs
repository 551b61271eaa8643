//! `make bench-peers`: the same load on other servers, each in its smallest setup, beside fanline and the bare loop.
//!
//! `cargo bench --bench peers -- [CLIENTS] [SECONDS]`, after benches/peers/setup. One publisher, the simulated market's
//! messages, every client gets every message. Written to target/bench/peers.md. What is missing is skipped loudly.

#[path = "peers/broadcast.rs"]
mod broadcast;
#[path = "support/machine.rs"]
mod machine;
#[path = "peers/servers.rs"]
mod servers;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fanline::bench::client::{Age, Reading};
use fanline::bench::cpu::usage;
use fanline::bench::crowd::Crowd;
use fanline::bench::speech::Speech;
use fanline::bench::tally::Latency;
use fanline::bus::clock::Clock;
use fanline::open_files::raise_open_files_limit;
use fanline::venue::market::MarketSettings;
use serde_json::Value;
use servers::{PEERS, Peer, Server, Wish, free_port};

/// Messages a second: one write per delivery. Compressed, few enough for servers that compress for each client.
const RATE: f64 = 100.0;
const RATE_DEFLATED: f64 = 10.0;
/// Saturated: messages that the publisher may be ahead of the average client.
const AHEAD_MESSAGES: f64 = 1000.0;
/// A server that lost messages never catches up; after this time without progress it is not waited for.
const STALL: Duration = Duration::from_millis(250);
const STILL: Duration = Duration::from_millis(500);
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// One row of the table.
#[derive(Default)]
struct Row {
    cpu_us: f64,
    p99_ms: f64,
    saturated: f64,
    saturated_cpu_us: f64,
    kib_per_connection: f64,
    bytes: f64,
    lost: f64,
    deflated: Option<(f64, f64)>,
}

/// What a stretch of messages has cost.
struct Stretch {
    deliveries: f64,
    bytes: f64,
    seconds: f64,
    cpu_us: f64,
    p99_ms: f64,
    lost: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, port] = &arguments[..]
        && command == "serve-broadcast"
    {
        return broadcast::serve(port.parse().expect("a port"));
    }
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(1000) as usize;
    let span = Duration::from_secs(numbers.get(1).copied().unwrap_or(5));
    raise_open_files_limit().expect("a limit of open files");
    let target = Path::new(env!("CARGO_BIN_EXE_fanline")).parent().and_then(Path::parent).expect("a target directory");

    let mut report = String::from("# The same load on other servers\n\n| | |\n|---|---|\n");
    for (name, text) in machine::description() {
        let _ = writeln!(report, "| {name} | {text} |");
    }
    let _ = write!(
        report,
        "\n{clients} clients, {} s per figure. CPU of the server's process.\n\n\
         | server | CPU us per delivery, {RATE} msg/s | p99 ms | lost | saturated, deliveries/s | CPU us | KiB per connection \
         | bytes per delivery | deflated, {RATE_DEFLATED} msg/s: CPU us | bytes |\n|---|---|---|---|---|---|---|---|---|---|\n",
        span.as_secs()
    );
    let mut told = |name: &str, row: &Row| {
        let line = line(name, row);
        eprint!("{line}");
        report.push_str(&line);
    };
    for (name, row) in fanline(clients, span) {
        told(name, &row);
    }
    for peer in PEERS {
        match measure(&peer, target, clients, span) {
            Some(row) => told(peer.name, &row),
            None => eprintln!("SKIPPED: {}: it does not start; run benches/peers/setup", peer.name),
        }
    }
    let path = target.join("bench").join("peers.md");
    std::fs::create_dir_all(target.join("bench")).expect("a writable target directory");
    std::fs::write(&path, report).expect("a writable target directory");
    println!("{}", path.display());
}

fn line(name: &str, row: &Row) -> String {
    let deflated = row.deflated.map_or("- | -".into(), |(cpu_us, bytes)| format!("{cpu_us:.1} | {bytes:.0}"));
    format!(
        "| {name} | {:.2} | {:.1} | {:.0} | {:.0} | {:.3} | {:.1} | {:.0} | {deflated} |\n",
        row.cpu_us, row.p99_ms, row.lost, row.saturated, row.saturated_cpu_us, row.kib_per_connection, row.bytes
    )
}

/// fanline and the bare loop, as `fanline bench` measures them.
fn fanline(clients: usize, span: Duration) -> [(&'static str, Row); 3] {
    let run = |rate: &str, more: &[&str]| -> Value {
        let (clients, seconds) = (clients.to_string(), span.as_secs().to_string());
        let args = ["bench", "--json", "--format", "raw", "--clients", &clients, "--seconds", &seconds, "--rate", rate];
        let output = Command::new(env!("CARGO_BIN_EXE_fanline")).args(args).args(more).output().expect("fanline runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let (slow, fast) = (run("100", &["--bare"]), run("max", &["--bare"]));
    let deflated = run("10", &["--deflate"]);
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let bare = |at: usize| Row {
        cpu_us: number(&slow, &format!("/bare/{at}/cpu_us_per_delivery")),
        p99_ms: number(&slow, &format!("/bare/{at}/latency/p99_us")) / 1000.0,
        saturated: number(&fast, &format!("/bare/{at}/deliveries_per_second")),
        saturated_cpu_us: number(&fast, &format!("/bare/{at}/cpu_us_per_delivery")),
        bytes: number(&slow, &format!("/bare/{at}/bytes_per_delivery")),
        ..Row::default()
    };
    let ours = Row {
        cpu_us: number(&slow, "/result/server/cpu_us_per_delivery"),
        p99_ms: number(&slow, "/result/latency/p99_us") / 1000.0,
        saturated: number(&fast, "/result/deliveries_per_second"),
        saturated_cpu_us: number(&fast, "/result/server/cpu_us_per_delivery"),
        kib_per_connection: number(&slow, "/result/server/bytes_per_connection") / 1024.0,
        bytes: number(&slow, "/result/bytes_per_delivery"),
        lost: number(&slow, "/result/lost"),
        deflated: Some((
            number(&deflated, "/result/server/cpu_us_per_delivery"),
            number(&deflated, "/result/bytes_per_delivery"),
        )),
    };
    [("bare loop, 1 message a send", bare(0)), ("bare loop, 64 messages a send", bare(2)), ("fanline", ours)]
}

/// None if the server does not start.
fn measure(peer: &Peer, target: &Path, clients: usize, span: Duration) -> Option<Row> {
    let mut stand = Stand::open(peer, target, clients, false)?;
    let kib_per_connection = stand.kib_per_connection;
    stand.stretch(Duration::from_secs(1), Some(RATE), None)?;
    let slow = stand.stretch(span, Some(RATE), None)?;
    let bytes_each = slow.bytes / slow.deliveries.max(1.0);
    // Counted by bytes, since a server may put several messages into a WireFrame.
    let fast = stand.stretch(span, None, Some(bytes_each))?;
    drop(stand);
    let deflated = peer.deflates.then(|| {
        let mut stand = Stand::open(peer, target, clients, true)?;
        let stretch = stand.stretch(span, Some(RATE_DEFLATED), None)?;
        Some((stretch.cpu_us, stretch.bytes / stretch.deliveries.max(1.0)))
    });
    Some(Row {
        cpu_us: slow.cpu_us,
        p99_ms: slow.p99_ms,
        saturated: fast.deliveries / fast.seconds,
        saturated_cpu_us: fast.cpu_us,
        kib_per_connection,
        bytes: bytes_each,
        lost: slow.lost,
        deflated: deflated.flatten(),
    })
}

/// A server and its clients.
struct Stand {
    server: Server,
    crowd: Crowd,
    clock: Clock,
    speech: Speech,
    kib_per_connection: f64,
}

impl Stand {
    fn open(peer: &Peer, target: &Path, clients: usize, deflate: bool) -> Option<Stand> {
        eprintln!("{}{}", peer.name, if deflate { ", deflated" } else { "" });
        let folder = folder(target);
        let (port, back_port) = (free_port(), free_port());
        let wish = Wish { deflate, folder: &folder, peers: &target.join("peers"), port, back_port };
        let server = (peer.start)(&wish)?;
        let clock = Clock::start();
        let reading = Reading { notices: false, dense: false, age: Age::Mark };
        let mut crowd = Crowd::gather(reading, deflate, clock).ok()?;
        let before = usage(server.id())?.resident_bytes;
        for index in 0..clients {
            match server.target.dial(index) {
                Ok(upgraded) => crowd.join(upgraded),
                Err(error) => {
                    eprintln!("{}: client {index}: {error}", peer.name);
                    return None;
                }
            }
        }
        std::thread::sleep(STILL);
        let grown = usage(server.id())?.resident_bytes.saturating_sub(before);
        let speech = Speech::new(MarketSettings::default(), 0).ok()?;
        Some(Stand { server, crowd, clock, speech, kib_per_connection: grown as f64 / 1024.0 / clients as f64 })
    }

    /// Publishes for `span` at a rate, or as fast as clients take it, and waits until all has come. With `bytes_each`
    /// deliveries are counted by bytes.
    fn stretch(&mut self, span: Duration, rate: Option<f64>, bytes_each: Option<f64>) -> Option<Stretch> {
        let clients = self.crowd.clients() as f64;
        self.crowd.restart();
        let (started, before) = (Instant::now(), usage(self.server.id())?);
        let (mut published, mut payload_bytes, mut given_up) = (0.0, 0.0, 0.0);
        let (mut best, mut since) = (0.0, Instant::now());
        while started.elapsed() < span {
            let due = match rate {
                Some(rate) => started.elapsed().as_secs_f64() * rate > published,
                None => {
                    let average = self.deliveries(bytes_each) / clients;
                    if average > best {
                        (best, since) = (average, Instant::now());
                    } else if since.elapsed() > STALL {
                        (given_up, since) = (published - average, Instant::now());
                    }
                    published - average - given_up < AHEAD_MESSAGES
                }
            };
            if !due {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            for _ in 0..if rate.is_some() { 1 } else { 16 } {
                let saying = self.speech.next(&self.clock);
                (self.server.publish)(&saying.text).ok()?;
                published += 1.0;
                payload_bytes += saying.text.len() as f64;
            }
        }
        let end = self.settle();
        let after = usage(self.server.id())?;
        let tally = self.crowd.look(Vec::new()).tally;
        let mut deliveries = self.deliveries(bytes_each);
        // nats-server may put several messages into a WireFrame; whoever got all payloads got all messages.
        if rate.is_some() && deliveries < published * clients && tally.bytes as f64 >= payload_bytes * clients {
            deliveries = published * clients;
        }
        Some(Stretch {
            deliveries,
            bytes: tally.bytes as f64,
            seconds: (end - started).as_secs_f64(),
            cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / deliveries.max(1.0),
            p99_ms: Latency::of(&tally.ages).map_or(f64::NAN, |latency| latency.p99_us / 1000.0),
            lost: (published * clients - deliveries).max(0.0).round(),
        })
    }

    fn deliveries(&self, bytes_each: Option<f64>) -> f64 {
        let tally = self.crowd.look(Vec::new()).tally;
        bytes_each.map_or(tally.deliveries as f64, |each| tally.bytes as f64 / each)
    }

    /// Waits until nothing more comes; answers when the last delivery came.
    fn settle(&self) -> Instant {
        let started = Instant::now();
        let (mut seen, mut since) = (u64::MAX, started);
        while since.elapsed() < STILL && started.elapsed() < DRAIN_DEADLINE {
            let bytes = self.crowd.look(Vec::new()).tally.bytes;
            if seen != bytes {
                (seen, since) = (bytes, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        since
    }
}

/// A new empty folder for one server.
fn folder(target: &Path) -> PathBuf {
    let folder = target.join("bench").join(format!("peer-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}
