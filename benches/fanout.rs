//! The cost of one delivery: fanline's shard against the bare loop, which only sends ready bytes to the same sockets.
//!
//! `cargo bench --bench fanout -- [CLIENTS] [SECONDS]`. Two figures, each also as a ratio to the bare loop in the same
//! run, because the machine's own speed drifts: CPU per delivery at one write per delivery (100 messages per second),
//! and deliveries per second when saturated. One thread of this process drains the clients; its CPU is not counted.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bus::retention::Retention;
use fanline::delivery::handoff::SessionOptions;
use fanline::protocol::encoding::{Format, Payload, PayloadKind};
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;
use support::{Crowd, Outcome, adopt, measure, start_shard};

const MESSAGE_BYTES: usize = 160;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(1000) as usize;
    let seconds = numbers.get(1).copied().unwrap_or(5);
    println!("{clients} clients, everyone gets every message, {MESSAGE_BYTES} bytes, {seconds} s per figure");
    println!("{:<34}{:>14}{:>14}{:>8}", "", "fanline", "bare loop", "ratio");
    let span = Duration::from_secs(seconds);
    let (ours, bare) = (fanline(clients, span, Some(100)), bare_loop(clients, span, Some(100), 1));
    row("CPU us per delivery, 100 msg/s", ours.cpu_us(), bare.cpu_us());
    let (ours, bare) = (fanline(clients, span, None), bare_loop(clients, span, None, 64));
    row("deliveries/s, saturated (M)", ours.rate() / 1e6, bare.rate() / 1e6);
    row("CPU us per delivery, saturated", ours.cpu_us(), bare.cpu_us());
    row("GB/s, saturated", ours.bytes / ours.wall.as_secs_f64() / 1e9, bare.bytes / bare.wall.as_secs_f64() / 1e9);
}

fn row(name: &str, ours: f64, bare: f64) {
    println!("{name:<34}{ours:>14.3}{bare:>14.3}{:>8.2}", ours / bare);
}

/// The shard itself: the publisher on one thread, sessions adopted as the edge would hand them over.
fn fanline(clients: usize, span: Duration, rate: Option<u32>) -> Outcome {
    let (mut publisher, delivery, threads, clock) = start_shard(&Meters::unread());
    let mut crowd = Crowd::connect(clients);
    let patterns = vec![Pattern::parse(">").expect("a pattern")];
    adopt(&mut crowd, &delivery, &SessionOptions { patterns, format: Format::Raw, ..SessionOptions::default() });
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let received = crowd.received.clone();
    let publishing = std::thread::spawn(move || {
        let payload = Payload { bytes: Bytes::from(vec![b'x'; MESSAGE_BYTES - 4]), kind: PayloadKind::Text };
        let started = Instant::now();
        let mut published = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            publisher.publish("topic", payload.clone(), Retention::NEWEST, clock.now()).expect("a good topic");
            published += 1;
            match rate {
                Some(rate) => {
                    let due = started + Duration::from_secs_f64(published as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                // Saturated: as fast as clients take it, never more than half a ring ahead of the average client.
                None => {
                    while published > received.load(Ordering::Relaxed) / (MESSAGE_BYTES * clients) as u64 + 20_000
                        && !stopped.load(Ordering::Relaxed)
                    {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            }
        }
    });
    let outcome = measure(&crowd, span, || deliveries(&crowd));
    stop.store(true, Ordering::Relaxed);
    publishing.join().expect("the publisher ends");
    delivery.stop();
    threads.join();
    outcome
}

/// The physical limit: `batch` messages per send, nothing else.
fn bare_loop(clients: usize, span: Duration, rate: Option<u32>, batch: usize) -> Outcome {
    let crowd = Crowd::connect(clients);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let mut sockets: Vec<TcpStream> =
        crowd.sockets.iter().map(|socket| socket.try_clone().expect("another handle")).collect();
    let sending = std::thread::spawn(move || {
        let bytes = vec![b'x'; MESSAGE_BYTES * batch];
        let started = Instant::now();
        let mut rounds = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            for socket in &mut sockets {
                // A full socket is passed over: what counts is what arrived.
                let _ = socket.write(&bytes);
            }
            rounds += 1;
            if let Some(rate) = rate {
                let due = started + Duration::from_secs_f64(rounds as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    });
    let outcome = measure(&crowd, span, || deliveries(&crowd));
    stop.store(true, Ordering::Relaxed);
    sending.join().expect("the sender ends");
    outcome
}

fn deliveries(crowd: &Crowd) -> f64 {
    crowd.received.load(Ordering::Relaxed) as f64 / MESSAGE_BYTES as f64
}
