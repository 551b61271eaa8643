//! Floor 3, west wing: from the upstream to the publisher.
//!
//! ```text
//! Upstream (connects, waits, connects again)
//!   ├─ Link      one connection's socket
//!   ├─ Dialogue  what to say on it and when: subscriptions, pings, deadlines
//!   └─ Sorter    what a message is, and which topics it holds: a Profile's rules
//! ```
//! `Dialogue` and `Sorter` know no sockets and no clock. Nothing here knows who reads what is published.

pub mod loss;
pub mod probe;
pub mod profile;
pub mod rule;
pub mod section;
pub mod sorter;
pub mod upstream;

mod backoff;
mod compile;
mod connect;
mod dialogue;
mod fill;
mod guess;
mod naming;
mod outlet;
#[cfg(test)]
mod recordings;
mod subscribe;
mod template;
