//! `/v1/canary`: the server's own subscriber, which measures what a client sees.
//!
//! It takes the way of every client, through a listener, the upgrade and a shard, and is none: it has no place among the
//! sessions and no file of theirs, and shows a key that this process has made for it. Nobody else has that key, so for
//! everybody else there is nothing here; nor is there for the canary of another process that listens at the same socket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, header};
use axum::response::IntoResponse;

use crate::delivery::handoff::SessionOptions;
use crate::edge::entrance::agreement::adopt;
use crate::edge::entrance::handshake::{Handshake, SUBPROTOCOL};
use crate::edge::entrance::query::SessionQuery;
use crate::edge::http::answer::{HttpRefusal, not_found};
use crate::edge::http::context::AnswerContext;
use crate::edge::listen::takeover::{TakenConnection, Takeover};

pub(in crate::edge) const PATH: &str = "/v1/canary";

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
) -> Response<Body> {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    if !context.canary_key.as_ref().is_some_and(|key| key.is_shown_by(shown)) {
        return not_found(request.uri()).into_response();
    }
    match agree(&context, &request) {
        Ok((handshake, options)) => {
            let mut response = handshake.response();
            let begin = move |taken: TakenConnection| adopt(&context, (taken.socket, &taken.unread[..]), options, None);
            response.extensions_mut().insert(Takeover::new(begin));
            response
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn agree(context: &AnswerContext, request: &Request<Body>) -> Result<(Handshake, SessionOptions), HttpRefusal> {
    if context.phase.borrow().is_stopping() {
        return Err(HttpRefusal::draining());
    }
    let patterns_max = context.terms.requests().patterns_max;
    let query = SessionQuery::of_websocket(request.uri().query(), patterns_max, false)?;
    let handshake = Handshake::read(request, (false, &[SUBPROTOCOL]))?;
    Ok((handshake, SessionOptions { patterns: query.patterns, is_canary: true, ..SessionOptions::default() }))
}
