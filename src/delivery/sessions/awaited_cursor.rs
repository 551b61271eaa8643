//! A `subscribe` that waits for its cursor: this server of a cluster has not shown yet what the client has seen elsewhere.

use std::time::Duration;

use crate::protocol::command::{CommandId, Policy};
use crate::words::ids::Cursor;
use crate::words::topic::Pattern;

/// The command, as the client has said it.
#[derive(Debug)]
pub struct SubscribeCommand {
    pub patterns: Vec<Pattern>,
    pub every: Option<Duration>,
    pub since: Option<Cursor>,
    pub policy: Option<Policy>,
    pub brief: bool,
}

/// What a session waits for.
#[derive(Debug)]
pub struct AwaitedCursor {
    pub command_id: Option<CommandId>,
    pub command: SubscribeCommand,
    pub since: Cursor,
    /// Then it is refused. On the monotonic clock.
    pub until_ns: u64,
}
