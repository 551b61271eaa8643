//! One feed, many nodes: what the feed of the ingester publishes goes into the shared log, and every node shows what
//! comes back from it, the ingester included.
//!
//! The feed publishes into a bus of its own, which no client sees. The collector takes the frames from there into the
//! log, where they are given their offsets; the applier takes committed entries from the log into the bus that clients
//! read. `backbone` decides who is the ingester.

pub mod applier;
pub mod collector;
mod logged_state;
pub mod meters;
pub mod nats;
pub mod runner;
pub mod stream;
