//! The opening handshake of a WebSocket, server side (RFC 6455 section 4.2.1): checks and negotiation.
//!
//! A function of the request's head, without input or output. `origins.rs` has already checked the page.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use base64::prelude::{BASE64_STANDARD, Engine};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::edge::http::answer::HttpRefusal;
use shared_deflate::negotiate::{Agreement, negotiate};

/// The accepted subprotocol of the server's own protocol; a client need not offer it.
pub(super) const SUBPROTOCOL: &str = "fanline.v1";

/// Length of the decoded `Sec-WebSocket-Key`.
const KEY_BYTES: usize = 16;

/// A handshake that may be answered with 101.
#[derive(Debug)]
pub(in crate::edge) struct Handshake {
    accept: HeaderValue,
    /// The one of the server's that the client offers.
    subprotocol: Option<HeaderValue>,
    deflate: Option<Agreement>,
}

impl Handshake {
    /// Checks the request, and negotiates compression if `compression` allows it, and one of the subprotocols.
    pub(crate) fn read<B>(
        request: &Request<B>,
        (compression, subprotocols): (bool, &[&str]),
    ) -> Result<Handshake, HttpRefusal> {
        let headers = request.headers();
        if !is_upgrade(headers) {
            return Err(not_websocket());
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err(bad("expected `Connection: Upgrade`, found none; a proxy in between must pass the headers \
                 Connection and Upgrade on"));
        }
        if request.method() != Method::GET {
            return Err(bad(format!("expected the method `GET`, found `{}`", request.method())));
        }
        if request.version() != Version::HTTP_11 {
            return Err(bad(format!("expected `HTTP/1.1`, found `{:?}`", request.version())));
        }
        if !headers.contains_key(header::HOST) {
            return Err(bad("expected the header `Host`, found none"));
        }
        check_version(headers)?;
        let accept = accept_key(headers)?;
        let offered = subprotocols.iter().find(|known| has_token(headers, &header::SEC_WEBSOCKET_PROTOCOL, known));
        let subprotocol = offered.and_then(|known| HeaderValue::from_str(known).ok());
        let agreement = agreement(headers)?;
        let compression = compression && !inflates_wrongly(headers);
        Ok(Handshake { accept, subprotocol, deflate: agreement.filter(|_| compression) })
    }

    /// The negotiated permessage-deflate, if any.
    pub(crate) fn deflate(&self) -> Option<Agreement> {
        self.deflate
    }

    /// Whether the client offers one of the server's subprotocols.
    pub(crate) fn has_subprotocol(&self) -> bool {
        self.subprotocol.is_some()
    }

    /// `101 Switching Protocols` (RFC 6455 section 4.2.2).
    pub(crate) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        if let Some(agreement) = self.deflate {
            let agreed = HeaderValue::try_from(agreement.response()).expect("names and numbers fit into a header");
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        response
    }
}

/// Safari 15.0 to 15.3 offers permessage-deflate and then fails on compressed messages (uNetworking/uWebSockets#1347,
/// gorilla/websocket#731). Chromium's browsers name Safari as well, but before that themselves.
fn inflates_wrongly(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let is_broken = |version: &str| agent.contains(&format!(" Version/{version}"));
    agent.contains(" Safari/")
        && !agent.contains(" Chrome/")
        && ["15.0", "15.1", "15.2", "15.3"].iter().any(|version| is_broken(version))
}

fn not_websocket() -> HttpRefusal {
    let message = "expected a WebSocket handshake, found a plain request; connect with a WebSocket client to \
                   ws://…/v1/ws, or use /v1/snapshot for the current values";
    HttpRefusal::new(StatusCode::UPGRADE_REQUIRED, "not_websocket", message)
        .with(header::UPGRADE, "websocket")
        .with(header::CONNECTION, "Upgrade")
}

fn bad(message: impl Into<String>) -> HttpRefusal {
    HttpRefusal::bad("bad_handshake", message)
}

/// RFC 6455 section 4.4: the answer to another version names the supported one.
fn check_version(headers: &HeaderMap) -> Result<(), HttpRefusal> {
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    let (first, second) = (versions.next(), versions.next());
    if first.is_some_and(|version| version == "13") && second.is_none() {
        return Ok(());
    }
    let found = first.map_or("none".to_string(), |version| format!("`{}`", version.as_bytes().escape_ascii()));
    let message = format!("expected `Sec-WebSocket-Version: 13`, found {found}; use a client that speaks RFC 6455");
    Err(HttpRefusal::new(StatusCode::UPGRADE_REQUIRED, "bad_handshake", message)
        .with(header::SEC_WEBSOCKET_VERSION, "13")
        .with(header::UPGRADE, "websocket")
        .with(header::CONNECTION, "Upgrade"))
}

fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, HttpRefusal> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(bad("expected one header `Sec-WebSocket-Key`, found none or several"));
    };
    let key = key.as_bytes().trim_ascii();
    if !BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
        let found = String::from_utf8_lossy(&key[..key.len().min(64)]).escape_debug().to_string();
        return Err(bad(format!("expected 16 bytes in base64 as `Sec-WebSocket-Key`, found `{found}`")));
    }
    Ok(HeaderValue::try_from(derive_accept_key(key)).expect("base64 fits into a header"))
}

/// The header is checked even if compression is off: a broken one is the client's error either way.
fn agreement(headers: &HeaderMap) -> Result<Option<Agreement>, HttpRefusal> {
    let mut values = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let not_ascii = |_| bad("expected ASCII in `Sec-WebSocket-Extensions`, found other bytes");
        values.push(value.to_str().map_err(not_ascii)?);
    }
    negotiate(values).map_err(|error| bad(error.to_string()))
}

/// The request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
}

/// Whether a header with a list of tokens has this one, in any case and in any number of lines.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_browsers_that_cannot_inflate_go_without_compression() {
        let webkit = "Mozilla/5.0 (Macintosh; Intel Mac OS X 12_2) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (agent, broken) in [
            (format!("{webkit} Version/15.0 Safari/605.1.15"), true),
            (format!("{webkit} Version/15.3 Mobile/15E148 Safari/604.1"), true),
            (format!("{webkit} Version/14.1.2 Safari/605.1.15"), false),
            (format!("{webkit} Version/15.4 Safari/605.1.15"), false),
            (format!("{webkit} Chrome/97.0.4692.99 Safari/537.36"), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::try_from(&agent).expect("a header"));
            assert_eq!(inflates_wrongly(&headers), broken, "{agent}");
        }
    }
}
