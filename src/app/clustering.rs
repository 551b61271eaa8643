//! A node of a cluster: joins the shared log before the bus is opened, and holds the feed while it is the ingester.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backbone::follower::{FollowerBounds, NodeRole};
use backbone::ingester::IngesterSettings;
use backbone::node::{Node, NodeSettings};
use feed_log::entry::LoggedText;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::bus::clock::Clock;
use crate::bus::demand::ClientInput;
use crate::bus::feed_state::StaleReason;
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::shown_log::ShownLog;
use crate::bus::{self, Limits};
use crate::cluster::clients::held_feed::{ClientAllowance, HeldFeed};
use crate::cluster::clients::node_demand::NodeDemand;
use crate::cluster::clients::request_forwarder::RequestForwarder;
use crate::cluster::link::NodeLink;
use crate::cluster::meters::ClusterMeters;
use crate::cluster::nats::{NatsBackbone, NatsError, NatsTerms, check_urls};
use crate::cluster::node_status::{SharedStatus, StatusView};
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::runner::{
    BusFactory, ClusterError, CutOffWords, FeedOrder, Joined, Joining, Runner, RunnerSigns, ShowEpoch,
};
use crate::cluster::snapshots::giver::SnapshotGiver;
use crate::cluster::snapshots::maker::BasisRequest;
use crate::cluster::stream::StreamTerms;
use crate::edge::admin_key::AdminKeyError;
use crate::intake::upstream::{Upstream, UpstreamError};
use crate::settings::table::{Cluster, Config};
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

use super::parts;
use super::signals::Signals;

/// How often a node that waits says for what.
const REMINDER: Duration = Duration::from_secs(10);
/// Bodies of entries that are larger are deflated.
const DEFLATE_OVER_BYTES: usize = 1024;
/// Of the log in the memory of a node: what the ingester can append again, and what a follower keeps until a gap is read.
pub(super) const HELD_BYTES: usize = 64 << 20;

const CUT_OFF: CutOffWords = CutOffWords {
    reason: StaleReason::Cluster,
    message: "this server has no connection to the cluster's log; it goes on by itself as soon as it has",
    remedy: "check the servers of cluster.urls",
};

/// Why a node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("expected a readable file for cluster.credentials_file, found `{path}`: {error}; check the path")]
    Credentials { path: String, error: io::Error },
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("relay.parents: {0}")]
    Parent(String),
    #[error(transparent)]
    RelayKey(#[from] AdminKeyError),
    #[error(
        "relay.key_file: expected a key where clients show tokens (`[auth]`), found none; make one with `openssl rand -hex \
         32`, and name its file here and in the relays' `relay.parent_key_file`"
    )]
    NoRelayKey,
    #[error("stopped before the log was joined")]
    Stopped,
    #[error("expected to start a runtime, found: {0}")]
    Runtime(io::Error),
}

/// A node that has joined, and is driven again by what [`ClusterNode::split`] gives.
pub(super) struct ClusterNode {
    runtime: Runtime,
    joined: Joined<NatsBackbone>,
    link: NodeLink,
    held: watch::Receiver<Option<HeldFeed>>,
    term: watch::Receiver<Option<u64>>,
    /// Of other nodes that join.
    pub asks: mpsc::Sender<BasisRequest>,
    pub shown: ShownLog,
    pub status: StatusView,
    pub feed: mpsc::UnboundedReceiver<FeedOrder>,
}

/// Reads the cluster's log until this node has all of it; None without a cluster.
///
/// # Errors
/// A setting is wrong, or the process was asked to stop.
pub(super) fn join(
    (config, clients): (&Config, ClientAllowance),
    (limits, history): (Limits, &History),
    (digest, node, served): (&str, u64, Option<Arc<ServedLog>>),
    (clock, meters): (Clock, &Meters),
) -> Result<Option<ClusterNode>, JoinError> {
    let settings = &config.cluster;
    // Also where there is no cluster: a series that is 0 says so.
    let cluster_meters = ClusterMeters::new(meters);
    if settings.urls.is_empty() {
        return Ok(None);
    }
    let name = settings.node_name.clone().unwrap_or_else(|| format!("{node:016x}"));
    let credentials = settings.credentials_file.as_deref().map(read_credentials).transpose()?;
    let terms = NatsTerms {
        urls: settings.urls.clone(),
        credentials,
        node_name: name.clone(),
        stream: StreamTerms {
            name: settings.name.clone(),
            replicas: settings.replicas,
            age_max: settings.age_max,
            bytes_max: settings.bytes_max,
        },
    };
    let runtime = parts::runtime().map_err(JoinError::Runtime)?;
    let (feed, orders) = mpsc::unbounded_channel();
    let decides = Node::new(node_settings(settings, (node, &name), digest), mono(clock));
    let buses = buses((limits, history.clone()), meters.clone());
    let (held_feed, held) = watch::channel(None);
    let (held_term, term) = watch::channel(None);
    let (asks, asked) = mpsc::channel(1);
    let status = SharedStatus::default();
    let told = RunnerSigns { held: held_feed, term: held_term, status: status.clone() };
    let (link, members, (joined, reader)) = runtime.block_on(async {
        let mut signals = Signals::watch().map_err(|_| JoinError::Stopped)?;
        let join = async {
            let (backbone, events) = NatsBackbone::connect(terms, node).await?;
            let (link, members, meters) = (backbone.link(), backbone.members(), cluster_meters);
            let runner = Runner {
                node: decides,
                backbone,
                events,
                snapshot_requests: asked,
                feed,
                buses,
                clients,
                told,
                clock,
                meters,
                words: CUT_OFF,
                served,
            };
            Ok::<_, JoinError>((link, members, Joining::new(runner).join().await?))
        };
        tokio::select! {
            joined = join => joined,
            () = remind(&settings.urls) => unreachable!("it reminds for ever"),
            _ = signals.stop(|_| {}) => Err(JoinError::Stopped),
        }
    })?;
    let status = StatusView { feed: settings.name.clone(), node_name: name, status, members };
    let shown = ShownLog::new(reader);
    Ok(Some(ClusterNode { runtime, joined, link, held, term, asks, shown, status, feed: orders }))
}

/// What a start can refuse without a connection.
///
/// # Errors
/// A setting is wrong.
pub(crate) fn check(settings: &Cluster) -> Result<(), JoinError> {
    check_urls(&settings.urls)?;
    settings.credentials_file.as_deref().map(read_credentials).transpose()?;
    Ok(())
}

impl ClusterNode {
    /// Apart: what drives the node, and brings to the ingester what clients of this server want and say; and what the
    /// feed is to do.
    pub(super) fn split(
        self,
        clients: ClientInput,
        clock: Clock,
    ) -> (impl FnOnce(watch::Receiver<bool>, ShowEpoch) -> io::Result<()> + Send, mpsc::UnboundedReceiver<FeedOrder>)
    {
        let ClusterNode { runtime, joined, link, held, term, asks, shown, feed, .. } = self;
        let snapshots = SnapshotGiver::new(link.clone(), shown.clone(), held.clone(), asks);
        let ClientInput { interest, requests } = clients;
        let demand = interest.map(|interest| NodeDemand::new(link.clone(), (interest, shown), held.clone(), clock));
        let requests = RequestForwarder::new(link, requests, (held, term), clock);
        let run = move |stopped, shows| async move {
            let demand = async {
                match demand {
                    Some(demand) => demand.run().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = joined.run(stopped, shows) => ended,
                Err(error) = demand => Err(io::Error::other(error)),
                Err(error) = snapshots.run() => Err(io::Error::other(error)),
                Err(error) = requests.run() => Err(io::Error::other(error)),
            }
        };
        (move |stopped, shows| parts::drive(runtime, run(stopped, shows)), feed)
    }
}

/// Connects to the feed whenever this node is the ingester.
pub(super) async fn feed_in_turns(
    mut orders: mpsc::UnboundedReceiver<FeedOrder>,
    connect: impl Fn(Publisher, ClientInput) -> Result<Upstream, UpstreamError>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        // Without a sender the node has failed, which is told by itself.
        let (publisher, clients) = tokio::select! {
            Some(order) = orders.recv() => match order {
                FeedOrder::Open(publisher, clients) => (publisher, clients),
                FeedOrder::Close => continue,
            },
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
        };
        let upstream = connect(*publisher, clients).map_err(io::Error::other)?;
        let (stop, told) = watch::channel(false);
        let mut run = std::pin::pin!(upstream.run(told));
        tokio::select! {
            ended = &mut run => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the feed is given up; clients keep the last values, marked as stale");
                }
                continue;
            }
            // The only order that can follow is to close.
            Some(_) = orders.recv() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        stop.send_replace(true);
        let _ = run.await;
    }
}

async fn remind(urls: &[String]) {
    loop {
        tokio::time::sleep(REMINDER).await;
        tracing::warn!(
            urls = urls.join(","),
            "this node has not joined the cluster's log yet, and serves nobody until it has; check that one of the \
             servers answers and has JetStream"
        );
    }
}

fn node_settings(settings: &Cluster, (node, name): (u64, &str), digest: &str) -> NodeSettings {
    let mut configuration = [0; 32];
    let _ = hex::decode_to_slice(digest, &mut configuration);
    NodeSettings {
        ingester: IngesterSettings {
            node,
            name: LoggedText::from(name),
            configuration,
            release: settings.release,
            deflate_over_bytes: DEFLATE_OVER_BYTES,
        },
        bounds: FollowerBounds { kept_bytes: HELD_BYTES, ahead_bytes: HELD_BYTES },
        role: NodeRole::Candidate,
        priority: u32::try_from(settings.priority).unwrap_or(u32::MAX),
        trusts_log: settings.trust_log,
    }
}

pub(super) fn buses((limits, history): (Limits, History), meters: Meters) -> BusFactory {
    BusFactory {
        shown: Box::new(move |epoch| bus::open_with_history(epoch, limits, history.clone(), &meters)),
        // What is published there is measured where it is shown.
        staged: Box::new(move || bus::open(Epoch(0), limits, &Meters::unread())),
    }
}

fn read_credentials(path: &str) -> Result<String, JoinError> {
    std::fs::read_to_string(Path::new(path)).map_err(|error| JoinError::Credentials { path: path.to_owned(), error })
}

pub(super) fn mono(clock: Clock) -> Duration {
    Duration::from_nanos(clock.now().mono_ns)
}
