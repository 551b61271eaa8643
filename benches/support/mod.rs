//! What the benchmarks share: clients that are drained as cheaply as possible, and the clocks of the CPU.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
pub use fanline::bench::cpu::process_cpu;
use fanline::bus::clock::Clock;
pub use fanline::bus::clock::thread_cpu;
use fanline::bus::publisher::Publisher;
use fanline::bus::{self, Limits};
use fanline::delivery::bus_handles::BusHandles;
use fanline::delivery::handoff::{Handoff, SessionOptions, StreamOptions};
use fanline::delivery::settings::Settings;
use fanline::delivery::settings::WindowSettings;
use fanline::delivery::shards::{Delivery, ShardThreads};
use fanline::settings::table::CompressionSettings;
use fanline::words::ids::Epoch;
use fanline::words::metrics::Meters;

pub struct Outcome {
    pub deliveries: f64,
    pub bytes: f64,
    pub cpu: Duration,
    pub wall: Duration,
}

impl Outcome {
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries
    }

    pub fn rate(&self) -> f64 {
        self.deliveries / self.wall.as_secs_f64()
    }
}

/// Connected sockets: ours, and a thread that drains theirs and counts the bytes.
pub struct Crowd {
    pub sockets: Vec<TcpStream>,
    /// Bytes the clients received.
    pub received: Arc<AtomicU64>,
    drainer_cpu: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    drainer: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    pub fn connect(clients: usize) -> Crowd {
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

/// Watches the sockets for bytes to read; their tokens are their places in the list.
pub fn watch(sockets: Vec<TcpStream>) -> (mio::Poll, Vec<mio::net::TcpStream>) {
    let poll = mio::Poll::new().expect("epoll");
    let watched = sockets.into_iter().enumerate().map(|(at, socket)| {
        socket.set_nonblocking(true).expect("non-blocking");
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, mio::Token(at), mio::Interest::READABLE).expect("epoll_ctl");
        socket
    });
    let watched = watched.collect();
    (poll, watched)
}

fn drain(sockets: Vec<TcpStream>, received: &AtomicU64, cpu: &AtomicU64, stop: &AtomicBool) {
    let (mut poll, mut sockets) = watch(sockets);
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

/// Counts for `span`, warm-up left out: bytes that arrived, deliveries as `deliveries` counts them, and the CPU of the
/// process without the drainer's.
pub fn measure(crowd: &Crowd, span: Duration, deliveries: impl Fn() -> f64) -> Outcome {
    std::thread::sleep(Duration::from_millis(500));
    let look = || {
        let drainer = Duration::from_nanos(crowd.drainer_cpu.load(Ordering::Relaxed));
        let cpu = process_cpu().saturating_sub(drainer);
        (deliveries(), crowd.received.load(Ordering::Relaxed), cpu, Instant::now())
    };
    let before = look();
    std::thread::sleep(span);
    let after = look();
    Outcome {
        deliveries: after.0 - before.0,
        bytes: (after.1 - before.1) as f64,
        cpu: after.2.saturating_sub(before.2),
        wall: after.3 - before.3,
    }
}

/// One shard as the server starts it, but for timers so long that they do not show.
pub fn start_shard(meters: &Meters) -> (Publisher, Delivery, ShardThreads, Clock) {
    start_shard_with(WindowSettings { windows_max: 8, members_min: 4 }, meters)
}

/// The same with windows of another kind.
pub fn start_shard_with(window: WindowSettings, meters: &Meters) -> (Publisher, Delivery, ShardThreads, Clock) {
    let limits = Limits { ring_frames_max: 65_536, ring_bytes_max: 64 << 20, topics_max: 1000 };
    let clock = Clock::start();
    let (publisher, reader) = bus::open(Epoch(1), limits, meters);
    let compression = CompressionSettings {
        windows_max: window.windows_max,
        window_members_min: window.members_min,
        ..CompressionSettings::default()
    };
    let settings = Settings { compression, ..Settings::lenient() };
    let (delivery, threads) = Delivery::start(settings, &BusHandles::reading(reader), clock, meters).expect("threads");
    (publisher, delivery, threads, clock)
}

/// Hands the crowd to the shard, as the edge would.
pub fn adopt(crowd: &mut Crowd, delivery: &Delivery, options: &SessionOptions) {
    for socket in crowd.sockets.drain(..) {
        let SessionOptions { format, deflate, every, ref stream, ref patterns, .. } = *options;
        let stream = stream.as_ref().map(|it| StreamOptions { kind: it.kind, gzip: it.gzip, head: it.head.clone() });
        let options =
            SessionOptions { format, deflate, every, stream, patterns: patterns.clone(), ..Default::default() };
        delivery.adopt(Handoff { socket: socket.into(), unread: Bytes::new(), options, permit: None });
    }
}
