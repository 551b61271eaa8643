//! Floor 4: the street. Accepts connections, answers HTTP, and hands upgraded sockets to the delivery.
//!
//! [`Edge::bind`] takes the address, [`Edge::serve`] answers until it is told to stop. After an upgrade nothing of a
//! client stays here but its permit (`admission.rs`), which travels with the session. TLS is deliberately left to
//! whatever stands in front.

mod admission;
mod answer;
mod answers;
mod assets;
mod body;
mod context;
mod handshake;
mod health;
mod line;
mod listen;
pub mod metrics;
mod pace;
mod pages;
mod picture;
mod places;
mod query;
mod router;
pub mod settings;
mod snapshot;
mod upgrade;
pub mod visitors;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::watch;

use crate::bus::reader::Reader;
use crate::delivery::newcomer::Newcomer;
use crate::edge::context::Context;
use crate::edge::listen::Hall;
use crate::edge::metrics::Exposition;
use crate::edge::settings::{ConnectionLimits, Settings};
use crate::words::metrics::Meters;

/// Where an upgraded socket goes. Must not block.
pub type Door = Arc<dyn Fn(Newcomer) + Send + Sync>;

/// What the edge needs of the rooms below.
#[derive(Clone)]
pub struct Rooms {
    pub reader: Reader,
    pub door: Door,
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
         stop that program or choose another address or port with {flag} (port 0 takes any free one)"
    )]
    AddressInUse { address: SocketAddr, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found that this user may not use the port; \
         choose a port from 1024 on with {flag} or grant CAP_NET_BIND_SERVICE"
    )]
    PortForbidden { address: SocketAddr, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found that this machine has no such address; \
         choose 127.0.0.1 or 0.0.0.0 with {flag}"
    )]
    NoSuchAddress { address: SocketAddr, flag: &'static str },
    #[error("expected to listen on `{address}`, found: {source}; choose another address with {flag}")]
    Listen { address: SocketAddr, flag: &'static str, source: io::Error },
}

/// Connections of the operator: scrapes and health checks.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// Bound listeners that nobody answers yet.
pub struct Edge {
    public: Bound,
    admin: Option<Bound>,
    settings: Settings,
    rooms: Rooms,
}

struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    fn new(address: SocketAddr, flag: &'static str) -> Result<Bound, EdgeError> {
        let explain = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address, flag },
            io::ErrorKind::PermissionDenied => EdgeError::PortForbidden { address, flag },
            io::ErrorKind::AddrNotAvailable => EdgeError::NoSuchAddress { address, flag },
            _ => EdgeError::Listen { address, flag, source },
        };
        let listener = listen::bind(address).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Bound { listener, address })
    }
}

impl Edge {
    /// Listens on `settings.listen` and `settings.admin`. Connections wait in the kernel's queue until [`Edge::serve`]
    /// is polled.
    pub fn bind(settings: Settings, rooms: Rooms) -> Result<Edge, EdgeError> {
        let public = Bound::new(settings.listen, "--listen")?;
        let admin = settings.admin.map(|address| Bound::new(address, "--admin-listen")).transpose()?;
        Ok(Edge { public, admin, settings, rooms })
    }

    /// The address that clients can connect to, with the port the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.public.address
    }

    /// The operator's address, if there is one of its own.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|bound| bound.address)
    }

    /// Answers until `phase` is [`Phase::Stopped`] or its sender is gone, then waits for answers under way, but no
    /// longer than `settings.stop_timeout`.
    ///
    /// # Errors
    /// A listener could not be registered with the runtime.
    pub async fn serve(self, phase: watch::Receiver<Phase>) -> io::Result<()> {
        let Edge { public, admin, settings, rooms } = self;
        let listener = tokio::net::TcpListener::from_std(public.listener)?;
        let admin = admin.map(|bound| tokio::net::TcpListener::from_std(bound.listener)).transpose()?;
        let meters = rooms.meters.clone();
        let upkeep = tokio::spawn(metrics::upkeep(rooms.exposition.clone(), phase.clone()));
        let context = Arc::new(Context::new(&settings, rooms, phase.clone()));
        let hall =
            |router, limits| Hall { router, limits, meters: meters.clone(), stop_timeout: settings.stop_timeout };
        let router = router::public(&context, admin.is_none());
        let public = listen::accept_all(listener, hall(router, settings.connections), phase.clone());
        let operators = async {
            if let Some(listener) = admin {
                // Places of its own, so that the public cannot take them.
                let limits = ConnectionLimits {
                    total_max: ADMIN_CONNECTIONS_MAX,
                    per_address_max: None,
                    pending_per_address_max: None,
                    ..settings.connections
                };
                listen::accept_all(listener, hall(router::admin(&context), limits), phase).await;
            }
        };
        tokio::join!(public, operators);
        upkeep.abort();
        Ok(())
    }
}
