//! Floor 3, east wing: from the ring to the sockets.
//!
//! [`Delivery`] is the one door: the edge hands an upgraded socket to [`Delivery::adopt`], and from then on a shard
//! reads the client's commands and answers them itself.

use std::any::Any;
use std::net::TcpStream;

use bytes::Bytes;

use crate::wire::encode::Format;
use crate::words::ids::Cursor;
use crate::words::topic::Pattern;

/// What a session does when it has fallen behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// A short lag is replayed; a long one is skipped, and the latest values follow.
    #[default]
    Conflate,
    /// Replay as long as the ring holds what was missed.
    Lossless,
}

/// What the edge agreed on with a client in the upgrade request.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub format: Format,
    /// permessage-deflate was negotiated, without context takeover in both directions.
    pub deflate: bool,
    pub policy: Policy,
    /// Checked patterns of the query; empty if the client will subscribe by command.
    pub patterns: Vec<Pattern>,
    pub since: Option<Cursor>,
}

/// An upgraded socket: the 101 response has been written, nothing else.
#[derive(Debug)]
pub struct Newcomer {
    /// In non-blocking mode.
    pub socket: TcpStream,
    /// What was read from the socket beyond the upgrade request.
    pub unread: Bytes,
    pub terms: Terms,
    /// Counts the session against the edge's limits; dropped with the session, never looked into.
    pub permit: Option<Box<dyn Any + Send>>,
}
