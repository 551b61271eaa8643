//! `/v1/log`: relays, which read the log of this server.
//!
//! They receive everything at once, so they are no clients: neither a token nor the page that asks decides, but
//! `relay.serve` and the key of `relay.key_file`. After the upgrade their connections are with the thread of relays, so
//! that a busy edge does not delay them, nor one that has ended.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use url::form_urlencoded;

use crate::cluster::relay::SUBPROTOCOL;
use crate::cluster::relay::greeting::PathFault;
use crate::cluster::relay::host::{RelayEntrance, RelayHandoff, RelayPlace, RelayRefusal, RelaySocket};
use crate::edge::entrance::handshake::Handshake;
use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::context::AnswerContext;
use crate::edge::listen::client_files::ClientFile;
use crate::edge::listen::takeover::Takeover;

/// Every value of the `reason` label of `fanline_refusals_total` of its own.
pub(in crate::edge) const REASONS: [&str; 5] =
    ["relay_off", "relay_key", "relay_loop", "relay_too_deep", "too_many_relays"];

struct AdmittedRelay {
    handshake: Handshake,
    place: RelayPlace,
    entrance: RelayEntrance,
}

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
) -> Response<Body> {
    match admit(&context, &request) {
        Ok(AdmittedRelay { handshake, place, entrance }) => {
            let mut response = handshake.response();
            response.extensions_mut().insert(Takeover::new(move |taken| {
                let held = Box::new(taken.file.map(ClientFile::into_session));
                let unread = taken.unread.to_vec();
                match taken.socket.detach() {
                    Ok(attach) => {
                        let socket = Box::new(move || Ok(Box::new(attach()?) as Box<dyn RelaySocket>));
                        entrance.begin(RelayHandoff { socket, unread, place, held });
                    }
                    Err(error) => tracing::warn!(%error, "the socket of a relay could not be handed over"),
                }
            }));
            response
        }
        Err(refusal) => {
            context.count_refusal(refusal.code);
            refusal.into_response()
        }
    }
}

fn admit(context: &AnswerContext, request: &Request<Body>) -> Result<AdmittedRelay, HttpRefusal> {
    if context.phase.borrow().is_stopping() {
        return Err(HttpRefusal::draining());
    }
    let Some(relays) = &context.relays else {
        let message = "expected a server that relays may follow, found one with `relay.serve = false`; set it there";
        return Err(HttpRefusal::new(StatusCode::NOT_FOUND, "relay_off", message));
    };
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    if relays.key.as_ref().is_some_and(|key| !key.is_shown_by(shown)) {
        let message = "expected the key of this server's `relay.key_file` as `Authorization: Bearer`, found none or \
                       another one; name a file with it in the relay's `relay.parent_key_file`";
        return Err(
            HttpRefusal::new(StatusCode::UNAUTHORIZED, "relay_key", message).with(header::WWW_AUTHENTICATE, "Bearer")
        );
    }
    let handshake = Handshake::read(request, (false, &[SUBPROTOCOL]))?;
    if !handshake.has_subprotocol() {
        let message =
            format!("expected the subprotocol `{SUBPROTOCOL}`, found none; follow this server with `fanline relay`");
        return Err(HttpRefusal::bad("bad_handshake", message));
    }
    let node = node_of(request.uri().query()).ok_or_else(|| {
        HttpRefusal::bad("bad_request", "expected the number of the relay, as in `?node=0123456789abcdef`, found none")
    })?;
    let place = relays.entrance.admit(node).map_err(|refusal| {
        let (status, code) = match refusal {
            RelayRefusal::TooMany { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_relays"),
            RelayRefusal::Path(PathFault::Loop) => (StatusCode::CONFLICT, "relay_loop"),
            RelayRefusal::Path(PathFault::TooLong) => (StatusCode::CONFLICT, "relay_too_deep"),
        };
        HttpRefusal::new(status, code, refusal.to_string())
    })?;
    Ok(AdmittedRelay { handshake, place, entrance: relays.entrance.clone() })
}

fn node_of(query: Option<&str>) -> Option<u64> {
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let (_, node) = parameters.find(|(name, _)| name == "node")?;
    u64::from_str_radix(&node, 16).ok()
}
