//! The other nodes, as they have said of themselves lately. Written by the listener of hellos, read by the operator's calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backbone::hello::NodeHello;

use crate::access::cluster_status::ClusterMember;

/// Three hellos.
const ALIVE: Duration = Duration::from_secs(6);
/// As many as the decisions remember.
const MEMBERS_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 256;

#[derive(Default)]
pub struct MemberList {
    heard: Mutex<HashMap<u64, HeardMember>>,
}

struct HeardMember {
    hello: NodeHello,
    name: String,
    at: Instant,
}

impl MemberList {
    pub fn hear(&self, hello: NodeHello, mut name: String, at: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, member| at.saturating_duration_since(member.at) <= ALIVE);
        if heard.len() < MEMBERS_MAX || heard.contains_key(&hello.node) {
            name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
            heard.insert(hello.node, HeardMember { hello, name, at });
        }
    }

    /// Those that are alive, by name.
    pub fn alive(&self, now: Instant) -> Vec<ClusterMember> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members: Vec<ClusterMember> = heard.values().filter_map(|member| member.shown(now)).collect();
        members.sort_by(|one, two| one.node_name.cmp(&two.node_name));
        members
    }
}

impl HeardMember {
    fn shown(&self, now: Instant) -> Option<ClusterMember> {
        let HeardMember { hello, name, at } = self;
        let silence = now.saturating_duration_since(*at);
        (silence <= ALIVE).then(|| ClusterMember {
            node_name: name.clone(),
            is_ingester: hello.ingester == hello.node,
            term: hello.term,
            epoch: hello.epoch,
            offset: hello.next_offset.saturating_sub(1),
            heard_ms_ago: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use feed_log::chain::Chain;

    use super::*;

    fn hello(node: u64) -> NodeHello {
        let (term, ingester, is_witness) = (3, 1, true);
        let (epoch, next_offset, chain) = (7, 11, Chain::START);
        NodeHello { node, priority: 0, term, ingester, epoch, next_offset, chain, is_witness, is_candidate: true }
    }

    #[test]
    fn members_are_forgotten_after_a_silence_and_are_not_without_number() {
        let (members, start) = (MemberList::default(), Instant::now());
        (0..2 * MEMBERS_MAX as u64).for_each(|node| members.hear(hello(node), format!("{node:04}"), start));
        assert_eq!(members.alive(start).len(), MEMBERS_MAX);
        let later = start + ALIVE + Duration::from_secs(1);
        assert_eq!(members.alive(later), []);
        members.hear(hello(1), "ü".repeat(1000), later);
        let alive = members.alive(later + Duration::from_millis(5));
        assert_eq!((alive.len(), alive[0].node_name.len()), (1, NAME_BYTES_MAX));
        assert_eq!((alive[0].is_ingester, alive[0].offset, alive[0].heard_ms_ago), (true, 10, 5));
    }
}
