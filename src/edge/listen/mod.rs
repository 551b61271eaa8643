//! The listening socket: which connections are accepted, and how long each may take.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod client_stream;
pub(crate) mod connection_table;
pub(crate) mod deadlines;
pub(crate) mod peer;
