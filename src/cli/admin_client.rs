//! A client for the operator's listener: one request over TCP or a unix socket, one deadline for all of it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::settings::listener::ListenEndpoint;

/// Counting the usage of a month takes seconds.
const TIMEOUT: Duration = Duration::from_secs(120);
/// For the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A thousand sessions with their patterns are a few megabytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// A key is far shorter.
const KEY_BYTES_MAX: u64 = 4096;

/// Where the listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdminEndpoint {
    /// `HOST:PORT`.
    Tcp(String),
    Unix(PathBuf),
}

/// Asks one server. It has no `Debug`, which would show the key.
pub(super) struct AdminClient {
    endpoint: AdminEndpoint,
    key: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("expected the operator's listener, found none; give --address, --socket, or --config with admin.listen")]
    NoListener,
    #[error("expected a readable file with the key, found `{}`: {error}; check the path and its permissions", .path.display())]
    KeyFile { path: PathBuf, error: io::Error },
    #[error("expected the operator's listener at `{at}`, found: {error}; is admin.listen set, and the server running?")]
    Unreachable { at: String, error: io::Error },
    #[error("expected an answer from `{at}`, found: {error}")]
    NoAnswer { at: String, error: io::Error },
    #[error("expected the call to succeed, found {status}: {message}")]
    Refused { status: u16, message: String },
}

impl AdminError {
    /// Whether the command line is wrong, rather than the server.
    pub fn is_usage(&self) -> bool {
        matches!(self, AdminError::NoListener | AdminError::KeyFile { .. })
    }
}

trait AdminConnection: Read + Write {
    fn limit(&self, timeout: Duration) -> io::Result<()>;
}

impl AdminConnection for TcpStream {
    fn limit(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout)).and_then(|()| self.set_write_timeout(Some(timeout)))
    }
}

impl AdminConnection for UnixStream {
    fn limit(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout)).and_then(|()| self.set_write_timeout(Some(timeout)))
    }
}

impl AdminClient {
    pub(super) fn new(endpoint: AdminEndpoint, key_file: Option<&Path>) -> Result<AdminClient, AdminError> {
        let key = key_file.map(read_key).transpose()?;
        Ok(AdminClient { endpoint, key })
    }

    /// Sends one request; the answer is the body of a success.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, AdminError> {
        self.ask_within(method, path, body, TIMEOUT)
    }

    /// The same with this time for the answer.
    pub(super) fn ask_within(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Value, AdminError> {
        let (at, host) = match &self.endpoint {
            AdminEndpoint::Tcp(address) => (address.clone(), address.as_str()),
            AdminEndpoint::Unix(path) => (path.display().to_string(), "localhost"),
        };
        let mut connection = self.connect().map_err(|error| AdminError::Unreachable { at: at.clone(), error })?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let key = self.key.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answered = exchange(&mut *connection, &request, timeout).and_then(|answer| read_answer(&answer));
        let (status, body) = answered.map_err(|error| AdminError::NoAnswer { at, error })?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let message = body["message"].as_str().unwrap_or("no reason was given").escape_debug().to_string();
        Err(AdminError::Refused { status, message })
    }

    fn connect(&self) -> io::Result<Box<dyn AdminConnection>> {
        let address = match &self.endpoint {
            AdminEndpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path)?)),
            AdminEndpoint::Tcp(address) => address,
        };
        let mut connected = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in address.to_socket_addrs()? {
            connected = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
            if connected.is_ok() {
                break;
            }
        }
        Ok(Box::new(connected?))
    }
}

/// A listener, from the same machine.
pub(super) fn reachable(listen: &ListenEndpoint) -> AdminEndpoint {
    let address = match listen {
        ListenEndpoint::Unix { path, .. } => return AdminEndpoint::Unix(path.clone()),
        ListenEndpoint::Tcp(address) => address,
    };
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    AdminEndpoint::Tcp(SocketAddr::new(ip, address.port()).to_string())
}

fn exchange(connection: &mut dyn AdminConnection, request: &str, timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    connection.limit(timeout)?;
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.limit(left)?;
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an endless answer"));
        }
    }
}

fn read_answer(answer: &[u8]) -> io::Result<(u16, Value)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer in JSON");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(wrong)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| wrong())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let body = serde_json::from_slice(&answer[end + 4..]).map_err(|_| wrong())?;
    Ok((status, body))
}

fn read_key(path: &Path) -> Result<String, AdminError> {
    let unreadable = |error| AdminError::KeyFile { path: path.into(), error };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, "no key of printable characters")));
    }
    Ok(key.into())
}
