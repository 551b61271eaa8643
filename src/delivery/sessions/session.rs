//! One client: a socket, a lane, a cursor. Its memory is a constant, whatever the client does.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::bus::demand::interest::AddressShare;
use crate::delivery::catch_up::path::{CatchUp, Compression};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::client_requests::SessionRequests;
use crate::protocol::command::Policy;
use crate::protocol::encoding::Format;
use crate::wire::frame::Decoder;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;

/// What a shard needs of a socket: non-blocking reads and writes, and an end.
pub trait Socket: Read + Write {
    /// Tells the peer that nothing more will come (TCP FIN).
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// Where a session stands towards its lane.
pub enum SyncState {
    /// It has been sent everything up to the lane's position; `seat` is its place in `Lane::in_step`.
    InStep { seat: u32 },
    /// In step, and on board of the lane's shared window; `seat` is its slot in `SharedWindow::members`.
    Boarded { seat: u32 },
    /// It has been sent everything up to `cursor`, which its paced lane reaches with the next flush; `seat` is its
    /// place in `Pace::ahead`.
    Ahead { seat: u32, cursor: Offset },
    /// It stands elsewhere and is being brought to the lane's position.
    Behind(Box<CatchUp>),
    /// It is on no lane any more.
    Leaving(Box<SessionEnd>),
}

/// What is left of a session that ends: to say goodbye, and to wait for the client's end of it.
pub struct SessionEnd {
    pub goodbye: Goodbye,
    pub deadline_ns: u64,
    pub said: bool,
    /// What is to be sent after what is unsent: a notice, a close frame.
    pub tail: Bytes,
}

impl SyncState {
    /// It has been sent all that there is for it.
    pub fn is_settled(&self) -> bool {
        matches!(self, SyncState::InStep { .. } | SyncState::Boarded { .. } | SyncState::Ahead { .. })
    }
}

pub struct Session<S> {
    pub socket: S,
    pub decoder: Decoder,
    pub lane: LaneId,
    pub standing: SyncState,
    /// Bytes the socket has not taken yet: the rest of one chunk or of one batch of answers.
    pub unsent: Bytes,
    /// What `unsent` is, for the metrics.
    pub unsent_form: Compression,
    /// Since when the socket takes nothing; 0 while it does. Nanoseconds of the monotonic clock, as all `…_ns`.
    pub blocked_ns: u64,
    /// When the client was last heard.
    pub heard_ns: u64,
    /// When a ping was sent that is not answered yet; 0 if none was.
    pub pinged_ns: u64,
    /// The socket may have bytes to read; nobody has looked since.
    pub readable: bool,
    /// It stands in the shard's queue.
    pub queued: bool,
    /// It waits to be heard, in a queue of its own.
    pub unheard: bool,
    /// `unsent` is counted among what the shard holds (`unsent`).
    pub held: bool,
    /// It was said of this second that it is throttled.
    pub told_throttled: bool,
    /// Messages taken from the client since the sweep last came by, about a second ago, and their bytes, inflated.
    pub messages: u32,
    pub message_bytes: u32,
    /// Memory of the decoder, as it is counted among what the shard holds (`inbound`).
    pub inbound_bytes: u32,
    /// When the first byte came of what the decoder holds; 0 if it holds nothing.
    pub inbound_ns: u64,
    /// What it has asked of the upstream; none if nothing is open.
    pub asking: Option<Box<SessionRequests>>,
    /// The version of the feed's state that the client was told.
    pub feed_told: u32,
    pub format: Format,
    pub policy: Policy,
    /// `since` is possible only in the first subscription.
    pub has_subscribed: bool,
    /// Something was said of topics that it awaits while it was behind.
    pub owed_sayings: bool,
    /// Its topics, where they are counted for its address.
    pub share: Option<Box<AddressShare>>,
}

impl<S> Session<S> {
    /// Whether commands may be read: never while there is something else to send, so that answers need no queue.
    pub fn takes_commands(&self) -> bool {
        self.unsent.is_empty() && self.standing.is_settled()
    }
}
