//! Sessions as the operator sees them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::grant::Grant;
use crate::words::ids::Offset;

/// Patterns of a session that a row shows at most.
pub const ROW_PATTERNS_MAX: usize = 16;

/// Which sessions a list has; each part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of any issuer.
    pub subject: Option<Box<str>>,
    pub tier: Option<Box<str>>,
    /// A topic that they receive.
    pub topic: Option<Box<str>>,
}

/// One session at one moment.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Never given twice.
    pub number: u64,
    /// Whose it is, and its tier; none before its client has shown a credential, where that is required.
    pub grant: Option<Grant>,
    pub address: Option<IpAddr>,
    /// Subject of the certificate that the client has shown.
    pub certificate: Option<Arc<str>>,
    /// When it was adopted, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Some of its patterns, and how many it has.
    pub patterns: Vec<Box<str>>,
    pub patterns_count: usize,
    /// Offsets that it is behind the shard.
    pub lag: u64,
    /// The newest offset of the shard.
    pub offset: Offset,
    /// Bytes that its socket has not taken.
    pub unsent_bytes: usize,
    /// Such as `websocket`.
    pub transport: &'static str,
    pub state: SessionState,
}

/// How a session stands towards the live stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    InStep,
    Behind,
    /// It has shown no credential yet.
    Unauthenticated,
    Leaving,
}

impl SessionFilter {
    /// Whether the parts that concern the grant hold.
    pub fn admits(&self, grant: Option<&Grant>) -> bool {
        let subject = grant.and_then(|grant| grant.identity.as_ref()).map(|identity| &*identity.subject);
        let is_subject = self.subject.is_none() || self.subject.as_deref() == subject;
        is_subject && self.tier.as_deref().is_none_or(|tier| grant.is_some_and(|grant| *grant.rights.tier == *tier))
    }
}

impl SessionState {
    pub fn label(self) -> &'static str {
        match self {
            SessionState::InStep => "in_step",
            SessionState::Behind => "behind",
            SessionState::Unauthenticated => "unauthenticated",
            SessionState::Leaving => "leaving",
        }
    }
}
