//! What clients of all nodes want of the feed and say to it, brought to the ingester over NATS.
//!
//! | subject | carries |
//! |---|---|
//! | `fanline.NAME.demand` | what clients of a node want; the ingester listens |
//! | `fanline.NAME.demand.ask` | the ingester asks all nodes, or the one in it, for all that their clients want |
//! | `fanline.NAME.demand.status` | the status of topics without a message, from the ingester |
//! | `fanline.NAME.request.TERM` | requests of clients, answered by the ingester of the term |
//!
//! None of it is kept anywhere: a new ingester asks, and is told.

mod demand_form;
pub mod held_feed;
pub mod node_demand;
mod request_form;
pub mod request_forwarder;
mod request_taker;
mod united_demand;
