//! Floor 3, east wing: from the ring to the sockets.
//!
//! [`Delivery`](door::Delivery) is the one door: the edge hands an upgraded socket to its `adopt`, and from then on a
//! shard reads the client's commands and answers them itself.

mod asking;
mod catch_up;
pub mod door;
mod eventloop;
mod inbound;
pub mod index;
mod lane;
mod lanes;
mod leave;
mod listen;
mod meters;
pub mod newcomer;
mod paced;
mod placement;
mod rounds;
mod sayings;
mod session;
pub mod settings;
mod shard;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod simulation;
mod sorted;
#[cfg(test)]
mod stage;
mod subscriptions;
mod sweep;
mod unsent;
mod walk;
pub mod window;
