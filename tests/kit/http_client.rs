//! A client that shows every byte of an HTTP/1.1 answer, for tests of the edge.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct HttpClient {
    socket: TcpStream,
    /// Read, but not yet used.
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl HttpClient {
    pub async fn connect(address: SocketAddr) -> HttpClient {
        HttpClient { socket: TcpStream::connect(address).await.expect("the edge listens"), unread: Vec::new() }
    }

    /// From another address of the loopback, and with little room for what it does not read.
    pub async fn connect_from(address: SocketAddr, own: [u8; 4], receive_bytes: usize) -> HttpClient {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(receive_bytes).expect("a buffer");
        socket.bind(&SocketAddr::from((own, 0)).into()).expect("an address of the loopback");
        socket.connect(&address.into()).expect("the edge listens");
        socket.set_nonblocking(true).expect("a socket option");
        let socket = TcpStream::from_std(socket.into()).expect("a runtime");
        HttpClient { socket, unread: Vec::new() }
    }

    /// `headers` are whole lines, each with its end; `Host` is added.
    pub async fn request(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.request_with_more(method, path, headers, b"").await
    }

    /// Sends `more` in the same packet as the request.
    pub async fn request_with_more(&mut self, method: &str, path: &str, headers: &str, more: &[u8]) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.write(&[head.as_bytes(), more].concat()).await;
        self.answer(method).await
    }

    /// Waits until something has come, and leaves it where it is.
    pub async fn peek(&self) {
        assert!(self.socket.peek(&mut [0]).await.expect("the connection stands") > 0);
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the connection stands");
    }

    /// Writes to a server that may have had enough before the end.
    pub async fn write_some(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Reads the answer to a request that was sent with this method.
    pub async fn answer(&mut self, method: &str) -> Answer {
        let head_bytes = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await;
        };
        let head = String::from_utf8(self.unread.drain(..head_bytes).collect()).expect("a head in ASCII");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let bytes = headers.get("content-length").filter(|_| !bodiless).map_or(0, |n| n.parse().expect("a length"));
        let body = self.read_exactly(bytes).await;
        Answer { status, headers, body }
    }

    pub async fn read_exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.unread.len() < bytes {
            self.read_more().await;
        }
        self.unread.drain(..bytes).collect()
    }

    /// Waits for the server to close the connection; false if it sends something instead.
    pub async fn is_at_end(&mut self) -> bool {
        // A reset is an end too: the server need not have read everything.
        self.unread.is_empty() && self.socket.read(&mut [0; 1]).await.unwrap_or(0) == 0
    }

    async fn read_more(&mut self) {
        let read = self.socket.read_buf(&mut self.unread).await.expect("the connection stands");
        assert_ne!(read, 0, "the connection ended within an answer: {:?}", String::from_utf8_lossy(&self.unread));
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The answer refuses with this status and code, and its message contains `part`.
    #[track_caller]
    pub fn check_refusal(&self, status: u16, code: &str, part: &str) {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{text}");
        let body = self.json();
        assert_eq!(body["code"], code, "{text}");
        assert!(body["message"].as_str().is_some_and(|message| message.contains(part)), "`{part}` in {text}");
    }
}
