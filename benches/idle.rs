//! What an idle connection costs: time to connect, memory of the process, CPU while heartbeats and pings go out.
//!
//! `cargo bench --bench idle -- [CLIENTS] [SECONDS]`. Starts the real server with the simulated market; each client
//! subscribes to a topic that has no frames, so that only heartbeats reach it, and answers pings.

#[allow(dead_code)]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::watch;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(10_000) as usize;
    let seconds = numbers.get(1).copied().unwrap_or(30);
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    let server = Server::start();
    let before = server.look();

    let started = Instant::now();
    let crowd = connect(server.address, clients);
    let connected = started.elapsed();
    println!(
        "{clients} clients connected in {:.2} s ({:.0}/s)",
        connected.as_secs_f64(),
        clients as f64 / connected.as_secs_f64()
    );

    let there = server.look();
    let memory = there.resident_bytes.saturating_sub(before.resident_bytes);
    println!("resident memory: {:.2} KiB per connection", memory as f64 / 1024.0 / clients as f64);

    let (messages, crowd) = idle(crowd, Duration::from_secs(seconds));
    let after = server.look();
    println!("CPU over {seconds} s: {:.2} % of a core", 100.0 * (after.cpu_s - there.cpu_s) / seconds as f64);
    println!("messages and pings received: {messages}");
    println!("sessions after that: {}, goodbyes: {}", after.sessions, after.goodbyes);
    drop(crowd);
}

struct Server {
    child: Child,
    address: SocketAddr,
}

/// What the server and the system say of it.
struct Look {
    resident_bytes: u64,
    cpu_s: f64,
    sessions: f64,
    goodbyes: f64,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanline"))
            .args(["--listen", "127.0.0.1:0", "--log-level", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok()).expect("an address");
        Server { child, address }
    }

    fn look(&self) -> Look {
        // Gauges move with the shards' ticks.
        std::thread::sleep(Duration::from_millis(300));
        let metrics = self.metrics();
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let process = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("/proc");
        let pages: u64 = process("statm").split(' ').nth(1).and_then(|text| text.parse().ok()).expect("pages");
        let stat = process("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks: f64 = [11, 12].iter().filter_map(|at| fields[*at].parse::<f64>().ok()).sum();
        Look {
            resident_bytes: pages * 4096,
            cpu_s: ticks / 100.0,
            sessions: sum("fanline_sessions"),
            goodbyes: sum("fanline_goodbyes_total"),
        }
    }

    fn metrics(&self) -> String {
        let mut socket = TcpStream::connect(self.address).expect("a connection");
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("an answer");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended by itself, which the figures have shown.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the connections one after the other, as a queue of browsers would.
fn connect(address: SocketAddr, clients: usize) -> Vec<TcpStream> {
    let request = "GET /v1/ws?topics=nothing HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut sockets = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.write_all(request.as_bytes()).expect("a request");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        sockets.push(socket);
    }
    sockets
}

/// Reads what comes, answers pings, for so long; gives the number of reads that brought something, and the clients back.
fn idle(crowd: Vec<TcpStream>, span: Duration) -> (u64, Vec<mio::net::TcpStream>) {
    let (mut poll, mut sockets) = watch(crowd);
    let mut events = mio::Events::with_capacity(1024);
    let mut buffer = [0; 4096];
    let mut messages = 0;
    let end = Instant::now() + span;
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_millis(100))).expect("epoll_wait");
        for event in &events {
            let socket = &mut sockets[event.token().0];
            while let Ok(bytes) = socket.read(&mut buffer) {
                assert!(bytes > 0, "the server ended an idle connection");
                messages += 1;
                if buffer[..bytes].ends_with(&[0x89, 0]) {
                    socket.write_all(&[0x8A, 0x80, 0, 0, 0, 0]).expect("room for a pong");
                }
            }
        }
    }
    (messages, sockets)
}
