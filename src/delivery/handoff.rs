//! What the edge hands over: a socket, and what was agreed on with its client.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::access::gatekeeper::Credential;
use crate::delivery::transport::client_socket::ClientSocket;
use crate::protocol::command::Policy;
use crate::protocol::encoding::{Format, Framing};
use crate::words::ids::{Cursor, Epoch};
use crate::words::topic::Pattern;
use shared_deflate::negotiate::Agreement;

/// What the edge agreed on with a client in the upgrade request.
#[derive(Default)]
pub struct SessionOptions {
    pub format: Format,
    /// What was agreed on for permessage-deflate, if it was.
    pub deflate: Option<Agreement>,
    /// None: the session is a WebSocket.
    pub stream: Option<StreamOptions>,
    pub policy: Policy,
    /// Pace of the whole connection; none for every frame.
    pub every: Option<Duration>,
    /// Checked patterns of the query; empty if the client will subscribe by command.
    pub patterns: Vec<Pattern>,
    /// The items that the patterns stand for, if the client speaks a dialect.
    pub items: Vec<String>,
    pub since: Option<Cursor>,
    /// The client's address, if it is known.
    pub address: Option<IpAddr>,
    /// Subject of the certificate that the client has shown.
    pub certificate: Option<Arc<str>>,
    /// The header `User-Agent`, if it is to be recorded.
    pub user_agent: Option<Box<str>>,
    /// What the client has shown in the request, and where; looked at once it has been greeted.
    pub presented: Presented,
    /// The server's own canary, which is no client: it has a grant of its own, and counts nowhere.
    pub is_canary: bool,
}

/// A stream of text.
pub struct StreamOptions {
    pub kind: StreamKind,
    /// Events are compressed.
    pub gzip: bool,
    /// The head of the answer, which is sent first.
    pub head: Bytes,
}

impl StreamOptions {
    /// How the frames of the log with this epoch stand in it.
    pub fn framing(&self, epoch: Epoch) -> Framing {
        match self.kind {
            StreamKind::Events if self.gzip => Framing::Gzip(epoch),
            StreamKind::Events => Framing::Events(epoch),
            StreamKind::Lines => Framing::Lines,
        }
    }
}

/// How messages stand in a stream of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// As server-sent events.
    Events,
    /// As lines of JSON.
    Lines,
}

/// What a client has shown of itself in the upgrade request.
#[derive(Default)]
pub struct Presented {
    pub credential: Option<Credential>,
    /// The header `Origin`.
    pub origin: Option<Box<str>>,
    /// It will show a credential as its first command, and `patterns` wait for that.
    pub promises_auth: bool,
    /// Its place among the sessions that have shown no credential, which it gives back once it has.
    pub waiting_place: Option<Box<dyn Any + Send>>,
}

/// A client's socket: the 101 response has been written, or nothing yet of a stream.
pub struct Handoff {
    pub socket: ClientSocket,
    /// What was read from the socket beyond the upgrade request.
    pub unread: Bytes,
    pub options: SessionOptions,
    /// Dropped with the session, such as its place in a count.
    pub permit: Option<Box<dyn Any + Send>>,
}
