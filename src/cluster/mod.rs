//! One feed, many nodes: what the feed of the ingester publishes goes into the shared log, and every node shows what
//! comes back from it, the ingester included.
//!
//! The feed publishes into a bus of its own, which no client sees. The collector takes the frames from there into the
//! log, where they are given their offsets; the applier takes committed entries from the log into the bus that clients
//! read. A server that joins begins with what another one retains (`snapshots`). What clients want and say goes the other way (`clients`). `backbone` decides who is the ingester.

pub mod applier;
pub mod backbone_io;
pub mod clients;
pub mod collector;
pub mod link;
mod logged_state;
pub mod members;
pub mod meters;
pub mod nats;
pub mod node_status;
pub mod relay;
pub mod runner;
pub mod snapshots;
pub mod stream;
