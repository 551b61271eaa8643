//! A bound listener: a TCP port or a unix socket. Connections wait in the kernel's queue until it accepts them.
//!
//! Its socket may be open already: the process before has handed it over, or the service manager has opened it. Another
//! process may go on with it ([`BoundListener::hand_over`]).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::forwarded::WebScheme;
use crate::edge::listen::inherited::{HandedSocket, InheritedSockets, SocketOrigin};
use crate::edge::listen::socket_file::{self, SocketFile};
use crate::edge::phase::Phase;
use crate::settings::listener::{ListenAddress, ListenEndpoint};

/// Connections that may wait to be accepted: two seconds at 2,000 per second. The kernel's somaxconn may be lower.
pub(crate) const BACKLOG: i32 = 4096;

/// Bound, and not accepting yet.
pub(in crate::edge) struct BoundListener {
    socket: BoundSocket,
    /// As it was asked for.
    wanted: ListenEndpoint,
    address: ListenAddress,
}

enum BoundSocket {
    Tcp(std::net::TcpListener),
    /// The file is removed with it; none if that is for somebody else.
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

/// Accepts connections.
pub(in crate::edge) struct EdgeListener {
    socket: AcceptingSocket,
    /// Connections open with a header of the PROXY protocol.
    pub proxy: bool,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
    /// What the connections are, as browsers name it.
    pub scheme: WebScheme,
    phase: watch::Receiver<Phase>,
}

enum AcceptingSocket {
    Tcp(tokio::net::TcpListener),
    Unix {
        listener: tokio::net::UnixListener,
        /// Removed with it.
        _file: Option<SocketFile>,
    },
}

impl BoundListener {
    /// Listens, with room for [`BACKLOG`] connections; goes on with the inherited socket of this address, if there is one.
    pub(crate) fn bind(address: &ListenAddress, inherited: &mut InheritedSockets) -> io::Result<BoundListener> {
        let (socket, endpoint) = match &address.endpoint {
            ListenEndpoint::Tcp(wanted) => {
                let socket = match inherited.take(&address.endpoint) {
                    Some((socket, _)) => socket.into(),
                    None => tcp(*wanted)?,
                };
                let endpoint = ListenEndpoint::Tcp(socket.local_addr()?);
                (BoundSocket::Tcp(socket), endpoint)
            }
            ListenEndpoint::Unix { path, mode } => {
                let (socket, file) = match inherited.take(&address.endpoint) {
                    Some((socket, SocketOrigin::Predecessor)) => (socket.into(), Some(SocketFile::left_to_us(path))),
                    Some((socket, SocketOrigin::ServiceManager)) => (socket.into(), None),
                    None => {
                        let (socket, file) = socket_file::bind(path, *mode)?;
                        (socket, Some(file))
                    }
                };
                (BoundSocket::Unix(socket, file), address.endpoint.clone())
            }
        };
        let wanted = address.endpoint.clone();
        Ok(BoundListener { socket, wanted, address: ListenAddress { endpoint, ..address.clone() } })
    }

    /// With the port that the system chose for 0.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// What another process needs to go on with the socket.
    pub(crate) fn hand_over(&self) -> io::Result<HandedSocket> {
        let (socket, file) = match &self.socket {
            BoundSocket::Tcp(socket) => (socket.as_fd(), None),
            BoundSocket::Unix(socket, file) => (socket.as_fd(), file.as_ref().map(SocketFile::ownership)),
        };
        let socket: OwnedFd = socket.try_clone_to_owned()?;
        Ok(HandedSocket { wanted: self.wanted.clone(), socket, file })
    }

    /// Registers it with the runtime; `phase` says when connections are accepted.
    pub(crate) fn start(self, phase: watch::Receiver<Phase>) -> io::Result<EdgeListener> {
        let socket = match self.socket {
            BoundSocket::Tcp(socket) => AcceptingSocket::Tcp(tokio::net::TcpListener::from_std(socket)?),
            BoundSocket::Unix(socket, file) => {
                AcceptingSocket::Unix { listener: tokio::net::UnixListener::from_std(socket)?, _file: file }
            }
        };
        let scheme = if self.address.tls { WebScheme::Https } else { WebScheme::Http };
        Ok(EdgeListener { socket, proxy: self.address.proxy, tls: self.address.tls, scheme, phase })
    }
}

impl EdgeListener {
    /// The next connection in the kernel's queue, and its address; none for a unix socket. Nothing is taken from the queue
    /// while connections are to wait there.
    pub(crate) async fn accept(&self) -> io::Result<(ClientStream, Option<IpAddr>)> {
        let mut phase = self.phase.clone();
        loop {
            until(&mut phase, Phase::accepts).await;
            tokio::select! {
                biased;
                () = until(&mut phase, |phase| !phase.accepts()) => {}
                accepted = self.accept_one() => return accepted,
            }
        }
    }

    async fn accept_one(&self) -> io::Result<(ClientStream, Option<IpAddr>)> {
        match &self.socket {
            AcceptingSocket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Small frames must leave at once; the socket keeps the option when it is handed over.
                stream.set_nodelay(true)?;
                Ok((stream.into(), Some(peer.ip())))
            }
            AcceptingSocket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((stream.into(), None))
            }
        }
    }
}

/// Returns in a phase like this; never, if the sender is gone.
async fn until(phase: &mut watch::Receiver<Phase>, is_meant: impl Fn(Phase) -> bool) {
    if phase.wait_for(|phase| is_meant(*phase)).await.is_err() {
        std::future::pending().await
    }
}

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
