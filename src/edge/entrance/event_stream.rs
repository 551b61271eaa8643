//! `/v1/sse`: agrees with a client on a stream of events, and hands the connection over as that of a session.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use axum::response::IntoResponse;
use rand::RngExt;
use url::form_urlencoded;

use crate::delivery::handoff::{StreamKind, StreamOptions};
use crate::edge::entrance::agreement::{Agreed, Denial, admit, by_code};
use crate::edge::entrance::query::SessionQuery;
use crate::edge::http::ahead::catch_up_with;
use crate::edge::http::answer::{HttpRefusal, address_of, body};
use crate::edge::http::conditional::accepts_gzip;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::credentials::unauthenticated;
use crate::edge::listen::takeover::Takeover;
use crate::protocol::event_stream::{EventFields, FINAL_RETRY_MS, put_event};
use crate::protocol::server_message::ServerMessage;

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Who compresses a stream on its way holds its first events back.
const LIVE: HeaderValue = HeaderValue::from_static("no-cache, no-transform");
const PRIVATE: HeaderValue = HeaderValue::from_static("no-store, no-transform");
/// nginx passes on at once what it would gather otherwise.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
const LAST_EVENT_ID: &str = "last-event-id";

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
) -> Response<Body> {
    let kind = kind_of(request.headers());
    let gzip = context.terms.requests().compression && kind == StreamKind::Events && accepts_gzip(request.headers());
    if request.method() == Method::HEAD {
        return opening(&context, kind, gzip);
    }
    let (asked, last_event_id) = (request.uri().clone(), request.headers().get(LAST_EVENT_ID).cloned());
    catch_up_with(&context, asked.query(), last_event_id.as_ref().and_then(|id| id.to_str().ok())).await;
    match agree(&context, &request) {
        Ok(mut agreed) => {
            let mut response = opening(&context, kind, gzip);
            response.extensions_mut().insert(Takeover::new(move |mut taken| {
                agreed.options.stream = Some(StreamOptions { kind, gzip, head: std::mem::take(&mut taken.head) });
                agreed.begin(&context, taken);
            }));
            response
        }
        Err((reason, refusal)) => {
            context.refuse(address_of(&request), reason, &refusal);
            if wants_events(request.uri().query()) { as_event(&refusal) } else { refusal.into_response() }
        }
    }
}

fn agree(context: &AnswerContext, request: &Request<Body>) -> Result<Agreed, Denial> {
    let takes_credentials = context.gatekeeper.takes_credentials();
    let last_event_id = request.headers().get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()));
    let query = || {
        let (query, patterns_max) = (request.uri().query(), context.terms.requests().patterns_max);
        SessionQuery::of_stream(query, last_event_id.as_deref(), patterns_max, takes_credentials)
    };
    let agreed = admit(context, request, query, |_, _| Ok(()))?;
    if agreed.options.presented.credential.is_none() && context.gatekeeper.anonymous().is_none() {
        // It could not show one later.
        return Err(by_code(unauthenticated("Bearer")));
    }
    Ok(agreed)
}

fn kind_of(headers: &HeaderMap) -> StreamKind {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut types = lines.flat_map(|line| line.split(',')).map(|it| it.split(';').next().unwrap_or_default().trim());
    if types.any(|it| it.eq_ignore_ascii_case("application/x-ndjson")) { StreamKind::Lines } else { StreamKind::Events }
}

fn opening(context: &AnswerContext, kind: StreamKind, gzip: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, if kind == StreamKind::Lines { LINES } else { EVENTS });
    headers.insert(header::CACHE_CONTROL, if context.gatekeeper.takes_credentials() { PRIVATE } else { LIVE });
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(UNBUFFERED.0, UNBUFFERED.1);
    response
}

fn wants_events(query: Option<&str>) -> bool {
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    parameters.any(|(name, value)| name == "errors" && value == "events")
}

/// For pages, which see neither the status nor the body of a refusal, and would give up for good.
fn as_event(refusal: &HttpRefusal) -> Response<Body> {
    let retry_ms = match refusal.retry_after() {
        // Not all at the same moment.
        Some(wait) => rand::rng().random_range(wait.as_millis() as u64..=2 * wait.as_millis() as u64),
        None => FINAL_RETRY_MS,
    };
    let text = ServerMessage::Error { id: None, code: refusal.code, message: refusal.message() }.text();
    let mut out = Vec::new();
    put_event(&mut out, EventFields { name: Some("error"), id: None, retry_ms: Some(retry_ms) }, &text);
    let mut response = body(EVENTS, Body::from(out));
    response.headers_mut().insert(UNBUFFERED.0, UNBUFFERED.1);
    response
}
