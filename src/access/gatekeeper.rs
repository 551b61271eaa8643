//! How sessions and requests get their grants.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access::grant::Grant;
use crate::access::identity::Identity;
use crate::words::goodbye::Goodbye;

/// Decides what clients may do. Shared by the edge and all shards.
pub trait Gatekeeper: Send + Sync {
    /// What a client has that has shown no credential. None: nothing, until it has shown one.
    fn anonymous(&self) -> Option<Grant>;

    /// Verifies a credential. Returns at once; the reply may come from another thread, and comes always.
    fn authenticate(&self, request: AuthRequest, reply: AuthReply);

    /// Whether there are identities at all. Without, clients that show credentials are treated like all others.
    fn takes_credentials(&self) -> bool {
        true
    }

    /// What is wrong with the keys that credentials are verified with, for the operator.
    fn key_troubles(&self) -> Vec<KeyTrouble> {
        Vec::new()
    }

    /// Whether anybody could be admitted now, with the best credential or without one.
    fn admits_anybody(&self) -> bool {
        true
    }

    /// Exchanges a token for a one-time ticket that pages of this origin may put into a URL. Returns at once, as
    /// `authenticate` does. `address` is that of the client.
    fn issue_ticket(&self, token: Box<str>, address: Option<IpAddr>, origin: Option<Box<str>>, reply: TicketReply);

    /// What a live session may do from now on, after tiers, keys or revocations have changed.
    fn reassess(&self, grant: &Grant) -> Result<Grant, AuthRefusal>;
}

/// Why tokens of an issuer may be refused, or will be soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTrouble {
    pub issuer: String,
    pub message: String,
}

/// Takes the verdict about a credential.
pub type AuthReply = Box<dyn FnOnce(Result<Admitted, AuthRefusal>) + Send>;

/// Takes a ticket, or why there is none.
pub type TicketReply = Box<dyn FnOnce(Result<Box<str>, AuthRefusal>) + Send>;

/// A credential, and who shows it where.
pub struct AuthRequest {
    pub credential: Credential,
    pub address: Option<IpAddr>,
    /// The header `Origin`: a ticket is bound to it.
    pub origin: Option<Box<str>>,
    /// The identity that the session has so far: a refresh must be of the same subject, and takes no further seat.
    pub current: Option<Arc<Identity>>,
    /// The number of the session that is to be counted for the subject; a single HTTP request is not counted.
    pub session: Option<u64>,
}

/// What a client shows. Its text is in no log: it has no `Debug` that would show it.
pub enum Credential {
    /// A JWT.
    Token(Box<str>),
    /// A one-time ticket that a JWT was exchanged for.
    Ticket(Box<str>),
}

/// A verified client.
pub struct Admitted {
    pub grant: Grant,
    /// Its place among the sessions of its subject, given back by the drop; none for a refresh or a single request.
    pub place: Option<Box<dyn Any + Send>>,
}

/// Why a client was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthRefusal {
    /// How its session ends.
    pub goodbye: Goodbye,
    /// For the audit log and the metrics, never for the client: one of a few fixed words.
    pub reason: &'static str,
}

/// Admits everyone to everything: a server without `[auth]`.
pub struct Open;

impl Gatekeeper for Open {
    fn anonymous(&self) -> Option<Grant> {
        Some(Grant::unlimited())
    }

    fn takes_credentials(&self) -> bool {
        false
    }

    fn authenticate(&self, _request: AuthRequest, reply: AuthReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "no_issuer" }));
    }

    fn issue_ticket(&self, _: Box<str>, _: Option<IpAddr>, _: Option<Box<str>>, reply: TicketReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "no_tickets" }));
    }

    fn reassess(&self, grant: &Grant) -> Result<Grant, AuthRefusal> {
        Ok(grant.clone())
    }
}
