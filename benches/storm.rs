//! A storm: many clients connect with TLS at once, while others receive a feed and must not notice it.
//!
//! `cargo bench --bench storm -- [--storm N] [--connected N] [--rate N] [--quiet SECONDS]`, by default 10,000, 100, 1000
//! and 3. The connected receive every message over TLS. The others begin at the same moment, each with a full handshake,
//! the upgrade and a topic of its own; one is in once it has received its first message. They stand for machines of their
//! own but share these cores, so their thread gets the time that all others leave (SCHED_IDLE). The number is reduced to
//! what the limit of open files allows.

#[path = "support/background.rs"]
mod background;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/server.rs"]
mod server;
#[path = "support/stage.rs"]
mod stage;

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use background::yield_to_the_server;
use clap::Parser;
use fanline::bench::client_tls::{ClientTls, Trust};
use fanline::bench::socket::LoadSocket;
use fanline::bench::tally::Latency;
use fanline::open_files::{open_files_limit, raise_open_files_limit};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use stage::{Span, Stage};

/// Files of this process and of the server that are not these clients.
const OTHER_FILES: u64 = 300;
/// 10,000 topics: a message is for one of the clients of the storm.
const SYMBOLS: usize = 5000;
const DEADLINE: Duration = Duration::from_secs(60);
const EVENTS: usize = 1024;

#[derive(Parser)]
#[command(name = "storm")]
struct Options {
    /// Clients that connect at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    storm: usize,
    /// Clients that are connected already.
    #[arg(long, value_name = "N", default_value_t = 100)]
    connected: usize,
    /// Messages per second of the feed.
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    /// Seconds without a storm, to compare with.
    #[arg(long, value_name = "N", default_value_t = 3)]
    quiet: u64,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    raise_open_files_limit().expect("a limit of open files");
    let others = OTHER_FILES + options.connected as u64;
    let clients = options.storm.min(open_files_limit().saturating_sub(others) as usize);
    for (name, text) in machine::description() {
        println!("{name:<20} {text}");
    }
    let mut stage = Stage::open("bench-storm", SYMBOLS, options.rate);
    stage.join(stage.tls, options.connected);
    stage.begin();
    let quiet = stage.during(|| std::thread::sleep(Duration::from_secs(options.quiet)));
    let storm = Storm::prepare(stage.tls, clients, &stage);
    let (arrived, arrival) = channel();
    let (end, ended) = channel::<()>();
    let raging = std::thread::spawn(move || {
        yield_to_the_server();
        let mut storm = storm;
        storm.rage(|storm| storm.is_over());
        arrived.send(storm.outcome()).expect("it is waited for");
        // They stay and read until all is measured.
        storm.rage(|_| ended.try_recv() != Err(TryRecvError::Empty));
    });
    let mut outcome = None;
    let stormy = stage.during(|| outcome = arrival.recv().ok());
    let sessions = stage.sessions();
    drop(end);
    raging.join().expect("the storm ends");
    report(&options, &quiet, &stormy, &outcome.expect("an outcome"), sessions);
}

fn report(options: &Options, quiet: &Span, stormy: &Span, outcome: &Outcome, sessions: f64) {
    println!(
        "\n{} connected, {} messages/s; {} connect at once with TLS",
        options.connected, options.rate, outcome.clients
    );
    println!("{:<44}{:>12}{:>12}{:>8}", "", "storm", "quiet", "ratio");
    let latency = |span: &Span| Latency::of(&span.totals.tally.ages).expect("clients that are followed");
    let (during, before) = (latency(stormy), latency(quiet));
    for (name, storm_us, quiet_us) in [
        ("p50 of the connected, ms", during.p50_us, before.p50_us),
        ("p99 of the connected, ms", during.p99_us, before.p99_us),
        ("longest of the connected, ms", during.max_us, before.max_us),
    ] {
        row(name, storm_us / 1000.0, quiet_us / 1000.0);
    }
    let cores = |span: &Span| span.cpu.as_secs_f64() / span.wall.as_secs_f64();
    row("CPU of the server, cores", cores(stormy), cores(quiet));
    let more = cores(stormy) - cores(quiet);
    let each_us = more * stormy.wall.as_secs_f64() * 1e6 / outcome.waits.len().max(1) as f64;
    println!("{:<44}{each_us:>12.0}", "CPU of the server per client of the storm, us");
    let wait = |share: f64| {
        let at = (outcome.waits.len() as f64 * share) as usize;
        outcome.waits.get(at.min(outcome.waits.len().saturating_sub(1))).map_or(f64::NAN, Duration::as_secs_f64)
    };
    println!("{:<44}{:>12.2}", "half are in after, s", wait(0.5));
    println!("{:<44}{:>12.2}", "99 % are in after, s", wait(0.99));
    println!("{:<44}{:>12.2}", "the last is in after, s", wait(1.0));
    let Outcome { clients, waits, turned_away, ended } = outcome;
    println!("in: {} of {clients}; turned away: {turned_away}; ended later: {ended}", waits.len());
    println!("sessions of the server: {sessions}");
    let PoolCounts { gaps, skips, ended } = PoolCounts::of(stormy);
    println!("of the connected: gaps {gaps}, skips {skips}, ended {ended}");
    println!("load average after it: {}", machine::load());
}

fn row(name: &str, storm: f64, quiet: f64) {
    println!("{name:<44}{storm:>12.2}{quiet:>12.2}{:>8.2}", storm / quiet);
}

struct PoolCounts {
    gaps: u64,
    skips: u64,
    ended: u64,
}

impl PoolCounts {
    fn of(span: &Span) -> PoolCounts {
        let tally = &span.totals.tally;
        PoolCounts { gaps: tally.gaps, skips: tally.skips, ended: span.totals.ended }
    }
}

struct Outcome {
    clients: usize,
    /// From the beginning of the storm until a client was in; ascending.
    waits: Vec<Duration>,
    turned_away: usize,
    /// Once they were in.
    ended: usize,
}

/// Clients that connect at once, on one thread.
struct Storm {
    poll: Poll,
    address: SocketAddr,
    clients: Vec<StormClient>,
    /// None before the first connect.
    since: Option<Instant>,
    waits: Vec<Duration>,
    turned_away: usize,
    ended: usize,
    buffer: Vec<u8>,
    opened: Vec<u8>,
}

enum StormClient {
    /// What it will send, after a handshake for which its keys are ready.
    Prepared(Box<rustls::ClientConnection>, String),
    /// Connecting, in its handshake or in its upgrade; with what it has received of the answer.
    Arriving(Box<LoadSocket<TcpStream>>, Vec<u8>),
    /// It has its first message.
    In(Box<LoadSocket<TcpStream>>),
    Gone,
}

impl Storm {
    /// The work of the clients before the first byte is not part of the storm.
    fn prepare(address: SocketAddr, clients: usize, stage: &Stage) -> Storm {
        let tls = ClientTls::new("localhost", &Trust::Anyone).expect("a name");
        let topics = stage.subscriptions.topics();
        let prepared = (0..clients).map(|client| {
            let topic = stage.subscriptions.name(client % topics);
            let request = format!(
                "GET /v1/ws?topics={topic} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\
                 connection: upgrade\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            StormClient::Prepared(Box::new(tls.connection()), request)
        });
        Storm {
            poll: Poll::new().expect("epoll"),
            address,
            clients: prepared.collect(),
            since: None,
            waits: Vec::new(),
            turned_away: 0,
            ended: 0,
            buffer: vec![0; 64 << 10],
            opened: Vec::new(),
        }
    }

    /// Connects those that have not yet, and serves all until `is_done`.
    fn rage(&mut self, is_done: impl Fn(&Storm) -> bool) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            (0..self.clients.len()).for_each(|at| self.connect(at));
        }
        let mut events = Events::with_capacity(EVENTS);
        while !is_done(self) {
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).expect("epoll_wait");
            for event in &events {
                let Token(at) = event.token();
                let was_in = matches!(self.clients[at], StormClient::In(_));
                if self.advance(at).is_err() {
                    self.lose(at, was_in);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let is_late = self.since.is_some_and(|since| since.elapsed() > DEADLINE);
        self.waits.len() + self.turned_away == self.clients.len() || is_late
    }

    fn outcome(&self) -> Outcome {
        let waits = self.waits.clone();
        Outcome { clients: self.clients.len(), waits, turned_away: self.turned_away, ended: self.ended }
    }

    fn connect(&mut self, at: usize) {
        let client = std::mem::replace(&mut self.clients[at], StormClient::Gone);
        let StormClient::Prepared(tls, request) = client else { return };
        let connected = TcpStream::connect(self.address).and_then(|stream| {
            let mut socket = LoadSocket::with_tls(stream, *tls);
            let interests = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket.stream, Token(at), interests)?;
            // It leaves with the end of the handshake.
            socket.send(request.as_bytes())?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => self.clients[at] = StormClient::Arriving(Box::new(socket), Vec::new()),
            Err(_) => self.lose(at, false),
        }
    }

    /// Reads and writes what the socket allows.
    fn advance(&mut self, at: usize) -> io::Result<()> {
        let (mut socket, mut answer) = match std::mem::replace(&mut self.clients[at], StormClient::Gone) {
            StormClient::Arriving(socket, answer) => (socket, Some(answer)),
            StormClient::In(socket) => (socket, None),
            other => {
                self.clients[at] = other;
                return Ok(());
            }
        };
        socket.flush_some()?;
        loop {
            let bytes = match socket.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) => return Err(error),
            };
            let opened = socket.open(&self.buffer[..bytes], &mut self.opened)?;
            if let Some(received) = &mut answer {
                received.extend_from_slice(opened);
                if is_in(received)? {
                    answer = None;
                    self.waits.push(self.since.expect("it rages").elapsed());
                }
            }
        }
        self.clients[at] = match answer {
            Some(answer) => StormClient::Arriving(socket, answer),
            None => StormClient::In(socket),
        };
        Ok(())
    }

    fn lose(&mut self, at: usize, was_in: bool) {
        self.clients[at] = StormClient::Gone;
        if was_in {
            self.ended += 1;
        } else {
            self.turned_away += 1;
        }
    }
}

/// Whether the upgrade was answered and something has followed. Errors: it was refused.
fn is_in(answer: &[u8]) -> io::Result<bool> {
    const ACCEPTED: &[u8] = b"HTTP/1.1 101 ";
    let known = answer.len().min(ACCEPTED.len());
    if answer[..known] != ACCEPTED[..known] {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    Ok(end.is_some_and(|end| answer.len() > end + 4))
}
