//! What the audit log records of sessions: who joined, what they may see and saw, and why they left.
//!
//! A session opens when it is adopted and closes when it is forgotten, once each, whatever views it has moved through. One
//! that is still here when the server stops closes with the line `stop`.

use std::time::Duration;

use crate::access::grant::Grant;
use crate::access::rights::{GrantedPattern, GrantedTopics, Rights};
use crate::audit::event::{AuditEvent, AuditKind};
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;
use crate::words::topic::Pattern;

impl<S: Socket> Shard<S> {
    /// Records that a session was adopted.
    pub(super) fn record_open(&self, id: SessionId, user_agent: Option<&str>) {
        if self.audit.is_on() {
            let session = &self.sessions[id];
            let event = event_of(session, session.access.grant(), AuditKind::SessionOpen);
            let event = event.transport(session.transport().name());
            self.audit.record(match user_agent {
                Some(user_agent) => event.user_agent(user_agent),
                None => event,
            });
        }
    }

    /// Records something with a reason, which is a fixed word.
    pub(super) fn record_reason(&self, id: SessionId, kind: AuditKind, reason: &'static str) {
        if self.audit.is_on() {
            let session = &self.sessions[id];
            self.audit.record(event_of(session, session.access.grant(), kind).reason(reason));
        }
    }

    /// Records what gives the session this grant.
    pub(super) fn record_grant(&self, id: SessionId, kind: AuditKind, grant: &Grant) {
        if self.audit.is_on() {
            self.audit.record(event_of(&self.sessions[id], Some(grant), kind));
        }
    }

    /// Records patterns that are in force, or are not any more, by the delay that the session's rights give them.
    pub(super) fn record_patterns(&self, id: SessionId, kind: AuditKind, patterns: &[Pattern]) {
        if self.audit.is_on() {
            let session = &self.sessions[id];
            let Some(grant) = session.access.grant() else { return };
            for (delay, patterns) in by_delay(&grant.rights, patterns) {
                self.audit.record(event_of(session, Some(grant), kind).patterns(patterns, delay));
            }
        }
    }

    /// Records patterns of which the session's rights allow no topic.
    pub(super) fn record_forbidden(&self, id: SessionId, kind: AuditKind, patterns: &[Pattern]) {
        if self.audit.is_on() && !patterns.is_empty() {
            let session = &self.sessions[id];
            let event = event_of(session, session.access.grant(), kind).reason(Goodbye::Forbidden.label());
            self.audit.record(event.patterns(patterns.iter().map(Pattern::as_str), Duration::ZERO));
        }
    }

    /// Records that a session is gone.
    pub(super) fn record_close(&self, session: &Session<S>, goodbye: Goodbye) {
        if self.audit.is_on() {
            let event = event_of(session, session.access.grant(), AuditKind::SessionClose);
            self.audit.record(event.reason(goodbye.label()));
        }
    }
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

/// The patterns by the delay of what they show. A wildcard that shows topics with several delays is under each of them.
fn by_delay<'p>(rights: &Rights, patterns: &'p [Pattern]) -> Vec<(Duration, Vec<&'p str>)> {
    let mut found: Vec<(Duration, Vec<&'p str>)> = Vec::new();
    for pattern in patterns {
        for delay in delays_of(rights, pattern) {
            match found.iter_mut().find(|(known, _)| *known == delay) {
                Some((_, patterns)) => patterns.push(pattern.as_str()),
                None => found.push((delay, vec![pattern.as_str()])),
            }
        }
    }
    found
}

fn delays_of(rights: &Rights, pattern: &Pattern) -> Vec<Duration> {
    let granted = match &rights.topics {
        GrantedTopics::All => return vec![Duration::ZERO],
        GrantedTopics::Matching(granted) | GrantedTopics::Narrowed { within: granted, .. } => granted,
    };
    if pattern.is_exact() {
        return rights.topics.delay_of(pattern.as_str()).into_iter().collect();
    }
    let mut delays = Vec::new();
    for GrantedPattern { pattern: allowed, delay } in granted.iter().filter(|it| it.pattern.overlaps(pattern)) {
        if !delays.contains(delay) {
            delays.push(*delay);
        }
        if covers(allowed, pattern) {
            // Nothing is left for those that follow.
            break;
        }
    }
    delays
}

/// Whether all topics of a wildcard match the pattern: it has wildcards wherever the other one has.
fn covers(pattern: &Pattern, wildcard: &Pattern) -> bool {
    let is_open = |pattern: &Pattern| pattern.as_str().ends_with('>');
    pattern.matches(wildcard.as_str()) && (is_open(pattern) || !is_open(wildcard))
}

#[cfg(test)]
pub(super) mod tests;
