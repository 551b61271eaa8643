//! Floor 4: the street. Accepts connections, answers HTTP, and hands upgraded sockets to the delivery.
//!
//! [`Edge::bind`] takes the address, [`Edge::serve`] answers until it is told to stop. After an upgrade nothing of a
//! client stays here but its permit (`admission.rs`), which travels with the session. TLS is deliberately left to
//! whatever stands in front.

mod admission;
mod answer;
mod assets;
mod context;
mod handshake;
mod health;
mod listen;
pub mod metrics;
mod pages;
mod picture;
mod query;
mod router;
mod snapshot;
mod upgrade;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::pulse::Vitals;
use crate::bus::reader::Reader;
use crate::delivery::newcomer::Newcomer;
use crate::edge::metrics::Exposition;
use crate::words::metrics::Meters;

/// Bounds and choices of the edge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose, see [`Edge::local_addr`].
    pub listen: SocketAddr,
    /// Whether permessage-deflate is agreed on with clients that offer it.
    pub compression: bool,
    /// Sessions at most; further upgrades are refused with 503.
    pub sessions_max: usize,
    /// Sessions at most from one IPv4 address or one IPv6 /64 network; further upgrades are refused with 503. None is
    /// right behind a proxy, where all clients have the proxy's address.
    pub sessions_per_address_max: Option<usize>,
    /// Patterns at most in one `topics` parameter; more are refused with 400.
    pub patterns_max: usize,
    /// Connections at most that are not (yet) upgraded; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, and how long a connection may idle between two.
    pub header_timeout: Duration,
    /// How long answers under way may take to end after [`Phase::Stopped`].
    pub stop_timeout: Duration,
}

/// Where an upgraded socket goes. Must not block.
pub type Door = Arc<dyn Fn(Newcomer) + Send + Sync>;

/// What the edge needs of the rooms below.
#[derive(Clone)]
pub struct Rooms {
    pub reader: Reader,
    pub door: Door,
    pub vitals: Vitals,
    pub meters: Meters,
    pub exposition: Exposition,
}

/// How far a graceful stop has come. Only ever goes downward in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Readiness is withdrawn and upgrades are refused; everything else is still answered.
    Draining,
    /// Nothing is accepted any more.
    Stopped,
}

/// Why the edge could not begin to listen.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error(
        "expected to listen on `{address}`, found that another program does so; \
         stop that program or choose another address or port with --listen (port 0 takes any free one)"
    )]
    AddressInUse { address: SocketAddr },
    #[error(
        "expected to listen on `{address}`, found that this user may not use the port; \
         choose a port from 1024 on with --listen or grant CAP_NET_BIND_SERVICE"
    )]
    PortForbidden { address: SocketAddr },
    #[error(
        "expected to listen on `{address}`, found that this machine has no such address; \
         choose 127.0.0.1 or 0.0.0.0 with --listen"
    )]
    NoSuchAddress { address: SocketAddr },
    #[error("expected to listen on `{address}`, found: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A bound listener that nobody answers yet.
pub struct Edge {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    rooms: Rooms,
}

impl Edge {
    /// Listens on `settings.listen`. Connections wait in the kernel's queue until [`Edge::serve`] is polled.
    pub fn bind(settings: Settings, rooms: Rooms) -> Result<Edge, EdgeError> {
        let address = settings.listen;
        let explain = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address },
            io::ErrorKind::PermissionDenied => EdgeError::PortForbidden { address },
            io::ErrorKind::AddrNotAvailable => EdgeError::NoSuchAddress { address },
            _ => EdgeError::Listen { address, source },
        };
        let listener = listen::bind(address).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Edge { listener, address, settings, rooms })
    }

    /// The address that clients can connect to, with the port the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `phase` is [`Phase::Stopped`] or its sender is gone, then waits for answers under way, but no
    /// longer than `settings.stop_timeout`.
    ///
    /// # Errors
    /// The listener could not be registered with the runtime, or the upkeep of the metrics has panicked.
    pub async fn serve(self, phase: watch::Receiver<Phase>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let mut upkeep = tokio::spawn(metrics::upkeep(self.rooms.exposition.clone(), phase.clone()));
        let router = router::build(&self.settings, self.rooms, phase.clone());
        let mut accepting = pin!(listen::accept_all(listener, router, &self.settings, phase));
        // Without its upkeep the process would grow for as long as nobody scrapes: it must not end unseen.
        tokio::select! {
            () = &mut accepting => {
                upkeep.abort();
                Ok(())
            }
            ended = &mut upkeep => {
                ended.map_err(io::Error::other)?;
                accepting.await;
                Ok(())
            }
        }
    }
}
