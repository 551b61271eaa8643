//! What a command changed, and how that is answered.

use crate::protocol::command::CommandId;
use crate::protocol::encoding::Encoding;
use crate::protocol::server_message::{ServerMessage, Subscriptions};
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

pub enum CommandEffect {
    Subscribed {
        offset: Offset,
        /// The cursor to resume from was of another epoch: everything before is skipped.
        other_epoch: bool,
        /// Exact topics of the command without a message yet; none without `upstream.demand`.
        pending: Option<Vec<Pattern>>,
        /// The status of such topics, encoded.
        statuses: Vec<u8>,
    },
    Unsubscribed {
        offset: Offset,
    },
    /// The answer follows later.
    PassedOn,
    Pong,
}

impl CommandEffect {
    /// Appends the answer; `topics` are the patterns in force.
    pub fn put<'t>(
        &self,
        id: Option<&CommandId>,
        topics: impl Iterator<Item = &'t str>,
        (encoding, now): (Encoding, Stamp),
        out: &mut Vec<u8>,
    ) {
        match self {
            CommandEffect::Subscribed { offset, other_epoch, pending, statuses } => {
                let (topics, pending) = (&topics.collect::<Vec<&str>>(), pending.as_deref());
                let answer = Subscriptions { id, topics, offset: *offset, pending };
                ServerMessage::Subscribed { answer }.put(encoding, out);
                if *other_epoch {
                    ServerMessage::Skipped { from: Offset::START, to: *offset, reason: "epoch" }.put(encoding, out);
                }
                out.extend_from_slice(statuses);
            }
            CommandEffect::Unsubscribed { offset } => {
                let topics = &topics.collect::<Vec<&str>>();
                let answer = Subscriptions { id, topics, offset: *offset, pending: None };
                ServerMessage::Unsubscribed { answer }.put(encoding, out);
            }
            CommandEffect::PassedOn => {}
            CommandEffect::Pong => ServerMessage::Pong { id, ts: now.wall_ms }.put(encoding, out),
        }
    }
}
