//! The operator's calls, one function each.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::access::end_journal::EndQuery;
use crate::access::operator::{OperatorCalls, OperatorError, RevocationOutcome, RevokedCredentials};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::SessionFilter;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::audit::files;
use crate::audit::usage::{Period, count};
use crate::edge::http::admin::AdminContext;
use crate::edge::http::admin::bodies::{self, DisconnectBody, HandoverBody, ReloadBody, RevokeBody, bad};
use crate::edge::http::admin::cluster_answer::ClusterAnswer;
use crate::edge::http::admin::rows::{
    EndsAnswer, HandoverAnswer, OrderAnswer, ReloadAnswer, RevocationAnswer, RevocationsAnswer, SessionAnswer,
    SessionsAnswer, UsageAnswer,
};
use crate::edge::http::answer::{HttpRefusal, json_of};
use crate::edge::http::query::parameters;
use crate::words::goodbye::Goodbye;

/// Rows of one answer, if nothing is said, and at most.
const ROWS: usize = 100;
const ROWS_MAX: usize = 1000;
/// Ends, if nothing is said.
const ENDS: usize = 20;

type CallContext = State<Arc<AdminContext>>;
type CallResult = Result<Response, HttpRefusal>;

pub(super) async fn sessions(State(context): CallContext, uri: Uri) -> CallResult {
    let mut filter = SessionFilter::default();
    let (mut limit, mut after) = (ROWS, 0);
    for (name, value) in parameters(uri.query(), &["sub", "tier", "topic", "limit", "after"])? {
        match name {
            "sub" => filter.subject = Some(value.into()),
            "tier" => filter.tier = Some(value.into()),
            "topic" => filter.topic = Some(value.into()),
            "limit" => limit = number(name, &value, 1, ROWS_MAX as u64)? as usize,
            _ => after = number(name, &value, 0, u64::MAX)?,
        }
    }
    let rows = ask(&context, move |operator| operator.sessions(filter, after, limit)).await?;
    let next = if rows.len() >= limit { rows.last().map(|row| row.number) } else { None };
    Ok(json_of(StatusCode::OK, &SessionsAnswer { sessions: rows.into_iter().map(SessionAnswer::new).collect(), next }))
}

pub(super) async fn ends(State(context): CallContext, uri: Uri) -> CallResult {
    let (mut query, mut limit) = (EndQuery::default(), ENDS);
    for (name, value) in parameters(uri.query(), &["session", "address", "sub", "limit"])? {
        match name {
            "session" => query.session = Some(number(name, &value, 0, u64::MAX)?),
            "address" => {
                let address = value.parse().map_err(|_| bad("expected `address` as an IP address, without a port"))?;
                query.address = Some(address);
            }
            "sub" => query.subject = Some(value.into()),
            _ => limit = number(name, &value, 1, ROWS_MAX as u64)? as usize,
        }
    }
    let journal = context.answers.journal.clone();
    let ends = on_a_thread(&context.calls, move || journal.find(&query, limit)).await?;
    Ok(json_of(StatusCode::OK, &EndsAnswer { ends: ends.iter().map(|row| &**row).collect() }))
}

pub(super) async fn end_session(State(context): CallContext, Path(text): Path<String>, uri: Uri) -> CallResult {
    let mut reconnect_ms = None;
    for (name, value) in parameters(uri.query(), &["reconnect_ms"])? {
        reconnect_ms = Some(number(name, &value, 0, u64::MAX)?);
    }
    let session = number("number", &text, 0, u64::MAX)?;
    let order = SessionOrder::End { goodbye: Goodbye::Kicked, spread: bodies::spread(reconnect_ms)? };
    context.answers.audit.record(AuditEvent::new(AuditKind::Kick).session(session).reason("admin"));
    give(&context, SessionSelector::Number(session), order).await
}

pub(super) async fn disconnect(State(context): CallContext, body: Bytes) -> CallResult {
    let body: DisconnectBody = bodies::read(&body)?;
    let selector = body.selector()?;
    let order = SessionOrder::End { goodbye: body.goodbye(), spread: body.spread()? };
    context.answers.audit.record(concerning(AuditKind::Kick, &selector));
    give(&context, selector, order).await
}

pub(super) async fn revoke(State(context): CallContext, body: Bytes) -> CallResult {
    let body: RevokeBody = bodies::read(&body)?;
    let (credentials, until_ms) = (body.credentials()?, body.until_ms);
    let event = AuditEvent::new(AuditKind::Revoke).reason(&described(&credentials));
    let revoked = ask(&context, move |operator| operator.revoke(credentials, until_ms)).await?;
    let RevocationOutcome { until_ms, sessions } = revoked.map_err(refused)?;
    context.answers.audit.record(event);
    Ok(json_of(StatusCode::OK, &OrderAnswer { ordered: true, sessions, until_ms: Some(until_ms) }))
}

pub(super) async fn revocations(State(context): CallContext) -> CallResult {
    let revocations = ask(&context, |operator| operator.revocations()).await?;
    let revocations = revocations.into_iter().map(RevocationAnswer::new).collect();
    Ok(json_of(StatusCode::OK, &RevocationsAnswer { revocations }))
}

pub(super) async fn reload(State(context): CallContext, body: Bytes) -> CallResult {
    if !body.is_empty() {
        bodies::read::<ReloadBody>(&body)?;
    }
    let outcome = ask(&context, |operator| operator.reload()).await?.map_err(refused)?;
    Ok(json_of(StatusCode::OK, &ReloadAnswer::new(outcome)))
}

pub(super) async fn hand_over(State(context): CallContext, body: Bytes) -> CallResult {
    if !body.is_empty() {
        bodies::read::<HandoverBody>(&body)?;
    }
    let outcome = ask(&context, |operator| operator.hand_over()).await?.map_err(refused)?;
    Ok(json_of(StatusCode::OK, &HandoverAnswer::new(outcome)))
}

pub(super) async fn cluster(State(context): CallContext) -> CallResult {
    let status = ask(&context, |operator| operator.cluster()).await?.map_err(refused)?;
    Ok(json_of(StatusCode::OK, &ClusterAnswer::new(status)))
}

pub(super) async fn usage(State(context): CallContext, uri: Uri) -> CallResult {
    let (mut from, mut to) = (None, None);
    for (name, value) in parameters(uri.query(), &["from", "to"])? {
        match name {
            "from" => from = Some(value),
            _ => to = Some(value),
        }
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(bad("expected the days `from` and `to`, as in `?from=2027-01-01&to=2027-01-31`"));
    };
    let period = Period::between(&from, &to).map_err(|error| bad(error.to_string()))?;
    let Some(dir) = context.parts.audit_dir.clone() else {
        let message = "expected an audit log, found none; set audit.dir";
        return Err(HttpRefusal::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let counting = move || count(&files::expand(&[dir])?, period);
    let counted = on_a_thread(&context.usages, counting).await?;
    let usage = counted.map_err(|error| {
        tracing::warn!(%error, "usage could not be counted");
        HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    })?;
    Ok(json_of(StatusCode::OK, &UsageAnswer::new(period.first.to_string(), period.last.to_string(), usage)))
}

async fn give(context: &AdminContext, selector: SessionSelector, order: SessionOrder) -> CallResult {
    let sessions = ask(context, move |operator| operator.order(&selector, &order)).await?;
    Ok(json_of(StatusCode::OK, &OrderAnswer { ordered: true, sessions, until_ms: None }))
}

async fn ask<T: Send + 'static>(
    context: &AdminContext,
    call: impl FnOnce(&dyn OperatorCalls) -> T + Send + 'static,
) -> Result<T, HttpRefusal> {
    let operator = context.parts.operator.clone();
    on_a_thread(&context.calls, move || call(&*operator)).await
}

/// Runs what may block, a bounded number at a time.
async fn on_a_thread<T: Send + 'static>(
    bound: &Arc<Semaphore>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HttpRefusal> {
    let Ok(permit) = bound.clone().try_acquire_owned() else {
        let message = "expected fewer calls of this kind at a time; try again in a second";
        let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        return Err(refusal.with(header::RETRY_AFTER, "1"));
    };
    // The call goes on if the client leaves, and counts until it has ended.
    let counted = move || {
        let _permit = permit;
        call()
    };
    tokio::task::spawn_blocking(counted).await.map_err(|_| {
        let message = "the call could not be completed; the log says why";
        HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })
}

fn refused(error: OperatorError) -> HttpRefusal {
    match error {
        OperatorError::Unsupported(message) => HttpRefusal::new(StatusCode::NOT_FOUND, "not_found", message),
        OperatorError::Refused(message) => HttpRefusal::new(StatusCode::CONFLICT, "refused", message),
    }
}

fn described(credentials: &RevokedCredentials) -> String {
    match credentials {
        RevokedCredentials::Token(token) => format!("admin: jti_sha256 {}", hex::encode(token.0)),
        RevokedCredentials::IssuedBefore { issuer, subject, before_ms } => {
            let (issuer, subject) = (issuer.as_deref().unwrap_or("anybody"), subject.as_deref().unwrap_or("anybody"));
            format!("admin: issued before {before_ms} by {issuer} for {subject}")
        }
    }
}

/// The event of an order: whom it concerns is in its reason, since it is not the one who acts.
fn concerning(kind: AuditKind, selector: &SessionSelector) -> AuditEvent {
    let event = AuditEvent::new(kind);
    match selector {
        SessionSelector::All => event.reason("admin: all"),
        SessionSelector::Number(number) => event.session(*number).reason("admin"),
        SessionSelector::Tier(tier) => event.reason(&format!("admin: tier {tier}")),
        SessionSelector::Token(token) => event.reason(&format!("admin: jti_sha256 {}", hex::encode(token.0))),
        SessionSelector::Subject { issuer, subject } => {
            event.reason(&format!("admin: sub {subject} of {}", issuer.as_deref().unwrap_or("any issuer")))
        }
        SessionSelector::IssuedBefore { issuer, subject, before_ms } => event.reason(&format!(
            "admin: issued before {before_ms} by {issuer} for {}",
            subject.as_deref().unwrap_or("anybody")
        )),
    }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, HttpRefusal> {
    text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        let bounds = if max == u64::MAX { format!("from {min}") } else { format!("from {min} to {max}") };
        bad(format!("expected `{name}` as an integer {bounds}"))
    })
}
