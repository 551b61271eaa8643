//! One event of the audit log, without its place in the chain. Tokens are in none of them: of a token only the SHA-256 of
//! its `jti` is known here.
//!
//! | bound | at the bound |
//! |---|---|
//! | `TEXT_BYTES_MAX` per text, such as a user agent | the rest is cut off |
//! | `PATTERNS_BYTES_MAX` of patterns | further ones are counted in `patterns_more` |

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::access::grant::Grant;
use crate::access::identity::Identity;

/// Longer than any user agent of a browser (about 120), short enough that hostile ones do not fill the disk.
const TEXT_BYTES_MAX: usize = 512;
/// More than a hundred patterns of usual length.
const PATTERNS_BYTES_MAX: usize = 4096;

/// What has happened. The name in the log is that of the variant in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// The server has started: no session of an earlier line is open any more.
    Start,
    /// The server has stopped in good order.
    Stop,
    SessionOpen,
    /// A credential was accepted.
    Auth,
    /// A credential was refused; `reason` says why.
    AuthRefused,
    /// Patterns that are in force from now on.
    Subscribe,
    /// Patterns that are no longer in force.
    Unsubscribe,
    /// Patterns that a session asked for and may not have.
    Refuse,
    /// A single HTTP request for data.
    Query,
    /// A session has shown a newer credential of the same subject.
    Refresh,
    /// A session has reached the end of its credential.
    Expire,
    /// The rights of a live session have changed.
    RightsChange,
    /// The operator has ended sessions.
    Kick,
    /// The operator has revoked credentials.
    Revoke,
    SessionClose,
    ConfigChange,
    /// A call of the operator; `reason` is the call.
    Admin,
    /// The last line of the run before was not complete; its `bytes` were moved to a file of their own.
    Recovered,
    /// `frames` events were not recorded because the queue or the disk was full.
    Dropped,
    /// `frames` events of clients without an identity were left out, because they were too many.
    Omitted,
}

/// One event. Made by [`AuditEvent::new`], completed by its methods.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEvent {
    #[serde(rename = "event")]
    pub kind: AuditKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patterns_more: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<u64>,
    /// Requests that a `query` stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    queries: Option<u64>,
    /// Subject of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_digest: Option<Box<str>>,
}

impl AuditEvent {
    pub fn new(kind: AuditKind) -> AuditEvent {
        AuditEvent {
            kind,
            session: None,
            sub: None,
            iss: None,
            jti_sha256: None,
            tier: None,
            status: None,
            patterns: Vec::new(),
            patterns_more: None,
            delay_ms: None,
            address: None,
            user_agent: None,
            transport: None,
            bytes: None,
            frames: None,
            queries: None,
            certificate: None,
            reason: None,
            version: None,
            config_digest: None,
        }
    }

    /// The number of the session (`shard << 40 | serial`).
    pub fn session(mut self, number: u64) -> AuditEvent {
        self.session = Some(number);
        self
    }

    /// Who the session is and its tier.
    pub fn grant(mut self, grant: &Grant) -> AuditEvent {
        self.tier = Some(shortened(&grant.rights.tier));
        match &grant.identity {
            Some(identity) => self.identity(identity),
            None => self,
        }
    }

    pub fn identity(mut self, identity: &Identity) -> AuditEvent {
        self.sub = Some(shortened(&identity.subject));
        self.iss = Some(shortened(&identity.issuer));
        self.jti_sha256 = Some(hex::encode(identity.token_id.0).into());
        self.status = identity.status.as_deref().map(shortened);
        self
    }

    /// Patterns that are shown with one delay. A subscription with several delays is several events.
    pub fn patterns<'p>(mut self, patterns: impl IntoIterator<Item = &'p str>, delay: Duration) -> AuditEvent {
        self.delay_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        let mut bytes: usize = self.patterns.iter().map(|pattern| pattern.len()).sum();
        for pattern in patterns {
            if bytes + pattern.len() > PATTERNS_BYTES_MAX {
                *self.patterns_more.get_or_insert(0) += 1;
                continue;
            }
            bytes += pattern.len();
            self.patterns.push(pattern.into());
        }
        self
    }

    pub fn address(mut self, address: IpAddr) -> AuditEvent {
        self.address = Some(address);
        self
    }

    /// The header `User-Agent`.
    pub fn user_agent(mut self, text: &str) -> AuditEvent {
        self.user_agent = Some(shortened(text));
        self
    }

    /// What the session speaks, such as `websocket`.
    pub fn transport(mut self, name: &str) -> AuditEvent {
        self.transport = Some(shortened(name));
        self
    }

    /// What a session was sent.
    pub fn sent(mut self, frames: u64, bytes: u64) -> AuditEvent {
        (self.frames, self.bytes) = (Some(frames), Some(bytes));
        self
    }

    pub(super) fn queries(mut self, queries: u64) -> AuditEvent {
        self.queries = Some(queries);
        self
    }

    /// The subject of the certificate that the client has shown.
    pub fn certificate(mut self, subject: &str) -> AuditEvent {
        self.certificate = Some(shortened(subject));
        self
    }

    /// Why: a fixed word for what clients cause, a call for what the operator does. Never a token.
    pub fn reason(mut self, reason: &str) -> AuditEvent {
        self.reason = Some(shortened(reason));
        self
    }

    /// The version of the program and the SHA-256 of its configuration.
    pub fn version(mut self, version: &str, config_digest: &str) -> AuditEvent {
        (self.version, self.config_digest) = (Some(shortened(version)), Some(shortened(config_digest)));
        self
    }

    /// Whether its patterns are shown with this delay.
    pub(super) fn is_of_delay(&self, delay: Duration) -> bool {
        self.delay_ms.is_some_and(|known| u128::from(known) == delay.as_millis())
    }

    pub(super) fn has_pattern(&self, pattern: &str) -> bool {
        self.patterns.iter().any(|known| **known == *pattern)
    }

    /// Whether a client has caused it that has no identity. The end of a session is none of these: it is recorded if the
    /// opening was.
    pub(super) fn is_of_unidentified(&self) -> bool {
        let is_of_client = matches!(
            self.kind,
            AuditKind::SessionOpen
                | AuditKind::AuthRefused
                | AuditKind::Subscribe
                | AuditKind::Unsubscribe
                | AuditKind::Refuse
                | AuditKind::Query
        );
        is_of_client && self.sub.is_none()
    }

    pub(super) fn client_address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Memory that the event holds while it waits, at least.
    pub(super) fn weight(&self) -> usize {
        let texts = [
            &self.sub,
            &self.iss,
            &self.jti_sha256,
            &self.tier,
            &self.status,
            &self.user_agent,
            &self.transport,
            &self.certificate,
            &self.reason,
            &self.version,
            &self.config_digest,
        ];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let patterns: usize = self.patterns.iter().map(|pattern| pattern.len() + size_of::<Box<str>>()).sum();
        size_of::<AuditEvent>() + texts + patterns
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text, whole characters.
fn shortened(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_bounded_whatever_a_client_sends() {
        let agent = "é".repeat(10_000);
        let pattern = "a.b".repeat(100);
        let event = AuditEvent::new(AuditKind::Subscribe)
            .user_agent(&agent)
            .patterns((0..1000).map(|_| pattern.as_str()), Duration::from_secs(900));
        let text = serde_json::to_string(&event).expect("an event is JSON");
        assert!(text.len() < TEXT_BYTES_MAX + 2 * PATTERNS_BYTES_MAX, "{}", text.len());
        let more = 1000 - PATTERNS_BYTES_MAX / 300;
        assert!(text.contains(&format!("\"patterns_more\":{more},\"delay_ms\":900000")), "{text}");
        assert!(event.weight() > PATTERNS_BYTES_MAX - 300, "{}", event.weight());
    }
}
