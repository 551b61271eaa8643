//! `/v1/ws`: agrees with a client on its session, upgrades the connection and hands the socket over.
//!
//! Nothing of an upgraded connection stays with tokio: the socket leaves its reactor, the tasks end, and bytes after the
//! request are handed over too.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;

use crate::bus::feed_state::FeedState;
use crate::edge::entrance::agreement::{Agreed, Denial, admit, by_code};
use crate::edge::entrance::handshake::{Handshake, SUBPROTOCOL};
use crate::edge::entrance::query::SessionQuery;
use crate::edge::http::ahead::catch_up_with;
use crate::edge::http::answer::{HttpRefusal, address_of};
use crate::edge::http::context::AnswerContext;
use crate::edge::listen::takeover::Takeover;
use crate::protocol::encoding::Format;
use crate::words::ids::Offset;

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
) -> Response<Body> {
    let asked = request.uri().clone();
    catch_up_with(&context, asked.query(), None).await;
    let agreed = agree(&context, &request);
    upgraded(context, address_of(&request), agreed)
}

/// The answer to an upgrade, after which the connection is that of a session.
pub(super) fn upgraded(
    context: Arc<AnswerContext>,
    client: Option<IpAddr>,
    agreed: Result<(Handshake, Agreed), Denial>,
) -> Response<Body> {
    match agreed {
        Ok((handshake, agreed)) => {
            let mut response = handshake.response();
            response.extensions_mut().insert(Takeover::new(move |taken| agreed.begin(&context, taken)));
            response
        }
        Err((reason, refusal)) => {
            context.refuse(client, reason, &refusal);
            refusal.into_response()
        }
    }
}

fn agree(context: &AnswerContext, request: &Request<Body>) -> Result<(Handshake, Agreed), Denial> {
    let terms = context.terms.requests();
    let handshake = Handshake::read(request, (terms.compression, &[SUBPROTOCOL])).map_err(by_code)?;
    let takes_credentials = context.gatekeeper.takes_credentials();
    let query = || SessionQuery::of_websocket(request.uri().query(), terms.patterns_max, takes_credentials);
    let mut agreed = admit(context, request, query, |query, is_open| {
        if is_open && query.format == Format::Raw && terms.refuses_raw_when_stale {
            let word = |reason| {
                format!(
                    "expected a live feed for `format=raw` (raw.on_stale), found it stale (`{reason}`); try again, or use \
                     `format=envelope`, which reports it"
                )
            };
            check_feed(context, word).map_err(by_code)?;
        }
        Ok(())
    })?;
    agreed.options.deflate = handshake.deflate();
    Ok((handshake, agreed))
}

/// Refuses a client that receives no server messages, and would take the old prices of a stale feed for current ones.
/// Before the first frame there are none, and it waits.
pub(super) fn check_feed(
    context: &AnswerContext,
    word: impl FnOnce(&'static str) -> String,
) -> Result<(), HttpRefusal> {
    let feed = context.reader().feed();
    let FeedState::Stale { reason, .. } = &*feed else { return Ok(()) };
    if context.reader().head() == Offset::START {
        return Ok(());
    }
    let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "feed_stale", word(reason.label()));
    Err(refusal.with(header::RETRY_AFTER, "1"))
}
