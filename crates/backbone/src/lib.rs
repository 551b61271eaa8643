//! Who writes the shared log of one feed: one node, the ingester, holds the feed and appends to the log; the others
//! follow it, and one of them takes over.
//!
//! Everything here is decided from events with a monotonic time, and comes out as commands: no clock, no socket, no
//! thread. [`log`] is what the log must do, [`append_verdict`] what an append without a clear outcome has become.

pub mod append_verdict;
pub mod demand;
pub mod election;
pub mod follower;
pub mod hello;
pub mod ingester;
pub mod kept;
pub mod log;
pub mod node;
pub mod parents;
mod planted;
pub mod position;
#[cfg(test)]
mod simulation;
pub mod turn;
