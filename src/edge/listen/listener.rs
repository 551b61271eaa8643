//! A bound listener: a TCP port. Connections wait in the kernel's queue until it accepts them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use crate::edge::listen::forwarded::WebScheme;
use crate::settings::listener::{ListenAddress, ListenEndpoint};

/// Connections that may wait to be accepted: two seconds at 2,000 per second. The kernel's somaxconn may be lower.
const BACKLOG: i32 = 4096;

/// Bound, and not accepting yet.
pub(in crate::edge) struct BoundListener {
    socket: std::net::TcpListener,
    address: ListenAddress,
}

/// Accepts connections.
pub(in crate::edge) struct Listener {
    socket: tokio::net::TcpListener,
    /// Connections open with a header of the PROXY protocol.
    pub proxy: bool,
    /// What the connections are, as browsers name it.
    pub scheme: WebScheme,
}

impl BoundListener {
    /// Listens, with room for [`BACKLOG`] connections.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<BoundListener> {
        let ListenEndpoint::Tcp(wanted) = address.endpoint else { return Err(io::ErrorKind::Unsupported.into()) };
        let socket = tcp(wanted)?;
        let endpoint = ListenEndpoint::Tcp(socket.local_addr()?);
        Ok(BoundListener { socket, address: ListenAddress { endpoint, ..address.clone() } })
    }

    /// With the port that the system chose for 0.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Registers it with the runtime.
    pub(crate) fn start(self) -> io::Result<Listener> {
        let scheme = if self.address.tls { WebScheme::Https } else { WebScheme::Http };
        Ok(Listener { socket: tokio::net::TcpListener::from_std(self.socket)?, proxy: self.address.proxy, scheme })
    }
}

impl Listener {
    /// The next connection, and its address.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (socket, peer) = self.socket.accept().await?;
        // Small frames must leave at once; the socket keeps the option when it is handed over.
        socket.set_nodelay(true)?;
        Ok((socket, Some(peer.ip())))
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
