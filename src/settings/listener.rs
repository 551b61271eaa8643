//! Where a server listens, as text: `127.0.0.1:8080`, `tls://0.0.0.0:8443`, `unix:/run/fanline.sock`.
//!
//! `+proxy` behind the scheme means that each connection opens with a header of the PROXY protocol.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::settings::list;

/// Listeners at most: each has a task and an open file of its own.
const LISTENERS_MAX: usize = 16;
/// What fits into `sockaddr_un` on Linux, without the final zero; other systems have a few bytes less.
const UNIX_PATH_BYTES_MAX: usize = 107;

const ADDRESS_REMEDY: &str = "write an IP address and a port, such as `127.0.0.1:8080`, `0.0.0.0:8080`, `[::]:8080` or `tls://0.0.0.0:8443`, \
     or `unix:PATH`";

/// One place to listen at, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    pub endpoint: ListenEndpoint,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
    /// Connections open with a header of the PROXY protocol, before anything else.
    pub proxy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenEndpoint {
    /// Port 0 takes a free port.
    Tcp(SocketAddr),
    /// `mode`: permissions of the socket file; none: what the umask of the process leaves.
    Unix { path: PathBuf, mode: Option<u32> },
}

impl ListenAddress {
    /// The error is the remedy.
    pub fn parse(text: &str) -> Result<ListenAddress, String> {
        let (tls, proxy, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (false, false, rest),
            Some(("tcp+proxy", rest)) => (false, true, rest),
            Some(("tls", rest)) => (true, false, rest),
            Some(("tls+proxy", rest)) => (true, true, rest),
            Some(("https" | "wss", rest)) => return Err(format!("try `tls://{rest}`")),
            Some(("http" | "ws", rest)) => return Err(format!("try `{rest}`")),
            _ => match text.split_once(':') {
                Some(("unix", path)) => return unix(path, false),
                Some(("unix+proxy", path)) => return unix(path, true),
                _ => (false, false, text),
            },
        };
        let address = match rest.strip_prefix("localhost:") {
            Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => rest.parse().ok(),
        };
        let address = address.ok_or(ADDRESS_REMEDY)?;
        Ok(ListenAddress { endpoint: ListenEndpoint::Tcp(address), tls, proxy })
    }

    /// The address and port; none for a unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.endpoint {
            ListenEndpoint::Tcp(address) => Some(address),
            ListenEndpoint::Unix { .. } => None,
        }
    }
}

/// Plain TCP.
impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress { endpoint: ListenEndpoint::Tcp(address), tls: false, proxy: false }
    }
}

/// As a person writes it; [`ListenAddress::parse`] reads it back.
impl ListenAddress {
    /// Whether other machines may reach it.
    pub fn is_public(&self) -> bool {
        matches!(&self.endpoint, ListenEndpoint::Tcp(address) if !address.ip().is_loopback())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = if self.proxy { "+proxy" } else { "" };
        match (&self.endpoint, self.tls) {
            (ListenEndpoint::Tcp(address), true) => write!(f, "tls{proxy}://{address}"),
            (ListenEndpoint::Tcp(address), false) if self.proxy => write!(f, "tcp{proxy}://{address}"),
            (ListenEndpoint::Tcp(address), false) => address.fmt(f),
            (ListenEndpoint::Unix { path, mode: None }, _) => write!(f, "unix{proxy}:{}", path.display()),
            (ListenEndpoint::Unix { path, mode: Some(mode) }, _) => {
                write!(f, "unix{proxy}:{}?mode={mode:o}", path.display())
            }
        }
    }
}

/// Several, as a list in one text; the error is the remedy.
pub fn read_all(text: &str) -> Result<Vec<ListenAddress>, String> {
    // An IPv6 address opens with the bracket of a list.
    let items = list::read(text).or_else(|remedy| {
        let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
        if items.iter().all(|item| ListenAddress::parse(item).is_ok()) { Ok(items) } else { Err(remedy) }
    })?;
    let named = |item: &str, remedy: String| if items.len() > 1 { format!("in `{item}`: {remedy}") } else { remedy };
    let read = |item: &String| ListenAddress::parse(item).map_err(|remedy| named(item, remedy));
    let listeners: Vec<ListenAddress> = items.iter().map(read).collect::<Result<_, _>>()?;
    if listeners.is_empty() {
        return Err(ADDRESS_REMEDY.into());
    }
    if listeners.len() > LISTENERS_MAX {
        return Err(format!("keep at most {LISTENERS_MAX} of them"));
    }
    for (at, listener) in listeners.iter().enumerate() {
        if listeners[..at].iter().any(|other| is_same_place(other, listener)) {
            return Err(format!("`{listener}` listens where another one does; remove one of them"));
        }
    }
    Ok(listeners)
}

/// The shortest text that [`read_all`] reads as these.
pub fn write_all(listeners: &[ListenAddress]) -> String {
    let items: Vec<String> = listeners.iter().map(ListenAddress::to_string).collect();
    let joined = items.join(",");
    if read_all(&joined).is_ok_and(|again| again == listeners) { joined } else { list::write(&items) }
}

/// Two of port 0 get different ports.
fn is_same_place(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (&one.endpoint, &other.endpoint) {
        (ListenEndpoint::Tcp(one), ListenEndpoint::Tcp(other)) => one == other && one.port() != 0,
        (ListenEndpoint::Unix { path: one, .. }, ListenEndpoint::Unix { path: other, .. }) => one == other,
        _ => false,
    }
}

fn unix(text: &str, proxy: bool) -> Result<ListenAddress, String> {
    let (path, mode) = match text.split_once("?mode=") {
        Some((path, mode)) => (path, Some(read_mode(mode)?)),
        None => (text, None),
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') || path.contains(['?', '\0']) {
        return Err(
            "write the path of the socket, such as `unix:/run/fanline/fanline.sock`, and `?mode=660` behind it \
                    for its permissions"
                .into(),
        );
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "the path of a unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(ListenAddress { endpoint: ListenEndpoint::Unix { path: path.into(), mode }, tls: false, proxy })
}

/// As chmod(1) takes it.
fn read_mode(text: &str) -> Result<u32, String> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| "write the permissions in octal, such as `?mode=660`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (text, written) in [
            ("127.0.0.1:8080", None),
            ("tcp://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("tls://localhost:0", Some("tls://127.0.0.1:0")),
            ("tls://[::]:8443", None),
            ("tcp+proxy://10.0.0.1:80", None),
            ("tls+proxy://10.0.0.1:443", None),
            ("unix:/run/fanline.sock", None),
            ("unix:///run/fanline.sock", Some("unix:/run/fanline.sock")),
            ("unix:fanline.sock?mode=0660", Some("unix:fanline.sock?mode=660")),
            ("unix+proxy:/run/fanline.sock", None),
        ] {
            let listener = ListenAddress::parse(text).unwrap_or_else(|remedy| panic!("{text}: {remedy}"));
            assert_eq!(listener.to_string(), written.unwrap_or(text));
            assert_eq!(ListenAddress::parse(&listener.to_string()), Ok(listener));
        }
    }

    #[test]
    fn what_is_no_listener_is_refused_with_a_remedy() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for (text, remedy) in [
            ("8080", "write an IP address and a port"),
            ("example.com:80", "write an IP address and a port"),
            ("127.0.0.1", "write an IP address and a port"),
            ("tls://8443", "write an IP address and a port"),
            ("tls+proxy+proxy://127.0.0.1:1", "write an IP address and a port"),
            ("tls:127.0.0.1:1", "write an IP address and a port"),
            ("https://0.0.0.0:443", "try `tls://0.0.0.0:443`"),
            ("http://0.0.0.0:80", "try `0.0.0.0:80`"),
            ("unix:", "write the path of the socket"),
            ("unix:/run/", "write the path of the socket"),
            ("unix:/run/f?owner=me", "write the path of the socket"),
            ("unix:/run/f?mode=rw", "in octal"),
            ("unix:/run/f?mode=1777", "in octal"),
            ("unix:/run/f?mode=+77", "in octal"),
            (&long, "at most 107 bytes, this one has 108"),
            ("", "write an IP address and a port"),
            ("127.0.0.1:1,127.0.0.1:1", "`127.0.0.1:1` listens where another one does"),
            ("unix:/f,unix+proxy:/f", "`unix+proxy:/f` listens where another one does"),
            ("127.0.0.1:1,8080", "in `8080`: write an IP address"),
        ] {
            let found = read_all(text).expect_err(text);
            assert!(found.contains(remedy), "{text}: {found}");
        }
        let many: Vec<String> = (1..=LISTENERS_MAX + 1).map(|port| format!("127.0.0.1:{port}")).collect();
        assert!(read_all(&many.join(",")).is_err_and(|remedy| remedy.contains("at most 16")));
        assert_eq!(read_all("[::]:1, [::]:2").map(|read| write_all(&read)).as_deref(), Ok("[::]:1,[::]:2"));
        assert_eq!(
            read_all("[\"[::]:1\", \"127.0.0.1:2\"]").map(|read| write_all(&read)).as_deref(),
            Ok("[::]:1,127.0.0.1:2")
        );
        assert_eq!(read_all("127.0.0.1:0,tls://127.0.0.1:0").map(|read| read.len()), Ok(2));
    }
}
