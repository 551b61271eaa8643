//! Which sessions an order of the operator, a revocation or a changed configuration concerns.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::access::grant::Grant;
use crate::access::identity::TokenId;
use crate::words::goodbye::Goodbye;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSelector {
    All,
    /// The session with this number (`shard << 40 | serial`), as `GET /admin/sessions` shows it.
    Number(u64),
    Subject {
        /// None: of any issuer.
        issuer: Option<Arc<str>>,
        subject: Arc<str>,
    },
    Token(TokenId),
    Tier(Box<str>),
    /// Those whose token was issued before this moment, in milliseconds since the Unix epoch.
    IssuedBefore {
        issuer: Arc<str>,
        subject: Option<Arc<str>>,
        before_ms: u64,
    },
}

/// What becomes of the sessions that a selector selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOrder {
    /// They end. A client that may come back is told to wait for a random part of `spread`.
    End { goodbye: Goodbye, spread: Duration },
    /// Each is given what the gatekeeper allows it now, or ends.
    Reassess,
}

/// How many sessions an order has reached, once all shards have carried it out.
pub struct ReachedSessions(Receiver<usize>);

impl ReachedSessions {
    /// Of an order that goes to nobody.
    pub fn none() -> ReachedSessions {
        ReachedSessions(channel().1)
    }

    /// Each shard sends its part, and drops the sender.
    pub fn parts() -> (Sender<usize>, ReachedSessions) {
        let (part, parts) = channel();
        (part, ReachedSessions(parts))
    }

    /// Waits for all of them, for `patience` at most; then for how many it is known.
    pub fn wait(self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| self.0.recv_timeout(left()).ok()).sum()
    }
}

impl SessionSelector {
    pub fn selects(&self, number: u64, grant: &Grant) -> bool {
        let identity = grant.identity.as_deref();
        match self {
            SessionSelector::All => true,
            SessionSelector::Number(wanted) => *wanted == number,
            SessionSelector::Tier(tier) => grant.rights.tier == *tier,
            SessionSelector::Token(token) => identity.is_some_and(|identity| identity.token_id == *token),
            SessionSelector::Subject { issuer, subject } => identity.is_some_and(|identity| {
                identity.subject == *subject && issuer.as_ref().is_none_or(|issuer| identity.issuer == *issuer)
            }),
            SessionSelector::IssuedBefore { issuer, subject, before_ms } => identity.is_some_and(|identity| {
                identity.issuer == *issuer
                    && identity.issued_ms < *before_ms
                    && subject.as_ref().is_none_or(|subject| identity.subject == *subject)
            }),
        }
    }
}
