//! A WebSocket client without a library: every byte is counted, permessage-deflate keeps its window, and the connection
//! can be torn at any byte.
//!
//! It knows what fanline sends and no more: unfragmented messages, small control frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flate2::{Decompress, FlushDecompress};

/// How long the answer to a handshake may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a deflated message ends in and the wire leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

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
    /// With permessage-deflate. Never reset: what a message refers to must be in the window.
    inflate: Option<Decompress>,
    /// Messages that came compressed.
    pub deflated: u64,
}

impl Inbox {
    pub fn new(deflate: bool) -> Inbox {
        Inbox { bytes: Vec::new(), used: 0, inflate: deflate.then(|| Decompress::new(false)), deflated: 0 }
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

    pub fn next(&mut self) -> Option<Message> {
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
                let inflate = self.inflate.as_mut().expect("compressed only if that was agreed on");
                Message::Text(text(inflated(inflate, payload)))
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

fn inflated(inflate: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let input = [payload, &TAIL].concat();
    let mut out = Vec::with_capacity(payload.len() * 8 + 256);
    let before = inflate.total_in();
    loop {
        let used = (inflate.total_in() - before) as usize;
        inflate.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync).expect("data that inflate");
        if (inflate.total_in() - before) as usize == input.len() && out.len() < out.capacity() {
            return out;
        }
        out.reserve(out.capacity());
    }
}

pub struct BareClient {
    socket: TcpStream,
    pub inbox: Inbox,
}

impl BareClient {
    /// Connects and upgrades; `path` starts with `/`. With `deflate` permessage-deflate is offered, and must be taken.
    pub fn connect(addr: SocketAddr, path: &str, deflate: bool) -> BareClient {
        let socket = TcpStream::connect(addr).expect("the server accepts");
        BareClient::upgrade(socket, path, deflate)
    }

    /// Upgrades on a socket that may have been given options of its own.
    pub fn upgrade(mut socket: TcpStream, path: &str, deflate: bool) -> BareClient {
        socket.set_nodelay(true).expect("an open socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline above 0");
        let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        socket.write_all(request.as_bytes()).expect("the request is taken");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "expected an upgrade of {path}, found {head}");
        assert_eq!(head.contains("permessage-deflate"), deflate, "{head}");
        assert!(!head.contains("server_no_context_takeover"), "nobody asked for it: {head}");
        BareClient { socket, inbox: Inbox::new(deflate) }
    }

    /// Sends a text message, masked with zeros.
    pub fn command(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut frame = vec![0x81];
        match bytes.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).expect("a small command").to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(bytes);
        self.socket.write_all(&frame).expect("the command is taken");
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
            match self.inbox.next()? {
                Message::Text(text) => return Some(text),
                Message::Ping => self.socket.write_all(&[0x8A, 0x80, 0, 0, 0, 0]).expect("room for a pong"),
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

    pub fn into_parts(self) -> (TcpStream, Inbox) {
        (self.socket, self.inbox)
    }
}
