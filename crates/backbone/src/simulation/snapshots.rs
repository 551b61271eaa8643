//! What nodes give each other for a join and after a hole: true, false, late or never.

use rand::RngExt;

use crate::follower::Standing;
use crate::follower::snapshot::SnapshotPlace;
use crate::log::LogSequence;
use crate::node::NodeEvent;
use crate::simulation::node::SimNode;
use crate::simulation::{ClusterSimulation, MS, SimEvent};

/// Offsets that a false snapshot is ahead of its log.
const FALSELY_AHEAD: u64 = 5_000;

/// What another node retains of the topic that has few messages.
#[derive(Clone, Copy, Debug)]
pub struct SimSnapshot {
    pub place: SnapshotPlace,
    /// The offset of the newest one.
    pub rare: Option<u64>,
    /// It is all that there was until then.
    pub is_exact: bool,
}

impl ClusterSimulation {
    pub(super) fn give_snapshot(&mut self, node: usize, besides: Option<u64>) {
        let gives = |other: &usize| *other != node && self.gives(*other, besides);
        let givers: Vec<usize> = (0..self.nodes.len()).filter(gives).collect();
        let (delay, life) = (self.rng.random_range(MS..300 * MS), self.nodes[node].life);
        if givers.is_empty() || !self.nodes[node].link.to_log {
            return self.after(delay, SimEvent::ToNode { node, life, event: NodeEvent::NoSnapshot });
        }
        let giver = givers[self.rng.random_range(0..givers.len())];
        let mut snapshot = self.nodes[giver].snapshot().expect("it gives one");
        let lie = self.rng.random_range(0..12);
        match lie {
            // Of another history.
            0 => {
                snapshot.place.position.chain.0[0] ^= 1;
                snapshot.rare = Some(snapshot.place.offset);
            }
            1 => (snapshot.place.offset, snapshot.is_exact) = (snapshot.place.offset + FALSELY_AHEAD, false),
            2 => snapshot.place.read_from = LogSequence(self.rng.random_range(0..2000)),
            3 => snapshot.place.offset = u64::MAX,
            // It is lost on its way, and no longer waited for then.
            4 => {
                let event = NodeEvent::NoSnapshot;
                return self.after(delay * 20, SimEvent::ToNode { node, life, event });
            }
            _ => {}
        }
        self.report.snapshots += u64::from(lie > 4);
        self.nodes[node].snapshot = Some(snapshot);
        let event = NodeEvent::SnapshotFound(snapshot.place);
        self.after(delay, SimEvent::ToNode { node, life, event });
    }

    fn gives(&self, node: usize, besides: Option<u64>) -> bool {
        let own = &self.nodes[node];
        let is_level = own.core.as_ref().is_some_and(|core| core.follower().standing() == Standing::Level);
        let is_there = is_level && own.is_running() && own.link.to_log && own.link.from_log;
        is_there && own.snapshot().is_some_and(|snapshot| Some(snapshot.place.position.epoch) != besides)
    }
}

impl SimNode {
    /// The entry that it names may be some entries older than what it holds.
    fn snapshot(&self) -> Option<SimSnapshot> {
        let (epoch, next) = self.place?;
        let follower = self.core.as_ref()?.follower();
        let position = self.past.filter(|past| past.epoch == epoch).unwrap_or(*follower.position());
        let read_from = follower.sequence_of(position.next_offset.saturating_sub(200));
        let place = SnapshotPlace { position, offset: next - 1, read_from };
        (position.epoch == epoch).then_some(SimSnapshot { place, rare: self.rare, is_exact: self.is_exact })
    }

    pub fn take_snapshot(&mut self, is_after_hole: bool) -> bool {
        let Some(snapshot) = self.snapshot.take() else { return false };
        let (epoch, offset) = (snapshot.place.position.epoch, snapshot.place.offset);
        (self.rare, self.is_exact, self.exact_from) = (snapshot.rare, snapshot.is_exact, offset);
        if is_after_hole {
            self.skip();
            (self.place, self.skips_until) = (Some((epoch, offset + 1)), offset);
        }
        true
    }
}
