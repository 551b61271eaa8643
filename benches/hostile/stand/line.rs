//! One connection of an attacker, and what it sends: WireFrames of clients, whole, torn and wrong.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::frame::{Opcode, put_deflated, put_frame};
use shared_deflate::scan::FrameScanner;
use socket2::{Domain, Socket, Type};

use super::field::Field;

/// The request's lines of an upgrade, without the first and the last.
pub const UPGRADE: &str = "host: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
                           sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const DEFLATE: &str = "sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n";
/// Ports are taken in turn: the kernel's search for a free one takes milliseconds when thousands are taken. They begin
/// where other servers seldom listen.
const PORT_FIRST: u16 = 10_240;
const PORTS: u64 = 55_000;
static PORTS_TAKEN: AtomicU64 = AtomicU64::new(0);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often an attacker looks up from a server that is silent.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// The size of the buffer of a client that means not to read.
pub const RECEIVE_BYTES_MIN: usize = 4096;

/// The beginning of server messages, as far as a scanner shows it.
pub const SUBSCRIBED: &[u8] = b"{\"op\":\"su";
pub const PONG: &[u8] = b"{\"op\":\"po";
const ERROR: &[u8] = b"{\"op\":\"er";

pub struct Line<'a> {
    pub socket: TcpStream,
    field: &'a Field<'a>,
    scanner: FrameScanner,
    buffer: Vec<u8>,
}

impl<'a> Line<'a> {
    /// Connects from the attackers' address of this number.
    pub fn dial(field: &'a Field<'a>, source: usize) -> io::Result<Line<'a>> {
        Line::dial_with(field, source, None)
    }

    /// From an address and with a buffer for what is received.
    pub fn dial_with(field: &'a Field<'a>, source: usize, receive_bytes: Option<usize>) -> io::Result<Line<'a>> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let source = Ipv4Addr::new(127, 0, 1 + (source / 250) as u8, 1 + (source % 250) as u8);
        socket.set_reuse_address(true)?;
        let port = PORT_FIRST + (PORTS_TAKEN.fetch_add(1, Ordering::Relaxed) % PORTS) as u16;
        socket.bind(&SocketAddr::from((source, port)).into())?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&field.address().into(), CONNECT_TIMEOUT)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Line { socket, field, scanner: FrameScanner::default(), buffer: Vec::new() })
    }

    /// Connects and upgrades, without and with permessage-deflate.
    pub fn join(field: &'a Field<'a>, source: usize, query: &str) -> io::Result<Line<'a>> {
        Line::dial(field, source)?.upgraded(query, "")
    }

    pub fn join_deflated(field: &'a Field<'a>, source: usize) -> io::Result<Line<'a>> {
        Line::dial(field, source)?.upgraded("", DEFLATE)
    }

    pub fn upgraded(mut self, query: &str, headers: &str) -> io::Result<Line<'a>> {
        self.write(format!("GET /v1/ws{query} HTTP/1.1\r\n{UPGRADE}{headers}\r\n").as_bytes())?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        // Byte by byte: what follows the head is for the scanner.
        while !head.ends_with(b"\r\n\r\n") {
            match self.socket.read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => head.push(byte[0]),
                Err(error) if waits(&error) && !self.field.is_over() => {}
                Err(error) => return Err(error),
            }
        }
        if head.starts_with(b"HTTP/1.1 101") { Ok(self) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)?;
        self.field.count_sent(bytes.len());
        Ok(())
    }

    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(&text_frame(text))
    }

    /// `subscribe` or `unsubscribe`, and waits for the answer, whatever it is.
    pub fn ask(&mut self, op: &str, patterns: &[String]) -> io::Result<()> {
        self.say(&serde_json::json!({ "op": op, "topics": patterns }).to_string())?;
        let answer: &[u8] = if op == "subscribe" { SUBSCRIBED } else { b"{\"op\":\"un" };
        self.hear_until(answer)
    }

    /// Reads until a message begins like this or is an error, or the attack is over.
    pub fn hear_until(&mut self, start: &[u8]) -> io::Result<()> {
        let mut heard = 0;
        while heard == 0 && !self.field.is_over() {
            heard = self.hear(start)?;
        }
        Ok(())
    }

    /// Reads what has arrived, once; returns how many messages began like this, or were errors.
    pub fn hear(&mut self, start: &[u8]) -> io::Result<usize> {
        self.buffer.resize(256 << 10, 0);
        let bytes = match self.socket.read(&mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if waits(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut heard = 0;
        let scanned = self.scanner.scan(&self.buffer[..bytes], |_, begun| {
            heard += usize::from(begun.starts_with(start) || begun.starts_with(ERROR));
        });
        scanned.map_err(io::Error::other)?;
        Ok(heard)
    }

    /// Reads, whatever it is, until the server ends it; returns how many bytes arrived.
    pub fn hear_out(&mut self) -> io::Result<usize> {
        self.buffer.resize(256 << 10, 0);
        let mut heard = 0;
        while !self.field.is_over() {
            match self.socket.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(bytes) => heard += bytes,
                Err(error) if waits(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }

    /// Whether the server has not ended it, as far as is seen without reading.
    pub fn stands(&self) -> bool {
        let looked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let stands = match looked {
            Ok(bytes) => bytes > 0,
            Err(error) => waits(&error),
        };
        stands && self.socket.set_nonblocking(false).is_ok()
    }
}

/// A server's WireFrame made a client's. Its mask is zero, which changes nothing of the payload.
pub fn masked(mut frame: Vec<u8>) -> Vec<u8> {
    let header_bytes = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame[1] |= 0x80;
    frame.splice(header_bytes..header_bytes, [0; 4]);
    frame
}

pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    put_frame(&mut frame, Opcode::Text, text.as_bytes());
    masked(frame)
}

pub fn deflated_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put_deflated(&mut frame, Opcode::Text, text, &mut Deflater::new(9, WINDOW_BITS_MAX));
    masked(frame)
}

/// Whether there is only nothing to read, or no room to write, for now.
pub fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
