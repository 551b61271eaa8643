//! What the operator's calls answer, as JSON.

use std::net::IpAddr;

use serde::Serialize;

use crate::access::end_row::EndRow;
use crate::access::operator::{ChangedSetting, HandoverOutcome, ReloadOutcome, RevokedCredentials};
use crate::access::session_row::SessionRow;
use crate::audit::usage::{AuditUsage, GroupUsage};

#[derive(Serialize)]
pub(super) struct SessionsAnswer {
    pub sessions: Vec<SessionAnswer>,
    /// For `after`, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct SessionAnswer {
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    since_ms: u64,
    patterns: Vec<Box<str>>,
    patterns_count: usize,
    lag: u64,
    unsent_bytes: usize,
    transport: &'static str,
    state: &'static str,
}

impl SessionAnswer {
    pub(super) fn new(row: SessionRow) -> SessionAnswer {
        let identity = row.grant.as_ref().and_then(|grant| grant.identity.as_ref());
        SessionAnswer {
            number: row.number,
            sub: identity.map(|identity| identity.subject.to_string()),
            iss: identity.map(|identity| identity.issuer.to_string()),
            status: identity.and_then(|identity| identity.status.as_deref().map(str::to_owned)),
            jti_sha256: identity.map(|identity| hex::encode(identity.token_id.0)),
            expires_ms: identity.map(|identity| identity.expires_ms),
            tier: row.grant.as_ref().map(|grant| grant.rights.tier.to_string()),
            address: row.address,
            certificate: row.certificate.map(|subject| subject.to_string()),
            since_ms: row.since_ms,
            patterns: row.patterns,
            patterns_count: row.patterns_count,
            lag: row.lag,
            unsent_bytes: row.unsent_bytes,
            transport: row.transport,
            state: row.state.label(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct EndsAnswer<'r> {
    pub ends: Vec<&'r EndRow>,
}

/// Of an order.
#[derive(Serialize)]
pub(super) struct OrderAnswer {
    pub ordered: bool,
    /// Those that it has reached.
    pub sessions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct ReloadAnswer {
    reloaded: Vec<&'static str>,
    changed: Vec<ChangeAnswer>,
    restart: Vec<String>,
    digest: String,
}

#[derive(Serialize)]
struct ChangeAnswer {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<String>,
}

impl ReloadAnswer {
    pub(super) fn new(outcome: ReloadOutcome) -> ReloadAnswer {
        let ReloadOutcome { read, changed, restart, digest } = outcome;
        let changes = changed.into_iter().map(|ChangedSetting { name, values }| {
            let (before, now) = values.unzip();
            ChangeAnswer { name, before, now }
        });
        ReloadAnswer { reloaded: read, changed: changes.collect(), restart, digest }
    }
}

#[derive(Serialize)]
pub(super) struct HandoverAnswer {
    handed_over: bool,
    pid: u32,
}

impl HandoverAnswer {
    pub(super) fn new(outcome: HandoverOutcome) -> HandoverAnswer {
        HandoverAnswer { handed_over: true, pid: outcome.pid }
    }
}

#[derive(Serialize)]
pub(super) struct RevocationsAnswer {
    pub revocations: Vec<RevocationAnswer>,
}

#[derive(Default, Serialize)]
pub(super) struct RevocationAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before_ms: Option<u64>,
    until_ms: u64,
}

impl RevocationAnswer {
    pub(super) fn new((credentials, until_ms): (RevokedCredentials, u64)) -> RevocationAnswer {
        let empty = RevocationAnswer { until_ms, ..RevocationAnswer::default() };
        match credentials {
            RevokedCredentials::Token(token) => RevocationAnswer { jti_sha256: Some(hex::encode(token.0)), ..empty },
            RevokedCredentials::IssuedBefore { issuer, subject, before_ms } => RevocationAnswer {
                iss: issuer.map(|issuer| issuer.to_string()),
                sub: subject.map(|subject| subject.to_string()),
                issued_before_ms: Some(before_ms),
                ..empty
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct UsageAnswer {
    from: String,
    to: String,
    subjects: usize,
    sessions: u64,
    queries: u64,
    peak_sessions: usize,
    peak_sessions_of_one: usize,
    groups: Vec<GroupAnswer>,
}

#[derive(Serialize)]
struct GroupAnswer {
    tier: Box<str>,
    status: Box<str>,
    /// Absent: of all patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    patterns: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    subjects: usize,
    peak_sessions: usize,
    peak_sessions_of_one: usize,
    first_day: String,
    last_day: String,
}

impl UsageAnswer {
    pub(super) fn new(from: String, to: String, usage: AuditUsage) -> UsageAnswer {
        let total = usage.total;
        UsageAnswer {
            from,
            to,
            subjects: total.subjects,
            sessions: total.sessions,
            queries: total.queries,
            peak_sessions: total.peak_sessions,
            peak_sessions_of_one: total.peak_sessions_of_one,
            groups: usage.groups.into_iter().map(GroupAnswer::new).collect(),
        }
    }
}

impl GroupAnswer {
    fn new(group: GroupUsage) -> GroupAnswer {
        let (patterns, delay_ms) = group.key.patterns.unzip();
        GroupAnswer {
            tier: group.key.tier,
            status: group.key.status,
            patterns,
            delay_ms,
            subjects: group.subjects,
            peak_sessions: group.peak_sessions,
            peak_sessions_of_one: group.peak_sessions_of_one,
            first_day: group.span.first.to_string(),
            last_day: group.span.last.to_string(),
        }
    }
}
