//! What the operator can do to a running server. `app` implements it with delivery and identity; the edge offers it.

use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};

/// The calls may wait for other threads: call them where it is allowed to block.
pub trait Operator: Send + Sync {
    /// Sessions by ascending number, at most `limit`, with numbers above `after`.
    fn sessions(&self, filter: &SessionFilter, after: Option<u64>, limit: usize) -> Vec<SessionRow>;

    /// Gives an order to all sessions that are selected; returns how many, if that is known.
    fn order(&self, selector: SessionSelector, order: SessionOrder) -> Option<usize>;

    /// Refuses credentials from now on, and ends the sessions that have them. Without an end, until the longest life of a
    /// credential is over.
    fn revoke(&self, selector: SessionSelector, until_ms: Option<u64>) -> Result<Revoked, OperatorError>;

    /// The revocations in force.
    fn revocations(&self) -> Vec<Revocation>;

    /// Reads tiers, keys and certificates anew; live sessions follow. Returns what was read anew, a word each.
    fn reload(&self) -> Result<Vec<String>, OperatorError>;
}

/// Credentials that are not accepted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// A token, or those that were issued before some moment.
    pub selector: SessionSelector,
    /// When it is forgotten, since all such credentials have ended; in milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// What a revocation has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub until_ms: u64,
    /// Sessions that end, if that is known.
    pub sessions: Option<usize>,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The server has nothing of the kind, such as revocations without `[auth]`.
    #[error("{0}")]
    Unsupported(String),
    /// The order is wrong, or what it reads; what was in force stays.
    #[error("{0}")]
    Refused(String),
}
