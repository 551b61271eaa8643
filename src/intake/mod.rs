//! Floor 4, west wing: from the upstream to the publisher.
//!
//! ```text
//! Upstream (connects, waits, connects again)
//!   ├─ line/      one connection: its socket, and what to say on it and when (`Dialogue`)
//!   ├─ sorting/   what a message is, and which topics it holds (`Sorter`), by
//!   └─ profile/   the description of the feed: a Profile and its rules
//! ```
//! `Dialogue` and `Sorter` know no sockets and no clock. Nothing here knows who reads what is published.

pub mod arbitrate;
pub mod assemble;
pub mod classify;
pub mod probe;
pub mod upstream;

pub(crate) mod connection;
mod digest;
mod pipeline;
#[cfg(test)]
mod recorded;
mod sample;
mod update_sink;
