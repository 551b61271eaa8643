//! `fanline health`: asks a running server for its health, for supervisors without a shell or an HTTP client.
//!
//! One GET request over plain HTTP/1.0, to a TCP port or a unix socket, with one deadline for the whole exchange. Any 2xx status is healthy.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use url::Url;

use crate::settings::listener::{ListenAddress, ListenEndpoint};

/// The path if the URL has none: whether the process works, independent of the feed.
const PATH: &str = "/healthz";
/// What stands before the path of a unix socket.
const UNIX: &str = "unix:";
/// Answers are far smaller.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Why a server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("expected a URL such as `http://127.0.0.1:8080/healthz`, or `unix:PATH`, found `{found}`")]
    Url { found: String },
    #[error(
        "expected a listener that speaks plain HTTP, found none in listen and admin.listen; \
         set `admin.listen = \"127.0.0.1:9090\"`, or name the URL, as in `fanline health http://HOST:PORT`"
    )]
    NoPlainAddress,
    #[error("expected an answer from `{url}` within {} s, found: {error}", .timeout.as_secs_f64())]
    Unreachable { url: String, timeout: Duration, error: io::Error },
    #[error("expected status 200 from `{url}`, found {status}: {body}")]
    Unhealthy { url: String, status: String, body: String },
}

impl HealthError {
    /// Whether the command line is wrong, rather than the server.
    pub fn is_usage(&self) -> bool {
        matches!(self, HealthError::Url { .. } | HealthError::NoPlainAddress)
    }
}

/// The URL of a server with these addresses, from the same machine: the first that speaks plain HTTP over TCP, the
/// operator's included, else the first unix socket.
pub fn url_of(listen: &[ListenAddress], admin: Option<&ListenAddress>) -> Result<String, HealthError> {
    let plain = || listen.iter().chain(admin).filter(|address| !address.tls && !address.proxy);
    let Some(listen) = plain().find_map(ListenAddress::socket_addr) else {
        let unix = plain().find_map(|address| match &address.endpoint {
            ListenEndpoint::Unix { path, .. } => Some(format!("{UNIX}{}", path.display())),
            ListenEndpoint::Tcp(_) => None,
        });
        return unix.ok_or(HealthError::NoPlainAddress);
    };
    Ok(format!("http://{}{PATH}", from_here(listen)))
}

/// Where a server that listens there is reached from the same machine.
pub fn from_here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// Asks once; the answer is the body.
pub fn ask(url: &str, timeout: Duration) -> Result<String, HealthError> {
    let wrong = || HealthError::Url { found: url.to_owned() };
    let deadline = Instant::now() + timeout;
    let answer = match url.strip_prefix(UNIX) {
        Some(path) => connect_unix(path, deadline).and_then(|socket| get(socket, "localhost", PATH, deadline)),
        None => {
            let target = Url::parse(url).ok().filter(|target| target.scheme() == "http").ok_or_else(wrong)?;
            let host = target.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']);
            let port = target.port_or_known_default().ok_or_else(wrong)?;
            let path = if target.path() == "/" { PATH } else { target.path() };
            let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            connect_tcp((host, port), deadline).and_then(|socket| get(socket, &authority, path, deadline))
        }
    };
    let unreachable = |error| HealthError::Unreachable { url: url.to_owned(), timeout, error };
    let answer = answer.map_err(unreachable)?;
    let no_http = || unreachable(io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.lines().next().and_then(|line| line.split_once(' ')).ok_or_else(no_http)?.1;
    if status.starts_with('2') {
        Ok(body.trim().to_owned())
    } else {
        Err(HealthError::Unhealthy { url: url.to_owned(), status: status.trim().into(), body: body.trim().into() })
    }
}

/// The time that is left.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
}

fn connect_tcp(target: (&str, u16), deadline: Instant) -> io::Result<Socket> {
    let mut connected = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in target.to_socket_addrs()? {
        connected = TcpStream::connect_timeout(&address, left(deadline)?);
        if connected.is_ok() {
            break;
        }
    }
    Ok(connected?.into())
}

fn connect_unix(path: &str, deadline: Instant) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect_timeout(&SockAddr::unix(path)?, left(deadline)?)?;
    Ok(socket)
}

fn get(mut socket: Socket, authority: &str, path: &str, deadline: Instant) -> io::Result<String> {
    socket.set_write_timeout(Some(left(deadline)?))?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // A server that trickles bytes gets no more time than a silent one.
        socket.set_read_timeout(Some(left(deadline)?))?;
        let bytes = match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&buffer[..bytes]);
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::settings::listener::read_all;

    /// Answers one request with `answer`, then stays silent until the client has left.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut byte = [0];
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|bytes| bytes > 0) {
                request.push(byte[0]);
            }
            if answer.is_empty() {
                // Silent, until the client hangs up.
                let _ = client.read(&mut byte);
            }
            let _ = client.write_all(answer.as_bytes());
        });
        address
    }

    #[test]
    fn only_a_2xx_status_is_healthy() {
        const LONG: Duration = Duration::from_secs(20);
        let healthy = server("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"healthy\":true}");
        assert_eq!(ask(&format!("http://{healthy}"), LONG).expect("healthy"), "{\"healthy\":true}");
        let unhealthy = server("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"healthy\":false}");
        let error = ask(&format!("http://{unhealthy}"), LONG).expect_err("unhealthy").to_string();
        assert!(error.contains("found 503 Service Unavailable: {\"healthy\":false}"), "{error}");
        let other = server("SSH-2.0-OpenSSH\r\n");
        assert!(ask(&format!("http://{other}"), LONG).expect_err("no HTTP").to_string().contains("not an HTTP answer"));
        let silent = server("");
        let error = ask(&format!("http://{silent}"), Duration::from_millis(50)).expect_err("silent").to_string();
        assert!(error.contains("within 0.05 s, found: timed out"), "{error}");
        for wrong in ["127.0.0.1:8080", "https://127.0.0.1/", "http://"] {
            assert!(ask(wrong, LONG).expect_err(wrong).is_usage(), "{wrong}");
        }
    }

    #[test]
    fn a_wildcard_address_is_asked_at_the_loopback() {
        for (listen, admin, url) in [
            ("0.0.0.0:8080", None, Some("http://127.0.0.1:8080/healthz")),
            ("[::]:80", None, Some("http://[::1]:80/healthz")),
            ("10.0.0.7:1", None, Some("http://10.0.0.7:1/healthz")),
            ("tls://0.0.0.0:443,127.0.0.1:2", Some("127.0.0.1:3"), Some("http://127.0.0.1:2/healthz")),
            ("tls://0.0.0.0:443", Some("127.0.0.1:3"), Some("http://127.0.0.1:3/healthz")),
            ("tcp+proxy://0.0.0.0:80,unix:/run/f", None, Some("unix:/run/f")),
            ("tcp+proxy://0.0.0.0:80,unix+proxy:/run/f", None, None),
        ] {
            let admin = admin.map(|admin| ListenAddress::parse(admin).expect("valid"));
            let found = url_of(&read_all(listen).expect("valid"), admin.as_ref());
            assert_eq!(found.as_deref().ok(), url, "{listen}");
        }
    }
}
