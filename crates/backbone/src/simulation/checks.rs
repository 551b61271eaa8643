//! What the whole backbone must be, seen from outside.

use crate::follower::Standing;
use crate::simulation::node::{RELEASE, SimNode};
use crate::simulation::{ClusterSimulation, MS, RATE_MIN};

impl ClusterSimulation {
    /// I6.
    pub(super) fn check_holders(&mut self) {
        let release = RELEASE.as_micros() as f64 / RATE_MIN + (100 * MS) as f64;
        let holds = |node: &SimNode| node.is_running() && node.connection.is_some_and(|of| self.venue.has(of));
        let holders: Vec<usize> = self.nodes.iter().filter(|node| holds(node)).map(|node| node.index).collect();
        self.both.retain(|(a, b), _| holders.contains(a) && holders.contains(b));
        for (at, a) in holders.iter().enumerate() {
            for b in &holders[at + 1..] {
                let since = *self.both.entry((*a, *b)).or_insert(self.now);
                let both = (self.now - since) as f64;
                assert!(both <= release, "I6: nodes {a} and {b} hold the feed for {both} us");
            }
        }
    }

    /// I8; and a node that has shown another content than the others has left that epoch.
    pub(super) fn has_agreed(&self) -> bool {
        let cores = || self.nodes.iter().filter_map(|node| node.core.as_ref());
        let reigns = cores().filter(|core| core.reign().is_some()).count();
        let epoch = cores().map(|core| core.follower().position().epoch).next();
        let is_told = self.nodes.iter().all(|node| node.altered_in.is_none() || node.altered_in != epoch);
        reigns == 1
            && is_told
            && cores().all(|core| {
                let (follower, position) = (core.follower(), core.follower().position());
                follower.standing() == Standing::Level
                    && Some(position.epoch) == epoch
                    && self.log.ends_with(position.chain, 4)
            })
    }

    pub(super) fn standings(&self) -> String {
        let of = |node: &SimNode| {
            let core = node.core.as_ref()?;
            let (position, standing) = (core.follower().position(), core.follower().standing());
            Some(format!("\n{standing:?}, reign {:?}, {position:?}", core.reign()))
        };
        let nodes: Vec<String> = self.nodes.iter().filter_map(of).collect();
        format!("log ends at {} {:?}{}", self.log.last(), self.log.last_chain(), nodes.concat())
    }
}
