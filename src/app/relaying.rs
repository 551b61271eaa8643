//! A server that follows parents instead of a feed, and one that relays follow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backbone::follower::{FollowerBounds, NodeRole};
use backbone::ingester::IngesterSettings;
use backbone::node::{Node, NodeSettings};
use rand::RngExt;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::bus::Limits;
use crate::bus::clock::Clock;
use crate::bus::demand::requests::RequestRules;
use crate::bus::feed_state::StaleReason;
use crate::bus::history::History;
use crate::bus::shown_log::ShownLog;
use crate::cluster::clients::held_feed::ClientAllowance;
use crate::cluster::meters::ClusterMeters;
use crate::cluster::node_status::{SharedStatus, StatusView};
use crate::cluster::relay::greeting::{ParentGreeting, RelayPath};
use crate::cluster::relay::host::{HostParts, RelayHost, ServedSource};
use crate::cluster::relay::meters::{HostMeters, ParentMeters};
use crate::cluster::relay::parent_link::{ParentLink, ParentTerms, read_url};
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::runner::{CutOffWords, Joined, Joining, Runner, RunnerSigns, ShowEpoch};
use crate::cluster::snapshots::maker::BasisRequest;
use crate::edge::admin_key::{AdminKey, read_key};
use crate::edge::parts::RelayAdmission;
use crate::identity::tables::AuthTables;
use crate::settings::table::{Config, RelaySettings};
use crate::words::metrics::Meters;

use super::clustering::{ClusterNode, HELD_BYTES, JoinError, buses, mono};
use super::gatekeeping::is_in_use;
use super::parts;
use super::signals::Signals;

/// How often a relay that waits says for what.
const REMINDER: Duration = Duration::from_secs(10);

const CUT_OFF: CutOffWords = CutOffWords {
    reason: StaleReason::UpstreamDown,
    message: "this server has no connection to the servers that it follows; it goes on by itself as soon as it has",
    remedy: "check the servers of relay.parents",
};

/// A relay that has joined the log of its parents.
pub(super) struct RelayNode {
    runtime: Runtime,
    joined: Joined<ParentLink>,
    /// Of relays of its own.
    asks: mpsc::Sender<BasisRequest>,
    greeting: watch::Receiver<Option<ParentGreeting>>,
    pub shown: ShownLog,
    pub status: StatusView,
}

/// What this server shows is a log that it follows.
pub(super) struct FollowedLog {
    asks: mpsc::Sender<BasisRequest>,
    /// None: it says itself what it is.
    greeting: Option<watch::Receiver<Option<ParentGreeting>>>,
}

impl FollowedLog {
    pub(super) fn of(node: Option<&ClusterNode>, relay: Option<&RelayNode>) -> Option<FollowedLog> {
        let by_cluster = node.map(|node| FollowedLog { asks: node.asks.clone(), greeting: None });
        let by_parent =
            |relay: &RelayNode| FollowedLog { asks: relay.asks.clone(), greeting: Some(relay.greeting.clone()) };
        by_cluster.or_else(|| relay.map(by_parent))
    }
}

/// What a start can refuse without a connection.
///
/// # Errors
/// A setting is wrong.
pub(crate) fn check(config: &Config, auth: &AuthTables) -> Result<(), JoinError> {
    let RelaySettings { parents, parent_key_file, serve, key_file, .. } = &config.relay;
    for parent in parents {
        let url = read_url(parent).map_err(JoinError::Parent)?;
        let own = config.listen.iter().filter_map(|listener| listener.socket_addr());
        let is_own = |own: std::net::SocketAddr| {
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            own.port() != 0 && url.port_or_known_default() == Some(own.port()) && host == own.ip().to_string()
        };
        if own.into_iter().any(is_own) {
            let sentence = format!("expected another server, found `{url}`, where this one listens; name its parent");
            return Err(JoinError::Parent(sentence));
        }
    }
    if let Some(path) = parent_key_file {
        read_key("relay.parent_key_file", Path::new(path))?;
    }
    if *serve && key_file.is_none() && is_in_use(&config.auth, auth) {
        return Err(JoinError::NoRelayKey);
    }
    if let Some(path) = key_file {
        AdminKey::read("relay.key_file", Path::new(path))?;
    }
    Ok(())
}

/// Where what is shown is kept for relays; none if none may follow.
pub(super) fn served_log(config: &Config) -> Option<Arc<ServedLog>> {
    config.relay.serve.then(|| Arc::new(ServedLog::new(config.relay.log_bytes_max)))
}

/// Reads the log of a parent until this server has all of it; None if it follows nobody.
///
/// # Errors
/// A setting is wrong, or the process was asked to stop.
pub(super) fn join(
    config: &Config,
    (limits, history): (Limits, &History),
    (node, served): (u64, Option<Arc<ServedLog>>),
    (clock, meters): (Clock, &Meters),
) -> Result<Option<RelayNode>, JoinError> {
    let settings = &config.relay;
    // Also where nobody is followed: a series that is 0 says so.
    let parent_meters = ParentMeters::new(meters);
    if settings.parents.is_empty() {
        return Ok(None);
    }
    let urls: Result<Vec<String>, String> =
        settings.parents.iter().map(|text| read_url(text).map(String::from)).collect();
    let key = settings.parent_key_file.as_deref().map(|path| read_key("relay.parent_key_file", Path::new(path)));
    let terms = ParentTerms {
        urls: urls.map_err(JoinError::Parent)?,
        key: key.transpose()?,
        first: if settings.shuffle { rand::rng().random_range(0..settings.parents.len()) } else { 0 },
        silence_max: settings.silence_max,
    };
    let runtime = parts::runtime().map_err(JoinError::Runtime)?;
    let decides = Node::new(node_settings(node), mono(clock));
    let (asks, snapshot_requests) = mpsc::channel(1);
    let status = SharedStatus::default();
    let (joined, reader, greeting) = runtime.block_on(async {
        let mut signals = Signals::watch().map_err(|_| JoinError::Stopped)?;
        let join = async {
            let (backbone, events, mut greeting) = ParentLink::open(terms, node, (clock, parent_meters));
            // The driver lives as long as the runtime.
            let _ = greeting.wait_for(Option::is_some).await;
            let told =
                RunnerSigns { held: watch::channel(None).0, term: watch::channel(None).0, status: status.clone() };
            let runner = Runner {
                node: decides,
                backbone,
                events,
                snapshot_requests,
                // A reader never holds the feed.
                feed: mpsc::unbounded_channel().0,
                buses: buses((limits, history.clone()), meters.clone()),
                clients: ClientAllowance { demand: None, requests: RequestRules::default() },
                told,
                clock,
                meters: ClusterMeters::new(meters),
                words: CUT_OFF,
                served,
            };
            let (joined, reader) = Joining::new(runner).join().await?;
            Ok::<_, JoinError>((joined, reader, greeting))
        };
        tokio::select! {
            joined = join => joined,
            () = remind(&settings.parents) => unreachable!("it reminds for ever"),
            _ = signals.stop(|_| {}) => Err(JoinError::Stopped),
        }
    })?;
    let name = format!("{node:016x}");
    let status = StatusView { feed: "relay".to_owned(), node_name: name, status, members: Arc::default() };
    Ok(Some(RelayNode { runtime, joined, asks, greeting, shown: ShownLog::new(reader), status }))
}

impl RelayNode {
    pub(super) fn is_simulated(&self) -> bool {
        self.greeting.borrow().as_ref().is_some_and(|greeting| greeting.simulated)
    }

    /// What follows the parents until the stop.
    pub(super) fn into_drive(self) -> impl FnOnce(watch::Receiver<bool>, ShowEpoch) -> io::Result<()> + Send {
        let RelayNode { runtime, joined, .. } = self;
        move |stopped, shows| parts::drive(runtime, joined.run(stopped, shows))
    }
}

/// What serves relays, and how they are let in.
pub(super) struct HostedLog {
    pub host: RelayHost,
    pub admission: RelayAdmission,
    /// What relays are told of this server, unless it follows a parent itself.
    pub says: watch::Sender<Option<ParentGreeting>>,
}

/// None if no relay may follow.
///
/// # Errors
/// The file of the key has none.
pub(super) fn host(
    config: &Config,
    (served, followed, node, simulated): (Option<Arc<ServedLog>>, Option<FollowedLog>, u64, bool),
    shown: ShownLog,
    (clock, meters): (Clock, &Meters),
) -> Result<Option<HostedLog>, JoinError> {
    // Also where none may follow: a series that is 0 says so.
    let host_meters = HostMeters::new(meters);
    let Some(log) = served else { return Ok(None) };
    let key = config.relay.key_file.as_deref().map(|path| AdminKey::read("relay.key_file", Path::new(path)));
    let key = key.transpose()?;
    let own = ParentGreeting { path: RelayPath::of(node), epoch: shown.reader().epoch().0, simulated };
    let (says, own) = watch::channel(Some(own));
    let (source, greeting) = match followed {
        Some(FollowedLog { asks, greeting }) => (ServedSource::Followed(asks), greeting.unwrap_or(own)),
        None => (ServedSource::Own, own),
    };
    let relays_max = config.relay.children_max;
    let (host, entrance) =
        RelayHost::open(HostParts { node, shown, log, source, greeting, relays_max, clock, meters: host_meters });
    Ok(Some(HostedLog { host, admission: RelayAdmission { entrance, key }, says }))
}

async fn remind(parents: &[String]) {
    loop {
        tokio::time::sleep(REMINDER).await;
        tracing::warn!(
            parents = parents.join(","),
            "this relay has not joined the log of a parent yet, and serves nobody until it has; check that one of them \
             is there, has relay.serve, and does not wait for this relay itself"
        );
    }
}

fn node_settings(node: u64) -> NodeSettings {
    NodeSettings {
        ingester: IngesterSettings::unnamed(node, 0),
        bounds: FollowerBounds { kept_bytes: HELD_BYTES, ahead_bytes: HELD_BYTES },
        role: NodeRole::Reader,
        priority: 0,
        trusts_log: false,
    }
}
