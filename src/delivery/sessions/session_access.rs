//! What a session may do, in whose name, and until when. It asks for nothing itself (`shard/authentication.rs`).

use std::any::Any;
use std::time::Duration;

use crate::access::grant::Grant;
use crate::access::identity::Identity;
use crate::delivery::lanes::lane_key::LaneTerms;
use crate::delivery::lanes::topic_filter::SharedFilter;
use crate::delivery::sessions::verification::{Outcome, Verification};
use crate::protocol::command::CommandId;
use crate::words::ids::Cursor;
use crate::words::topic::Pattern;

#[derive(Default)]
pub struct SessionAccess {
    /// None before the client has shown a credential, where one is required.
    grant: Option<Grant>,
    /// What the grant allows of the topics; none if all.
    filter: Option<SharedFilter>,
    /// The pace that the client has asked for; that in force may be slower.
    asked_every: Option<Duration>,
    /// None for a session that has never had to do with credentials.
    auth: Option<Box<SessionAuth>>,
}

/// What a session that has to do with credentials keeps.
#[derive(Default)]
pub struct SessionAuth {
    /// Its place among the sessions without a credential, given back once it has shown one.
    pub waiting_place: Option<Box<dyn Any + Send>>,
    /// What its query asks for, once it is admitted.
    pub waiting_query: Option<QueryTerms>,
    /// Its place among the sessions of its subject.
    pub place: Option<Box<dyn Any + Send>>,
    pub verification: Option<Verification>,
    /// When it ends at the latest, on the monotonic clock; 0 if its grant does not expire.
    pub ends_ns: u64,
    /// It has been told that its token expires.
    pub is_warned: bool,
}

/// A subscription in the query of the upgrade.
pub struct QueryTerms {
    pub patterns: Vec<Pattern>,
    pub since: Option<Cursor>,
}

impl SessionAccess {
    /// What the session has from the beginning; none where it must show a credential first.
    pub fn new(grant: Option<Grant>, filter: Option<SharedFilter>, asked_every: Option<Duration>) -> SessionAccess {
        SessionAccess { grant, filter, asked_every, auth: None }
    }

    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    pub fn identity(&self) -> Option<&Identity> {
        self.grant.as_ref()?.identity.as_deref()
    }

    /// The session may do what the grant says, from now on.
    pub fn set_grant(&mut self, grant: Grant, filter: Option<SharedFilter>) {
        (self.grant, self.filter) = (Some(grant), filter);
    }

    /// The fastest pace that the grant allows, if it bounds it.
    pub fn pace_min(&self) -> Option<Duration> {
        self.grant.as_ref()?.rights.pace_min
    }

    pub fn asked_every(&self) -> Option<Duration> {
        self.asked_every
    }

    pub fn ask_every(&mut self, every: Option<Duration>) {
        self.asked_every = every;
    }

    /// The terms of its lane, if it asks for this pace.
    pub fn terms(&self, asked_every: Option<Duration>) -> LaneTerms {
        LaneTerms { every: asked_every.max(self.pace_min()), filter: self.filter.clone() }
    }

    pub fn auth_mut(&mut self) -> Option<&mut SessionAuth> {
        self.auth.as_deref_mut()
    }

    pub fn auth_or_new(&mut self) -> &mut SessionAuth {
        self.auth.get_or_insert_default()
    }

    /// A credential is being verified, or the client has not been told the outcome.
    pub fn is_verifying(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.verification.is_some())
    }

    /// There is an outcome that the client has not been told.
    pub fn has_outcome(&self) -> bool {
        let verification = self.auth.as_ref().and_then(|auth| auth.verification.as_ref());
        verification.is_some_and(|verification| verification.outcome.is_some())
    }

    pub fn take_outcome(&mut self) -> Option<(Option<CommandId>, Outcome)> {
        let auth = self.auth.as_mut()?;
        let verification = auth.verification.take_if(|verification| verification.outcome.is_some())?;
        Some((verification.id, verification.outcome?))
    }
}
