//! A bound listener: a TCP port or a unix socket. Connections wait in the kernel's queue until it accepts them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::forwarded::WebScheme;
use crate::edge::listen::socket_file::{self, SocketFile};
use crate::settings::listener::{ListenAddress, ListenEndpoint};

/// Connections that may wait to be accepted: two seconds at 2,000 per second. The kernel's somaxconn may be lower.
pub(crate) const BACKLOG: i32 = 4096;

/// Bound, and not accepting yet.
pub(in crate::edge) struct BoundListener {
    socket: BoundSocket,
    address: ListenAddress,
}

enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
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
}

enum AcceptingSocket {
    Tcp(tokio::net::TcpListener),
    Unix {
        listener: tokio::net::UnixListener,
        /// Removed with it.
        _file: SocketFile,
    },
}

impl BoundListener {
    /// Listens, with room for [`BACKLOG`] connections.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<BoundListener> {
        let (socket, endpoint) = match &address.endpoint {
            ListenEndpoint::Tcp(wanted) => {
                let socket = tcp(*wanted)?;
                let endpoint = ListenEndpoint::Tcp(socket.local_addr()?);
                (BoundSocket::Tcp(socket), endpoint)
            }
            ListenEndpoint::Unix { path, mode } => {
                let (socket, file) = socket_file::bind(path, *mode)?;
                (BoundSocket::Unix(socket, file), address.endpoint.clone())
            }
        };
        Ok(BoundListener { socket, address: ListenAddress { endpoint, ..address.clone() } })
    }

    /// With the port that the system chose for 0.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Registers it with the runtime.
    pub(crate) fn start(self) -> io::Result<EdgeListener> {
        let socket = match self.socket {
            BoundSocket::Tcp(socket) => AcceptingSocket::Tcp(tokio::net::TcpListener::from_std(socket)?),
            BoundSocket::Unix(socket, file) => {
                AcceptingSocket::Unix { listener: tokio::net::UnixListener::from_std(socket)?, _file: file }
            }
        };
        let scheme = if self.address.tls { WebScheme::Https } else { WebScheme::Http };
        Ok(EdgeListener { socket, proxy: self.address.proxy, tls: self.address.tls, scheme })
    }
}

impl EdgeListener {
    /// The next connection, and its address; none for a unix socket.
    pub(crate) async fn accept(&self) -> io::Result<(ClientStream, Option<IpAddr>)> {
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

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted server listen while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
