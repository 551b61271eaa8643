//! How a node stands: written by its runner once a turn, read by the operator's calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backbone::node::Node;
use backbone::turn::NodeReadiness;
use feed_log::entry::term::TermReason;
use feed_log::entry::{EntryBody, LogEntry};

use crate::access::cluster_status::{ClusterMember, ClusterStatus, ClusterTakeover};
use crate::cluster::members::MemberList;

/// An ingester appends something twice as often, its beats if nothing else.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
pub struct NodeStatus {
    is_ingester: bool,
    readiness: Option<NodeReadiness>,
    term: u64,
    /// Nobody holds the feed.
    is_resigned: bool,
    epoch: u64,
    next_offset: u64,
    heals: u64,
    /// Of the newest entry, when it was shown.
    shown_lag_ms: u64,
    /// The same now: what is shown grows older while nothing comes.
    lag: Duration,
    takeover: Option<ClusterTakeover>,
}

/// Shared by the runner and the operator's calls. Nobody waits for a change.
#[derive(Clone, Default)]
pub struct SharedStatus(Arc<Mutex<NodeStatus>>);

impl SharedStatus {
    pub fn lock(&self) -> MutexGuard<'_, NodeStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operator's calls read.
#[derive(Clone)]
pub struct StatusView {
    pub feed: String,
    pub node_name: String,
    pub status: SharedStatus,
    pub members: Arc<MemberList>,
}

impl NodeStatus {
    /// An entry was shown.
    pub fn applied(&mut self, entry: &LogEntry, lag_ms: u64) {
        self.shown_lag_ms = lag_ms;
        if let EntryBody::Term(term) = &entry.body
            && !term.resigns
        {
            self.takeover = Some(ClusterTakeover {
                term: entry.header.term,
                reason: label(term.reason),
                node_name: term.node_name.as_str().to_owned(),
                at_ms: entry.header.sent_ms,
            });
        }
    }

    pub fn turned(&mut self, node: &Node, readiness: NodeReadiness, now: Duration) {
        let silence = now.saturating_sub(node.follower().heard_at());
        self.lag = Duration::from_millis(self.shown_lag_ms) + if silence > QUIET { silence } else { Duration::ZERO };
        let position = node.follower().position();
        self.is_ingester = node.reign().is_some();
        self.readiness = Some(readiness);
        (self.term, self.is_resigned) = (position.term, position.is_resigned);
        (self.epoch, self.next_offset) = (position.epoch, position.next_offset);
        self.heals = node.heals();
    }

    /// None while nobody answers for the log: it may have given the feed up, or another one may have it.
    fn known_ingester(&self) -> Option<&ClusterTakeover> {
        self.takeover.as_ref().filter(|_| self.is_known())
    }

    fn is_known(&self) -> bool {
        !self.is_resigned && self.readiness != Some(NodeReadiness::LogDown)
    }

    pub fn lag(&self) -> Duration {
        self.lag
    }

    fn ingester_among<'m>(&self, members: &'m [ClusterMember]) -> Option<&'m String> {
        let holds = |member: &&ClusterMember| member.is_ingester && member.term == self.term;
        members.iter().find(holds).map(|member| &member.node_name).filter(|_| self.is_known())
    }

    /// The term of the ingester, if there is one.
    pub fn held_term(&self) -> Option<u64> {
        (self.term > 0 && !self.is_resigned).then_some(self.term)
    }
}

impl StatusView {
    pub fn read(&self) -> ClusterStatus {
        let status = self.status.lock().clone();
        let members = self.members.alive(Instant::now());
        let offset = status.next_offset.saturating_sub(1);
        // A server that has joined later knows nothing of the takeover.
        let known = status.known_ingester().map(|term| &term.node_name);
        let ingester = known.or_else(|| status.ingester_among(&members)).cloned();
        let others = members.iter().filter(|member| member.epoch == status.epoch).map(|member| member.offset);
        ClusterStatus {
            feed: self.feed.clone(),
            node_name: self.node_name.clone(),
            is_ingester: status.is_ingester,
            readiness: match status.readiness {
                None | Some(NodeReadiness::Joining) => "joining",
                Some(NodeReadiness::Ready) => "ready",
                Some(NodeReadiness::LogDown) => "log_down",
                Some(NodeReadiness::Forked) => "forked",
            },
            term: status.term,
            ingester,
            epoch: status.epoch,
            offset,
            log_offset: others.fold(offset, u64::max),
            lag_ms: u64::try_from(status.lag.as_millis()).unwrap_or(u64::MAX),
            heals: status.heals,
            takeover: status.takeover,
            members,
        }
    }
}

fn label(reason: TermReason) -> &'static str {
    match reason {
        TermReason::First => "first",
        TermReason::Takeover => "takeover",
        TermReason::Resigned => "resigned",
        TermReason::Forced => "forced",
        TermReason::LogLost => "log_lost",
        TermReason::Fork => "fork",
        TermReason::Restart => "restart",
    }
}
