//! How far the stop of the server has come, as the edge sees it.

/// How far a graceful stop has come. Only ever goes downward in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Readiness is withdrawn and upgrades are refused; everything else is still answered.
    Draining,
    /// Nothing is accepted any more.
    Stopped,
}
