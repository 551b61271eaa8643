//! `/healthz` and `/readyz`: whether the process works, and whether it has current values to give.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::bus::feed::FeedState;
use crate::edge::Phase;
use crate::edge::answer::json_of;
use crate::edge::context::Context;

#[derive(Serialize)]
struct Health {
    healthy: bool,
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
}

/// An answer at all is the message.
pub(super) async fn healthz() -> Response {
    json_of(StatusCode::OK, &Health { healthy: true })
}

/// Draining comes before the feed's state: a load balancer must stop sending clients, however live the feed is.
pub(super) async fn readyz(State(context): State<Arc<Context>>) -> Response {
    let phase = *context.phase.borrow();
    let feed = context.reader.feed();
    let readiness = match (phase, &*feed) {
        (Phase::Draining | Phase::Stopped, _) => Readiness {
            ready: false,
            state: "draining",
            reason: Some("draining"),
            since_ms: None,
            message: "the server is stopping; send clients elsewhere",
        },
        (Phase::Serving, FeedState::Connecting) => Readiness {
            ready: false,
            state: feed.label(),
            reason: Some("connecting"),
            since_ms: None,
            message: "no data have come from the upstream yet",
        },
        (Phase::Serving, FeedState::Live) => {
            Readiness { ready: true, state: feed.label(), reason: None, since_ms: None, message: "the feed is live" }
        }
        (Phase::Serving, FeedState::Stale { reason, message, since_ms }) => Readiness {
            ready: false,
            state: feed.label(),
            reason: Some(reason.label()),
            since_ms: Some(*since_ms),
            message,
        },
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_of(status, &readiness)
}
