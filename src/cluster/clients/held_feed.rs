//! The feed that this node holds for all nodes, as clients see it: what they want of it, and what they say to it.

use std::sync::Arc;

use crate::bus::demand::ClientInput;
use crate::bus::demand::interest::{Interest, InterestBounds};
use crate::bus::demand::requests::{self, RequestRules, Requests};
use crate::words::metrics::Meters;

#[derive(Clone)]
pub struct HeldFeed {
    pub term: u64,
    /// None without `upstream.demand`.
    pub interest: Option<Arc<Interest>>,
    pub requests: Requests,
}

/// What clients of all nodes may want and say.
#[derive(Clone, Debug)]
pub struct ClientAllowance {
    /// None without `upstream.demand`.
    pub demand: Option<InterestBounds>,
    pub requests: RequestRules,
}

impl ClientAllowance {
    /// Both ends, for one term.
    pub fn open(&self, term: u64) -> (HeldFeed, ClientInput) {
        // What clients want is measured at each node.
        let interest = self.demand.clone().map(|bounds| Interest::within(bounds, &Meters::unread()));
        let (requests, queue) = requests::open(self.requests.clone());
        (HeldFeed { term, interest: interest.clone(), requests }, ClientInput { interest, requests: queue })
    }
}
