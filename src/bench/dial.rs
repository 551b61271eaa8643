//! Opens clients' connections: TCP, TLS if the server speaks it, the upgrade (RFC 6455 section 4), and the first command.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use url::Url;

use super::BenchError;
use super::client_pool::Upgraded;
use super::client_tls::{ClientTls, Trust};
use super::socket::LoadSocket;

/// Connections from one loopback address: slightly fewer than the kernel's usual 28,232 ports for one destination.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(20);
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where clients connect, and what they send.
#[derive(Clone, Debug)]
pub struct DialTarget {
    pub address: SocketAddr,
    /// Of a server that speaks it.
    pub tls: Option<ClientTls>,
    /// `HOST:PORT` in the request.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Further lines of the request, each with its end.
    pub headers: String,
    /// Offer permessage-deflate, and require it.
    pub deflate: bool,
    /// Sent immediately after the upgrade.
    pub first_command: Vec<u8>,
    /// For each step on the way.
    pub deadline: Duration,
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("expected to connect to `{address}`, found: {error}{}", remedy(.error))]
    Connect { address: SocketAddr, error: io::Error },
    #[error("expected a handshake of TLS with `{address}`, found: {error}{}", tls_remedy(.error))]
    Tls { address: SocketAddr, error: io::Error },
    #[error("expected the upgrade to a WebSocket, found: {found}")]
    Refused { found: String },
    #[error(
        "expected compression to be agreed on (permessage-deflate), found a server that does not; leave --deflate out"
    )]
    NoDeflate,
}

impl DialTarget {
    /// The target of `url`. Errors: it is no ws:// or wss:// URL, its host is unknown, or `trust` cannot be used.
    pub fn parse(url: &str, trust: &Trust) -> Result<DialTarget, BenchError> {
        let wrong = |found: &str| BenchError::Target { found: found.to_owned() };
        let parsed = Url::parse(url).map_err(|_| wrong(url))?;
        let is_websocket = matches!(parsed.scheme(), "ws" | "wss");
        let host = parsed.host_str().filter(|_| is_websocket).ok_or_else(|| wrong(url))?;
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let tls = (parsed.scheme() == "wss").then(|| ClientTls::new(name, trust)).transpose()?;
        let port = parsed.port_or_known_default().ok_or_else(|| wrong(url))?;
        let place = format!("{host}:{port}");
        let mut addresses = place.to_socket_addrs().map_err(|error| BenchError::Host { host: place.clone(), error })?;
        let address = addresses.next().ok_or_else(|| wrong(url))?;
        let query = parsed.query().map_or(String::new(), |query| format!("?{query}"));
        let path = if parsed.path() == "/" { "/v1/ws" } else { parsed.path() };
        Ok(DialTarget {
            address,
            tls,
            host: place,
            path: format!("{path}{query}"),
            headers: String::new(),
            deflate: false,
            first_command: Vec::new(),
            deadline: DEADLINE,
        })
    }

    /// Adds a parameter to the query unless it is there.
    pub fn add_parameter(&mut self, name: &str, value: &str) {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        if url::form_urlencoded::parse(query.as_bytes()).any(|(given, _)| given == name) {
            return;
        }
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        self.path = format!("{}{separator}{name}={value}", self.path);
    }

    /// The value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.path.split_once('?')?.1;
        url::form_urlencoded::parse(query.as_bytes()).find(|(given, _)| given == name).map(|(_, value)| value.into())
    }

    /// Opens the connection of client number `index`.
    pub fn dial(&self, index: usize) -> Result<Upgraded, DialError> {
        let failed = |error| DialError::Connect { address: self.address, error };
        let stream = self.connect(index).map_err(failed)?;
        let mut socket = match &self.tls {
            None => LoadSocket::from(stream),
            Some(tls) => LoadSocket::with_tls(stream, tls.connection()),
        };
        socket.shake_hands().map_err(|error| DialError::Tls { address: self.address, error })?;
        socket.write_all(self.request().as_bytes()).map_err(failed)?;
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        let head_bytes = loop {
            if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let bytes = socket.read(&mut piece).map_err(failed)?;
            if bytes == 0 || received.len() > HEAD_BYTES_MAX {
                return Err(DialError::Refused { found: answer(&received) });
            }
            received.extend_from_slice(&piece[..bytes]);
        };
        let unread = received.split_off(head_bytes);
        if !received.starts_with(b"HTTP/1.1 101") {
            return Err(DialError::Refused { found: answer(&[received, unread].concat()) });
        }
        let head = String::from_utf8_lossy(&received).to_ascii_lowercase();
        if self.deflate && !head.contains("permessage-deflate") {
            return Err(DialError::NoDeflate);
        }
        socket.write_all(&self.first_command).map_err(failed)?;
        Ok((socket, unread))
    }

    /// Loopback has many addresses: with several of them, ports do not run out.
    fn connect(&self, index: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        if self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && index >= CONNECTIONS_PER_ADDRESS {
            let nth = u32::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap_or(0);
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + nth);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect_timeout(&self.address.into(), self.deadline)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.deadline))?;
        stream.set_write_timeout(Some(self.deadline))?;
        Ok(stream)
    }

    fn request(&self) -> String {
        let extensions = if self.deflate {
            "sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n"
        } else {
            ""
        };
        format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}{}\r\n",
            self.path, self.host, self.headers
        )
    }
}

/// First and last line of an HTTP answer.
fn answer(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) if last.starts_with('{') => format!("`{first}`, `{last}`"),
        (Some(first), _) => format!("`{first}`"),
        (None, _) => "the connection was closed without an answer".into(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is the server running there?",
        io::ErrorKind::AddrNotAvailable => "; no port is free (net.ipv4.ip_local_port_range), ask for fewer clients",
        _ => "",
    }
}

fn tls_remedy(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => "; name its issuer with --ca, or trust anyone with --insecure",
        Some(rustls::Error::InvalidMessage(_)) => "; does it speak TLS? try ws://",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_completed_and_not_changed() {
        let mut target = DialTarget::parse("ws://127.0.0.1:8080", &Trust::Anyone).expect("a target");
        assert_eq!((&*target.path, &*target.host), ("/v1/ws", "127.0.0.1:8080"));
        target.add_parameter("topics", "trade.*,a>");
        target.add_parameter("topics", "other");
        target.add_parameter("format", "raw");
        assert_eq!(target.path, "/v1/ws?topics=trade.*%2Ca%3E&format=raw");
        assert_eq!(target.parameter("topics").as_deref(), Some("trade.*,a>"));
        let tls = DialTarget::parse("wss://[::1]", &Trust::Anyone).expect("a target");
        assert_eq!((tls.tls.is_some(), &*tls.host), (true, "[::1]:443"));
        for wrong in ["https://example.com/", "http://127.0.0.1:1/", "127.0.0.1:8080", ""] {
            let error = DialTarget::parse(wrong, &Trust::Anyone).expect_err("refused").to_string();
            assert!(error.contains("ws://HOST:PORT") && error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_reported_in_the_words_of_the_server() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 30\r\n\r\n{\"code\":\"too_many_sessions\"}";
        assert_eq!(answer(bytes), "`HTTP/1.1 503 Service Unavailable`, `{\"code\":\"too_many_sessions\"}`");
        assert_eq!(answer(b""), "the connection was closed without an answer");
    }
}
