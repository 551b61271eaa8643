//! The real server as a process of its own, so that its memory and CPU can be read apart from the load's.

// Each benchmark compiles this for itself and uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use fanline::bench::cpu::{Usage, usage};

pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Of the first listener.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with these arguments, on a free port if they do not say where.
    pub fn start(arguments: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanline"))
            .env("FANLINE_LISTEN", "127.0.0.1:0")
            .args(["--log-level", "warn", "--limits-sessions-per-address-max", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let address = announced(&mut stdout);
        Server { child, stdout, address }
    }

    /// Of the next listener, in the order of the settings.
    pub fn next_address(&mut self) -> SocketAddr {
        announced(&mut self.stdout)
    }

    pub fn usage(&self) -> Usage {
        usage(self.child.id()).expect("/proc")
    }

    /// A metric, summed over its labels. Gauges move with the shards' ticks, ten times a second.
    pub fn metric(&self, name: &str) -> f64 {
        self.labelled(name, "")
    }

    /// The same, of series that have this label.
    pub fn labelled(&self, name: &str, label: &str) -> f64 {
        let mut socket = TcpStream::connect(self.address).expect("a connection");
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a request");
        let mut metrics = String::new();
        socket.read_to_string(&mut metrics).expect("an answer");
        let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

fn announced(stdout: &mut impl BufRead) -> SocketAddr {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    line.trim().rsplit('/').next().and_then(|text| text.parse().ok()).expect("an address")
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended by itself, which the figures have shown.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Upgrades a connection to `/v1/ws` with this query.
pub fn upgrade(socket: &mut (impl Read + Write), query: &str) {
    upgrade_at(socket, &format!("/v1/ws?{query}"));
}

/// Upgrades a connection at this path.
pub fn upgrade_at(socket: &mut (impl Read + Write), path: &str) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("a request");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
}
