//! From a request to a session: the upgrade to a WebSocket, and streams of events.

pub(crate) mod agreement;
pub(crate) mod canary;
pub(crate) mod dialect;
pub(crate) mod event_stream;
pub(crate) mod handshake;
pub(crate) mod log;
pub(crate) mod query;
pub(crate) mod websocket;
