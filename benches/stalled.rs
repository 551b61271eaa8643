//! The cost of clients that stop reading for the others: latency, memory, and what the stalled clients receive
//! afterwards.
//!
//! `cargo bench --bench stalled -- [CLIENTS] [SECONDS] [RATE] [CYCLES]`. Starts the real server on a feed of this
//! process: 20 topics, RATE messages per second of 160 bytes. In each cycle every client reads for SECONDS; then 5 % of
//! the clients stop reading for SECONDS; then they read again. Latency is from the feed's `send` to the client's
//! `recv`, so it includes the load's own delay. Percentiles are taken over windows of a tenth of SECONDS; the median of
//! these is shown with the least and the greatest, because the machine's own noise is of that size.
//!
//! The stalled clients have small receive buffers (`SO_RCVBUF`), as phones have: the kernel's default of up to 6 MiB
//! can hold more than a minute of this feed, and no client would stall. The server's write deadline is set to an hour:
//! the default of 2 m would end them. Its ring is small (`RING_FRAMES`).

#[path = "support/account.rs"]
mod account;
#[path = "support/server.rs"]
mod server;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use account::{Account, Heard, TOPICS};
use server::{Server, upgrade};
use tokio_tungstenite::tungstenite::{Message, accept};

const MESSAGE_BYTES: usize = 160;
/// A small ring is soon full and then soon replaced: memory is at rest when it is compared. One of 65,536 frames takes
/// eleven minutes at 100 messages per second until no frame is left of how it was filled.
const RING_FRAMES: u64 = 4096;
const FILL_MESSAGES: u64 = 2 * RING_FRAMES;
const FILL_RATE: u64 = 1000;
/// Clients connected while the ring fills: some on every shard, so that all make encodings.
const FILL_CLIENTS: usize = 40;
/// One client in this many stalls: 5 %.
const STALL_EVERY: usize = 20;
/// Latency is taken of one client in this many, stalled ones left out.
const SAMPLE_EVERY: usize = 9;
/// `SO_RCVBUF` of those that stall; the kernel doubles it for its own book-keeping.
const STALL_RECEIVE_BYTES: usize = 32 * 1024;
/// Segments as on the internet: those of the loopback, 64 KiB, do not fit into a small buffer, and wait for a timer.
const STALL_SEGMENT_BYTES: u32 = 1400;
/// Windows of one phase.
const WINDOWS: u32 = 10;
/// How long clients that read again may take; it is not part of any figure.
const RETURN_MAX: Duration = Duration::from_secs(30);
/// Between two phases.
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (clients, seconds) = (number(0, 2000) as usize, number(1, 60));
    let (rate, cycles) = (number(2, 100), number(3, 3));
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    let feed = Feed::start(rate);
    let ring = RING_FRAMES.to_string();
    let arguments = ["--topic", "/s", "--slow-write-deadline", "1h", "--ring-frames-max", &ring, &feed.url];
    let server = Server::start(&arguments);
    let mut crowd = Crowd::new(feed.started);
    crowd.join(server.address, FILL_CLIENTS.min(clients));
    while feed.published.load(Ordering::Relaxed) < FILL_MESSAGES {
        crowd.read_for(Duration::from_millis(100));
    }
    crowd.join(server.address, clients);
    crowd.read_for(SETTLE);
    let stalling = crowd.clients.iter().filter(|client| client.stalls).count();
    println!(
        "{clients} clients on {TOPICS} topics, {rate} messages/s of {MESSAGE_BYTES} bytes; {stalling} stall for \
         {seconds} s in each of {cycles} cycles\nload average {}",
        std::fs::read_to_string("/proc/loadavg").expect("/proc").trim()
    );
    println!("{:<22}{:>26}{:>28}{:>12}{:>11}", "", "p50 ms (least-greatest)", "p99 ms", "memory MiB", "CPU cores");

    let span = Duration::from_secs(seconds);
    let (mut everyone, mut without) = (Phase::default(), Phase::default());
    for _ in 0..cycles {
        let reading = Phase::measure(&mut crowd, &server, span);
        reading.print("everyone reads");
        crowd.stalled = true;
        let stalled = Phase::measure(&mut crowd, &server, span);
        stalled.print(&format!("{:.0} behind", server.metric("fanline_sessions_behind")));
        everyone.add(reading);
        without.add(stalled);
        crowd.resume(&feed);
        crowd.read_for(SETTLE);
    }
    everyone.print("all: everyone reads");
    without.print("all: 5 % stalled");
    println!(
        "ratio stalled / reading: p50 {:.3}, p99 {:.3}, memory {:.4} (medians; greatest of the other: {:.4})",
        median(&without.p50) / median(&everyone.p50),
        median(&without.p99) / median(&everyone.p99),
        median(&without.memory) / median(&everyone.memory),
        greatest(&without.memory) / greatest(&everyone.memory),
    );
    crowd.print_faults();
}

/// The feed: one connection, messages at an even pace after those that fill the ring.
struct Feed {
    url: String,
    started: Instant,
    /// Number of the newest message.
    published: Arc<AtomicU64>,
}

impl Feed {
    fn start(rate: u64) -> Feed {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("ws://{}/", listener.local_addr().expect("an address"));
        let (started, published) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let newest = published.clone();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the server connects");
            stream.set_nodelay(true).expect("no delay");
            let mut socket = accept(stream).expect("an upgrade");
            socket.get_ref().set_nonblocking(true).expect("non-blocking");
            let mut due = Instant::now();
            for n in 1u64.. {
                let ns = started.elapsed().as_nanos();
                let head = format!(r#"{{"s":"topic.{}","n":{n},"ns":{ns},"pad":""#, n % TOPICS);
                let text = format!("{head:.<width$}\"}}", width = MESSAGE_BYTES - 2);
                // The server is gone at the end of the benchmark.
                let Ok(()) = socket.send(Message::text(text)) else { return };
                newest.store(n, Ordering::Relaxed);
                // Pings are answered by reading; there is seldom one.
                let _ = socket.read();
                due += Duration::from_secs(1) / if n < FILL_MESSAGES { FILL_RATE } else { rate } as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Feed { url, started, published }
    }
}

/// All clients, served by one loop.
struct Crowd {
    poll: mio::Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// What the feed's `ns` counts from.
    started: Instant,
    /// Of the clients sampled, since it was last emptied; in nanoseconds.
    latencies: Vec<u64>,
    /// Those that stall are not read from.
    stalled: bool,
}

struct Client {
    socket: mio::net::TcpStream,
    /// The beginning of a message whose end has not arrived yet.
    pending: Vec<u8>,
    /// Only of clients that stall or whose latency is taken.
    account: Option<Account>,
    stalls: bool,
    comeback: Option<Comeback>,
    /// Why the server has ended it, if it has.
    ended: Option<String>,
}

/// How a client that reads again became current.
struct Comeback {
    since: Instant,
    /// The newest offset when it began to read.
    head: u64,
    /// Bytes that were still in the kernel: all before `skipped`.
    bytes_before: usize,
    told: Option<Duration>,
    /// Frames after `skipped`.
    frames_after: u64,
    current: Option<Duration>,
    skips_before: u64,
}

impl Crowd {
    fn new(started: Instant) -> Crowd {
        Crowd {
            poll: mio::Poll::new().expect("epoll"),
            clients: Vec::new(),
            buffer: vec![0; 64 * 1024],
            started,
            latencies: Vec::new(),
            stalled: false,
        }
    }

    /// Connects until there are this many clients.
    fn join(&mut self, address: SocketAddr, clients: usize) {
        for at in self.clients.len()..clients {
            let stalls = at % STALL_EVERY == STALL_EVERY - 1;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            if stalls {
                socket.set_recv_buffer_size(STALL_RECEIVE_BYTES).expect("a small buffer");
                socket.set_tcp_mss(STALL_SEGMENT_BYTES).expect("small segments");
            }
            socket.connect(&address.into()).expect("a connection");
            let mut socket = TcpStream::from(socket);
            upgrade(&mut socket, "topics=%3E");
            socket.set_nonblocking(true).expect("non-blocking");
            let mut socket = mio::net::TcpStream::from_std(socket);
            let registry = self.poll.registry();
            registry.register(&mut socket, mio::Token(at), mio::Interest::READABLE).expect("epoll_ctl");
            let watched = stalls || at % SAMPLE_EVERY == 0;
            let account = watched.then(Account::default);
            self.clients.push(Client { socket, pending: Vec::new(), account, stalls, comeback: None, ended: None });
        }
    }

    fn read_for(&mut self, span: Duration) {
        let mut events = mio::Events::with_capacity(1024);
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.poll.poll(&mut events, Some(Duration::from_millis(10))).expect("epoll_wait");
            for event in &events {
                self.read(event.token().0);
            }
        }
    }

    /// Those that stalled read again, until all are current; prints how they became so.
    fn resume(&mut self, feed: &Feed) {
        self.stalled = false;
        let (since, head) = (Instant::now(), feed.published.load(Ordering::Relaxed));
        for client in self.clients.iter_mut().filter(|client| client.stalls) {
            let skips_before = client.account.as_ref().map_or(0, |account| account.skips);
            let (told, current) = (None, None);
            client.comeback =
                Some(Comeback { since, head, bytes_before: 0, told, frames_after: 0, current, skips_before });
        }
        for at in 0..self.clients.len() {
            if self.clients[at].stalls {
                self.read(at);
            }
        }
        let waits = |client: &Client| {
            let comeback = client.comeback.as_ref().filter(|_| client.ended.is_none());
            comeback.is_some_and(|comeback| comeback.current.is_none())
        };
        while self.clients.iter().any(waits) && since.elapsed() < RETURN_MAX {
            self.read_for(Duration::from_millis(20));
        }
        let returned = self.clients.iter_mut().filter_map(|client| Some((client.comeback.take()?, &client.account)));
        print_comebacks(&returned.collect::<Vec<_>>());
    }

    fn read(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.stalls && self.stalled {
            return;
        }
        loop {
            match client.socket.read(&mut self.buffer) {
                Ok(0) => return,
                Ok(bytes) => {
                    let ns = self.started.elapsed().as_nanos() as u64;
                    client.take(&self.buffer[..bytes], (ns, &mut self.latencies));
                    if bytes < self.buffer.len() {
                        // Less than there was room for: the socket is empty (epoll(7)).
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return client.ended = Some(error.to_string()),
            }
        }
    }

    fn print_faults(&self) {
        let ended: Vec<&String> = self.clients.iter().filter_map(|client| client.ended.as_ref()).collect();
        let example = ended.first().map_or(String::new(), |reason| format!(", such as: {reason}"));
        println!("clients that the server ended: {}{example}", ended.len());
        let accounts = || self.clients.iter().filter_map(|client| Some((client.stalls, client.account.as_ref()?)));
        let healthy = accounts().filter(|(stalls, _)| !stalls);
        let skipped: u64 = healthy.map(|(_, account)| account.skips).sum();
        let faults: Vec<&String> = accounts().flat_map(|(_, account)| &account.faults).collect();
        println!(
            "accounts of {} clients: {} faults{}; notices of skipped frames to those that never stalled: {skipped}",
            accounts().count(),
            faults.len(),
            faults.first().map_or(String::new(), |fault| format!(", such as: {fault}")),
        );
    }
}

impl Client {
    /// `now` is in nanoseconds since the feed's start.
    fn take(&mut self, bytes: &[u8], (now, latencies): (u64, &mut Vec<u64>)) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        while let Some((opcode, payload, after)) = message(rest) {
            let whole = rest.len() - after.len();
            rest = after;
            if opcode == 8 {
                self.ended = Some(String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned());
            }
            if opcode == 9 {
                // An empty pong with a mask of zeroes; if the server is gone, the next read shows it.
                let _ = self.socket.write_all(&[0x8A, 0x80, 0, 0, 0, 0]);
            }
            let Some(account) = self.account.as_mut().filter(|_| opcode == 1) else { continue };
            let heard = account.hear(payload);
            if let (Heard::Stream { ns }, false) = (&heard, self.stalls) {
                latencies.push(now.saturating_sub(*ns));
            }
            if let Some(comeback) = self.comeback.as_mut().filter(|comeback| comeback.current.is_none()) {
                comeback.hear(&heard, whole, account);
            }
        }
        let used = self.pending.len() - rest.len();
        self.pending.drain(..used);
    }
}

impl Comeback {
    fn hear(&mut self, heard: &Heard, bytes: usize, account: &Account) {
        match heard {
            Heard::Skipped if self.told.is_none() => self.told = Some(self.since.elapsed()),
            _ if self.told.is_none() => self.bytes_before += bytes,
            Heard::Stream { .. } | Heard::Value => self.frames_after += 1,
            Heard::Skipped | Heard::Notice => {}
        }
        if account.is_current(self.head) {
            self.current = Some(self.since.elapsed());
        }
    }
}

/// Opcode and payload of the first WireFrame, and what follows it; none if it is not complete.
fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => panic!("expected messages of less than 64 KiB"),
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(header..header + length)?;
    Some((bytes[0] & 0x0F, payload, &bytes[header + length..]))
}

fn print_comebacks(returned: &[(Comeback, &Option<Account>)]) {
    let ms = |times: Vec<Option<Duration>>| {
        let times: Vec<f64> = times.into_iter().flatten().map(|time| time.as_secs_f64() * 1e3).collect();
        format!("{} (median {:.0} ms, at most {:.0} ms)", times.len(), median(&times), greatest(&times))
    };
    let told = ms(returned.iter().map(|(comeback, _)| comeback.told).collect());
    let current = ms(returned.iter().map(|(comeback, _)| comeback.current).collect());
    let buffered: Vec<f64> = returned.iter().map(|(comeback, _)| comeback.bytes_before as f64 / 1024.0).collect();
    let skips = returned
        .iter()
        .map(|(comeback, account)| account.as_ref().map_or(0, |account| account.skips) - comeback.skips_before);
    let once = skips.filter(|skips| *skips == 1).count();
    let frames = returned.iter().map(|(comeback, _)| comeback.frames_after).max().unwrap_or(0);
    println!(
        "  {} read again: {:.0} KiB at most were in the kernel; told `skipped`: {told}, exactly once: {once};\n  \
         current: {current}, after `skipped` and at most {frames} frames",
        returned.len(),
        greatest(&buffered),
    );
}

/// Figures of windows of time.
#[derive(Default)]
struct Phase {
    /// Latency in milliseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// In MiB, at the end of each window.
    memory: Vec<f64>,
    /// CPU of the server, in cores.
    cpu: Vec<f64>,
}

impl Phase {
    fn measure(crowd: &mut Crowd, server: &Server, span: Duration) -> Phase {
        let mut phase = Phase::default();
        for _ in 0..WINDOWS {
            crowd.latencies.clear();
            let (since, before) = (Instant::now(), server.usage().cpu);
            crowd.read_for(span / WINDOWS);
            phase.cpu.push((server.usage().cpu - before).as_secs_f64() / since.elapsed().as_secs_f64());
            crowd.latencies.sort_unstable();
            let at = |part: usize| crowd.latencies[(crowd.latencies.len() - 1) * part / 100] as f64 / 1e6;
            phase.p50.push(at(50));
            phase.p99.push(at(99));
            phase.memory.push(server.usage().resident_bytes as f64 / f64::from(1 << 20));
        }
        phase
    }

    fn add(&mut self, other: Phase) {
        self.p50.extend(other.p50);
        self.p99.extend(other.p99);
        self.memory.extend(other.memory.last());
        self.cpu.extend(other.cpu);
    }

    fn print(&self, name: &str) {
        let range = |values: &[f64]| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            format!("{:.2} ({least:.2}-{:.2})", median(values), greatest(values))
        };
        let (p50, p99) = (range(&self.p50), range(&self.p99));
        let memory = self.memory.last().copied().unwrap_or(f64::NAN);
        println!("{name:<22}{p50:>26}{p99:>28}{memory:>12.2}{:>11.2}", median(&self.cpu));
    }
}

/// Not a number if there are none.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}
