//! The upgrade: from a request to a session.

pub(crate) mod handshake;
pub(crate) mod query;
pub(crate) mod websocket;
