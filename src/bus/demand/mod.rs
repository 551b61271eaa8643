//! Demand and client requests: delivery writes, the intake reads.

pub mod interest;
pub mod requests;

use std::sync::Arc;

use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::RequestQueue;

/// What the intake reads of clients.
#[derive(Clone, Debug)]
pub struct ClientInput {
    /// None without `upstream.demand`.
    pub interest: Option<Arc<Interest>>,
    pub requests: RequestQueue,
}
