//! What a stream of events costs beside a WebSocket: CPU and bytes per delivery, plain and compressed, and memory.
//!
//! `cargo bench --bench sse -- [CLIENTS] [SECONDS] [RUNS]`, by default 1000, 5 and 3. Everyone receives the simulated
//! market, 100 messages a second: one write per delivery. Each case runs in a process of its own, in turn; figures are
//! medians of the runs. CPU is that of the process without the clients. Memory is what as many clients again add to it;
//! what the kernel keeps for sockets is not in it.

#[allow(dead_code)]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bench::cpu::usage;
use fanline::bus::retention::Retention;
use fanline::delivery::handoff::{SessionOptions, StreamKind, StreamOptions};
use fanline::protocol::encoding::{Payload, PayloadKind};
use fanline::settings::table::MarketSettings;
use fanline::simulator::market::Market;
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;
use support::{Crowd, adopt, measure, start_shard};

const CASES: [&str; 4] = ["websocket", "events", "window", "gzip"];
const RATE: u32 = 100;
/// At once, before anything is measured: all windows are open then, and all clients on board.
const AHEAD: u32 = 1000;
/// Until new clients have their first values.
const SETTLED: Duration = Duration::from_secs(2);
/// What a stream of events may cost, in WebSockets.
const CPU_MAX: f64 = 1.15;
const BYTES_MAX: f64 = 1.05;
const MORE_KIB_MAX: f64 = 0.3;
const MARKET_MS: u64 = 1_767_225_600_000;

/// CPU per delivery in microseconds, bytes per delivery, KiB a client.
type Cost = [f64; 3];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (clients, seconds, runs) = (number(0, 1000), number(1, 5), number(2, 3));
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    if let Some(case) = arguments.last().filter(|argument| CASES.contains(&argument.as_str())) {
        let cost = cost(case, clients as usize, Duration::from_secs(seconds));
        println!("{} {} {}", cost[0], cost[1], cost[2]);
        return;
    }
    println!("{clients} clients, everyone gets every message, {RATE} messages/s, {seconds} s, medians of {runs} runs");
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for _ in 0..runs {
        for (case, costs) in CASES.iter().zip(&mut costs) {
            costs.push(in_a_process_of_its_own(case, clients, seconds));
        }
    }
    let [websocket, events, window, gzip] = costs.map(|costs| [0, 1, 2].map(|at| median(&costs, at)));
    println!("{:<34}{:>12}{:>12}{:>8}{:>8}", "", "events", "WebSocket", "ratio", "limit");
    let row = |name: &str, ours: f64, theirs: f64, limit: &str| {
        println!("{name:<34}{ours:>12.3}{theirs:>12.3}{:>8.2}{limit:>8}", ours / theirs);
    };
    row("CPU us per delivery, plain", events[0], websocket[0], &CPU_MAX.to_string());
    row("CPU us per delivery, compressed", gzip[0], window[0], &CPU_MAX.to_string());
    row("bytes per delivery, plain", events[1], websocket[1], "");
    row("bytes per delivery, compressed", gzip[1], window[1], &BYTES_MAX.to_string());
    for (name, ours, theirs) in [("plain", events[2], websocket[2]), ("compressed", gzip[2], window[2])] {
        row(&format!("KiB a client, {name}"), ours, theirs, "");
        println!("{:<34}{:>12.3}{:>28}", "  more by", ours - theirs, MORE_KIB_MAX);
    }
}

fn median(costs: &[Cost], at: usize) -> f64 {
    let mut figures: Vec<f64> = costs.iter().map(|cost| cost[at]).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn in_a_process_of_its_own(case: &str, clients: u64, seconds: u64) -> Cost {
    let program = std::env::current_exe().expect("a program");
    let numbers = [clients.to_string(), seconds.to_string()];
    let output = Command::new(program).args(&numbers).arg(case).output().expect("it runs");
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = told.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("expected three numbers, found `{told}`"))
}

fn options(case: &str) -> SessionOptions {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let events = |gzip| StreamOptions { kind: StreamKind::Events, gzip, head: Bytes::from_static(head.as_bytes()) };
    let window = Agreement { server_no_context_takeover: false, server_max_window_bits: None };
    SessionOptions {
        patterns: vec![Pattern::parse(">").expect("a pattern")],
        stream: (case == "events" || case == "gzip").then(|| events(case == "gzip")),
        deflate: (case == "window").then_some(window),
        ..SessionOptions::default()
    }
}

fn cost(case: &str, clients: usize, span: Duration) -> Cost {
    let (mut publisher, delivery, threads, clock) = start_shard(&Meters::unread());
    let (mut crowd, mut second) = (Crowd::connect(clients), Crowd::connect(clients));
    let options = options(case);
    adopt(&mut crowd, &delivery, &options);
    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let shared = (stop.clone(), published.clone());
    let publishing = spawn(move || {
        let mut market = Market::new(MarketSettings::default()).expect("a market");
        let started = Instant::now();
        for number in 0u32.. {
            if shared.0.load(Ordering::Relaxed) {
                return;
            }
            let text = market.next(MARKET_MS + u64::from(number)).text;
            let topic = text.split('"').nth(3).expect("a topic").to_owned();
            let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
            publisher.publish(&topic, payload, Retention::NEWEST, clock.now()).expect("a good topic");
            shared.1.fetch_add(1, Ordering::Relaxed);
            let due = started + Duration::from_secs(1) * number.saturating_sub(AHEAD) / RATE;
            sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    sleep(SETTLED);
    let outcome = measure(&crowd, span, || published.load(Ordering::Relaxed) as f64 * clients as f64);
    let resident = || usage(std::process::id()).expect("/proc").resident_bytes as f64 / 1024.0;
    let first = resident();
    adopt(&mut second, &delivery, &options);
    sleep(SETTLED);
    let more = resident() - first;
    stop.store(true, Ordering::Relaxed);
    publishing.join().expect("the publisher ends");
    delivery.stop();
    threads.join();
    [outcome.cpu_us(), outcome.bytes / outcome.deliveries, more / clients as f64]
}
