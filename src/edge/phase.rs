//! Phases of the server's stop, as the edge sees them.

/// The phase of a graceful stop. It only moves downward in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Readiness is withdrawn and upgrades are refused; everything else is still answered.
    Draining,
    /// No connection is accepted any more.
    Stopped,
}
