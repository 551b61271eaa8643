//! A node: it follows the log, and is the ingester while the log says so.
//!
//! Drive it with each event and whenever [`Node::deadline`] has come, and do what comes out, in order. One thread owns
//! it; nothing in it blocks.

use std::time::Duration;

use feed_log::entry::error::EntryError;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::term::TermReason;

use crate::election::{Election, ElectionSettings};
use crate::follower::snapshot::SnapshotPlace;
use crate::follower::{FollowerBounds, LogFollower, NodeRole, Standing, TailedEntry};
use crate::hello::{HELLO_EVERY, NodeHello, Peers};
use crate::ingester::{Ingester, IngesterSettings, Reign};
use crate::log::{CallId, LogReply, StoredBytes};
use crate::turn::{NodeCommand, NodeReadiness, Outbox, Turn};

/// Longer between two turns than this, and the process was stopped.
const STOPPED: Duration = Duration::from_secs(1);
/// An ingester that has given the feed up leaves the others so much time.
const YIELD: Duration = Duration::from_secs(10);
/// Beyond what any cluster reaches: whoever says more is no node.
const TERM_MAX: u64 = 1 << 53;
/// Nobody answers for the log: clients are told after this long without an entry.
const LOG_DOWN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub ingester: IngesterSettings,
    pub bounds: FollowerBounds,
    pub role: NodeRole,
    /// Nodes of a higher one take over first.
    pub priority: u32,
    /// The log has never lost what it has acknowledged.
    pub trusts_log: bool,
}

#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// What the log replied to [`NodeCommand::Log`].
    Replied {
        call: CallId,
        reply: LogReply,
    },
    /// An entry was committed. Some of these may be missing, late, or come twice.
    Tailed(StoredBytes),
    /// The connection to the log was lost and made anew. It comes before anything is sent on the new one.
    Reconnected,
    /// Whether anybody answers for the term.
    Pinged {
        term: u64,
        is_answered: bool,
    },
    Hello(NodeHello),
    HellosAsked,
    /// A node has found two histories in this epoch.
    ForkReported {
        epoch: u64,
    },
    /// A snapshot of another node.
    SnapshotFound(SnapshotPlace),
    /// No other node has one.
    NoSnapshot,
    /// Give the feed up in favour of another node; for good if the process ends.
    Resign {
        for_good: bool,
    },
    /// Nothing but time.
    Tick,
}

#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    follower: LogFollower,
    peers: Peers,
    election: Election,
    ingester: Option<Ingester>,
    out: Outbox,
    turned_at: Duration,
    hello_at: Duration,
    /// It claims nothing before this; None if never again.
    claims_from: Option<Duration>,
    readiness: NodeReadiness,
}

impl Node {
    pub fn new(settings: NodeSettings, now: Duration) -> Node {
        let NodeSettings { priority, trusts_log, role, .. } = settings;
        let is_reader = role == NodeRole::Reader;
        let election = ElectionSettings { node: settings.ingester.node, priority, trusts_log };
        Node {
            follower: LogFollower::new(settings.bounds, role, now),
            settings,
            peers: Peers::default(),
            election: Election::new(election, now),
            ingester: None,
            out: Outbox::default(),
            turned_at: now,
            // A reader is no news to anybody.
            hello_at: if is_reader { Duration::MAX } else { now },
            claims_from: (!is_reader).then_some(now),
            readiness: NodeReadiness::Joining,
        }
    }

    pub fn follower(&self) -> &LogFollower {
        &self.follower
    }

    /// The term of which this node is the ingester.
    pub fn reign(&self) -> Option<u64> {
        self.ingester.as_ref().filter(|ingester| ingester.is_seated()).map(Ingester::term)
    }

    /// Whether the ingester of the newest term lives: this node is it, or has heard of it lately. If not, the next thing in
    /// the log may be another epoch. A reader goes by its parent.
    pub fn knows_ingester(&self, now: Duration) -> bool {
        if self.settings.role == NodeRole::Reader {
            return true;
        }
        let position = self.follower.position();
        self.reign().is_some() || (!position.is_resigned && self.peers.is_alive(position.node, now))
    }

    /// How often this node, as the ingester, has given the log again what it had lost.
    pub fn heals(&self) -> u64 {
        self.out.heals()
    }

    /// Whether [`Node::append`] may be called.
    pub fn is_ready_to_append(&self) -> bool {
        self.ingester.as_ref().is_some_and(Ingester::is_ready)
    }

    /// Appends a batch, as much as has gathered. What is appended comes back as [`NodeCommand::Apply`].
    ///
    /// # Errors
    /// Something is too long for an entry. Nothing was appended then.
    ///
    /// # Panics
    /// Not [`Node::is_ready_to_append`].
    pub fn append(
        &mut self,
        now: Duration,
        wall_ms: u64,
        items: Vec<LoggedItem>,
    ) -> Result<Vec<NodeCommand>, EntryError> {
        let turn = &mut Turn { now, wall_ms, out: &mut self.out };
        let ingester = self.ingester.as_mut().expect("it was asked whether it is ready");
        ingester.append(items, &self.follower, turn)?;
        Ok(self.out.take())
    }

    /// The next tick is due then, at the latest.
    pub fn deadline(&self) -> Duration {
        let role = match &self.ingester {
            Some(ingester) => ingester.deadline(),
            None if self.settings.role == NodeRole::Reader => self.follower.deadline(),
            None => self.follower.deadline().min(self.election.deadline()),
        };
        role.min(self.hello_at)
    }

    /// Takes an event, and does what is due.
    pub fn handle(&mut self, now: Duration, wall_ms: u64, event: NodeEvent) -> Vec<NodeCommand> {
        let was_stopped = now.saturating_sub(self.turned_at) > STOPPED;
        self.turned_at = now;
        if was_stopped {
            self.wake(now, wall_ms);
        }
        self.take(event, now, wall_ms);
        self.tick(now, wall_ms);
        self.tell_readiness(now);
        self.out.take()
    }

    /// What is believed of the log may be out of date.
    fn wake(&mut self, now: Duration, wall_ms: u64) {
        let turn = &mut Turn { now, wall_ms, out: &mut self.out };
        match &mut self.ingester {
            Some(ingester) => ingester.wake(&self.follower, turn),
            None => self.follower.wake(now),
        }
    }

    fn take(&mut self, event: NodeEvent, now: Duration, wall_ms: u64) {
        let turn = &mut Turn { now, wall_ms, out: &mut self.out };
        match event {
            NodeEvent::Replied { call, reply } => {
                let reign = match &mut self.ingester {
                    Some(ingester) => ingester.replied(call, &reply, &mut self.follower, turn),
                    None => {
                        self.follower.replied(call, &reply, turn);
                        Reign::GoesOn
                    }
                };
                self.after(reign, now);
            }
            NodeEvent::Tailed(stored) => {
                let what = self.follower.tailed(stored, turn);
                // The log may be filled again with entries of a writer that is gone: they prove nothing.
                if what == TailedEntry::Applied && self.peers.is_alive(self.follower.position().node, now) {
                    self.follower.witness();
                }
                if let Some(ingester) = &mut self.ingester {
                    let reign = ingester.tailed(what, &self.follower, turn);
                    self.after(reign, now);
                }
            }
            NodeEvent::Reconnected => self.wake(now, wall_ms),
            NodeEvent::Pinged { term, is_answered } => self.election.pinged(term, is_answered, now),
            NodeEvent::Hello(hello) if hello.term > TERM_MAX => {}
            NodeEvent::Hello(hello) => {
                self.peers.hear(hello, now);
                if let Some(ingester) = &mut self.ingester {
                    let reign = ingester.hear(&hello, &self.follower, turn);
                    self.after(reign, now);
                }
            }
            NodeEvent::HellosAsked if self.settings.role == NodeRole::Reader => {}
            NodeEvent::HellosAsked => self.hello_at = now,
            NodeEvent::ForkReported { epoch } => {
                let is_current = epoch == self.follower.position().epoch;
                if let Some(ingester) = self.ingester.as_mut().filter(|ingester| ingester.is_seated() && is_current) {
                    ingester.want_epoch(TermReason::Fork, &self.follower, turn);
                }
            }
            NodeEvent::SnapshotFound(place) => self.follower.snapshot_found(place, turn),
            NodeEvent::NoSnapshot => self.follower.no_snapshot(turn),
            NodeEvent::Resign { for_good } => {
                self.claims_from = (!for_good).then(|| now + YIELD);
                match &mut self.ingester {
                    Some(ingester) if ingester.is_seated() => ingester.resign(&self.follower, turn),
                    _ => self.ingester = None,
                }
            }
            NodeEvent::Tick => {}
        }
    }

    fn tick(&mut self, now: Duration, wall_ms: u64) {
        let may_claim = self.claims_from.is_some_and(|from| now >= from);
        let turn = &mut Turn { now, wall_ms, out: &mut self.out };
        match &mut self.ingester {
            Some(ingester) => ingester.tick(&self.follower, turn),
            None if self.settings.role == NodeRole::Reader => self.follower.tick(turn),
            None => {
                self.follower.tick(turn);
                if let Some(claim) = self.election.tick(&self.follower, &self.peers, turn).filter(|_| may_claim) {
                    self.follower.rest();
                    let settings = self.settings.ingester.clone();
                    let ingester = Ingester::claim(settings, claim, &self.follower, turn);
                    self.ingester = Some(ingester);
                }
            }
        }
        if now >= self.hello_at {
            self.hello_at = now + HELLO_EVERY;
            let hello = self.hello();
            self.out.push(NodeCommand::Tell(hello));
        }
    }

    fn hello(&self) -> NodeHello {
        let position = self.follower.position();
        NodeHello {
            node: self.settings.ingester.node,
            priority: self.settings.priority,
            term: position.term,
            ingester: position.node,
            epoch: position.epoch,
            next_offset: position.next_offset,
            chain: position.chain,
            is_witness: self.follower.is_witness(),
            is_candidate: self.claims_from.is_some(),
        }
    }

    fn after(&mut self, reign: Reign, now: Duration) {
        if reign == Reign::Ended {
            self.ingester = None;
            self.follower.look_soon(now);
        }
    }

    fn tell_readiness(&mut self, now: Duration) {
        let is_heard = now.saturating_sub(self.follower.heard_at()) < LOG_DOWN;
        // A parent may answer for a log that it is cut off from itself.
        let may_be_quiet = self.ingester.is_none() && self.settings.role == NodeRole::Candidate;
        let answers = is_heard || (may_be_quiet && self.follower.answers_since().is_some());
        let readiness = match self.follower.standing() {
            Standing::Joining => NodeReadiness::Joining,
            Standing::Forked => NodeReadiness::Forked,
            Standing::Level | Standing::Shorter if answers => NodeReadiness::Ready,
            Standing::Level | Standing::Shorter => NodeReadiness::LogDown,
        };
        if readiness != self.readiness {
            self.readiness = readiness;
            self.out.push(NodeCommand::Readiness(readiness));
        }
    }
}
