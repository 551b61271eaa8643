//! Floor 4, east wing: from the ring to the sockets.
//!
//! [`Delivery`](door::Delivery) is the one door: the edge hands an upgraded socket to its `adopt`, and from then on a
//! shard reads the client's commands and answers them itself.

pub mod catch_up;
pub mod handoff;
#[cfg(test)]
mod harness;
pub mod lanes;
pub mod sessions;
pub mod settings;
mod shard;
pub mod shards;
#[cfg(test)]
mod simulation;
