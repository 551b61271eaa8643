//! `/v1/ws`: agrees with a client on its session, upgrades the connection and hands the socket over.
//!
//! Nothing of an upgraded connection stays with tokio: the socket leaves its reactor, the tasks end, and bytes after the
//! request are handed over too.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;

use crate::access::rights::ViewId;
use crate::bus::feed_state::FeedState;
use crate::delivery::handoff::{Handoff, Presented, SessionOptions};
use crate::delivery::transport::client_socket::ClientSocket;
use crate::edge::entrance::handshake::Handshake;
use crate::edge::entrance::query::WsQuery;
use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::query::bad;
use crate::edge::listen::admission::{AdmissionLimit, Permit};
use crate::edge::listen::deadlines::TrackedSocket;
use crate::edge::listen::peer::{ClientCertificate, WebClient};
use crate::edge::phase::Phase;
use crate::protocol::command::resume_offset;
use crate::protocol::encoding::Format;
use crate::words::ids::Offset;

/// The negotiated session.
struct Agreed {
    handshake: Handshake,
    options: SessionOptions,
    permit: Permit,
    on_upgrade: OnUpgrade,
}

/// Every value of the `reason` label of `fanline_refusals_total`.
pub(in crate::edge) const REASONS: [&str; 17] = [
    "not_websocket",
    "bad_handshake",
    "draining",
    "bad_request",
    "bad_pattern",
    "too_many_patterns",
    "unknown_format",
    "unknown_policy",
    "bad_cursor",
    "bad_pace",
    "too_many_sessions",
    "too_many_sessions_per_address",
    "no_upgrade",
    "feed_stale",
    "audit_full",
    "token_in_url",
    "too_many_unauthenticated",
];

pub(in crate::edge) async fn answer(State(context): State<Arc<AnswerContext>>, mut request: Request<Body>) -> Response {
    match agree(&context, &mut request) {
        Ok(agreed) => {
            let Agreed { handshake, options, permit, on_upgrade } = agreed;
            tokio::spawn(hand_over(context, on_upgrade, options, permit));
            handshake.response()
        }
        Err((reason, refusal)) => {
            context.count_refusal(reason);
            refusal.into_response()
        }
    }
}

/// Refuses with the label for the metrics, and the answer. The permit is taken last, so that a refused client takes none.
fn agree(context: &AnswerContext, request: &mut Request<Body>) -> Result<Agreed, (&'static str, HttpRefusal)> {
    let by_code = |refusal: HttpRefusal| (refusal.code, refusal);
    let handshake = Handshake::read(request, context.compression).map_err(by_code)?;
    if *context.phase.borrow() != Phase::Serving {
        let message = "the server is stopping; connect to another one, or retry in a few seconds";
        let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message);
        return Err(by_code(refusal.with(header::RETRY_AFTER, "5")));
    }
    context.check_audit().map_err(by_code)?;
    let query = WsQuery::parse(request.uri().query(), context.patterns_max, context.gatekeeper.takes_credentials())
        .map_err(by_code)?;
    // What is answered before the upgrade is for everyone, so it says nothing of the live log that not everyone may see.
    let is_open = context.gatekeeper.anonymous().is_some_and(|grant| grant.rights.view == ViewId::LIVE);
    if is_open && query.format == Format::Raw && context.refuses_raw_when_stale {
        check_feed(context).map_err(by_code)?;
    }
    if let Some(since) = query.since.filter(|_| is_open && context.views.is_live_alone()) {
        // Delivery decides about cursors of other epochs, and about all where the client may be of another view.
        resume_offset(since, context.reader().epoch(), context.reader().head())
            .map_err(|refusal| by_code(bad(refusal)))?;
    }
    let (Some(on_upgrade), Some(&WebClient { address, .. })) =
        (request.extensions_mut().remove::<OnUpgrade>(), request.extensions().get::<WebClient>())
    else {
        let message = "expected a connection that can be upgraded, found one that cannot; use HTTP/1.1 throughout";
        return Err(("no_upgrade", HttpRefusal::bad("bad_handshake", message)));
    };
    let permit = context.admission.admit(address).map_err(|full| {
        let reason = match full {
            AdmissionLimit::Sessions { .. } => "too_many_sessions",
            AdmissionLimit::Address { .. } => "too_many_sessions_per_address",
        };
        let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions", full.to_string());
        (reason, refusal.with(header::RETRY_AFTER, "30"))
    })?;
    let (credential, origin) = context.find_credential(request, query.ticket);
    // A place among those without a credential, also while one is being verified.
    let waiting_place = match context.gatekeeper.anonymous() {
        Some(_) => None,
        None => Some(Box::new(context.waiting_room.enter().ok_or_else(|| no_waiting_place(context))?) as Box<_>),
    };
    let certificate = request.extensions().get::<ClientCertificate>().map(|shown| shown.0.clone());
    let user_agent = request.headers().get(header::USER_AGENT).filter(|_| context.audit.is_on());
    let options = SessionOptions {
        format: query.format,
        deflate: handshake.deflate(),
        policy: query.policy,
        every: query.every,
        patterns: query.patterns,
        since: query.since,
        address,
        certificate,
        user_agent: user_agent.and_then(|text| Some(text.to_str().ok()?.into())),
        presented: Presented { credential, origin, promises_auth: query.promises_auth, waiting_place },
    };
    Ok(Agreed { handshake, options, permit, on_upgrade })
}

fn no_waiting_place(context: &AnswerContext) -> (&'static str, HttpRefusal) {
    let message = format!(
        "expected fewer than {} sessions that have shown no valid token (auth.unauthenticated_max), found more; try again \
         in a second",
        context.waiting_room.max()
    );
    let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions", message);
    ("too_many_unauthenticated", refusal.with(header::RETRY_AFTER, "1"))
}

/// A raw client receives no server messages, so it would take the old prices of a stale feed for current ones. Before the
/// first frame there are none, and it waits.
fn check_feed(context: &AnswerContext) -> Result<(), HttpRefusal> {
    let feed = context.reader().feed();
    let FeedState::Stale { reason, .. } = &*feed else { return Ok(()) };
    if context.reader().head() == Offset::START {
        return Ok(());
    }
    let message = format!(
        "expected a live feed for `format=raw` (raw.on_stale), found it stale (`{}`); try again, or use \
         `format=envelope`, which reports it",
        reason.label()
    );
    let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "feed_stale", message);
    Err(refusal.with(header::RETRY_AFTER, "1"))
}

/// Waits until the 101 has been written, then takes the socket out of hyper and tokio.
async fn hand_over(context: Arc<AnswerContext>, on_upgrade: OnUpgrade, options: SessionOptions, permit: Permit) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a client left during its upgrade");
            return;
        }
    };
    match release(upgraded) {
        Ok((socket, unread)) => {
            (context.adopt)(Handoff { socket, unread, options, permit: Some(Box::new(permit)) });
        }
        Err(error) => tracing::warn!(%error, "an upgraded socket could not be handed over"),
    }
}

fn release(upgraded: Upgraded) -> std::io::Result<(ClientSocket, Bytes)> {
    let parts: Parts<TokioIo<TrackedSocket>> =
        upgraded.downcast().expect("the accept loop serves tracked sockets and nothing else");
    let (socket, unread) = parts.io.into_inner().into_stream().into_client_socket()?;
    // A copy, because the few bytes would keep hyper's whole read buffer alive; without bytes nothing is allocated.
    Ok((socket, [&parts.read_buf[..], &unread].concat().into()))
}
