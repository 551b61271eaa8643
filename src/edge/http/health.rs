//! `/healthz` and `/readyz`: whether the process works, and whether it has current values.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::access::gatekeeper::KeyTrouble;
use crate::bus::feed_state::FeedState;
use crate::edge::http::answer::json_of;
use crate::edge::http::context::AnswerContext;
use crate::edge::phase::Phase;

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    /// The part of the server without a sign of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    state: &'a str,
    reason: Option<&'a str>,
    /// Since when values may be outdated.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
    message: &'a str,
    /// Issuers whose tokens may be refused; on the operator's listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issuers: Vec<IssuerTrouble>,
}

#[derive(Serialize)]
struct IssuerTrouble {
    issuer: String,
    message: String,
}

/// A report about the feed, with `simulated` if its prices are invented; for a real feed nothing is added.
#[derive(Serialize)]
pub(in crate::edge) struct FeedReport<T> {
    #[serde(flatten)]
    pub report: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<bool>,
}

impl<T> FeedReport<T> {
    pub(crate) fn of(report: T, simulated: bool) -> FeedReport<T> {
        FeedReport { report, simulated: simulated.then_some(true) }
    }
}

/// Any answer shows that the edge works; the other parts are judged by their signs of life.
pub(in crate::edge) async fn healthz(State(context): State<Arc<AnswerContext>>) -> Response {
    let Some((part, age)) = context.vitals.missing().next() else {
        return json_of(StatusCode::OK, &Health { healthy: true, part: None, message: None });
    };
    let message =
        format!("no sign of life from `{part}` for {:.1} s; restart the server if this lasts", age.as_secs_f64());
    let health = Health { healthy: false, part: Some(part), message: Some(message) };
    json_of(StatusCode::SERVICE_UNAVAILABLE, &health)
}

/// Draining comes before the feed's state: a load balancer must stop sending clients, however live the feed is. So does
/// a part without a sign of life: the feed's state may then be out of date.
pub(in crate::edge) async fn readyz(State(context): State<Arc<AnswerContext>>) -> Response {
    report(&context, Vec::new())
}

/// The same with what is wrong with keys, which may name machines.
pub(in crate::edge) async fn readyz_for_operator(State(context): State<Arc<AnswerContext>>) -> Response {
    let troubles = context.gatekeeper.key_troubles().into_iter();
    report(&context, troubles.map(|KeyTrouble { issuer, message }| IssuerTrouble { issuer, message }).collect())
}

fn report(context: &AnswerContext, issuers: Vec<IssuerTrouble>) -> Response {
    let phase = *context.phase.borrow();
    let feed = context.reader().feed();
    let readiness = match (phase, &*feed) {
        (Phase::Draining | Phase::Stopped, _) => Readiness {
            ready: false,
            state: "draining",
            reason: Some("draining"),
            since_ms: None,
            message: "the server is stopping; send clients elsewhere",
            issuers: Vec::new(),
        },
        (Phase::Waiting | Phase::Serving, _) if context.vitals.missing().next().is_some() => Readiness {
            ready: false,
            state: "unhealthy",
            reason: Some("unhealthy"),
            since_ms: None,
            message: "a part of the server gives no sign of life; /healthz names it",
            issuers: Vec::new(),
        },
        // Clients are better sent where they are admitted.
        (Phase::Waiting | Phase::Serving, _) if !context.gatekeeper.admits_anybody() => Readiness {
            ready: false,
            state: "no_keys",
            reason: Some("no_keys"),
            since_ms: None,
            message: "no issuer has keys yet, so all tokens are refused; the log says why",
            issuers: Vec::new(),
        },
        (Phase::Waiting | Phase::Serving, FeedState::Connecting) => Readiness {
            ready: false,
            state: feed.label(),
            reason: Some("connecting"),
            since_ms: None,
            message: "no data has arrived from the feed yet",
            issuers: Vec::new(),
        },
        // Without clients there would never be data, so readiness must not keep clients away until there is some.
        (Phase::Waiting | Phase::Serving, FeedState::Idle { for_clients, message }) => Readiness {
            ready: *for_clients,
            state: feed.label(),
            reason: Some("idle"),
            message,
            since_ms: None,
            issuers: Vec::new(),
        },
        (Phase::Waiting | Phase::Serving, FeedState::Live) => Readiness {
            ready: true,
            state: feed.label(),
            reason: None,
            since_ms: None,
            message: "the feed is live",
            issuers: Vec::new(),
        },
        (Phase::Waiting | Phase::Serving, FeedState::Stale { reason, message, since_ms }) => Readiness {
            ready: false,
            state: feed.label(),
            reason: Some(reason.label()),
            since_ms: Some(*since_ms),
            message,
            issuers: Vec::new(),
        },
    };
    let readiness = Readiness { issuers, ..readiness };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_of(status, &FeedReport::of(readiness, context.simulated))
}
