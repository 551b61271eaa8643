//! Floor 3, west wing: from the upstream to the publisher.
//!
//! ```text
//! Upstream (connects, waits, connects again)
//!   ├─ line/      one connection: its socket, and what to say on it and when (`Dialogue`)
//!   ├─ sorting/   what a message is, and which topics it holds (`Sorter`), by
//!   └─ profile/   the description of the feed: a Profile and its rules
//! ```
//! `Dialogue` and `Sorter` know no sockets and no clock. Nothing here knows who reads what is published.

pub mod flow;
pub mod probe;
pub mod profile;
pub mod sorting;
pub mod upstream;

mod digest;
pub(crate) mod line;
mod outlet;
mod pool;
mod press;
#[cfg(test)]
mod recorded;
mod sample;
