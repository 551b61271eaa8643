//! What long polls of many clients cost the server: directly, and behind a real nginx whose cache lets one of those through
//! that ask for the same.
//!
//! `cargo bench --bench polls -- [CLIENTS] [RATE] [SECONDS]`, by default 10,000 clients of all topics, 1 message a second
//! and 20 s. Each client keeps one connection, and asks again once it has its answer. The number is reduced to what the
//! limit of open files allows. CPU is that of the server's process; nginx and the clients share the machine with it.

#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/server.rs"]
mod server;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanline::open_files::{open_files_limit, raise_open_files_limit};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nginx::Nginx;
use server::Server;

/// Of the server's CPU without a cache.
const SHARE_MAX: f64 = 0.05;
/// Files of the server, of nginx and of this process that are no connections of clients.
const OTHER_FILES: u64 = 300;
/// As the client for JavaScript.
const WAIT_MS: u32 = 25_000;
/// Answers that each client has had before anything is measured.
const ANSWERS_AHEAD: u64 = 2;
const DEADLINE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(50);

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument.parse::<f64>().is_ok()).collect();
    let argument = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or(default.into());
    let clients = argument(0, "10000").parse::<usize>().expect("a number of clients");
    let seconds = argument(2, "20").parse().expect("seconds");
    let rate = argument(1, "1");
    raise_open_files_limit().expect("a limit of open files");
    // nginx has a connection of each client too, and may have another to the server.
    let clients = clients.min((open_files_limit().saturating_sub(OTHER_FILES) / 2) as usize);
    let span = Duration::from_secs(seconds);
    println!("{clients} long polls of all topics, {rate} messages/s, {seconds} s");
    println!("{:<16}{:>12}{:>14}{:>20}", "", "answers", "CPU, ms/s", "CPU us per answer");
    let direct = run(clients, &rate, span, false).expect("no further program is needed");
    let Some(cached) = run(clients, &rate, span, true) else {
        return println!("SKIPPED: no nginx, which `tests/setup nginx` unpacks");
    };
    println!("share of the CPU per answer: {:.4}, limit {SHARE_MAX}", cached / direct);
}

/// The server's CPU per answer in microseconds. None without nginx.
fn run(clients: usize, rate: &str, span: Duration, is_cached: bool) -> Option<f64> {
    let feed = ["--simulate-rate", rate, "--simulate-symbols", "10"];
    let polls = ["--poll-waiting-max", "1000000", "--poll-waiting-per-address-max", "0"];
    let limits = ["--http-connections-max", "1000000", "--http-connections-per-address-max", "0"];
    let pending = ["--http-pending-per-address-max", "0"];
    let server = Server::start(&[&feed[..], &polls, &limits, &pending].concat());
    let nginx = if is_cached { Some(Nginx::start_cache(server.address)?) } else { None };
    let mut crowd = Crowd::connect(nginx.as_ref().map_or(server.address, |nginx| nginx.address), clients);
    let started = Instant::now();
    crowd.drive(|crowd| {
        assert!(started.elapsed() < DEADLINE, "expected {ANSWERS_AHEAD} answers each within {DEADLINE:?}");
        crowd.pollers.iter().all(|poller| poller.answers >= ANSWERS_AHEAD)
    });
    let (before, answers, since) = (server.usage().cpu, crowd.answers(), Instant::now());
    crowd.drive(|_| since.elapsed() >= span);
    let (cpu, wall) = (server.usage().cpu.saturating_sub(before), since.elapsed());
    let answers = crowd.answers() - answers;
    let each_us = cpu.as_secs_f64() * 1e6 / answers as f64;
    let name = if is_cached { "behind a cache" } else { "directly" };
    println!("{name:<16}{answers:>12}{:>14.1}{each_us:>20.2}", cpu.as_secs_f64() * 1e3 / wall.as_secs_f64());
    Some(each_us)
}

struct Crowd {
    poll: Poll,
    events: Events,
    pollers: Vec<Poller>,
}

impl Crowd {
    fn connect(address: SocketAddr, clients: usize) -> Crowd {
        let poll = Poll::new().expect("epoll");
        let pollers = (0..clients).map(|at| {
            let socket = std::net::TcpStream::connect(address).expect("loopback");
            socket.set_nonblocking(true).expect("non-blocking");
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(at), Interest::READABLE).expect("epoll_ctl");
            let mut poller = Poller { socket, received: Vec::new(), answers: 0 };
            poller.ask(None);
            poller
        });
        Crowd { pollers: pollers.collect(), events: Events::with_capacity(1024), poll }
    }

    fn answers(&self) -> u64 {
        self.pollers.iter().map(|poller| poller.answers).sum()
    }

    /// Reads and asks until it is over.
    fn drive(&mut self, is_over: impl Fn(&Crowd) -> bool) {
        let mut looked = Instant::now();
        loop {
            self.poll.poll(&mut self.events, Some(GLANCE)).expect("epoll_wait");
            for event in &self.events {
                self.pollers[event.token().0].read();
            }
            if looked.elapsed() < GLANCE {
                continue;
            }
            looked = Instant::now();
            if is_over(self) {
                return;
            }
        }
    }
}

/// A client that asks again and again over one connection.
struct Poller {
    socket: TcpStream,
    received: Vec<u8>,
    answers: u64,
}

impl Poller {
    fn ask(&mut self, since: Option<&str>) {
        let since = since.map_or(String::new(), |since| format!("&since={since}"));
        let request = format!("GET /v1/poll?topics=%3E&wait_ms={WAIT_MS}{since} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.socket.write_all(request.as_bytes()).expect("a short request fits into the socket");
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => panic!("expected the connection to stay, found its end"),
                Ok(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            if let Some(next) = next_of(&self.received) {
                self.received.clear();
                self.answers += 1;
                self.ask(Some(&next));
            }
        }
    }
}

/// From where to go on, once the answer is complete.
fn next_of(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1);
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if status == Some("204") {
        return Some(header("fanline-next").expect("a cursor").to_owned());
    }
    let is_complete = match header("content-length") {
        Some(length) => body.len() >= length.parse().expect("a length"),
        None => body.ends_with("\r\n0\r\n\r\n"),
    };
    is_complete.then(|| {
        assert_eq!(status, Some("200"), "{text}");
        let (_, next) = body.rsplit_once("\"next\":\"").expect("where to go on");
        next.split('"').next().expect("a cursor").to_owned()
    })
}
