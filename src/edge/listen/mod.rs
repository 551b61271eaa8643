//! The listening socket: which connections are accepted, and how long each may take.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod client_files;
pub(crate) mod client_stream;
pub(crate) mod connection_table;
pub(crate) mod deadlines;
pub(crate) mod drops;
pub mod forwarded;
pub mod inherited;
pub(crate) mod listener;
pub(crate) mod peer;
pub mod proxy_protocol;
pub mod socket_file;
pub(crate) mod takeover;
pub mod tls;

use std::time::Instant;

use crate::words::stamp::Stamp;

/// The time for a rate-limited log.
pub(in crate::edge) fn since(started: Instant) -> Stamp {
    Stamp { wall_ms: 0, mono_ns: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX) }
}
