//! A client of server-sent events without a library: it reads as many bytes as it is told, and can be torn off at any.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::DEADLINE;

/// One event, as a browser would dispatch it, or only its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: Option<String>,
    pub id: Option<String>,
    pub retry: Option<u64>,
    /// Lines joined.
    pub data: Option<String>,
}

pub struct EventClient {
    socket: TcpStream,
    bytes: Vec<u8>,
    /// With its status line; none until it has arrived.
    head: Option<String>,
}

impl EventClient {
    /// Asks for a stream; `headers` are whole lines, each with its end.
    pub fn connect(addr: SocketAddr, path: &str, headers: &str) -> EventClient {
        let mut socket = TcpStream::connect(addr).expect("the server accepts");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).expect("the request is taken");
        EventClient { socket, bytes: Vec::new(), head: None }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the connection stands");
    }

    /// Reads at most so many bytes, waiting at most so long; how many there were, or none at the end of the stream.
    pub fn read(&mut self, bytes_max: usize, patience: Duration) -> Option<usize> {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a deadline above 0");
        let mut buffer = vec![0; bytes_max.min(1 << 16)];
        match self.socket.read(&mut buffer) {
            Ok(0) => None,
            Ok(read) => {
                self.bytes.extend_from_slice(&buffer[..read]);
                Some(read)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(0),
            Err(_) => None,
        }
    }

    /// The head of the answer, once it has been read.
    pub fn head(&mut self) -> Option<&str> {
        if self.head.is_none() {
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = self.bytes.drain(..end).collect();
            self.head = Some(String::from_utf8(head).expect("a head in ASCII"));
        }
        self.head.as_deref()
    }

    /// The next event that has been read whole.
    pub fn event(&mut self) -> Option<Event> {
        self.head()?;
        let end = self.bytes.windows(2).position(|two| two == b"\n\n")? + 2;
        let text: Vec<u8> = self.bytes.drain(..end).collect();
        let mut event = Event::default();
        for line in String::from_utf8(text).expect("UTF-8").lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("expected a field, found `{line}`"));
            match field {
                "event" => event.name = Some(value.into()),
                "id" => event.id = Some(value.into()),
                "retry" => event.retry = Some(value.parse().expect("a number")),
                "data" => match &mut event.data {
                    Some(data) => *data += &format!("\n{value}"),
                    None => event.data = Some(value.into()),
                },
                other => panic!("expected a field of an event, found `{other}`"),
            }
        }
        Some(event)
    }

    /// Waits for the next event; none at the end of the stream.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.event() {
                return Some(event);
            }
            if self.read(1 << 16, DEADLINE)? == 0 {
                panic!("expected an event or the end within {DEADLINE:?}, found neither");
            }
        }
    }

    /// Waits for an event with this name.
    pub fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next_event().unwrap_or_else(|| panic!("expected `{name}`, found the end"));
            if event.name.as_deref() == Some(name) {
                return event;
            }
        }
    }

    /// Bytes of an event that is not whole.
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Event {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.data.as_deref().expect("data")).expect("JSON")
    }
}
