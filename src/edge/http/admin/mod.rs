//! `/admin/…`: what the operator can see and do, on the operator's listener alone.
//!
//! A page in the operator's browser can reach a port of the loopback, too. So whatever carries an `Origin` is refused, a
//! body must be declared as JSON (a form cannot do that), and the name in `Host` must be an address, `localhost` or one of
//! `http.allowed_hosts` (DNS rebinding). Only the page that this listener serves may read: a browser sends no `Origin` with
//! its `GET`, and says that it is of the same origin. With `admin.key_file` each call shows the key. Each call is an event of the audit
//! log.

mod bodies;
mod calls;
mod cluster_answer;
mod rows;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;

use crate::audit::event::{AuditEvent, AuditKind};
use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::origins::is_own_name;
use crate::edge::http::query::shown;
use crate::edge::listen::peer::WebClient;
use crate::edge::parts::AdminParts;

/// A call is a few texts; the longest is an issuer with a subject.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Reading the audit log takes a core for seconds.
const USAGES_MAX: usize = 1;
/// Lists cross the shards; more than a few at a time come from a loop that does not wait.
const CALLS_MAX: usize = 8;

/// Value of the `reason` label of `fanline_refusals_total`: not the operator, or not shown to be.
pub(in crate::edge) const REASON: &str = "admin";

/// The parts, and the bounds of calls at a time.
struct AdminContext {
    parts: AdminParts,
    answers: Arc<AnswerContext>,
    usages: Arc<Semaphore>,
    calls: Arc<Semaphore>,
}

/// The routes of the operator's listener.
pub(in crate::edge) fn routes(parts: AdminParts, answers: &Arc<AnswerContext>) -> Router<Arc<AnswerContext>> {
    let context = Arc::new(AdminContext {
        parts,
        answers: answers.clone(),
        usages: Arc::new(Semaphore::new(USAGES_MAX)),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
    });
    Router::new()
        .route("/admin/sessions", get(calls::sessions))
        .route("/admin/sessions/{number}", delete(calls::end_session))
        .route("/admin/ends", get(calls::ends))
        .route("/admin/disconnect", post(calls::disconnect))
        .route("/admin/revoke", post(calls::revoke))
        .route("/admin/revocations", get(calls::revocations))
        .route("/admin/reload", post(calls::reload))
        .route("/admin/handover", post(calls::hand_over))
        .route("/admin/usage", get(calls::usage))
        .route("/admin/cluster", get(calls::cluster))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(context.clone(), guard))
        .with_state(context)
}

/// Refuses what does not come from the operator; records every call with its outcome.
async fn guard(State(context): State<Arc<AdminContext>>, request: Request, next: Next) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path_and_query().map_or("", |path| path.as_str()));
    let peer = request.extensions().get::<WebClient>().and_then(|client| client.address);
    let response = match check(&context, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            context.answers.count_refusal(REASON);
            refusal.into_response()
        }
    };
    let event = AuditEvent::new(AuditKind::Admin).reason(&format!("{} {call}", response.status().as_u16()));
    context.answers.audit.record(match peer {
        Some(address) => event.address(address),
        None => event,
    });
    response
}

fn check(context: &AdminContext, request: &Request) -> Result<(), HttpRefusal> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) || is_of_another_page(request.method(), headers) {
        let message = "expected a program, found a web page (`Origin`); use `fanline admin` or another program";
        return Err(HttpRefusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_own_name(host) && !context.answers.terms.requests().visitors.lists_host(host) {
        let message = format!(
            "expected an IP address, `localhost` or a name of http.allowed_hosts, found `{}`; list it there to allow it",
            shown(host)
        );
        return Err(HttpRefusal::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message));
    }
    if let Some(key) = &context.parts.key
        && !headers.get(header::AUTHORIZATION).is_some_and(|shown| key.is_shown_by(shown.as_bytes()))
    {
        let message = "expected the key of admin.key_file as `Authorization: Bearer KEY`, found none or another";
        let refusal = HttpRefusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
        return Err(refusal.with(header::WWW_AUTHENTICATE, "Bearer"));
    }
    if request.method() == Method::POST && !is_json(headers) {
        let message = "expected a body with `Content-Type: application/json`";
        return Err(HttpRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_request", message));
    }
    Ok(())
}

/// Browsers say with each request, even with one without an `Origin`, where it comes from. `none`: typed by the user.
fn is_of_another_page(method: &Method, headers: &HeaderMap) -> bool {
    let Some(site) = headers.get("sec-fetch-site") else { return false };
    site != "none" && !(site == "same-origin" && method == Method::GET)
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
