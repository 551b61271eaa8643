//! The other end of a connection, as a request carries it.

use std::net::SocketAddr;

/// The address at the other end of the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Peer(pub SocketAddr);
