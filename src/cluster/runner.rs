//! Drives a node: events in, commands out, and what the feed has published into the log.

mod epochs;
mod parts;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backbone::follower::snapshot::SnapshotPlace;
use backbone::log::StoredBytes;
use backbone::node::{Node, NodeEvent};
use backbone::turn::{JumpReason, NodeCommand, NodeReadiness};
use feed_log::entry::LogEntry;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::bus::clock::Clock;
use crate::bus::reader::Reader;
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::signal::pulse::Pulse;
use crate::cluster::applier::Applier;
use crate::cluster::backbone_io::{Backbone, BackboneEvents};
use crate::cluster::clients::held_feed::ClientAllowance;
use crate::cluster::collector::Collector;
use crate::cluster::meters::ClusterMeters;
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::runner::parts::tell_silence;
pub use crate::cluster::runner::parts::{BusFactory, ClusterError, CutOffWords, FeedOrder, RunnerSigns, ShowEpoch};
use crate::cluster::snapshots::maker::BasisRequest;
use crate::cluster::snapshots::{PeerSnapshot, SnapshotBasis};
use crate::words::stamp::Stamp;

/// A node wakes at least this often, which is its sign of life.
const TURN_MAX: Duration = Duration::from_millis(500);
/// A stop waits this long for the last batch and for the resignation.
const RESIGN_MAX: Duration = Duration::from_millis(500);

pub struct Runner<B> {
    pub node: Node,
    pub backbone: B,
    pub events: BackboneEvents,
    /// Asked for other nodes.
    pub snapshot_requests: mpsc::Receiver<BasisRequest>,
    pub feed: mpsc::UnboundedSender<FeedOrder>,
    pub buses: BusFactory,
    pub clients: ClientAllowance,
    pub told: RunnerSigns,
    pub clock: Clock,
    pub meters: ClusterMeters,
    pub words: CutOffWords,
    /// What is shown is served to relays from there.
    pub served: Option<Arc<ServedLog>>,
}

/// A node that has not shown anything yet.
pub struct Joining<B> {
    core: Core<B>,
}

/// A node whose bus has everything that the log has.
pub struct Joined<B> {
    core: Core<B>,
}

struct Core<B> {
    runner: Runner<B>,
    applier: Option<(Applier, Reader)>,
    /// Of the epoch before, while clients still see that.
    outdated: Option<Applier>,
    /// None before clients see anything.
    shows: Option<ShowEpoch>,
    /// Of another node, until the log shows whether it counts.
    snapshot: Option<PeerSnapshot>,
    readiness: NodeReadiness,
    stage: Option<OwnFeed>,
    notify: Arc<Notify>,
}

/// The feed of this node, while it is the ingester.
struct OwnFeed {
    collector: Collector,
    doorbell: Arc<Doorbell>,
    pulse: Pulse,
}

impl<B: Backbone> Joining<B> {
    pub fn new(runner: Runner<B>) -> Joining<B> {
        let core = Core {
            runner,
            applier: None,
            outdated: None,
            shows: None,
            snapshot: None,
            readiness: NodeReadiness::Joining,
            stage: None,
            notify: Arc::new(Notify::new()),
        };
        Joining { core }
    }

    /// Reads the log until this node has all of it, and somebody goes on with it; if nobody does, this node begins a term,
    /// perhaps in another epoch. Only then may clients see anything.
    ///
    /// # Errors
    /// The connection has ended for good.
    pub async fn join(mut self) -> Result<(Joined<B>, Reader), ClusterError> {
        loop {
            self.core.turn().await?;
            if self.core.readiness == NodeReadiness::Ready
                && self.core.runner.node.knows_ingester(self.core.now())
                && let Some((_, reader)) = &self.core.applier
            {
                let reader = reader.clone();
                return Ok((Joined { core: self.core }, reader));
            }
        }
    }
}

impl<B: Backbone> Joined<B> {
    /// Until the stop. An ingester resigns first, so that another node goes on at once. `shows` has clients see the bus of
    /// another epoch.
    ///
    /// # Errors
    /// The connection has ended for good.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>, shows: ShowEpoch) -> io::Result<()> {
        let core = &mut self.core;
        core.shows = Some(shows);
        let pulse = core.applier.as_ref().map(|(_, reader)| reader.pulse());
        while !*stopped.borrow() {
            tokio::select! {
                turn = core.turn() => turn.map_err(io::Error::other)?,
                _ = stopped.changed() => {}
            }
            match (&pulse, &core.stage) {
                // A feed that gives no sign must be missed, though the log goes on.
                (Some(pulse), Some(feed)) => pulse.follow(&feed.pulse),
                (Some(pulse), None) => pulse.beat(core.runner.clock.now()),
                (None, _) => {}
            }
        }
        let is_ingester = core.runner.node.reign().is_some();
        core.handle(NodeEvent::Resign { for_good: true }).map_err(io::Error::other)?;
        let resign = async {
            while core.runner.node.reign().is_some() {
                core.turn().await?;
            }
            Ok::<(), ClusterError>(())
        };
        if is_ingester && timeout(RESIGN_MAX, resign).await.is_err() {
            tracing::warn!("the cluster's log has not confirmed within {RESIGN_MAX:?} that this node resigns");
        }
        if let Some(pulse) = pulse {
            pulse.rest();
        }
        Ok(())
    }
}

impl<B: Backbone> Core<B> {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.runner.clock.now().mono_ns)
    }

    /// Waits for the next thing to do, does it, and tells how the node stands then.
    async fn turn(&mut self) -> Result<(), ClusterError> {
        self.act().await?;
        let RunnerSigns { term, status, .. } = &self.runner.told;
        let held = {
            let mut status = status.lock();
            status.turned(&self.runner.node, self.readiness, self.now());
            self.runner.meters.lag.set(status.lag().as_secs_f64());
            status.held_term()
        };
        term.send_if_modified(|term| std::mem::replace(term, held) != held);
        self.runner.meters.heals.absolute(self.runner.node.heals());
        Ok(())
    }

    async fn act(&mut self) -> Result<(), ClusterError> {
        let now = self.now();
        let wait = self.runner.node.deadline().saturating_sub(now).min(TURN_MAX);
        let until = Instant::now() + wait;
        if self.append_now()? {
            return Ok(());
        }
        let takes = self.runner.node.is_ready_to_append() && self.stage.is_some();
        tokio::select! {
            event = self.runner.events.node.recv() => {
                let event = event.ok_or(ClusterError::Disconnected)?;
                self.handle(event)?;
            }
            Some(found) = self.runner.events.snapshots.recv() => self.hold(found)?,
            Some(request) = self.runner.snapshot_requests.recv() => {
                // Whoever asked may be gone.
                let _ = request.send(self.snapshot_basis());
            }
            () = self.notify.notified(), if takes => {}
            () = sleep_until(until) => self.handle(NodeEvent::Tick)?,
        }
        self.append_now()?;
        Ok(())
    }

    /// Whether there was something that could be appended. If not, the bell rings when there is.
    fn append_now(&mut self) -> Result<bool, ClusterError> {
        let now = self.runner.clock.now();
        let Some(stage) = self.stage.as_mut().filter(|_| self.runner.node.is_ready_to_append()) else {
            return Ok(false);
        };
        stage.doorbell.arm();
        let items = stage.collector.gather(now);
        if items.is_empty() {
            return Ok(false);
        }
        stage.doorbell.disarm();
        self.runner.meters.lost.absolute(stage.collector.lost());
        let mono = Duration::from_nanos(now.mono_ns);
        match self.runner.node.append(mono, now.wall_ms, items) {
            Ok(commands) => self.obey(commands)?,
            Err(error) => {
                tracing::error!(%error, "messages of the feed cannot be appended to the cluster's log, and are missing")
            }
        }
        Ok(true)
    }

    fn handle(&mut self, event: NodeEvent) -> Result<(), ClusterError> {
        let now = self.runner.clock.now();
        let commands = self.runner.node.handle(Duration::from_nanos(now.mono_ns), now.wall_ms, event);
        self.obey(commands)
    }

    fn hold(&mut self, found: Option<PeerSnapshot>) -> Result<(), ClusterError> {
        let place = found.as_ref().map(|snapshot| snapshot.place);
        self.snapshot = found;
        self.handle(place.map_or(NodeEvent::NoSnapshot, NodeEvent::SnapshotFound))
    }

    /// What a snapshot for another node is made after: everything that is shown here, at this moment.
    fn snapshot_basis(&self) -> Option<SnapshotBasis> {
        let (applier, reader) = self.applier.as_ref().filter(|_| self.readiness == NodeReadiness::Ready)?;
        let follower = self.runner.node.follower();
        let (position, offset) = (*follower.position(), reader.head().0);
        let read_from = follower.sequence_of(reader.tail().0);
        let feed = applier.feed_if_whole()?;
        Some(SnapshotBasis { place: SnapshotPlace { position, offset, read_from }, feed })
    }

    fn take_snapshot(&mut self, is_after_hole: bool, now: Stamp) {
        let Some(snapshot) = self.snapshot.take() else { return };
        let (offset, topics) = (snapshot.place.offset, snapshot.topics.len());
        self.runner.meters.snapshots_taken.increment(1);
        tracing::info!(offset, topics, "this node has what another one retains of all topics");
        if is_after_hole {
            self.runner.meters.jumps.increment(1);
            self.serve_anew();
        }
        let epoch = snapshot.place.position.epoch;
        self.leave_other_epoch(epoch);
        self.applier(epoch).begin_with(snapshot, is_after_hole, now);
    }

    fn drop_snapshot(&mut self, begins_anew: bool) {
        self.snapshot = None;
        self.runner.meters.snapshots_dropped.increment(1);
        tracing::warn!("another server's snapshot does not fit the log");
        if begins_anew {
            self.applier = None;
        }
    }

    fn obey(&mut self, commands: Vec<NodeCommand>) -> Result<(), ClusterError> {
        let now = self.runner.clock.now();
        for command in commands {
            match command {
                NodeCommand::Log { call, request } => self.runner.backbone.request(call, request),
                NodeCommand::Apply { stored, entry } => {
                    self.tell_of(&entry, now);
                    self.serve(stored, &entry);
                    self.go_on_in_epoch(&entry, now);
                    self.applier(entry.header.epoch).apply(entry, now);
                    self.show_epoch();
                }
                NodeCommand::Jump { reason, stored, entry } => {
                    self.leave_other_epoch(entry.header.epoch);
                    // What is shown already only comes again.
                    self.runner.meters.jumps.increment(u64::from(reason != JumpReason::Restarted));
                    self.tell_of(&entry, now);
                    self.serve_anew();
                    self.serve(stored, &entry);
                    self.applier(entry.header.epoch).jump(entry, now);
                }
                NodeCommand::AskSnapshot { besides } => self.runner.backbone.ask_snapshot(besides),
                NodeCommand::TakeSnapshot { is_after_hole } => self.take_snapshot(is_after_hole, now),
                NodeCommand::DropSnapshot { begins_anew } => self.drop_snapshot(begins_anew),
                NodeCommand::OpenFeed { term } => self.open_feed(term),
                NodeCommand::CloseFeed => self.close_feed(),
                NodeCommand::Answer { term } => self.runner.backbone.answer_for(term),
                NodeCommand::Ping { term } => self.runner.backbone.ping(term),
                NodeCommand::Tell(hello) => self.runner.backbone.tell(hello),
                NodeCommand::AskHellos => self.runner.backbone.ask_hellos(),
                NodeCommand::ReportFork { epoch } => self.runner.backbone.report_fork(epoch),
                NodeCommand::Readiness(readiness) => self.become_ready(readiness),
            }
        }
        Ok(())
    }

    fn serve(&self, stored: StoredBytes, entry: &LogEntry) {
        if let Some(served) = &self.runner.served {
            served.push(stored, entry.header.first);
        }
    }

    fn serve_anew(&self) {
        if let Some(served) = &self.runner.served {
            served.begin_anew();
        }
    }

    fn tell_of(&self, entry: &LogEntry, now: Stamp) {
        let lag_ms = now.wall_ms.saturating_sub(entry.header.sent_ms);
        self.runner.meters.applied(entry);
        self.runner.told.status.lock().applied(entry, lag_ms);
    }

    fn open_feed(&mut self, term: u64) {
        tracing::info!(term, "this node is the ingester: it connects to the feed");
        let (mut publisher, reader) = (self.runner.buses.staged)();
        if let Some((applier, _)) = &self.applier {
            tell_silence(applier.publisher(), &mut publisher, self.runner.clock.now());
        }
        let notify = self.notify.clone();
        let doorbell = Arc::new(Doorbell::new(move || notify.notify_one()));
        reader.add_doorbell(doorbell.clone());
        let pulse = reader.pulse();
        pulse.beat(self.runner.clock.now());
        self.stage = Some(OwnFeed { collector: Collector::new(reader), doorbell, pulse });
        self.runner.meters.ingester.set(1.0);
        let (held, input) = self.runner.clients.open(term);
        let _ = self.runner.feed.send(FeedOrder::Open(Box::new(publisher), input));
        self.runner.told.held.send_replace(Some(held));
    }

    fn close_feed(&mut self) {
        tracing::info!("this node is the ingester no longer: it leaves the feed");
        self.stage = None;
        self.runner.told.held.send_replace(None);
        self.runner.meters.ingester.set(0.0);
        let _ = self.runner.feed.send(FeedOrder::Close);
    }

    fn become_ready(&mut self, readiness: NodeReadiness) {
        let now = self.runner.clock.now();
        self.readiness = readiness;
        match readiness {
            NodeReadiness::Ready => tracing::info!("this node has all of the log"),
            NodeReadiness::Joining => tracing::info!("this node reads the log"),
            NodeReadiness::LogDown => {
                let remedy = self.runner.words.remedy;
                tracing::warn!("nobody answers for the log; {remedy}")
            }
            NodeReadiness::Forked => {
                tracing::error!("the log has two histories, and this node has the one that does not go on")
            }
        }
        if readiness == NodeReadiness::Ready {
            // Only what an ingester that is known to live has appended makes this node a witness of the log.
            self.runner.backbone.ask_hellos();
        }
        let newest = self.applier.as_mut().map(|(applier, _)| applier);
        for applier in newest.into_iter().chain(&mut self.outdated) {
            applier.cut_off(readiness != NodeReadiness::Ready, now);
        }
        self.show_epoch();
    }
}
