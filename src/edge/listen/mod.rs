//! The listening socket: which connections are accepted, and how long each may take.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod client_stream;
pub(crate) mod connection_table;
pub(crate) mod deadlines;
pub mod forwarded;
pub(crate) mod listener;
pub(crate) mod peer;
pub(crate) mod proxy_protocol;
pub(crate) mod socket_file;
