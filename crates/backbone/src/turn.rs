//! One turn of a node: what time it is, and what comes out.

use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::LogEntry;

use crate::hello::NodeHello;
use crate::log::{CallId, LogRequest, StoredBytes};
use crate::planted::{PlantedFault, is_planted};

/// What a node wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// The reply comes as [`crate::node::NodeEvent::Replied`].
    Log { call: CallId, request: LogRequest },
    /// Committed, and the next of all: show it.
    Apply { stored: StoredBytes, entry: LogEntry },
    /// What was before this entry cannot be had from the log, and no other node has it: go on with this entry. Clients are
    /// told what they miss.
    Jump { reason: JumpReason, stored: StoredBytes, entry: LogEntry },
    /// Ask the other nodes for a snapshot: [`crate::node::NodeEvent::SnapshotFound`] or
    /// [`crate::node::NodeEvent::NoSnapshot`]. One of the epoch `besides`, which is over, is of no use.
    AskSnapshot { besides: Option<u64> },
    /// The snapshot that was found fits the log here. A node that joins has shown nothing yet: what is retained in it
    /// counts from now on. After a hole, or in another epoch, go on after its offset: clients are told what they miss.
    TakeSnapshot { is_after_hole: bool },
    /// The snapshot that was found does not fit the log. If nothing of the log counts any more either, all of it follows
    /// again.
    DropSnapshot { begins_anew: bool },
    /// This node is the ingester of the term: connect to the feed, and append what comes.
    OpenFeed { term: u64 },
    /// Disconnect from the feed at once. What was not appended is dropped.
    CloseFeed,
    /// From now on answer pings for this term and for no other; for none, if there is none.
    Answer { term: Option<u64> },
    /// Ask whether anybody answers for this term: [`crate::node::NodeEvent::Pinged`].
    Ping { term: u64 },
    /// Tell the other nodes.
    Tell(NodeHello),
    /// All other nodes shall say [`NodeCommand::Tell`] now.
    AskHellos,
    /// Tell the ingester that the log has two histories.
    ReportFork { epoch: u64 },
    /// Whether clients may be sent here.
    Readiness(NodeReadiness),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpReason {
    /// The log begins later than the feed.
    Joined,
    /// Entries are missing in the log.
    Hole,
    /// Another epoch has begun.
    Epoch,
    /// The writer has begun its log anew, and goes on in the same epoch: what is shown already comes again at its offsets,
    /// and nothing is missing. Only a reader meets this.
    Restarted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeReadiness {
    Joining,
    Ready,
    /// Nobody answers for the log.
    LogDown,
    /// The log has two histories, and this node has the one that does not go on.
    Forked,
}

/// What comes out of turns, until it is taken.
#[derive(Debug, Default)]
pub struct Outbox {
    commands: Vec<NodeCommand>,
    calls: u64,
    /// How often the log was given again what it had lost.
    heals: u64,
    /// With a planted fault, the last entry that was shown too early: it is not shown again.
    shown: Option<Chain>,
}

impl Outbox {
    pub fn request(&mut self, request: LogRequest) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.push(NodeCommand::Log { call, request });
        call
    }

    /// The log has lost what it had confirmed, and is given it again.
    pub fn heal(&mut self) {
        self.heals += 1;
    }

    pub fn heals(&self) -> u64 {
        self.heals
    }

    pub fn push(&mut self, command: NodeCommand) {
        if let NodeCommand::Apply { entry, .. } = &command
            && is_planted(PlantedFault::ShownUncommitted)
            && self.shown.replace(entry.chain) == Some(entry.chain)
        {
            return;
        }
        self.commands.push(command);
    }

    pub fn take(&mut self) -> Vec<NodeCommand> {
        std::mem::take(&mut self.commands)
    }
}

pub struct Turn<'a> {
    /// Of a clock that only goes forward; its origin does not matter.
    pub now: Duration,
    /// Of the wall clock. It goes into entries, and decides nothing.
    pub wall_ms: u64,
    pub out: &'a mut Outbox,
}
