//! A GET request, small enough to see through.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("expected JSON ({error}): {}", self.body))
    }
}

/// HTTP/1.0, so that the answer is not chunked and ends with the connection.
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"))
}

/// A WebSocket handshake that must be refused; `headers` are whole lines, each with its end. The token `close` beside
/// `Upgrade` makes the refusal end with the connection.
pub fn refused_upgrade(addr: SocketAddr, path: &str, headers: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade, close\r\n{headers}\r\n"))
}

/// Sends a request as it is, and reads up to the connection's end. That may be a reset: a server that refuses need not
/// have read everything.
pub fn ask(addr: SocketAddr, request: &str) -> Answer {
    let mut socket = TcpStream::connect(addr).expect("the server accepts");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
    let hung_up = |error: &Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    if let Err(error) = socket.write_all(request.as_bytes()) {
        assert!(hung_up(&error), "expected the request to be taken: {error}");
    }
    let mut answer = Vec::new();
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert!(hung_up(&error), "expected an answer: {error}");
    }
    let answer = String::from_utf8(answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.into()));
    Answer { status: status.expect("a status"), headers: headers.collect(), body: body.into() }
}

/// Headers of a right handshake, besides those of `refused_upgrade`.
pub const HANDSHAKE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sum of the samples of one family in a Prometheus text, over the series whose labels contain `labels`.
pub fn sum(metrics: &str, name: &str, labels: &str) -> f64 {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) || !rest.contains(labels) {
            return None;
        }
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    metrics.lines().filter_map(sample).sum()
}
