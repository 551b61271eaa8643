//! Savings and cost of the shared window: recorded feeds to a lane of 1000 clients, plain and deflated side by side.
//!
//! `cargo bench --bench compression -- [CLIENTS] [SECONDS]`. Bytes per delivery are counted at the clients, WebSocket
//! headers included; ratio = payload bytes / bytes sent. Recordings are read from `FANLINE_SHARED` or `../shared`. With
//! `sweep [SECONDS]` instead: the measurements behind the settings of the shared window (`support/sweep.rs`).

#[allow(dead_code)]
mod support;
#[path = "support/sweep.rs"]
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bus::retention::Retention;
use fanline::delivery::handoff::SessionOptions;
use fanline::delivery::settings::WindowSettings;
use fanline::protocol::encoding::{Format, Payload, PayloadKind};
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;
use support::{Crowd, Outcome, adopt, measure, start_shard_with};

/// Feeds, and what zlib at level 6 gives for each with a window that is cut every 256 messages.
const FEEDS: [(&str, f64); 4] =
    [("binance-spot", 6.74), ("coinbase-exchange", 5.57), ("kraken-v2", 7.24), ("okx-v5", 5.41)];
/// Messages per second: one write per delivery.
const RATE: u32 = 100;
/// As by default.
const WINDOW: WindowSettings = WindowSettings { windows_max: 8, members_min: 4 };
const KEEPS: Agreement = Agreement { server_no_context_takeover: false, server_max_window_bits: None };
const STATELESS: Agreement = Agreement { server_no_context_takeover: true, ..KEEPS };

/// The parameters of one run.
#[derive(Clone, Copy)]
struct Plan {
    clients: usize,
    /// Messages per second.
    rate: u32,
    window: WindowSettings,
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if std::env::args().any(|argument| argument == "sweep") {
        return sweep::sweep(Duration::from_secs(numbers.first().copied().unwrap_or(3)));
    }
    let clients = numbers.first().copied().unwrap_or(1000) as usize;
    let span = Duration::from_secs(numbers.get(1).copied().unwrap_or(10));
    let plan = Plan { clients, rate: RATE, window: WINDOW };
    println!("{clients} clients, {RATE} messages/s, {} s per figure, payloads as recorded", span.as_secs());
    println!(
        "{:<20}{:>9}{:>11}{:>9}{:>11}{:>14}{:>14}{:>7}",
        "feed", "payload", "stateless", "window", "share of", "CPU us plain", "CPU us window", "ratio"
    );
    println!("{:<20}{:>9}{:>11}{:>9}{:>11}", "", "bytes", "ratio", "ratio", "cut/256");
    for (feed, expected) in FEEDS {
        let Some(payloads) = payloads(feed) else {
            println!("{feed:<20} SKIPPED: no recording in ../shared/feeds");
            continue;
        };
        let (plain, plain_bytes) = run(&payloads, plan, span, None);
        let (alone, alone_bytes) = run(&payloads, plan, span, Some(STATELESS));
        let (window, window_bytes) = run(&payloads, plan, span, Some(KEEPS));
        let ratio = |outcome: &Outcome, bytes: f64| bytes / (outcome.bytes / outcome.deliveries);
        let saved = ratio(&window, window_bytes);
        println!(
            "{feed:<20}{plain_bytes:>9.0}{:>11.2}{saved:>9.2}{:>11.2}{:>14.3}{:>14.3}{:>7.2}",
            ratio(&alone, alone_bytes),
            saved / expected,
            plain.cpu_us(),
            window.cpu_us(),
            window.cpu_us() / plain.cpu_us()
        );
    }
}

/// One run; also the mean payload of what was published while it was measured.
fn run(payloads: &[Bytes], plan: Plan, span: Duration, deflate: Option<Agreement>) -> (Outcome, f64) {
    let Plan { clients, rate, window } = plan;
    let (mut publisher, delivery, threads, clock) = start_shard_with(window, &Meters::unread());
    let mut crowd = Crowd::connect(clients);
    let patterns = vec![Pattern::parse(">").expect("a pattern")];
    adopt(
        &mut crowd,
        &delivery,
        &SessionOptions { patterns, deflate, format: Format::Raw, ..SessionOptions::default() },
    );
    let (stop, published, bytes) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let shared = (stop.clone(), published.clone(), bytes.clone());
    let payloads = payloads.to_vec();
    let publishing = std::thread::spawn(move || {
        let started = Instant::now();
        // The first 300 at once: the window has opened before the measurement begins.
        for (number, payload) in (0u32..).zip(payloads.iter().cycle()) {
            if shared.0.load(Ordering::Relaxed) {
                return;
            }
            let bytes = payload.len() as u64;
            let payload = Payload { bytes: payload.clone(), kind: PayloadKind::Json };
            publisher.publish("topic", payload, Retention::NEWEST, clock.now()).expect("a good topic");
            shared.1.fetch_add(1, Ordering::Relaxed);
            shared.2.fetch_add(bytes, Ordering::Relaxed);
            let due = started + Duration::from_secs(1) * number.saturating_sub(300) / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    let before = std::cell::Cell::new(None);
    let outcome = measure(&crowd, span, || {
        let now = (published.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        before.set(before.get().or(Some(now)));
        now.0 as f64 * clients as f64
    });
    let (first, first_bytes) = before.get().expect("measured");
    let mean =
        (bytes.load(Ordering::Relaxed) - first_bytes) as f64 / (published.load(Ordering::Relaxed) - first) as f64;
    stop.store(true, Ordering::Relaxed);
    publishing.join().expect("the publisher ends");
    delivery.stop();
    threads.join();
    (outcome, mean)
}

fn payloads(feed: &str) -> Option<Vec<Bytes>> {
    let shared = std::env::var_os("FANLINE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let text = std::fs::read_to_string(shared.join("feeds").join(feed).join("capture.jsonl")).ok()?;
    let payloads = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["dir"] == "in").then(|| line["data"].as_str().map(|data| Bytes::from(data.to_owned())))?
    });
    Some(payloads.collect())
}
