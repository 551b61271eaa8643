//! The peer address of a connection, as requests carry it.

use std::net::SocketAddr;

/// The peer address of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Peer(pub SocketAddr);
