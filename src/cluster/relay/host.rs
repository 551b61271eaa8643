//! A server that has relays: takes their connections from the edge, and gives each what is served.

use std::any::Any;
use std::io;
use std::sync::Arc;

use backbone::ingester::IngesterSettings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::bus::clock::Clock;
use crate::bus::shown_log::ShownLog;
use crate::cluster::relay::greeting::{ParentGreeting, PathFault};
use crate::cluster::relay::meters::{HostMeters, RelayEnd};
use crate::cluster::relay::root_log::RootLog;
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::relay::session::{RelaySession, SessionSources, SnapshotAsk};
use crate::cluster::relay::wire::PIECE_BYTES_MAX;
use crate::cluster::snapshots::maker::{BasisRequest, SnapshotMaker};

/// Bodies of entries that are larger are deflated.
const DEFLATE_OVER_BYTES: usize = 1024;
/// Requests for snapshots that wait; further relays wait to ask.
const ASKS_MAX: usize = 16;

/// A connection after its upgrade.
pub trait RelaySocket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> RelaySocket for S {}

/// A connection that leaves the runtime of the edge. Called within that of relays, it is there.
pub type DetachedRelay = Box<dyn FnOnce() -> io::Result<Box<dyn RelaySocket>> + Send>;

/// What the edge hands over.
pub struct RelayHandoff {
    pub socket: DetachedRelay,
    /// What came behind the upgrade.
    pub unread: Vec<u8>,
    pub place: RelayPlace,
    /// Dropped with the connection.
    pub held: Box<dyn Any + Send>,
}

/// The place of one relay among those that are allowed.
pub struct RelayPlace {
    node: u64,
    _permit: OwnedSemaphorePermit,
}

/// Why a relay is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    #[error("expected fewer than {max} relays (relay.children_max), found them all there; follow another server")]
    TooMany { max: usize },
    #[error(transparent)]
    Path(#[from] PathFault),
}

/// The edge's end.
#[derive(Clone)]
pub struct RelayEntrance {
    handoffs: mpsc::UnboundedSender<RelayHandoff>,
    places: Arc<Semaphore>,
    places_max: usize,
    greeting: watch::Receiver<Option<ParentGreeting>>,
}

impl RelayEntrance {
    /// # Errors
    /// There are as many as may be, or the relay would follow itself.
    pub fn admit(&self, node: u64) -> Result<RelayPlace, RelayRefusal> {
        if let Some(greeting) = &*self.greeting.borrow() {
            greeting.path.check_child(node)?;
        }
        let too_many = |_| RelayRefusal::TooMany { max: self.places_max };
        let permit = self.places.clone().try_acquire_owned().map_err(too_many)?;
        Ok(RelayPlace { node, _permit: permit })
    }

    /// The connection belongs to the relay from here on.
    pub fn begin(&self, handoff: RelayHandoff) {
        // Without a host the server is ending.
        let _ = self.handoffs.send(handoff);
    }
}

/// Where what is served comes from.
pub enum ServedSource {
    /// This server follows a log, and whoever shows it says what a snapshot is to be made after.
    Followed(mpsc::Sender<BasisRequest>),
    /// It has the feed to itself.
    Own,
}

pub struct RelayHost {
    handoffs: mpsc::UnboundedReceiver<RelayHandoff>,
    sources: HostSources,
    asks: mpsc::Receiver<SnapshotAsk>,
    maker: SnapshotMaker,
    own: Option<(RootLog, mpsc::Receiver<BasisRequest>)>,
    clock: Clock,
    meters: HostMeters,
}

struct HostSources {
    log: Arc<ServedLog>,
    snapshots: mpsc::Sender<SnapshotAsk>,
    greeting: watch::Receiver<Option<ParentGreeting>>,
}

/// What a host is made of.
pub struct HostParts {
    /// Of this process.
    pub node: u64,
    pub shown: ShownLog,
    pub log: Arc<ServedLog>,
    pub source: ServedSource,
    pub greeting: watch::Receiver<Option<ParentGreeting>>,
    pub relays_max: usize,
    pub clock: Clock,
    pub meters: HostMeters,
}

impl RelayHost {
    pub fn open(parts: HostParts) -> (RelayHost, RelayEntrance) {
        let HostParts { node, shown, log, source, greeting, relays_max, clock, meters } = parts;
        let (hand, handoffs) = mpsc::unbounded_channel();
        let (snapshots, asks) = mpsc::channel(ASKS_MAX);
        let (basis, own) = match source {
            ServedSource::Followed(basis) => (basis, None),
            ServedSource::Own => {
                let (basis, asked) = mpsc::channel(1);
                let settings = IngesterSettings::unnamed(node, DEFLATE_OVER_BYTES);
                (basis, Some((RootLog::new(shown.reader(), log.clone(), settings, clock.now()), asked)))
            }
        };
        let maker = SnapshotMaker::new(node, shown, basis);
        let entrance = RelayEntrance {
            handoffs: hand,
            places: Arc::new(Semaphore::new(relays_max)),
            places_max: relays_max,
            greeting: greeting.clone(),
        };
        let sources = HostSources { log, snapshots, greeting };
        (RelayHost { handoffs, sources, asks, maker, own, clock, meters }, entrance)
    }

    /// Until the stop.
    pub async fn run(self, stopped: watch::Receiver<bool>) {
        let RelayHost { handoffs, sources, asks, maker, own, clock, meters } = self;
        let own = async {
            match own {
                Some((log, asked)) => match log.run(clock, asked).await {},
                None => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            () = serve(handoffs, sources, meters, stopped) => {}
            () = give_snapshots(maker, asks) => {}
            () = own => {}
        }
    }
}

async fn give_snapshots(mut maker: SnapshotMaker, mut asks: mpsc::Receiver<SnapshotAsk>) {
    loop {
        tokio::select! {
            () = maker.progress() => {}
            ask = asks.recv() => {
                let Some(SnapshotAsk { request, answer }) = ask else { return };
                // The relay may be gone.
                let _ = answer.send(maker.answer(&request, PIECE_BYTES_MAX).await);
            }
        }
    }
}

async fn serve(
    mut handoffs: mpsc::UnboundedReceiver<RelayHandoff>,
    sources: HostSources,
    meters: HostMeters,
    mut stopped: watch::Receiver<bool>,
) {
    let mut sessions: JoinSet<RelayEnd> = JoinSet::new();
    let told = stopped.clone();
    loop {
        tokio::select! {
            Some(handoff) = handoffs.recv() => {
                let HostSources { log, snapshots, greeting } = &sources;
                let sources = SessionSources {
                    log: log.clone(),
                    snapshots: snapshots.clone(),
                    greeting: greeting.clone(),
                    stopped: told.clone(),
                };
                sessions.spawn(attend(handoff, sources));
                meters.relays.increment(1.0);
            }
            Some(ended) = sessions.join_next() => leave(ended.unwrap_or(RelayEnd::Malformed), &meters),
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    while let Some(ended) = sessions.join_next().await {
        leave(ended.unwrap_or(RelayEnd::Malformed), &meters);
    }
}

async fn attend(handoff: RelayHandoff, sources: SessionSources) -> RelayEnd {
    let RelayHandoff { socket, unread, place, held } = handoff;
    let node = format!("{:016x}", place.node);
    tracing::info!(node, "a relay follows this server");
    let end = match socket() {
        Ok(socket) => RelaySession::begin(socket, unread, sources, place.node).await.run().await,
        Err(error) => {
            tracing::warn!(node, %error, "the socket of a relay cannot be watched");
            RelayEnd::Closed
        }
    };
    tracing::info!(node, reason = end.label(), "a relay follows this server no longer");
    drop((place, held));
    end
}

fn leave(end: RelayEnd, meters: &HostMeters) {
    meters.relays.decrement(1.0);
    meters.ended(end);
}
