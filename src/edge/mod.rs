//! The edge: accepts connections, answers HTTP, and hands upgraded sockets to delivery.
//!
//! [`Edge::bind`] takes the addresses, [`Edge::serve`] answers until the stop. After an upgrade nothing of a client stays
//! here; its permit (`admission.rs`) travels with the session.

pub mod admin_key;
pub(crate) mod entrance;
pub mod exposition;
pub mod http;
pub mod listen;
pub mod parts;
pub mod phase;
pub(crate) mod process;
pub(crate) mod router;
pub mod settings;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::edge::http::context::AnswerContext;
use crate::edge::http::terms::EdgeTerms;
use crate::edge::listen::accept::{self, HttpService};
use crate::edge::listen::client_files::ClientFiles;
use crate::edge::listen::inherited::{HandedSocket, InheritedSockets};
use crate::edge::listen::listener::BoundListener;
use crate::edge::listen::tls::acceptor::TlsAcceptor;
use crate::edge::listen::tls::files::{TlsFileError, TlsFiles};
use crate::edge::parts::EdgeParts;
use crate::edge::phase::Phase;
use crate::edge::settings::{ConnectionLimits, Settings};
use crate::settings::listener::{ListenAddress, ListenEndpoint};

/// Why the edge could not listen.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error(
        "expected to listen on `{address}`, found it in use by another program; \
         stop that program or choose another address, port or path with {flag} (port 0 takes any free one)"
    )]
    AddressInUse { address: ListenAddress, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found a port this user may not use; \
         choose a port above 1023 with {flag} or grant CAP_NET_BIND_SERVICE"
    )]
    PortForbidden { address: ListenAddress, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found an address this machine does not have; \
         choose 127.0.0.1 or 0.0.0.0 with {flag}"
    )]
    NoSuchAddress { address: ListenAddress, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found a directory this user may not write to; \
         choose another path with {flag}"
    )]
    DirectoryForbidden { address: ListenAddress, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found no such directory; create it, or choose another path with {flag}"
    )]
    NoSuchDirectory { address: ListenAddress, flag: &'static str },
    #[error(
        "expected to listen on `{address}`, found a file that is not a socket; \
         remove it, or choose another path with {flag}"
    )]
    NotASocket { address: ListenAddress, flag: &'static str },
    #[error("expected to listen on `{address}`, found: {source}; choose another address with {flag}")]
    Listen { address: ListenAddress, flag: &'static str, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsFileError),
}

/// Connections of the operator: scrapes and health checks.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// Bound listeners that nobody answers yet.
pub struct Edge {
    /// At least one.
    public: Vec<BoundListener>,
    admin: Option<BoundListener>,
    /// For the listeners that speak TLS.
    tls: Option<Arc<TlsFiles>>,
    settings: Settings,
    terms: Arc<EdgeTerms>,
    parts: EdgeParts,
}

impl Edge {
    /// Listens on `settings.listen` and `settings.admin`. Connections wait in the kernel's queue until [`Edge::serve`]
    /// is polled. `terms` are those of the settings.
    pub fn bind(settings: Settings, terms: Arc<EdgeTerms>, parts: EdgeParts) -> Result<Edge, EdgeError> {
        Edge::bind_with(settings, terms, parts, &mut InheritedSockets::default())
    }

    /// As [`Edge::bind`], with sockets that listen already; takes those that it can use.
    pub fn bind_with(
        settings: Settings,
        terms: Arc<EdgeTerms>,
        parts: EdgeParts,
        inherited: &mut InheritedSockets,
    ) -> Result<Edge, EdgeError> {
        let speaks_tls = settings.listen.iter().any(|address| address.tls);
        let tls = parts.tls.clone().filter(|_| speaks_tls);
        if speaks_tls && tls.is_none() {
            return Err(TlsFileError::NoCertificate.into());
        }
        let mut bind = |address: &ListenAddress, flag| bind(address, flag, inherited);
        let public = settings.listen.iter().map(|address| bind(address, "--listen")).collect::<Result<_, _>>()?;
        let admin = settings.admin.as_ref().map(private).map(|address| bind(&address, "--admin-listen")).transpose()?;
        Ok(Edge { public, admin, tls, settings, terms, parts })
    }

    /// Whether those addresses are free that no inherited socket listens at: each is bound for a moment.
    pub fn check_listeners(settings: &Settings, inherited: &InheritedSockets) -> Result<(), EdgeError> {
        let admin = settings.admin.as_ref().map(private);
        let public = settings.listen.iter().map(|address| (address, "--listen"));
        for (address, flag) in public.chain(admin.iter().map(|address| (address, "--admin-listen"))) {
            if !inherited.has(&address.endpoint) {
                bind(address, flag, &mut InheritedSockets::default())?;
            }
        }
        Ok(())
    }

    /// The addresses for clients, in the order of the settings, with the ports that the system chose for 0.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.public.iter().map(BoundListener::address)
    }

    /// The operator's address, if it has its own.
    pub fn admin_address(&self) -> Option<&ListenAddress> {
        self.admin.as_ref().map(BoundListener::address)
    }

    /// All its sockets, for another process that goes on with them.
    ///
    /// # Errors
    /// No further file can be opened.
    pub fn hand_over(&self) -> io::Result<Vec<HandedSocket>> {
        self.public.iter().chain(&self.admin).map(BoundListener::hand_over).collect()
    }

    /// Answers until `phase` is [`Phase::Stopped`] or its sender is gone, then waits for answers under way, but no
    /// longer than `settings.stop_timeout`.
    ///
    /// # Errors
    /// A listener could not be registered with the runtime, or the upkeep of the metrics has panicked.
    pub async fn serve(self, phase: watch::Receiver<Phase>) -> io::Result<()> {
        let Edge { public, admin, tls, settings, terms, parts } = self;
        let start = |listener: BoundListener| listener.start(phase.clone());
        let public = public.into_iter().map(start).collect::<io::Result<Vec<_>>>()?;
        let admin = admin.map(start).transpose()?;
        let (meters, journal, admin_parts) = (parts.meters.clone(), parts.journal.clone(), parts.admin.clone());
        let acceptor = tls.clone().map(|files| TlsAcceptor::start(files, &settings.tls, &meters)).transpose()?;
        let acceptor = acceptor.map(Arc::new);
        let mut upkeep = tokio::spawn(exposition::upkeep(parts.exposition.clone(), phase.clone()));
        let context = Arc::new(AnswerContext::new(&settings, terms.clone(), parts, phase.clone()));
        let proxies = Arc::new(settings.proxies.clone());
        let service = |router, limits, files| HttpService {
            router,
            limits,
            files,
            proxies: proxies.clone(),
            tls: acceptor.clone(),
            meters: meters.clone(),
            journal: journal.clone(),
            stop_timeout: settings.stop_timeout,
        };
        let router = router::public(&context, admin.is_none());
        let public =
            accept::accept_all(public, service(router, terms.connections.clone(), terms.files.clone()), phase.clone());
        let operators = async {
            if let Some(listener) = admin {
                // Its own slots, so that the public cannot take them.
                let limits = ConnectionLimits {
                    total_max: ADMIN_CONNECTIONS_MAX,
                    files_max: ADMIN_CONNECTIONS_MAX,
                    per_address_max: None,
                    pending_per_address_max: None,
                    ..settings.connections
                };
                let files = ClientFiles::new(ADMIN_CONNECTIONS_MAX, 1);
                let router = router::admin(&context, admin_parts);
                let limits = Arc::new(ArcSwap::from_pointee(limits));
                accept::accept_all(vec![listener], service(router, limits, files), phase).await;
            }
        };
        let mut accepting = pin!(async { tokio::join!(public, operators) });
        // Without upkeep the memory would grow as long as nobody scrapes, so its end must not go unnoticed.
        tokio::select! {
            _ = &mut accepting => {
                upkeep.abort();
                Ok(())
            }
            ended = keep_current(tls, settings.tls.reload_interval) => ended,
            ended = &mut upkeep => {
                ended.map_err(io::Error::other)?;
                accepting.await;
                Ok(())
            }
        }
    }
}

/// Reads the files of TLS again when one has changed. Ends only by a panic.
async fn keep_current(files: Option<Arc<TlsFiles>>, interval: Duration) -> io::Result<()> {
    let Some(files) = files else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        let files = files.clone();
        tokio::task::spawn_blocking(move || files.reload_if_changed()).await.map_err(io::Error::other)?;
    }
}

/// The operator's unix socket is for the user of the process alone, unless its permissions are set.
fn private(address: &ListenAddress) -> ListenAddress {
    let mut address = address.clone();
    if let ListenEndpoint::Unix { mode: mode @ None, .. } = &mut address.endpoint {
        *mode = Some(0o600);
    }
    address
}

fn bind(
    address: &ListenAddress,
    flag: &'static str,
    inherited: &mut InheritedSockets,
) -> Result<BoundListener, EdgeError> {
    BoundListener::bind(address, inherited).map_err(|source| {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address, flag },
            io::ErrorKind::AlreadyExists => EdgeError::NotASocket { address, flag },
            io::ErrorKind::NotFound => EdgeError::NoSuchDirectory { address, flag },
            io::ErrorKind::PermissionDenied if address.socket_addr().is_none() => {
                EdgeError::DirectoryForbidden { address, flag }
            }
            io::ErrorKind::PermissionDenied => EdgeError::PortForbidden { address, flag },
            io::ErrorKind::AddrNotAvailable => EdgeError::NoSuchAddress { address, flag },
            _ => EdgeError::Listen { address, flag, source },
        }
    })
}
