//! What the operator can do to a running server. `app` implements it with delivery and identity; the edge offers it.

use std::fmt;
use std::sync::Arc;

use crate::access::cluster_status::ClusterStatus;
use crate::access::identity::TokenId;
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};

/// The calls may wait for other threads: call them where it is allowed to block.
pub trait OperatorCalls: Send + Sync {
    /// Sessions by ascending number, at most `limit`, with numbers above `after`.
    fn sessions(&self, filter: SessionFilter, after: u64, limit: usize) -> Vec<SessionRow>;

    /// Gives an order to all sessions that are selected; returns how many it has reached within about two seconds.
    fn order(&self, selector: &SessionSelector, order: &SessionOrder) -> usize;

    /// Refuses credentials from now on, and ends the sessions that have them. Without an end, until the longest life of a
    /// credential is over.
    fn revoke(
        &self,
        credentials: RevokedCredentials,
        until_ms: Option<u64>,
    ) -> Result<RevocationOutcome, OperatorError>;

    /// The revocations in force, each with its end.
    fn revocations(&self) -> Vec<(RevokedCredentials, u64)>;

    /// Reads the configuration and the files that it names anew; live sessions follow.
    fn reload(&self) -> Result<ReloadOutcome, OperatorError>;

    /// Has the program that is on disk now take over; returns once it serves.
    ///
    /// # Errors
    /// It did not take over, and this server goes on.
    fn hand_over(&self) -> Result<HandoverOutcome, OperatorError>;

    /// How the cluster of this server stands, as far as it knows.
    ///
    /// # Errors
    /// The server is alone.
    fn cluster(&self) -> Result<ClusterStatus, OperatorError>;
}

/// Credentials that are not accepted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokedCredentials {
    Token(TokenId),
    /// Those issued before a moment, in milliseconds since the Unix epoch; none of issuer and subject: of any.
    IssuedBefore {
        issuer: Option<Arc<str>>,
        subject: Option<Arc<str>>,
        before_ms: u64,
    },
}

/// A revocation that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationOutcome {
    /// Its end, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Sessions that have ended for it, within about two seconds.
    pub sessions: usize,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// What was read anew, a word each.
    pub read: Vec<&'static str>,
    pub changed: Vec<ChangedSetting>,
    /// Settings that are as before until a restart.
    pub restart: Vec<String>,
    /// Of the configuration in force, in hexadecimal.
    pub digest: String,
}

/// What a hand-over did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoverOutcome {
    /// Number of the process that serves now.
    pub pid: u32,
}

/// A setting, or a table below `[auth]`, that is in force with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedSetting {
    pub name: String,
    /// Before and now, as in the file; none for a table.
    pub values: Option<(String, String)>,
}

impl fmt::Display for ReloadOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<String> = self.changed.iter().map(ToString::to_string).collect();
        let listed = |names: &[String]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
        write!(f, "read again: {}; changed: {}", self.read.join(", "), listed(&changed))?;
        write!(f, "; unchanged until a restart: {}; digest: {}", listed(&self.restart), self.digest)
    }
}

impl fmt::Display for ChangedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((before, now)) => write!(f, "{} from {before} to {now}", self.name),
            None => f.write_str(&self.name),
        }
    }
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
