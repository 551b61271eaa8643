//! What is agreed on with a client before its session, whatever the session speaks.

use std::any::Any;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use crate::access::rights::ViewId;
use crate::delivery::handoff::{Handoff, Presented, SessionOptions};
use crate::edge::entrance::query::SessionQuery;
use crate::edge::http::answer::{HttpRefusal, client_of};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::query::bad;
use crate::edge::listen::admission::{AdmissionLimit, Permit};
use crate::edge::listen::client_files::ClientFile;
use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::peer::ClientCertificate;
use crate::edge::listen::takeover::TakenConnection;
use crate::protocol::command::resume_offset;

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
    "feed_stale",
    "audit_full",
    "token_in_url",
    "too_many_unauthenticated",
    "unauthenticated",
];

/// A session that may begin.
pub(in crate::edge) struct Agreed {
    pub options: SessionOptions,
    permit: Permit,
}

/// A refusal, and its label for the metrics.
pub(in crate::edge) type Denial = (&'static str, HttpRefusal);

pub(in crate::edge) fn by_code(refusal: HttpRefusal) -> Denial {
    (refusal.code, refusal)
}

impl Agreed {
    /// The connection belongs to the session from here on.
    pub(crate) fn begin(self, context: &AnswerContext, taken: TakenConnection) {
        let Agreed { options, permit } = self;
        let file = taken.file.map(ClientFile::into_session);
        adopt(context, (taken.socket, &taken.unread[..]), options, Some(Box::new((permit, file))));
    }
}

/// Hands the socket of a session over, with what was read from it beyond the request.
pub(super) fn adopt(
    context: &AnswerContext,
    (socket, unread): (ClientStream, &[u8]),
    options: SessionOptions,
    permit: Option<Box<dyn Any + Send>>,
) {
    match socket.into_client_socket() {
        Ok((socket, held)) => {
            let unread = [unread, &held].concat().into();
            (context.adopt)(Handoff { socket, unread, options, permit });
        }
        Err(error) => tracing::warn!(%error, "an upgraded socket could not be handed over"),
    }
}

/// Refuses with the label for the metrics, and the answer. The permit is taken last, so that a refused client takes none.
/// `check` is given the query, and whether everyone may see the live log.
pub(in crate::edge) fn admit(
    context: &AnswerContext,
    request: &Request<Body>,
    query: impl FnOnce() -> Result<SessionQuery, HttpRefusal>,
    check: impl FnOnce(&SessionQuery, bool) -> Result<(), Denial>,
) -> Result<Agreed, Denial> {
    if context.phase.borrow().is_stopping() {
        return Err(by_code(HttpRefusal::draining()));
    }
    context.check_audit().map_err(by_code)?;
    let query = query().map_err(by_code)?;
    // What is answered before the session is for everyone, so it says nothing of the live log that not everyone may see.
    let is_open = context.gatekeeper.anonymous().is_some_and(|grant| grant.rights.view == ViewId::LIVE);
    check(&query, is_open)?;
    if let Some(since) = query.since.filter(|_| is_open && context.views.is_live_alone()) {
        // Delivery decides about cursors of other epochs, and about all where the client may be of another view.
        let reader = context.reader();
        resume_offset(since, reader.epoch(), reader.head()).map_err(|refusal| by_code(bad(refusal)))?;
    }
    let address = client_of(request).map_err(by_code)?.address;
    let permit = context.terms.admission.admit(address).map_err(|full| {
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
        None => Some(Box::new(context.terms.waiting_room.enter().ok_or_else(|| no_waiting_place(context))?) as Box<_>),
    };
    let certificate = request.extensions().get::<ClientCertificate>().map(|shown| shown.0.clone());
    let user_agent = request.headers().get(header::USER_AGENT).filter(|_| context.audit.is_on());
    let options = SessionOptions {
        format: query.format,
        deflate: None,
        stream: None,
        policy: query.policy,
        every: query.every,
        patterns: query.patterns,
        items: Vec::new(),
        since: query.since,
        address,
        certificate,
        user_agent: user_agent.and_then(|text| Some(text.to_str().ok()?.into())),
        presented: Presented { credential, origin, promises_auth: query.promises_auth, waiting_place },
        is_canary: false,
    };
    Ok(Agreed { options, permit })
}

fn no_waiting_place(context: &AnswerContext) -> Denial {
    let message = format!(
        "expected fewer than {} sessions that have shown no valid token (auth.unauthenticated_max), found more; try again \
         in a second",
        context.terms.waiting_room.max()
    );
    let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions", message);
    ("too_many_unauthenticated", refusal.with(header::RETRY_AFTER, "1"))
}
