//! Sockets that listen already: those of the process before this one, and those that the service manager has opened.
//!
//! Each is for the listener of its address. The rest is closed by dropping it.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{SockAddr, SockRef};

use crate::edge::listen::socket_file::FileOwnership;
use crate::settings::listener::ListenEndpoint;

/// Who has opened a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOrigin {
    /// The process before this one. It removes the file of a unix socket, until this one goes on.
    Predecessor,
    /// It removes the file of a unix socket by itself.
    ServiceManager,
}

/// Sockets that no listener has taken yet.
#[derive(Default)]
pub struct InheritedSockets(Vec<InheritedSocket>);

struct InheritedSocket {
    /// Where it listens, as the process before was asked for it; with port 0 that is not the address of the socket.
    wanted: Option<ListenEndpoint>,
    socket: OwnedFd,
    origin: SocketOrigin,
}

/// For another process: a listening socket of this one.
pub struct HandedSocket {
    /// Where it was asked to listen.
    pub wanted: ListenEndpoint,
    pub socket: OwnedFd,
    /// Of a unix socket, if this process removes its file.
    pub file: Option<FileOwnership>,
}

impl InheritedSockets {
    /// Adds a listening socket. `wanted` is what the process before was asked for, if it has opened it.
    ///
    /// # Errors
    /// It is no socket that listens.
    pub fn add(&mut self, socket: OwnedFd, wanted: Option<ListenEndpoint>, origin: SocketOrigin) -> io::Result<()> {
        let reference = SockRef::from(&socket);
        let listens = reference.is_listener()?;
        if !listens {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        reference.set_nonblocking(true)?;
        reference.set_cloexec(true)?;
        self.0.push(InheritedSocket { wanted, socket, origin });
        Ok(())
    }

    /// The socket for a listener of this address.
    pub(in crate::edge) fn take(&mut self, endpoint: &ListenEndpoint) -> Option<(OwnedFd, SocketOrigin)> {
        let at = self.0.iter().position(|inherited| inherited.is_for(endpoint))?;
        let InheritedSocket { socket, origin, .. } = self.0.remove(at);
        Some((socket, origin))
    }

    pub(in crate::edge) fn has(&self, endpoint: &ListenEndpoint) -> bool {
        self.0.iter().any(|inherited| inherited.is_for(endpoint))
    }

    /// Where those listen that nobody has taken.
    pub fn left(&self) -> Vec<String> {
        self.0.iter().map(InheritedSocket::shown).collect()
    }
}

impl InheritedSocket {
    fn is_for(&self, endpoint: &ListenEndpoint) -> bool {
        if let Some(wanted) = &self.wanted {
            return is_same_place(wanted, endpoint);
        }
        let Ok(address) = SockRef::from(&self.socket).local_addr() else { return false };
        match endpoint {
            ListenEndpoint::Tcp(wanted) => address.as_socket().is_some_and(|address| address == *wanted),
            ListenEndpoint::Unix { path, .. } => address.as_pathname() == Some(path),
        }
    }

    fn shown(&self) -> String {
        let address = SockRef::from(&self.socket).local_addr();
        address.as_ref().map(shown).unwrap_or_default()
    }
}

fn shown(address: &SockAddr) -> String {
    let path = || Some(format!("unix:{}", address.as_pathname()?.display()));
    address.as_socket().map(|address| address.to_string()).or_else(path).unwrap_or_default()
}

/// The permissions of a socket's file are as they are.
fn is_same_place(one: &ListenEndpoint, other: &ListenEndpoint) -> bool {
    match (one, other) {
        (ListenEndpoint::Unix { path: one, .. }, ListenEndpoint::Unix { path: other, .. }) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn endpoint(text: &str) -> ListenEndpoint {
        ListenEndpoint::Tcp(text.parse().expect("an address"))
    }

    #[test]
    fn a_socket_is_for_the_listener_of_its_address_and_for_no_other() {
        let mut inherited = InheritedSockets::default();
        let opened = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let its = ListenEndpoint::Tcp(opened.local_addr().expect("bound"));
        inherited.add(opened.into(), None, SocketOrigin::ServiceManager).expect("it listens");
        assert!(inherited.take(&endpoint("127.0.0.1:0")).is_none(), "any port is another one");
        assert_eq!(inherited.left().len(), 1);
        assert!(matches!(inherited.take(&its), Some((_, SocketOrigin::ServiceManager))));
        assert!(inherited.take(&its).is_none() && inherited.left().is_empty());
    }

    #[test]
    fn sockets_of_the_process_before_are_found_by_what_it_was_asked_for() {
        let mut inherited = InheritedSockets::default();
        for _ in 0..2 {
            let opened = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let wanted = Some(endpoint("127.0.0.1:0"));
            inherited.add(opened.into(), wanted, SocketOrigin::Predecessor).expect("it listens");
        }
        let expected = inherited.left();
        let ports = [0, 1].map(|_| inherited.take(&endpoint("127.0.0.1:0")).expect("one each").0);
        let found = ports.map(|socket| TcpListener::from(socket).local_addr().expect("bound").to_string());
        assert_eq!(found.to_vec(), expected, "in their order");
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        assert!(InheritedSockets::default().add(one.into(), None, SocketOrigin::ServiceManager).is_err());
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(InheritedSockets::default().add(file.into(), None, SocketOrigin::ServiceManager).is_err());
    }
}
