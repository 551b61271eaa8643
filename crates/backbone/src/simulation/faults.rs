//! What goes wrong in a run, and how it ends.

use rand::RngExt;

use crate::node::NodeEvent;
use crate::simulation::node::Link;
use crate::simulation::{ClusterSimulation, MS, SECOND, SimEvent};

/// Whoever is known to have all of a log that has lost something keeps running so long.
const PROTECTED: u64 = 10 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Stop(usize),
    Kill(usize),
    Cut(usize, Link),
    /// The log elects a leader.
    LogSilent,
    /// A node talks to a leader that is cut off.
    StaleLeader(usize),
    /// The log's store is an older one.
    TailLost,
    LogDeleted,
    /// All processes end, and the store is an older one.
    PowerLost,
    /// One reader sees another content of an entry.
    Forked(usize),
    Resigned(usize),
    WallJumps(usize),
    /// An entry cannot be read any more.
    Rotten,
    /// Many committed entries are not told.
    OutLossy,
}

impl Fault {
    fn label(self) -> &'static str {
        match self {
            Fault::Stop(_) => "stop",
            Fault::Kill(_) => "kill",
            Fault::Cut(..) => "cut",
            Fault::LogSilent => "log_silent",
            Fault::StaleLeader(_) => "stale_leader",
            Fault::TailLost => "tail_lost",
            Fault::LogDeleted => "log_deleted",
            Fault::PowerLost => "power_lost",
            Fault::Forked(_) => "forked",
            Fault::Resigned(_) => "resigned",
            Fault::WallJumps(_) => "wall_jumps",
            Fault::Rotten => "rotten",
            Fault::OutLossy => "out_lossy",
        }
    }
}

impl ClusterSimulation {
    pub(super) fn break_something(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        let (to_log, from_log) = [(false, false), (false, true), (true, false)][self.rng.random_range(0..3)];
        let link = Link { to_log, from_log, holds: self.chance(0.5) };
        let faults = [
            Fault::Stop(node),
            Fault::Kill(node),
            Fault::Cut(node, link),
            Fault::LogSilent,
            Fault::StaleLeader(node),
            Fault::TailLost,
            Fault::LogDeleted,
            Fault::PowerLost,
            Fault::Forked(node),
            Fault::Resigned(node),
            Fault::WallJumps(node),
            Fault::Rotten,
            Fault::OutLossy,
        ];
        let fault = faults[self.rng.random_range(0..faults.len())];
        if self.begin(node, fault) {
            self.trace(format_args!("fault {fault:?}, log ends at {}", self.log.last()));
            *self.report.faults.entry(fault.label()).or_default() += 1;
        }
        let next = self.rng.random_range(100 * MS..2500 * MS);
        self.after(next, SimEvent::Fault);
    }

    fn begin(&mut self, node: usize, fault: Fault) -> bool {
        let is_protected = self.protected.is_some_and(|(of, until)| of == node && self.now < until);
        let lasts = self.rng.random_range(200 * MS..6000 * MS);
        match fault {
            Fault::Stop(_) | Fault::Kill(_) | Fault::Cut(..) | Fault::StaleLeader(_) | Fault::Resigned(_)
                if is_protected || !self.nodes[node].is_running() =>
            {
                return false;
            }
            Fault::Stop(node) => self.nodes[node].is_stopped = true,
            Fault::Kill(node) => self.kill(node),
            Fault::Cut(node, link) => self.nodes[node].link = link,
            Fault::LogSilent => self.log.silent_until = self.now + lasts,
            Fault::StaleLeader(node) => self.log.cut_leader(node),
            Fault::TailLost | Fault::LogDeleted => {
                let Some(whole) = self.node_with_all() else { return false };
                self.protected = Some((whole, self.now + PROTECTED));
                self.lose(fault);
            }
            Fault::PowerLost => {
                if self.protected.is_some_and(|(_, until)| self.now < until) {
                    return false;
                }
                (0..self.nodes.len()).for_each(|node| self.kill(node));
                self.lose(Fault::TailLost);
                self.log.forget_lost();
                for node in 0..self.nodes.len() {
                    let delay = self.rng.random_range(10 * MS..1500 * MS);
                    self.after(delay, SimEvent::Undo(Fault::Kill(node)));
                }
                return true;
            }
            Fault::Forked(node) => {
                let holds = self.nodes[node].core.as_ref().is_some_and(|core| core.reign().is_some());
                if holds || self.log.alters_any() {
                    return false;
                }
                self.alters_next = Some(node);
            }
            Fault::Resigned(node) => {
                self.give(node, NodeEvent::Resign { for_good: false });
                return true;
            }
            Fault::WallJumps(node) => {
                let hour_ms = 3_600_000;
                self.nodes[node].clock.wall_ahead_ms += [hour_ms, -hour_ms][self.rng.random_range(0..2)];
                return true;
            }
            // Nobody could tell that an altered entry is not the one before a hole.
            Fault::Rotten if self.log.alters_any() => return false,
            Fault::Rotten => {
                let from_end = self.rng.random_range(5..40);
                return self.log.rot(from_end);
            }
            Fault::OutLossy => self.out_loss = 0.4,
        }
        self.after(lasts, SimEvent::Undo(fault));
        true
    }

    fn kill(&mut self, node: usize) {
        let own = &mut self.nodes[node];
        (own.core, own.answers_for) = (None, None);
        own.is_stopped = false;
        own.held.clear();
    }

    /// Whoever runs, is connected, and has applied all that the log has.
    fn node_with_all(&self) -> Option<usize> {
        let last = self.log.last_chain()?;
        let is_free = self.protected.is_none_or(|(_, until)| self.now >= until);
        let has_all = |node: &usize| {
            let own = &self.nodes[*node];
            let is_linked = own.is_running() && own.link == Link::WHOLE && !self.log.is_stale_for(*node);
            is_linked && own.core.as_ref().is_some_and(|core| core.follower().position().chain == last)
        };
        (0..self.nodes.len()).find(has_all).filter(|_| is_free)
    }

    /// What is under way to the log is lost with its process, and all connections are made anew.
    fn lose(&mut self, fault: Fault) {
        match fault {
            Fault::LogDeleted => self.log.vanish(self.now),
            _ => {
                let count = self.rng.random_range(1..30);
                self.log.lose_tail(count);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].held_calls.clear();
            if self.nodes[node].link == Link::WHOLE && self.nodes[node].core.is_some() {
                self.give(node, NodeEvent::Reconnected);
            }
        }
    }

    pub(super) fn undo(&mut self, fault: Fault) {
        self.trace(format_args!("ends {fault:?}"));
        match fault {
            Fault::Stop(node) if self.nodes[node].is_stopped => {
                self.nodes[node].is_stopped = false;
                let held: Vec<NodeEvent> = self.nodes[node].held.drain(..).collect();
                self.give(node, NodeEvent::Tick);
                held.into_iter().for_each(|event| self.give(node, event));
            }
            Fault::Kill(node) if self.nodes[node].core.is_none() => self.start(node),
            Fault::Cut(node, link) => {
                self.nodes[node].link = Link::WHOLE;
                if link.holds {
                    self.release(node);
                } else {
                    self.give_if_alive(node, NodeEvent::Reconnected);
                }
            }
            Fault::StaleLeader(node) => {
                self.log.join_leader(node);
                self.give_if_alive(node, NodeEvent::Reconnected);
            }
            Fault::OutLossy => self.out_loss = 0.002,
            _ => {}
        }
    }

    /// The network delivers what it held.
    fn release(&mut self, node: usize) {
        let (life, losses) = (self.nodes[node].life, self.log.losses);
        let calls = std::mem::take(&mut self.nodes[node].held_calls);
        for (delay, (call, request)) in (100..).zip(calls) {
            self.after(delay, SimEvent::ToLog { node, life, call, request, losses });
        }
        let events = std::mem::take(&mut self.nodes[node].held_events);
        for (delay, event) in (100..).zip(events) {
            self.after(delay, SimEvent::ToNode { node, life, event });
        }
    }

    fn give_if_alive(&mut self, node: usize, event: NodeEvent) {
        if self.nodes[node].core.is_some() {
            self.give(node, event);
        }
    }

    pub(super) fn end_faults(&mut self) {
        self.queue.retain(|_, event| !matches!(event, SimEvent::Fault));
        self.log.silent_until = self.now;
        self.alters_next = None;
        for node in 0..self.nodes.len() {
            self.nodes[node].clock.set_rate(self.now, 1.0);
            let link = self.nodes[node].link;
            for fault in [Fault::Kill(node), Fault::Cut(node, link), Fault::StaleLeader(node), Fault::Stop(node)] {
                self.undo(fault);
            }
        }
        self.undo(Fault::OutLossy);
    }
}
