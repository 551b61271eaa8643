//! Floor 4, east wing: from the ring to the sockets.
//!
//! [`Delivery`](shards::Delivery) is the one door: the edge hands a socket to its `adopt`, and from then on a shard reads
//! the client's commands and answers them itself. Within, each folder imports only those after it: `shard` (the turn),
//! `sessions` (the clients), `catch_up` (their way back into step), `lanes` (what they share), `transport` (what they
//! speak).

pub(crate) mod budget;
pub mod bus_handles;
pub(crate) mod catch_up;
pub(crate) mod chunk;
pub(crate) mod demand;
pub mod handoff;
#[cfg(test)]
mod harness;
pub mod lanes;
mod meters;
mod session_id;
mod sessions;
pub mod settings;
mod shard;
pub mod shards;
#[cfg(test)]
mod simulation;
pub mod transport;
