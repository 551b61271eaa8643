//! Which path is answered by what, and what all answers have in common: they are counted, and never sniffed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::watch;

use crate::edge::answer::{Refusal, not_found};
use crate::edge::context::Context;
use crate::edge::{Phase, Rooms, Settings, health, metrics, pages, snapshot, upgrade};
use crate::words::metrics as names;

pub(super) fn build(settings: &Settings, rooms: Rooms, phase: watch::Receiver<Phase>) -> Router {
    for reason in upgrade::REASONS {
        rooms.meters.counter(&names::REFUSALS, &[("reason", reason)]).increment(0);
    }
    let context = Arc::new(Context::new(settings, rooms, phase));
    Router::new()
        .route("/v1/ws", get(upgrade::answer))
        .route("/v1/topics", get(snapshot::topics))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .route("/metrics", get(metrics::answer))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/", get(pages::index))
        .route("/static/{*path}", get(pages::file))
        .fallback(async |uri: Uri| not_found(&uri))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(context.clone(), finish))
        .with_state(context)
}

async fn method_not_allowed(method: Method) -> Refusal {
    let message = format!("expected the method `GET` or `HEAD`, found `{method}`");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Counts the answer and adds what every answer has.
async fn finish(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches!(route, "/v1/topics" | "/v1/snapshot" | "/static") {
        // Public data without credentials: pages of other origins may read it.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    let status = response.status();
    let labels = [("route", route), ("status", status.as_str())];
    context.meters.counter(&names::HTTP_REQUESTS, &labels).increment(1);
    response
}

/// Value of the `route` label: bounded, whatever paths are asked for.
fn route(path: &str) -> &'static str {
    const EXACT: [&str; 7] = ["/v1/ws", "/v1/topics", "/v1/snapshot", "/metrics", "/healthz", "/readyz", "/"];
    if path.starts_with("/static/") {
        return "/static";
    }
    EXACT.into_iter().find(|exact| *exact == path).unwrap_or("other")
}
