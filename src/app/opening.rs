//! The bus that clients read, and who writes it: the feed of this server, its archive before that, or the log of a
//! cluster or a parent.

use std::io;

use tokio::sync::{mpsc, watch};

use crate::bus::archive::open::{OpenArchive, RestoredArchive};
use crate::bus::clock::Clock;
use crate::bus::demand::ClientInput;
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::shown_log::ShownLog;
use crate::bus::{self, Limits};
use crate::cluster::node_status::StatusView;
use crate::cluster::runner::{FeedOrder, ShowEpoch};
use crate::settings::table::Config;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

use super::clustering::ClusterNode;
use super::relaying::RelayNode;
use super::{AppError, archiving};

pub(super) struct OpenBus {
    pub shown: ShownLog,
    pub source: BusWriter,
    pub archive: Option<RestoredArchive>,
    pub cluster: Option<StatusView>,
}

/// Who publishes.
pub(super) enum BusWriter {
    /// The feed of this server, which reads what its clients want and say.
    Own(Box<Publisher>, ClientInput),
    /// The cluster's log, which this drives; the feed of this server publishes into the log while it is ordered to.
    Cluster(DriveNode, mpsc::UnboundedReceiver<FeedOrder>),
    /// The log of a parent, which this drives.
    Parent(DriveNode),
}

pub(super) type DriveNode = Box<dyn FnOnce(watch::Receiver<bool>, ShowEpoch) -> io::Result<()> + Send>;

/// # Errors
/// The archive cannot be used.
pub(super) fn open(
    config: &Config,
    (node, relay, clients): (Option<ClusterNode>, Option<RelayNode>, ClientInput),
    (limits, history): (Limits, &History),
    (clock, meters): (Clock, &Meters),
) -> Result<OpenBus, AppError> {
    if let Some(node) = node {
        let (shown, cluster) = (node.shown.clone(), Some(node.status.clone()));
        let (drive, orders) = node.split(clients, clock);
        return Ok(OpenBus { shown, source: BusWriter::Cluster(Box::new(drive), orders), archive: None, cluster });
    }
    if let Some(relay) = relay {
        let (shown, cluster) = (relay.shown.clone(), Some(relay.status.clone()));
        let source = BusWriter::Parent(Box::new(relay.into_drive()));
        return Ok(OpenBus { shown, source, archive: None, cluster });
    }
    let archive = archiving::open(config)?;
    let epoch = archive.as_ref().map_or_else(|| Epoch(rand::random()), OpenArchive::epoch);
    let (mut publisher, reader) = bus::open_with_history(epoch, limits, history.clone(), meters);
    let restore = |archive: OpenArchive| archive.restore((&mut publisher, reader.clone()), clock.now(), meters);
    let archive = archive.map(restore).transpose()?;
    let shown = ShownLog::new(reader);
    Ok(OpenBus { shown, source: BusWriter::Own(Box::new(publisher), clients), archive, cluster: None })
}
