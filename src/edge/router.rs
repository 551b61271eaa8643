//! Routes, and what all answers have in common: they are counted, and browsers must not guess their type.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use crate::edge::entrance::{agreement, canary, dialect, event_stream, log, websocket};
use crate::edge::http::admin;
use crate::edge::http::answer::{HttpRefusal, not_found};
use crate::edge::http::context;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::{credentials, health, metrics, origins, pages, poll, topics};
use crate::edge::parts::AdminParts;
use crate::words::metrics as names;

/// For everything but pages: shown as a page, it can do nothing.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Routes for everyone; `/metrics` only if `with_metrics`.
pub(in crate::edge) fn public(context: &Arc<AnswerContext>, with_metrics: bool) -> Router {
    for reason in
        [&agreement::REASONS[..], &origins::REASONS, &context::REASONS, &log::REASONS, &[admin::REASON, poll::REASON]]
            .concat()
    {
        context.meters.counter(&names::REFUSALS, &[("reason", reason)]).increment(0);
    }
    let router = Router::new()
        .route("/v1/ws", get(websocket::answer).options(origins::preflight))
        .route("/v1/log", get(log::answer))
        .route(canary::PATH, get(canary::answer))
        .route("/v1/sse", get(event_stream::answer).options(origins::preflight))
        .route("/v1/topics", get(topics::topics).options(origins::preflight))
        .route("/v1/snapshot", get(topics::snapshot).options(origins::preflight))
        .route("/v1/poll", get(poll::answer).options(origins::preflight))
        .route("/v1/ticket", post(credentials::ticket).options(origins::preflight))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/", get(pages::index))
        .route("/static/{*path}", get(pages::file));
    let router = if with_metrics { router.route("/metrics", get(metrics::public)) } else { router };
    let router = router.fallback(async |uri: Uri| not_found(&uri));
    let router = match &context.dialect {
        Some(_) => router.layer(middleware::from_fn_with_state(context.clone(), dialect::answer)),
        None => router,
    };
    let router = router.method_not_allowed_fallback(method_not_allowed);
    finished(router.layer(middleware::from_fn_with_state(context.clone(), origins::guard)), context)
}

/// Routes for the operator. No value of the feed: whoever may read those is decided elsewhere.
pub(in crate::edge) fn admin(context: &Arc<AnswerContext>, parts: Option<AdminParts>) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics::answer))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz_for_operator))
        .route("/", get(pages::index))
        .route("/static/{*path}", get(pages::file));
    let router = match parts {
        Some(parts) => router.merge(admin::routes(parts, context)),
        None => router,
    };
    let router = router.fallback(async |uri: Uri| not_found(&uri));
    let router = router.method_not_allowed_fallback(method_not_allowed);
    let router = router.layer(middleware::from_fn_with_state(context.clone(), origins::guard_operator));
    finished(router, context)
}

fn finished(router: Router<Arc<AnswerContext>>, context: &Arc<AnswerContext>) -> Router {
    router.layer(middleware::from_fn_with_state(context.clone(), finish)).with_state(context.clone())
}

async fn method_not_allowed(method: Method, uri: Uri) -> HttpRefusal {
    let expected = match uri.path() {
        "/v1/ticket" => "`POST`",
        path if path.starts_with("/admin/") => "that docs/ADMIN.md names for this path",
        _ => "`GET` or `HEAD`",
    };
    let message = format!("expected the method {expected}, found `{method}`");
    HttpRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Counts the answer and adds the headers of every answer.
async fn finish(State(context): State<Arc<AnswerContext>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let mut response = next.run(request).await;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
    }
    let labels = [("route", route), ("status", status.as_str())];
    context.meters.counter(&names::HTTP_REQUESTS, &labels).increment(1);
    response
}

/// Value of the `route` label: bounded, whatever paths are requested.
fn route(path: &str) -> &'static str {
    const EXACT: [&str; 12] = [
        "/v1/ws",
        "/v1/log",
        canary::PATH,
        "/v1/sse",
        "/v1/topics",
        "/v1/snapshot",
        "/v1/poll",
        "/v1/ticket",
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
    ];
    if path.starts_with("/static/") {
        return "/static";
    }
    if path.starts_with("/admin/") {
        return "/admin";
    }
    EXACT.into_iter().find(|exact| *exact == path).unwrap_or("other")
}
