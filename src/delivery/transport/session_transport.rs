//! The transports there are.

use std::ops::{Deref, DerefMut};

use crate::delivery::transport::ClientTransport;
use crate::delivery::transport::event_stream::EventStream;
use crate::delivery::transport::websocket::WebSocket;

/// One of them, for one session. Its content is inline: a client costs no allocation more.
pub enum SessionTransport {
    WebSocket(WebSocket),
    EventStream(EventStream),
}

impl Deref for SessionTransport {
    type Target = dyn ClientTransport;

    fn deref(&self) -> &(dyn ClientTransport + 'static) {
        match self {
            SessionTransport::WebSocket(transport) => transport,
            SessionTransport::EventStream(transport) => transport,
        }
    }
}

impl DerefMut for SessionTransport {
    fn deref_mut(&mut self) -> &mut (dyn ClientTransport + 'static) {
        match self {
            SessionTransport::WebSocket(transport) => transport,
            SessionTransport::EventStream(transport) => transport,
        }
    }
}
