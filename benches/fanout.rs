//! What one delivery costs: fanline's shard against the bare loop, which only sends ready bytes to the same sockets.
//!
//! `cargo bench --bench fanout -- [CLIENTS] [SECONDS]`. Two figures, each also as a ratio to the bare loop in the same
//! run, because the machine's own speed drifts: CPU per delivery at one write per delivery (100 messages a second), and
//! deliveries a second when saturated. Clients are drained by one thread of this process, whose CPU is not counted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bus::clock::Clock;
use fanline::bus::{self, Limits};
use fanline::delivery::door::Delivery;
use fanline::delivery::newcomer::{Newcomer, Terms};
use fanline::delivery::settings::Settings;
use fanline::delivery::window::WindowSettings;
use fanline::wire::encode::{Payload, PayloadKind};
use fanline::words::ids::Epoch;
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;

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
}

fn row(name: &str, ours: f64, bare: f64) {
    println!("{name:<34}{ours:>14.3}{bare:>14.3}{:>8.2}", ours / bare);
}

struct Outcome {
    deliveries: f64,
    cpu: Duration,
    wall: Duration,
}

impl Outcome {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries
    }

    fn rate(&self) -> f64 {
        self.deliveries / self.wall.as_secs_f64()
    }
}

/// Connected sockets: ours, and a thread that drains theirs and counts the bytes.
struct Crowd {
    sockets: Vec<TcpStream>,
    received: Arc<AtomicU64>,
    drainer_cpu: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    drainer: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn connect(clients: usize) -> Crowd {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut theirs = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..clients {
            theirs.push(TcpStream::connect(address).expect("loopback"));
            let (socket, _) = listener.accept().expect("a connection");
            socket.set_nonblocking(true).expect("non-blocking");
            socket.set_nodelay(true).expect("no delay");
            sockets.push(socket);
        }
        let (received, drainer_cpu, stop) = (Arc::default(), Arc::default(), Arc::default());
        let shared = (Arc::clone(&received), Arc::clone(&drainer_cpu), Arc::clone(&stop));
        let drainer = std::thread::spawn(move || drain(theirs, &shared.0, &shared.1, &shared.2));
        Crowd { sockets, received, drainer_cpu, stop, drainer: Some(drainer) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(drainer) = self.drainer.take() {
            drainer.join().expect("the drainer ends");
        }
    }
}

fn drain(sockets: Vec<TcpStream>, received: &AtomicU64, cpu: &AtomicU64, stop: &AtomicBool) {
    let mut poll = mio::Poll::new().expect("epoll");
    let mut sockets: Vec<mio::net::TcpStream> = sockets
        .into_iter()
        .map(|socket| {
            socket.set_nonblocking(true).expect("non-blocking");
            mio::net::TcpStream::from_std(socket)
        })
        .collect();
    for (at, socket) in sockets.iter_mut().enumerate() {
        poll.registry().register(socket, mio::Token(at), mio::Interest::READABLE).expect("epoll_ctl");
    }
    let mut events = mio::Events::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(50))).expect("epoll_wait");
        for event in &events {
            let socket = &mut sockets[event.token().0];
            while let Ok(bytes) = socket.read(&mut buffer) {
                if bytes == 0 {
                    break;
                }
                received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
        cpu.store(thread_cpu().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Runs for `span` and counts what arrived, warm-up left out; CPU is the process's without the drainer's.
fn measure(crowd: &Crowd, span: Duration, delivery_bytes: f64) -> Outcome {
    std::thread::sleep(Duration::from_millis(500));
    let look = || {
        let drainer = Duration::from_nanos(crowd.drainer_cpu.load(Ordering::Relaxed));
        (crowd.received.load(Ordering::Relaxed), process_cpu().saturating_sub(drainer), Instant::now())
    };
    let before = look();
    std::thread::sleep(span);
    let after = look();
    Outcome {
        deliveries: (after.0 - before.0) as f64 / delivery_bytes,
        cpu: after.1.saturating_sub(before.1),
        wall: after.2 - before.2,
    }
}

/// The shard itself: the publisher on one thread, sessions adopted as the edge would hand them over.
fn fanline(clients: usize, span: Duration, rate: Option<u32>) -> Outcome {
    let limits = Limits { ring_frames_max: 65_536, ring_bytes_max: 64 << 20, topics_max: 1000 };
    let meters = Meters::unread();
    let clock = Clock::start();
    let (mut publisher, reader) = bus::open(Epoch(1), limits, &meters);
    let settings = Settings {
        shards: 1,
        patterns_max: 10,
        lanes_max: 10,
        message_bytes_max: 1024,
        heartbeat_interval: Duration::from_secs(60),
        ping_interval: Duration::from_secs(60),
        ping_timeout: Duration::from_secs(60),
        replay_max: Duration::from_secs(60),
        write_deadline: Duration::from_secs(60),
        unsent_bytes_max: 1 << 20,
        compression_level: 6,
        window: WindowSettings { windows_max: 8, members_min: 8, cut_frames_max: 256, cut_frames_min: 64 },
    };
    let (delivery, threads) = Delivery::start(settings, &reader, clock, &meters).expect("threads");
    let mut crowd = Crowd::connect(clients);
    for socket in crowd.sockets.drain(..) {
        let patterns = vec![Pattern::parse(">").expect("a pattern")];
        let terms = Terms { patterns, format: fanline::wire::encode::Format::Raw, ..Terms::default() };
        delivery.adopt(Newcomer { socket, unread: Bytes::new(), terms, permit: None });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let received = crowd.received.clone();
    let publishing = std::thread::spawn(move || {
        let payload = Payload { bytes: Bytes::from(vec![b'x'; MESSAGE_BYTES - 4]), kind: PayloadKind::Text };
        let started = Instant::now();
        let mut published = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            publisher.publish("topic", payload.clone(), clock.now()).expect("a good topic");
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
    let outcome = measure(&crowd, span, MESSAGE_BYTES as f64);
    stop.store(true, Ordering::Relaxed);
    publishing.join().expect("the publisher ends");
    delivery.stop();
    threads.join();
    outcome
}

/// The physical limit: `batch` messages a send, nothing else.
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
    let outcome = measure(&crowd, span, MESSAGE_BYTES as f64);
    stop.store(true, Ordering::Relaxed);
    sending.join().expect("the sender ends");
    outcome
}

fn process_cpu() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

fn thread_cpu() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

fn clock(id: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
