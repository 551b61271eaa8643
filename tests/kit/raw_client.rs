//! A WebSocket client without a library: it sends the bytes that it is given, counts every byte that comes, keeps the
//! window of permessage-deflate, and can be torn off at any byte.
//!
//! There are two ways to read, one for each client: whole frames, waited for (`next_frame`, `expect_close`), or as many
//! bytes as there are, decoded when they are complete (`read`, `text`). The second knows what fanline sends and no
//! more: unfragmented messages, small control frames.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::http::HANDSHAKE;
use super::program::Program;
use super::strict_inflater::StrictInflater;
use super::{DEADLINE, http};
use shared_deflate::deflate::WINDOW_BITS_MAX;

/// First bytes of frames in one piece (RFC 6455 section 5.2).
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
/// With RSV1: deflated (RFC 7692 section 6).
pub const DEFLATED: u8 = 0xC1;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8A;
/// A header that offers permessage-deflate.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Ping,
    Pong,
    /// With its code, if it has one.
    Close(Option<u16>),
}

/// Bytes from a server, and the messages that are complete among them.
pub struct Inbox {
    bytes: Vec<u8>,
    /// Bytes at the front that have been decoded.
    used: usize,
    /// With permessage-deflate.
    inflater: Option<StrictInflater>,
    /// Messages that came compressed, and how many of them nobody could read alone.
    pub deflated: u64,
    pub referring: u64,
}

impl Inbox {
    /// With the bits of the window that was agreed on, if permessage-deflate was.
    pub fn new(window_bits: Option<u8>) -> Inbox {
        let inflater = window_bits.map(StrictInflater::new);
        Inbox { bytes: Vec::new(), used: 0, inflater, deflated: 0, referring: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of a message that is not complete yet, or that nobody has asked for.
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub fn next_message(&mut self) -> Option<Message> {
        let bytes = &self.bytes[self.used..];
        let (first, length) = (*bytes.first()?, *bytes.get(1)?);
        let (header, length) = match length {
            126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            _ => (2, u64::from(length)),
        };
        let end = header + length as usize;
        let payload = bytes.get(header..end)?;
        self.used += end;
        assert!(first & 0xB0 == 0x80, "expected a whole message without RSV2 and RSV3, found the byte {first:#x}");
        Some(match first & 0x4F {
            0x01 => Message::Text(text(payload.to_vec())),
            0x41 => {
                self.deflated += 1;
                let inflater = self.inflater.as_mut().expect("compressed only if that was agreed on");
                self.referring += u64::from(StrictInflater::new(WINDOW_BITS_MAX).try_inflate(payload).is_err());
                Message::Text(text(inflater.inflate(payload)))
            }
            0x08 => Message::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            0x09 => Message::Ping,
            0x0A => Message::Pong,
            other => panic!("expected text or a control frame, found opcode and RSV1 {other:#x}"),
        })
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8 in a text message")
}

pub struct RawClient {
    socket: TcpStream,
    pub inbox: Inbox,
}

impl RawClient {
    /// Connects and upgrades; `path` starts with `/`. `headers` are whole lines, each with its end. An offer of
    /// permessage-deflate must be taken.
    pub fn connect(addr: SocketAddr, path: &str, headers: &str) -> RawClient {
        RawClient::upgrade(TcpStream::connect(addr).expect("the server accepts"), path, headers)
    }

    /// As `connect`, from another address of this machine.
    pub fn connect_from(own: [u8; 4], addr: SocketAddr, path: &str) -> RawClient {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((own, 0)).into()).expect("an address of this machine");
        socket.connect(&addr.into()).expect("the server accepts");
        RawClient::upgrade(socket.into(), path, "")
    }

    /// A client with little room for what it does not read.
    pub fn connect_narrow(addr: SocketAddr) -> RawClient {
        const RECEIVE_BYTES: usize = 4096;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // Before connecting, since it bounds the window that is offered.
        socket.set_recv_buffer_size(RECEIVE_BYTES).expect("a socket option");
        socket.connect(&addr.into()).expect("the server accepts");
        RawClient::upgrade(socket.into(), "/v1/ws", "")
    }

    fn upgrade(mut socket: TcpStream, path: &str, headers: &str) -> RawClient {
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
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "expected an upgrade of {path}, found {head}");
        let extensions = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
        let extensions = extensions.unwrap_or_default().to_owned();
        let deflate = extensions.starts_with("permessage-deflate");
        assert_eq!(deflate, headers.contains("permessage-deflate"), "{head}");
        let is_asked_for = headers.contains("server_no_context_takeover");
        assert!(is_asked_for || !head.contains("server_no_context_takeover"), "nobody asked for it: {head}");
        let bits = extensions.split("server_max_window_bits=").nth(1).map(|rest| rest.split([';', ',']).next());
        let bits = bits.map(|bits| bits.and_then(|bits| bits.trim().parse().ok()).expect("a number of bits"));
        let inbox = Inbox::new(deflate.then(|| bits.unwrap_or(WINDOW_BITS_MAX)));
        RawClient { socket, inbox }
    }

    /// A hand on the same socket, to write while another reads, or the other way round.
    pub fn other_hand(&self) -> RawClient {
        let socket = self.socket.try_clone().expect("descriptors");
        RawClient { socket, inbox: Inbox::new(None) }
    }

    /// Sends bytes as they are. False if the server has hung up already.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends a masked frame.
    pub fn send(&mut self, first: u8, payload: &[u8]) -> bool {
        self.write(&masked(first, payload))
    }

    /// Sends a text message, which the server must take.
    pub fn command(&mut self, text: &str) {
        assert!(self.send(TEXT, text.as_bytes()), "expected the server to take {text}");
    }

    /// The next frame: its first byte and its payload; none at the connection's end.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("expected a frame or the end, found {error}"),
        }
        let bytes = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.read_exactly())),
            127 => u64::from_be_bytes(self.read_exactly()),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(bytes).expect("a length that fits")];
        self.socket.read_exact(&mut payload).expect("a whole frame");
        Some((head[0], payload))
    }

    /// Code and sentence of the close frame, after which the connection must end. Whatever comes before is passed over.
    pub fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.next_frame().expect("a close frame before the end") {
                (CLOSE, payload) => {
                    let (code, sentence) = payload.split_first_chunk().expect("a close code");
                    assert_eq!(self.next_frame(), None, "nothing follows a close frame");
                    return (u16::from_be_bytes(*code), String::from_utf8_lossy(sentence).into_owned());
                }
                _ => continue,
            }
        }
    }

    /// Offset of the newest frame that the client's shard has taken from the ring. Of a client that sees nothing:
    /// metrics tell that ten times a second at most.
    pub fn position(&mut self) -> u64 {
        self.command(r#"{"op":"subscribe","topics":["nothing.like.this"]}"#);
        loop {
            let (first, payload) = self.next_frame().expect("the server stays");
            let answer: Value = if first == TEXT { serde_json::from_slice(&payload).expect("JSON") } else { continue };
            if answer["op"] == "subscribed" {
                return answer["offset"].as_u64().expect("the position");
            }
        }
    }

    fn read_exactly<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes).expect("a whole length");
        bytes
    }

    /// Reads at most so many bytes within `patience`; gives how many came, 0 if none did.
    pub fn read(&mut self, bytes_max: usize, patience: Duration) -> usize {
        let mut buffer = [0; 16 * 1024];
        let room = bytes_max.min(buffer.len());
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a deadline above 0");
        match self.socket.read(&mut buffer[..room]) {
            Ok(bytes) => {
                assert!(bytes > 0 || room == 0, "expected the server to stay, found the end of the connection");
                self.inbox.push(&buffer[..bytes]);
                bytes
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => panic!("expected the server to stay: {error}"),
        }
    }

    /// The next text message that has arrived whole. Pings are answered.
    pub fn text(&mut self) -> Option<String> {
        loop {
            match self.inbox.next_message()? {
                Message::Text(text) => return Some(text),
                Message::Ping => assert!(self.send(PONG, b""), "room for a pong"),
                Message::Pong => {}
                Message::Close(code) => panic!("expected the server to stay, found a close frame with {code:?}"),
            }
        }
    }

    /// Ends the connection without a word: by a reset if `reset`, else by closing. True if a message was torn.
    pub fn kill(self, reset: bool) -> bool {
        if reset {
            socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("an open socket");
        }
        self.inbox.pending_bytes() > 0
    }

    /// Takes from now on whatever comes without a look at it, and leaves without a goodbye when it is dropped.
    pub fn look_away(self) -> Blind {
        let mut ears = self.socket.try_clone().expect("descriptors");
        ears.set_read_timeout(None).expect("no deadline");
        // Ends with the connection.
        thread::spawn(move || io::copy(&mut ears, &mut io::sink()));
        Blind { socket: self.socket }
    }
}

/// A client that takes what comes and looks at none of it: company for a lane.
pub struct Blind {
    socket: TcpStream,
}

impl Drop for Blind {
    fn drop(&mut self) {
        // The server may have been faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A client's frame (RFC 6455 section 5.3).
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
    pub client: RawClient,
    /// Commands sent, with `id` from 1.
    pub commands: u64,
    /// Length of each answer, at least.
    pub answer_bytes: usize,
}

impl Flood {
    /// Sends `commands` in the background, and waits until the server has stopped answering them.
    pub fn start(server: &Program, commands: u64) -> Flood {
        const PATTERNS: usize = 250;
        let mut client = RawClient::connect_narrow(server.addr());
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
