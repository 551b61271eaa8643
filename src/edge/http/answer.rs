//! Answers in JSON: the requested data, or `{"code":…,"message":…}`.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::access::network_counts::network;
use crate::edge::listen::peer::WebClient;

pub(in crate::edge) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(in crate::edge) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why a request is refused. Codes are those of docs/PROTOCOL.md.
#[derive(Debug)]
pub(in crate::edge) struct HttpRefusal {
    status: StatusCode,
    pub code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpRefusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> HttpRefusal {
        HttpRefusal { status, code, message: message.into(), headers: Vec::new() }
    }

    /// 400 with one of the error codes of docs/PROTOCOL.md.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> HttpRefusal {
        HttpRefusal::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// When another attempt makes sense, if it does.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let (_, seconds) = self.headers.iter().find(|(name, _)| *name == header::RETRY_AFTER)?;
        Some(Duration::from_secs(seconds.to_str().ok()?.parse().ok()?))
    }

    pub(crate) fn draining() -> HttpRefusal {
        let message = "the server is stopping; connect to another one, or retry in a few seconds";
        let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message);
        refusal.with(header::RETRY_AFTER, "5")
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> HttpRefusal {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

impl IntoResponse for HttpRefusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct ErrorBody<'a> {
            code: &'a str,
            message: &'a str,
        }
        let mut response = json_of(self.status, &ErrorBody { code: self.code, message: &self.message });
        response.headers_mut().extend(self.headers);
        response
    }
}

/// An answer that must not be cached, from something serialisable.
pub(in crate::edge) fn json_of(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("answers have string keys and no failing parts");
    let mut response = body(JSON, Body::from(text));
    *response.status_mut() = status;
    response
}

/// An answer that must not be cached.
pub(in crate::edge) fn body(content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

pub(in crate::edge) fn not_found(uri: &Uri) -> HttpRefusal {
    let path: String = uri.path().chars().take(64).collect();
    let message = format!("expected one of the paths of docs/PROTOCOL.md, found `{path}`; the page is at `/`");
    HttpRefusal::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The address that a request counts against. Clients of unix sockets without an address share one.
pub(in crate::edge) fn network_of<B>(request: &Request<B>) -> Result<IpAddr, HttpRefusal> {
    Ok(client_of(request)?.address.map_or(Ipv6Addr::UNSPECIFIED.into(), network))
}

/// The client's address, if it is known.
pub(in crate::edge) fn address_of<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get::<WebClient>().and_then(|client| client.address)
}

/// Who sends the request, as the connection knows.
pub(in crate::edge) fn client_of<B>(request: &Request<B>) -> Result<WebClient, HttpRefusal> {
    let unknown = || HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the connection has no client");
    request.extensions().get::<WebClient>().copied().ok_or_else(unknown)
}
