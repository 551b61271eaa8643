//! What an idle connection costs: time to connect, memory of the process, CPU while heartbeats and pings go out.
//!
//! `cargo bench --bench idle -- [CLIENTS] [SECONDS]`. Starts the real server with the simulated market; each client
//! subscribes to a topic that has no frames, so that only heartbeats reach it, and answers pings.

#[path = "support/server.rs"]
mod server;
#[allow(dead_code)]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use server::{Server, upgrade};
use support::watch;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(10_000) as usize;
    let seconds = numbers.get(1).copied().unwrap_or(30);
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    let server = Server::start(&[]);
    let before = look(&server);

    let started = Instant::now();
    let crowd = connect(server.address, clients);
    let connected = started.elapsed();
    println!(
        "{clients} clients connected in {:.2} s ({:.0}/s)",
        connected.as_secs_f64(),
        clients as f64 / connected.as_secs_f64()
    );

    let there = look(&server);
    let memory = there.resident_bytes.saturating_sub(before.resident_bytes);
    println!("resident memory: {:.2} KiB per connection", memory as f64 / 1024.0 / clients as f64);

    let (messages, crowd) = idle(crowd, Duration::from_secs(seconds));
    let after = look(&server);
    println!("CPU over {seconds} s: {:.2} % of a core", 100.0 * (after.cpu_s - there.cpu_s) / seconds as f64);
    println!("messages and pings received: {messages}");
    println!("sessions after that: {}, goodbyes: {}", after.sessions, after.goodbyes);
    drop(crowd);
}

/// What the server and the system say of it.
struct Look {
    resident_bytes: u64,
    cpu_s: f64,
    sessions: f64,
    goodbyes: f64,
}

fn look(server: &Server) -> Look {
    // Gauges move with the shards' ticks.
    std::thread::sleep(Duration::from_millis(300));
    Look {
        resident_bytes: server.resident_bytes(),
        cpu_s: server.cpu_s(),
        sessions: server.metric("fanline_sessions"),
        goodbyes: server.metric("fanline_goodbyes_total"),
    }
}

/// Opens the connections one after the other, as a queue of browsers would.
fn connect(address: SocketAddr, clients: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut socket = TcpStream::connect(address).expect("a connection");
        upgrade(&mut socket, "topics=nothing");
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
