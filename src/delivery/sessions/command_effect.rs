//! What a command changed, and how that is answered.

use std::time::Duration;

use crate::delivery::chunk::{Chunk, Compression};
use crate::delivery::lanes::topic_filter::SharedFilter;
use crate::protocol::command::CommandId;
use crate::protocol::encoding::Encoding;
use crate::protocol::server_message::{DelayMs, InForce, RightsBounds, ServerMessage, Subscriptions, Within};
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// What rights leave of a subscription.
#[derive(Default)]
pub struct RightsLimits {
    /// Patterns of the command of which no topic is allowed.
    pub forbidden: Vec<Pattern>,
    /// What the wildcards in force are narrowed to.
    pub within: Option<SharedFilter>,
    /// The pace in force, where the rights bound it.
    pub every: Option<Duration>,
    /// How late its messages are; none if they are live.
    pub delay: Option<DelayMs>,
}

impl RightsLimits {
    pub fn bounds(&self) -> RightsBounds<'_> {
        RightsBounds {
            forbidden: Some(&*self.forbidden).filter(|forbidden| !forbidden.is_empty()),
            within: self.within.as_ref().map(within).unwrap_or_default(),
            every_ms: self.every.map(|every| every.as_millis() as u64),
            delay_ms: self.delay.as_ref(),
            reason: None,
        }
    }
}

/// What the filter narrows wildcards to, for the client.
pub fn within(filter: &SharedFilter) -> Within<'_> {
    Within { within: Some(filter.granted()), named: filter.named() }
}

pub enum CommandEffect {
    Subscribed {
        offset: Offset,
        /// The number of patterns in force, if that is enough.
        count: Option<usize>,
        /// Why the cursor to resume from is of no use, and everything before is skipped.
        skipped: Option<&'static str>,
        /// Exact topics of the command without a message yet; none without `upstream.demand`.
        pending: Option<Vec<Pattern>>,
        /// The status of such topics, encoded.
        statuses: Vec<u8>,
        /// The current values of the new topics; none if they follow by catch-up.
        values: Option<Chunk>,
        limits: RightsLimits,
    },
    Unsubscribed {
        offset: Offset,
        count: Option<usize>,
    },
    /// The answer follows later.
    PassedOn,
    Pong,
}

impl CommandEffect {
    /// Appends the answer, and what must follow it at once; `topics` are the patterns in force.
    pub fn put<'t>(
        &self,
        id: Option<&CommandId>,
        topics: impl Iterator<Item = &'t str>,
        (encoding, now): (Encoding, Stamp),
        out: &mut Vec<u8>,
    ) {
        match self {
            CommandEffect::Subscribed { offset, count, skipped, pending, statuses, values, limits } => {
                let listed = listed(*count, topics);
                let (in_force, pending) = (in_force(*count, &listed), pending.as_deref());
                let answer = Subscriptions { id, in_force, offset: *offset, pending, bounds: limits.bounds() };
                ServerMessage::Subscribed { answer }.put(encoding, out);
                if let Some(reason) = *skipped {
                    ServerMessage::Skipped { from: Offset::START, to: *offset, reason }.put(encoding, out);
                }
                out.extend_from_slice(statuses);
                out.extend_from_slice(values.as_ref().map_or(&[], |values| &values.bytes));
            }
            CommandEffect::Unsubscribed { offset, count } => {
                let listed = listed(*count, topics);
                let in_force = in_force(*count, &listed);
                let bounds = RightsBounds::default();
                let answer = Subscriptions { id, in_force, offset: *offset, pending: None, bounds };
                ServerMessage::Unsubscribed { answer }.put(encoding, out);
            }
            CommandEffect::PassedOn => {}
            CommandEffect::Pong => ServerMessage::Pong { id, ts: now.wall_ms }.put(encoding, out),
        }
    }

    /// Some of what the command asked for is not allowed.
    pub fn is_partial(&self) -> bool {
        matches!(self, CommandEffect::Subscribed { limits, .. } if !limits.forbidden.is_empty())
    }

    /// How what `put` appends is compressed, if values are among it.
    pub fn compression(&self) -> Option<Compression> {
        match self {
            CommandEffect::Subscribed { values: Some(values), .. } => Some(values.compression),
            _ => None,
        }
    }
}

/// The patterns to be listed: none if their number is enough.
fn listed<'t>(count: Option<usize>, topics: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    if count.is_some() { Vec::new() } else { topics.collect() }
}

fn in_force<'t>(count: Option<usize>, listed: &'t [&'t str]) -> InForce<'t> {
    count.map_or(InForce::Topics(listed), InForce::Count)
}
