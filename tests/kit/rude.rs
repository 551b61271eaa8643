//! A WebSocket client that may break every rule: it sends the bytes it is told and shows what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::http::HANDSHAKE;
use super::program::Program;
use super::{DEADLINE, http};

/// First bytes of WireFrames in one piece (RFC 6455 section 5.2).
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
/// With RSV1: deflated (RFC 7692 section 6).
pub const DEFLATED: u8 = 0xC1;
const CLOSE: u8 = 0x88;

pub struct Rude {
    socket: TcpStream,
}

impl Rude {
    /// Connects and upgrades. `headers` are whole lines, each with its end.
    pub fn connect(server: &Program, path: &str, headers: &str) -> Rude {
        Rude::upgrade(TcpStream::connect(server.addr()).expect("the server accepts"), path, headers)
    }

    /// A client that offers permessage-deflate.
    pub fn connect_deflating(server: &Program) -> Rude {
        Rude::connect(server, "/v1/ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
    }

    /// A client with little room for what it does not read.
    pub fn connect_narrow(server: &Program) -> Rude {
        const RECEIVE_BYTES: usize = 4096;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // Before connecting, since it bounds the window that is offered.
        socket.set_recv_buffer_size(RECEIVE_BYTES).expect("a socket option");
        socket.connect(&server.addr().into()).expect("the server accepts");
        Rude::upgrade(socket.into(), "/v1/ws", "")
    }

    fn upgrade(mut socket: TcpStream, path: &str, headers: &str) -> Rude {
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
        socket.set_nodelay(true).expect("a TCP option");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n{HANDSHAKE}{headers}\r\n");
        socket.write_all(request.as_bytes()).expect("the request is taken");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a whole head");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let deflate = head.to_lowercase().contains("permessage-deflate");
        assert_eq!(deflate, headers.contains("permessage-deflate"), "{head}");
        Rude { socket }
    }

    /// A hand on the same socket, to write while another reads, or the other way round.
    pub fn other_hand(&self) -> Rude {
        Rude { socket: self.socket.try_clone().expect("descriptors") }
    }

    /// Sends bytes as they are. False if the server has hung up already.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends a masked WireFrame.
    pub fn send(&mut self, first: u8, payload: &[u8]) -> bool {
        self.write(&masked(first, payload))
    }

    /// The next WireFrame: its first byte and its payload; none at the connection's end.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("expected a frame or the end, found {error}"),
        }
        let bytes = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.read())),
            127 => u64::from_be_bytes(self.read()),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(bytes).expect("a length that fits")];
        self.socket.read_exact(&mut payload).expect("a whole frame");
        Some((head[0], payload))
    }

    /// Code and sentence of the close frame, after which the connection must end. Whatever comes before is passed over.
    pub fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.next().expect("a close frame before the end") {
                (CLOSE, payload) => {
                    let (code, sentence) = payload.split_first_chunk().expect("a close code");
                    assert_eq!(self.next(), None, "nothing follows a close frame");
                    return (u16::from_be_bytes(*code), String::from_utf8_lossy(sentence).into_owned());
                }
                _ => continue,
            }
        }
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).expect("a whole length");
        bytes
    }
}

/// A client's WireFrame (RFC 6455 section 5.3).
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];
    let mut out = vec![first];
    match payload.len() {
        bytes @ 0..126 => out.push(0x80 | bytes as u8),
        bytes @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((bytes as u16).to_be_bytes());
        }
        bytes => {
            out.push(0x80 | 127);
            out.extend((bytes as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Commands whose answers are long, and a client that sends them without reading: the server must wait for it.
pub struct Flood {
    pub client: Rude,
    /// Commands sent, with `id` from 1.
    pub commands: u64,
    /// Length of each answer, at least.
    pub answer_bytes: usize,
}

impl Flood {
    /// Sends `commands` in the background, and waits until the server has stopped answering them.
    pub fn start(server: &Program, commands: u64) -> Flood {
        const PATTERNS: usize = 250;
        let mut client = Rude::connect_narrow(server);
        let patterns: Vec<String> = (0..PATTERNS).map(|n| format!("nothing.like.this.{n}")).collect();
        let answer_bytes = patterns.iter().map(String::len).sum();
        let first = serde_json::json!({"op": "subscribe", "id": 0, "topics": patterns}).to_string();
        assert!(client.send(TEXT, first.as_bytes()));
        let again = &patterns[0];
        let command = |id| format!(r#"{{"op":"subscribe","id":{id},"topics":["{again}"]}}"#);
        let bytes: Vec<u8> = (1..=commands).flat_map(|id| masked(TEXT, command(id).as_bytes())).collect();
        let mut writing = client.other_hand();
        // What the server does not take waits here. It ends with the connection.
        std::thread::spawn(move || writing.write(&bytes));
        // Still at several glances, after it has begun: it waits.
        const GLANCES: usize = 5;
        let (mut answered, mut still) = (0.0, 0);
        super::eventually("the server waits for a client that does not read", || {
            let metrics = http::get(server.addr(), "/metrics").body;
            let now = http::sum(&metrics, "fanline_commands_total", r#"result="done""#);
            let waits = http::sum(&metrics, "fanline_sessions_behind", "") >= 1.0 && now >= 10.0;
            still = if waits && now == answered { still + 1 } else { 0 };
            answered = now;
            (still == GLANCES).then_some(())
        });
        Flood { client, commands, answer_bytes }
    }
}
