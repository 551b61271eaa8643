//! What a node says to the log and to the other nodes, and what comes back.

use backbone::hello::NodeHello;
use backbone::log::{CallId, LogRequest};
use backbone::node::NodeEvent;
use tokio::sync::mpsc;

use crate::cluster::snapshots::PeerSnapshot;

/// What reaches the log and the other nodes.
pub trait Backbone: Send {
    fn request(&mut self, call: CallId, request: LogRequest);
    /// Whether anybody answers for the term.
    fn ping(&mut self, term: u64);
    /// From now on this node answers for the term; for none, if there is none.
    fn answer_for(&mut self, term: Option<u64>);
    fn tell(&mut self, hello: NodeHello);
    fn ask_hellos(&mut self);
    fn report_fork(&mut self, epoch: u64);
    /// Asks the other nodes for a snapshot, which comes as one of [`BackboneEvents::snapshots`]; one of the epoch `besides`
    /// is of no use.
    fn ask_snapshot(&mut self, besides: Option<u64>);
}

/// What comes from the log and the other nodes.
pub struct BackboneEvents {
    pub node: mpsc::Receiver<NodeEvent>,
    /// None if no node has one.
    pub snapshots: mpsc::Receiver<Option<PeerSnapshot>>,
}
