//! Phases of a server's life, as the edge sees them.

/// A server begins with `Waiting` if another process still serves at its sockets, else with `Serving`. While it hands over
/// it is `Waiting` again, and then `Serving` (the other process has failed) or `Stopped`. A stop only moves downward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is accepted: connections wait in the kernel's queue, for this process or another. Those that were accepted
    /// are answered as while serving, and each ends with its answer.
    Waiting,
    Serving,
    /// Readiness is withdrawn and upgrades are refused; everything else is still answered.
    Draining,
    /// No connection is accepted any more.
    Stopped,
}

impl Phase {
    /// Whether connections are taken from the kernel's queue. One that is taken later than that nobody answers.
    pub fn accepts(self) -> bool {
        matches!(self, Phase::Serving | Phase::Draining)
    }

    /// Whether clients are sent elsewhere.
    pub fn is_stopping(self) -> bool {
        matches!(self, Phase::Draining | Phase::Stopped)
    }
}
