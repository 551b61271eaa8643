//! Nodes, their log, their venue and their clients, driven by one seed: the real decisions, and everything around them
//! simulated, with its own faults and clocks. Each step checks that
//!
//! * I1 an offset of an epoch has one content, on all nodes and for ever;
//! * I2 offsets of an epoch are dense;
//! * I3 what a client receives grows strictly, on whichever nodes;
//! * I4 each message of the venue is shown, or its absence is told;
//! * I5 entries of a term follow its term entry, and none follows the next one;
//! * I6 no two nodes hold the feed for longer than `release`;
//! * I8 after the last fault all nodes agree;
//! * I9 what a node holds is bounded;
//! * I10 a node that has taken a snapshot has the newest values.
//!
//! Not simulated: a log that loses what it has acknowledged while no node that is alive and connected has it, and
//! another node believes that it has all. Nobody could know.

mod alone;
mod cases;
mod checks;
mod client;
mod faults;
mod log;
mod node;
mod reader;
mod snapshots;
mod venue;

use std::collections::{BTreeMap, HashMap};

use feed_log::entry::header::{EntryHeader, EntryKind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::log::{CallId, LogReply, LogRequest, StoredBytes};
use crate::node::NodeEvent;
use crate::simulation::client::SimClient;
use crate::simulation::faults::Fault;
use crate::simulation::log::{LogCalls, ShownContents, SimLog};
use crate::simulation::node::{AHEAD_BYTES, KEPT_BYTES, SimClock, SimNode};
use crate::simulation::venue::{SecondConnection, SimVenue};
use crate::turn::{NodeCommand, NodeReadiness};

const MS: u64 = 1000;
const SECOND: u64 = 1000 * MS;
/// Faults come until then.
const FAULTS_UNTIL: u64 = 15 * SECOND;
/// All nodes agree so long after the last fault: a new epoch may have to wait for ten seconds.
const AGREED_WITHIN: u64 = 15 * SECOND;
const RATE_MIN: f64 = 0.5;

#[derive(Debug)]
enum SimEvent {
    Tick(usize),
    ToLog { node: usize, life: u32, call: CallId, request: LogRequest, losses: u64 },
    ToNode { node: usize, life: u32, event: NodeEvent },
    Connect { node: usize, life: u32 },
    VenuePublishes,
    VenueSays { connection: u64, node: usize, number: u64 },
    VenueForgets(u64),
    Client(usize),
    Fault,
    Undo(Fault),
}

/// What a run has gone through, to prove that its faults happened.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    pub events: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub terms: u64,
    pub received: u64,
    pub jumps: u64,
    /// Given truly; taken; found not to fit.
    pub snapshots: u64,
    pub taken: u64,
    pub dropped: u64,
    pub agreed_after_ms: u64,
}

pub struct ClusterSimulation {
    rng: StdRng,
    now: u64,
    queue: BTreeMap<(u64, u64), SimEvent>,
    queued: u64,
    nodes: Vec<SimNode>,
    log: SimLog,
    venue: SimVenue,
    clients: Vec<SimClient>,
    contents: ShownContents,
    /// Since when two nodes have held the feed at once.
    both: HashMap<(usize, usize), u64>,
    /// This node alone is known to have all; it keeps running until then.
    protected: Option<(usize, u64)>,
    /// The next entry is another one for this node.
    alters_next: Option<usize>,
    out_loss: f64,
    /// The nodes take the time from the wall: a planted fault.
    is_wall: bool,
    /// Says on stdout what happens: `TRACE=1 SEED=7 SEEDS=1`.
    is_traced: bool,
    report: RunReport,
}

impl ClusterSimulation {
    pub fn new(seed: u64, is_wall: bool) -> ClusterSimulation {
        let mut rng = StdRng::seed_from_u64(seed);
        let second = [SecondConnection::Allowed, SecondConnection::Refused, SecondConnection::ClosesTheFirst];
        let mut simulation = ClusterSimulation {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            nodes: (0..rng.random_range(3..=5)).map(SimNode::new).collect(),
            log: SimLog::new(),
            venue: SimVenue::new(second[rng.random_range(0..3)]),
            clients: (0..4).map(|_| SimClient::default()).collect(),
            contents: ShownContents::default(),
            both: HashMap::new(),
            protected: None,
            alters_next: None,
            out_loss: 0.002,
            is_wall,
            is_traced: std::env::var_os("TRACE").is_some(),
            report: RunReport::default(),
            rng,
        };
        for node in 0..simulation.nodes.len() {
            simulation.start(node);
        }
        simulation.after(MS, SimEvent::VenuePublishes);
        simulation.after(3 * SECOND, SimEvent::Fault);
        for client in 0..simulation.clients.len() {
            simulation.after(SECOND, SimEvent::Client(client));
        }
        simulation
    }

    /// # Panics
    /// An invariant does not hold.
    pub fn run(mut self) -> RunReport {
        while self.now < FAULTS_UNTIL {
            self.step();
        }
        self.end_faults();
        let calm_from = self.now;
        while !self.has_agreed() {
            assert!(self.now < calm_from + AGREED_WITHIN, "I8: {}", self.standings());
            for _ in 0..50 {
                self.step();
            }
        }
        self.report.agreed_after_ms = (self.now - calm_from) / MS;
        self.report.received = self.clients.iter().map(|client| client.received).sum();
        self.report.jumps += self.nodes.iter().map(|node| node.jumps).sum::<u64>();
        self.report
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn after(&mut self, delay: u64, event: SimEvent) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), event);
    }

    fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("the venue goes on");
        self.now = at;
        self.report.events += 1;
        match event {
            SimEvent::Tick(node) => {
                if self.nodes[node].tick_at == self.now && self.nodes[node].is_running() {
                    self.give(node, NodeEvent::Tick);
                }
            }
            SimEvent::ToLog { node, life, call, request, losses } => {
                if losses == self.log.losses {
                    self.serve(node, life, call, request);
                }
            }
            SimEvent::ToNode { node, life, event } => {
                if self.nodes[node].life == life {
                    self.give(node, event);
                }
            }
            SimEvent::Connect { node, life } => self.connect(node, life),
            SimEvent::VenuePublishes => self.publish(),
            SimEvent::VenueSays { connection, node, number } => self.hear_venue(connection, node, number),
            SimEvent::VenueForgets(connection) => self.venue.close(connection),
            SimEvent::Client(client) => self.act(client),
            SimEvent::Fault => self.break_something(),
            SimEvent::Undo(fault) => self.undo(fault),
        }
        self.check_holders();
    }

    /// From the network to a node.
    fn deliver(&mut self, node: usize, delay: u64, event: NodeEvent) {
        let own = &mut self.nodes[node];
        if own.core.is_some() && !own.link.from_log && own.link.holds {
            own.held_events.push(event);
        } else if own.core.is_some() && own.link.from_log {
            let life = self.nodes[node].life;
            self.after(delay, SimEvent::ToNode { node, life, event });
        }
    }

    fn give(&mut self, node: usize, event: NodeEvent) {
        if self.nodes[node].is_stopped {
            self.nodes[node].held.push_back(event);
            return;
        }
        let now = self.now;
        let own = &mut self.nodes[node];
        let (local, wall_ms) = (own.clock.driving(now), own.clock.wall_ms(now));
        let Some(core) = &mut own.core else { return };
        let commands = core.handle(local, wall_ms, event);
        self.perform(node, commands);
        loop {
            let commands = self.nodes[node].append(now);
            if commands.is_empty() {
                break;
            }
            self.perform(node, commands);
        }
        let own = &mut self.nodes[node];
        let Some(core) = &own.core else { return };
        if now.is_multiple_of(7) {
            own.past = Some(*core.follower().position());
        }
        assert!(core.follower().kept().bytes() <= KEPT_BYTES, "I9");
        assert!(core.follower().ahead_bytes() <= AHEAD_BYTES, "I9");
        let tick_at = now + own.clock.until(core.deadline(), now).max(1);
        if tick_at != own.tick_at {
            own.tick_at = tick_at;
            self.after(tick_at - now, SimEvent::Tick(node));
        }
    }

    fn perform(&mut self, node: usize, commands: Vec<NodeCommand>) {
        for command in commands {
            self.do_one(node, command);
        }
    }

    fn trace(&self, what: std::fmt::Arguments) {
        if self.is_traced {
            println!("{:>9.3} {what}", self.now as f64 / MS as f64);
        }
    }

    fn do_one(&mut self, node: usize, command: NodeCommand) {
        match &command {
            NodeCommand::Ping { .. } | NodeCommand::Tell(_) | NodeCommand::Apply { .. } => {}
            NodeCommand::Log { request: LogRequest::Tail | LogRequest::Read(_), .. } => {}
            NodeCommand::Log { request: LogRequest::Append { expected, entry }, .. } => {
                if let Ok(EntryHeader { kind: EntryKind::Term, term, epoch, first, .. }) = EntryHeader::decode(entry) {
                    self.trace(format_args!("node {node} claims {term} after {expected}: {epoch:x}:{first}"));
                }
            }
            other => self.trace(format_args!("node {node}: {other:?}")),
        }
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        let is_linked = self.nodes[node].link.to_log;
        match command {
            NodeCommand::Log { call, request } => self.send(node, call, request),
            NodeCommand::Apply { entry, .. } => self.nodes[node].show(&entry, &mut self.contents),
            NodeCommand::Jump { entry, .. } => self.nodes[node].jump(&entry, &mut self.contents),
            NodeCommand::AskSnapshot { besides } => self.give_snapshot(node, besides),
            NodeCommand::TakeSnapshot { is_after_hole } => {
                assert!(
                    self.nodes[node].take_snapshot(is_after_hole),
                    "a snapshot is taken once, and after it was found"
                );
                self.report.taken += 1;
            }
            NodeCommand::DropSnapshot { begins_anew } => {
                self.report.dropped += 1;
                self.nodes[node].snapshot = None;
                if begins_anew {
                    assert!(!self.nodes[node].has_joined, "nobody is shown anything twice");
                    self.nodes[node].skip();
                    self.nodes[node].shown.clear();
                }
            }
            NodeCommand::OpenFeed { term } => {
                self.report.terms = self.report.terms.max(term);
                self.nodes[node].open_feed();
                self.connect_later(node);
            }
            NodeCommand::CloseFeed => {
                if let Some(connection) = self.nodes[node].close_feed() {
                    self.venue.close(connection);
                }
            }
            NodeCommand::Answer { term } => self.nodes[node].answers_for = term,
            NodeCommand::Readiness(NodeReadiness::Ready) => self.nodes[node].become_ready(),
            NodeCommand::Ping { term } if is_linked => self.ping(node, term),
            NodeCommand::Tell(hello) if is_linked => {
                for other in others {
                    let delay = self.rng.random_range(100..2000);
                    self.deliver(other, delay, NodeEvent::Hello(hello));
                }
            }
            NodeCommand::AskHellos if is_linked => {
                for other in others {
                    let delay = self.rng.random_range(100..2000);
                    self.deliver(other, delay, NodeEvent::HellosAsked);
                }
            }
            NodeCommand::ReportFork { epoch } if is_linked => {
                for other in others {
                    self.deliver(other, 500, NodeEvent::ForkReported { epoch });
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, node: usize, call: CallId, request: LogRequest) {
        let mut calls = LogCalls::default();
        request.send(call, &mut calls);
        for (call, request) in calls.0 {
            self.nodes[node].has_tail |= request == LogRequest::Tail;
            let link = self.nodes[node].link;
            if !link.to_log && link.holds {
                self.nodes[node].held_calls.push((call, request));
                continue;
            }
            if !link.to_log || self.chance(0.003) {
                continue;
            }
            let is_late = self.chance(0.003);
            let delay = if is_late { self.rng.random_range(MS..SECOND) } else { self.rng.random_range(50..300) };
            let (life, losses) = (self.nodes[node].life, self.log.losses);
            self.after(delay, SimEvent::ToLog { node, life, call, request, losses });
        }
    }

    fn serve(&mut self, node: usize, life: u32, call: CallId, request: LogRequest) {
        let (reply, stored) = self.log.serve(node, request, self.now);
        if let Some(stored) = stored {
            self.republish(&stored);
        }
        let is_lost = self.chance(0.004);
        if let Some(reply) = reply.filter(|_| !is_lost && self.nodes[node].life == life) {
            let is_late = matches!(reply, LogReply::Appended(_)) && self.chance(0.01);
            let range = if is_late { 400 * MS..1500 * MS } else { 50..300 };
            let delay = self.rng.random_range(range);
            self.deliver(node, delay, NodeEvent::Replied { call, reply });
        }
    }

    fn republish(&mut self, stored: &StoredBytes) {
        if self.alters_next.is_some_and(|node| self.log.alter_for(node, stored)) {
            self.alters_next = None;
        }
        for node in 0..self.nodes.len() {
            let is_lost = !self.nodes[node].has_tail || self.log.is_stale_for(node) || self.chance(self.out_loss);
            if is_lost {
                continue;
            }
            let copies = if self.chance(0.005) { 2 } else { 1 };
            for _ in 0..copies {
                let range = if self.chance(0.01) { 5 * MS..300 * MS } else { 50..500 };
                let delay = self.rng.random_range(range);
                let seen = self.log.seen_by(node, stored.clone());
                self.deliver(node, delay, NodeEvent::Tailed(seen));
            }
        }
    }

    fn ping(&mut self, node: usize, term: u64) {
        if self.now < self.log.silent_until && self.chance(0.5) {
            return;
        }
        let holder = (0..self.nodes.len()).find(|other| {
            let other = &self.nodes[*other];
            other.link.from_log && other.answers_for == Some(term)
        });
        let is_answered = holder.is_some();
        if holder.is_none_or(|holder| self.nodes[holder].is_running() && self.nodes[holder].link.to_log) {
            self.deliver(node, 500, NodeEvent::Pinged { term, is_answered });
        }
    }

    fn act(&mut self, client: usize) {
        if self.chance(0.3) {
            let node = self.rng.random_range(0..self.nodes.len());
            self.clients[client].hop(node);
        }
        let node = &self.nodes[self.clients[client].node];
        if node.is_running() && node.has_joined {
            self.clients[client].read(node.life, &node.shown);
        }
        let delay = self.rng.random_range(20 * MS..300 * MS);
        self.after(delay, SimEvent::Client(client));
    }

    fn start(&mut self, node: usize) {
        if let Some(connection) = self.nodes[node].connection {
            self.after(3 * SECOND, SimEvent::VenueForgets(connection));
        }
        self.report.jumps += self.nodes[node].jumps;
        self.log.stop_altering(node);
        let rate = self.rng.random_range(RATE_MIN..2.0);
        let base_us = self.rng.random_range(0..100 * SECOND);
        let clock = SimClock::new(self.now, base_us, rate, self.is_wall);
        self.nodes[node].start(clock, self.now);
        self.after(0, SimEvent::Tick(node));
    }
}
