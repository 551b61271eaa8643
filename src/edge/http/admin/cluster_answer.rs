//! How a cluster stands, as JSON.

use serde::Serialize;

use crate::access::cluster_status::{ClusterMember, ClusterStatus, ClusterTakeover};
use crate::words::ids::Epoch;

#[derive(Serialize)]
pub(super) struct ClusterAnswer {
    feed: String,
    node_name: String,
    role: &'static str,
    state: &'static str,
    term: u64,
    ingester: Option<String>,
    epoch: String,
    offset: u64,
    log_offset: u64,
    lag_ms: u64,
    heals: u64,
    takeover: Option<TakeoverAnswer>,
    members: Vec<MemberAnswer>,
}

#[derive(Serialize)]
struct TakeoverAnswer {
    term: u64,
    reason: &'static str,
    node_name: String,
    at_ms: u64,
}

#[derive(Serialize)]
struct MemberAnswer {
    node_name: String,
    role: &'static str,
    term: u64,
    epoch: String,
    offset: u64,
    heard_ms_ago: u64,
}

impl ClusterAnswer {
    pub(super) fn new(status: ClusterStatus) -> ClusterAnswer {
        let takeover =
            |ClusterTakeover { term, reason, node_name, at_ms }| TakeoverAnswer { term, reason, node_name, at_ms };
        ClusterAnswer {
            feed: status.feed,
            node_name: status.node_name,
            role: role(status.is_ingester),
            state: status.readiness,
            term: status.term,
            ingester: status.ingester,
            epoch: Epoch(status.epoch).to_string(),
            offset: status.offset,
            log_offset: status.log_offset,
            lag_ms: status.lag_ms,
            heals: status.heals,
            takeover: status.takeover.map(takeover),
            members: status.members.into_iter().map(MemberAnswer::new).collect(),
        }
    }
}

impl MemberAnswer {
    fn new(member: ClusterMember) -> MemberAnswer {
        MemberAnswer {
            node_name: member.node_name,
            role: role(member.is_ingester),
            term: member.term,
            epoch: Epoch(member.epoch).to_string(),
            offset: member.offset,
            heard_ms_ago: member.heard_ms_ago,
        }
    }
}

fn role(is_ingester: bool) -> &'static str {
    if is_ingester { "ingester" } else { "follower" }
}
