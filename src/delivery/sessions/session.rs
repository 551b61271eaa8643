//! One client: a socket, a transport, a lane, a cursor. Its memory is a constant, whatever the client does.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::demand::interest::AddressShare;
use crate::delivery::catch_up::CatchUp;
use crate::delivery::chunk::Compression;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::awaited_cursor::AwaitedCursor;
use crate::delivery::sessions::dialect_session::DialectSession;
use crate::delivery::sessions::pending_requests::SessionRequests;
use crate::delivery::sessions::session_access::SessionAccess;
use crate::delivery::sessions::sync_state::{SessionEnd, SyncState};
use crate::delivery::transport::session_transport::SessionTransport;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::Policy;
use crate::protocol::encoding::{Encoding, Format};
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Epoch, Offset};
use crate::words::stamp::Stamp;

/// Times are nanoseconds of the monotonic clock (`…_ns`); 0 is never.
pub struct Session<S> {
    pub(super) socket: S,
    pub(super) transport: SessionTransport,
    pub(super) lane: LaneId,
    pub(super) state: SyncState,
    /// Bytes the socket has not taken yet: the rest of one chunk or of one batch of answers.
    pub(super) unsent: Bytes,
    /// What `unsent` is, for the metrics.
    pub(super) unsent_compression: Compression,
    /// `unsent` is counted among what the shard holds.
    pub(super) unsent_counted: bool,
    /// It is in the shard's queue.
    pub(super) is_queued: bool,
    /// It is in the queue of those with unread messages.
    pub(super) awaits_hearing: bool,
    /// Since when the socket takes nothing.
    pub(super) blocked_ns: u64,
    /// Messages read from the client since the last sweep, about a second ago, and their bytes, inflated.
    pub(super) messages: u32,
    pub(super) message_bytes: u32,
    /// Memory of what the client has begun to send, as it is counted among what the shard holds.
    pub(super) inbound_bytes: u32,
    /// When its first byte arrived.
    pub(super) inbound_ns: u64,
    /// The socket may have bytes to read; it was not looked at since.
    pub readable: bool,
    /// It was counted in this second that it is throttled.
    pub counted_throttled: bool,
    /// When the client was last heard.
    pub heard_ns: u64,
    /// When a ping was sent that is not answered yet.
    pub pinged_ns: u64,
    /// Its client requests; none if nothing is open.
    pub requests: Option<Box<SessionRequests>>,
    /// The version of the feed's state that the client has received.
    pub feed_version: u32,
    /// Never given twice.
    pub number: u64,
    /// When it was adopted.
    pub joined: Stamp,
    pub address: Option<IpAddr>,
    /// Subject of the certificate that the client has shown.
    pub certificate: Option<Arc<str>>,
    /// Its opening is in the audit log, so its end has to be.
    pub is_recorded: bool,
    /// The server's own, which counts nowhere.
    pub is_canary: bool,
    /// What the client may do.
    pub access: SessionAccess,
    pub format: Format,
    pub policy: Policy,
    /// `since` is only allowed in the first subscription.
    pub has_subscribed: bool,
    /// Times it was not sent every frame.
    pub skips: u32,
    /// There is a new status of a topic that it names, which it has not received because it was behind.
    pub owed_status: bool,
    /// The count of its topics, where they are counted for its address.
    pub share: Option<Box<AddressShare>>,
    /// Its first `subscribe`, while that waits for its cursor.
    pub awaited_cursor: Option<Box<AwaitedCursor>>,
    /// Only if the client speaks a dialect.
    pub dialect: Option<Box<DialectSession>>,
}

impl<S: Socket> Session<S> {
    /// A client that has joined, at the shard's cursor and not on a lane yet.
    pub fn new(
        socket: S,
        transport: SessionTransport,
        options: &SessionOptions,
        (number, access): (u64, SessionAccess),
        (cursor, now): (Offset, Stamp),
    ) -> Self {
        Session {
            socket,
            transport,
            lane: LaneId(0),
            state: SyncState::Behind(Box::new(CatchUp::at(cursor))),
            unsent: Bytes::new(),
            unsent_compression: Compression::Plain,
            unsent_counted: false,
            is_queued: false,
            awaits_hearing: false,
            blocked_ns: 0,
            messages: 0,
            message_bytes: 0,
            inbound_bytes: 0,
            inbound_ns: 0,
            readable: true,
            counted_throttled: false,
            heard_ns: now.mono_ns,
            pinged_ns: 0,
            requests: None,
            feed_version: 0,
            number,
            joined: now,
            address: options.address,
            certificate: options.certificate.clone(),
            is_recorded: false,
            is_canary: options.is_canary,
            access,
            format: options.format,
            policy: options.policy,
            has_subscribed: false,
            skips: 0,
            owed_status: false,
            share: None,
            awaited_cursor: None,
            dialect: None,
        }
    }

    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    pub fn state(&self) -> &SyncState {
        &self.state
    }

    pub fn lane(&self) -> LaneId {
        self.lane
    }

    pub fn transport(&self) -> &SessionTransport {
        &self.transport
    }

    /// It is sent frames of another log from here on.
    pub fn enter(&mut self, epoch: Epoch) {
        self.transport.enter(epoch);
    }

    /// Its client can say nothing, pongs included.
    pub fn is_mute(&self) -> bool {
        !self.transport.takes_commands()
    }

    /// Its client knows no message of the server's own, because it speaks a dialect.
    pub fn is_told_nothing(&self) -> bool {
        self.format.is_form()
    }

    /// The encoding of its messages.
    pub fn encoding(&self) -> Encoding {
        Encoding { format: self.format, framing: self.transport.framing(), deflated: false }
    }

    /// How the session catches up, if it is behind.
    pub fn catch_up_mut(&mut self) -> Option<&mut CatchUp> {
        match &mut self.state {
            SyncState::Behind(catch_up) => Some(catch_up),
            _ => None,
        }
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.state, SyncState::Leaving(_))
    }

    /// Whether commands may be read: never while there is something else to send, so that answers need no queue, nor
    /// before it is known what the client may do, or while its `subscribe` waits.
    pub fn takes_commands(&self) -> bool {
        self.is_clear() && !self.access.is_verifying() && self.awaited_cursor.is_none()
    }

    /// It is in step, or ahead, and nothing waits to be sent.
    pub fn is_clear(&self) -> bool {
        !self.has_unsent() && self.state.is_settled()
    }

    /// Its socket has not taken everything that was sent.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || self.socket.has_unsent()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// What the socket has not taken yet.
    #[cfg(test)]
    pub fn unsent(&self) -> &Bytes {
        &self.unsent
    }

    /// Since when the socket takes nothing; 0 while it does.
    pub fn blocked_ns(&self) -> u64 {
        self.blocked_ns
    }

    /// Why and until when the session leaves, if it does.
    pub fn end_mut(&mut self) -> Option<&mut SessionEnd> {
        match &mut self.state {
            SyncState::Leaving(end) => Some(end),
            _ => None,
        }
    }

    /// Its connection must be replaced by a new one.
    pub fn is_worn_out(&self) -> bool {
        self.socket.is_worn_out()
    }

    /// Ends the sending half of the connection.
    pub fn shutdown_write(&mut self) {
        // A peer that is gone already is found by the read that follows.
        let _ = self.socket.shutdown_write();
        self.readable = true;
    }

    /// Why it leaves, if it does.
    pub fn goodbye(&self) -> Option<Goodbye> {
        match &self.state {
            SyncState::Leaving(end) => Some(end.goodbye),
            _ => None,
        }
    }
}
