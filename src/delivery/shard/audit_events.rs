//! What the audit log records of sessions: who joined, what they may see and saw, and why they left.
//!
//! A session opens when it is adopted and closes when it is forgotten, once each, whatever views it has moved through. One
//! that is still here when the server stops closes with the line `stop`. Of a session without an identity whose opening
//! was left out, because there were too many, nothing is recorded until it has one.

use std::time::Duration;

use crate::access::grant::Grant;
use crate::access::pattern_delays::by_delay;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;
use crate::words::topic::Pattern;

impl<S: Socket> Shard<S> {
    /// Records that a session was adopted.
    pub(super) fn record_open(&mut self, id: SessionId, user_agent: Option<&str>) {
        if self.audit.is_on() {
            let session = &self.sessions[id];
            let mut event = event_of(session, session.access.grant(), AuditKind::SessionOpen);
            event = event.transport(session.transport().name());
            if let Some(subject) = &session.certificate {
                event = event.certificate(subject);
            }
            if let Some(user_agent) = user_agent {
                event = event.user_agent(user_agent);
            }
            self.sessions[id].is_recorded = self.audit.record(event);
        }
    }

    /// Records something with a reason, which is a fixed word.
    pub(super) fn record_reason(&self, id: SessionId, kind: AuditKind, reason: &'static str) {
        if let Some(session) = self.recorded(id) {
            self.audit.record(event_of(session, session.access.grant(), kind).reason(reason));
        }
    }

    /// Records what gives the session this grant.
    pub(super) fn record_grant(&self, id: SessionId, kind: AuditKind, grant: &Grant) {
        if self.audit.is_on() && (grant.identity.is_some() || self.recorded(id).is_some()) {
            self.audit.record(event_of(&self.sessions[id], Some(grant), kind));
        }
    }

    /// Records patterns that are in force, or are not any more, by the delay that the session's rights give them.
    pub(super) fn record_patterns(&self, id: SessionId, kind: AuditKind, patterns: &[Pattern]) {
        if let Some(session) = self.recorded(id)
            && let Some(grant) = session.access.grant()
        {
            for (delay, patterns) in by_delay(&grant.rights, patterns) {
                self.audit.record(event_of(session, Some(grant), kind).patterns(patterns, delay));
            }
        }
    }

    /// Records patterns of which the session's rights allow no topic.
    pub(super) fn record_forbidden(&self, id: SessionId, kind: AuditKind, patterns: &[Pattern]) {
        if let Some(session) = self.recorded(id).filter(|_| !patterns.is_empty()) {
            let event = event_of(session, session.access.grant(), kind).reason(Goodbye::Forbidden.label());
            self.audit.record(event.patterns(patterns.iter().map(Pattern::as_str), Duration::ZERO));
        }
    }

    /// Records that a session is gone.
    pub(super) fn record_close(&self, session: &Session<S>, goodbye: Goodbye) {
        if self.audit.is_on() && is_recorded(session) {
            let event = event_of(session, session.access.grant(), AuditKind::SessionClose);
            self.audit.record(event.reason(goodbye.label()));
        }
    }

    /// The session, if what it does is recorded.
    fn recorded(&self, id: SessionId) -> Option<&Session<S>> {
        self.audit.is_on().then(|| &self.sessions[id]).filter(|session| is_recorded(session))
    }
}

fn is_recorded<S>(session: &Session<S>) -> bool {
    session.is_recorded || session.access.identity().is_some()
}

fn event_of<S>(session: &Session<S>, grant: Option<&Grant>, kind: AuditKind) -> AuditEvent {
    let mut event = AuditEvent::new(kind).session(session.number);
    if let Some(grant) = grant {
        event = event.grant(grant);
    }
    match session.address {
        Some(address) => event.address(address),
        None => event,
    }
}

#[cfg(test)]
pub(super) mod tests;
