//! The clients of a shard: what each is, says, is owed, and how it ends.

pub(crate) mod client_requests;
pub(crate) mod commands;
pub(crate) mod demand_status;
pub(crate) mod departure;
pub(crate) mod inbound;
pub(crate) mod session;
pub(crate) mod subscriptions;
pub(crate) mod unsent;
