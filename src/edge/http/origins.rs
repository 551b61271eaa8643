//! Allowed web pages (`Origin`), allowed names of the server (`Host`), and the answers for browsers (CORS).
//!
//! A browser sends the page of a request as its `Origin`; other programs do not, and are not restricted here. Pages of the
//! same host are always allowed. fanline's data is public to all that can reach it, so other pages may read it too, unless
//! there is a list. Where clients may send to the feed in the server's name, only listed pages are allowed. The list of
//! names protects servers in private networks: without it, a page whose name resolves to the server's address counts as a
//! page of the same host (DNS rebinding).
//!
//! Identities are deliberately unknown here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::context::AnswerContext;
use crate::edge::settings::OriginRules;

/// Values of the `reason` label of `fanline_refusals_total`.
pub(in crate::edge) const REASONS: [&str; 2] = ["origin", "host"];

/// Methods of `/v1/…`.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Time before a browser must ask again: two hours, the most that Chromium accepts.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The rules, prepared.
pub(in crate::edge) struct OriginPolicy {
    origins: Origins,
    /// In lower case; empty allows any name.
    hosts: Vec<String>,
}

enum Origins {
    Any,
    /// In lower case; origins of the same host are always allowed.
    Listed(Vec<String>),
}

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `*`, `null` or an origin such as `https://example.com` or `http://localhost:3000`, found `{0}`; leave out paths and final slashes"
)]
pub struct OriginError(String);

/// Checks an item of `http.allowed_origins`.
pub fn check_origin(text: &str) -> Result<(), OriginError> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && is_host(host)
    });
    if matches!(text, "*" | "null") || is_origin { Ok(()) } else { Err(OriginError(text.into())) }
}

/// Why a text is not the name of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host such as `feed.example.com` or `feed.example.com:8443`, found `{0}`; leave out `https://` and paths"
)]
pub struct HostError(String);

/// Checks an item of `http.allowed_hosts`.
pub fn check_host(text: &str) -> Result<(), HostError> {
    if is_host(text) { Ok(()) } else { Err(HostError(text.into())) }
}

fn is_host(text: &str) -> bool {
    !text.contains(['@', '*']) && text.parse::<Authority>().is_ok_and(|authority| !authority.host().is_empty())
}

impl OriginPolicy {
    pub(crate) fn new(rules: &OriginRules) -> OriginPolicy {
        let lower = |items: &[String]| items.iter().map(|item| item.to_ascii_lowercase()).collect::<Vec<_>>();
        let origins = lower(&rules.allowed_origins);
        let any = origins.iter().any(|origin| origin == "*") || (origins.is_empty() && !rules.requests_open);
        let origins = if any { Origins::Any } else { Origins::Listed(origins) };
        OriginPolicy { origins, hosts: lower(&rules.allowed_hosts) }
    }

    /// Whether the server answers to this name.
    fn admits_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.hosts.is_empty() || self.hosts.iter().any(|allowed| *allowed == host || allowed == without_port(&host))
    }

    /// Whether the name is in the list, which an empty list is not taken for.
    pub(in crate::edge) fn lists_host(&self, host: &str) -> bool {
        !self.hosts.is_empty() && self.admits_host(host)
    }

    fn admits_origin(&self, origin: &str, host: &str) -> bool {
        let Origins::Listed(listed) = &self.origins else { return true };
        let origin = origin.to_ascii_lowercase();
        // A proxy may omit the port in one of the two.
        let same_host =
            |(_, own): (&str, &str)| !host.is_empty() && without_port(own).eq_ignore_ascii_case(without_port(host));
        listed.contains(&origin) || origin.split_once("://").is_some_and(same_host)
    }

    /// The origin that may read an answer, for the browser; none for requests without an origin.
    fn reader(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed(_) => headers.get(header::ORIGIN).cloned(),
        }
    }
}

/// `feed.example.com:8443` and `[::1]:8443` without `:8443`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Refuses requests of other pages and names; adds the CORS headers to answers.
pub(in crate::edge) async fn guard(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    // Load balancers ask by address, and health reveals nothing.
    let is_health = matches!(path, "/healthz" | "/readyz");
    let is_public_file = path.starts_with("/static/");
    let is_data = path.starts_with("/v1/");
    let visitors = &context.visitors;
    let host = host(&request).to_owned();
    if !is_health && !visitors.admits_host(&host) {
        context.count_refusal(REASONS[1]);
        return wrong_host(&host).into_response();
    }
    let origin =
        request.headers().get(header::ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned());
    if is_data && let Some(origin) = origin.filter(|origin| !visitors.admits_origin(origin, &host)) {
        context.count_refusal(REASONS[0]);
        return wrong_origin(&origin).into_response();
    }
    let reader = match (is_data, is_public_file) {
        (true, _) => visitors.reader(request.headers()),
        (_, true) => Some(HeaderValue::from_static("*")),
        _ => None,
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(reader) = reader {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, reader);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
    if is_data && matches!(visitors.origins, Origins::Listed(_)) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Answers `OPTIONS` at `/v1/…`: preflights, which a browser sends for example if a page adds a header.
pub(in crate::edge) async fn preflight(request: Request) -> Response {
    const REQUEST_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
    const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, METHODS);
    if !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return response;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
    // No header matters here; a proxy in front may need one, such as `Authorization`.
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if request.headers().contains_key(REQUEST_PRIVATE) {
        headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
    }
    let asked = "access-control-request-method, access-control-request-headers";
    headers.insert(header::VARY, HeaderValue::from_static(asked));
    response
}

/// The name in the request; empty if there is none.
fn host(request: &Request) -> &str {
    let by_header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(|authority| authority.as_str()).or_else(by_header).unwrap_or_default()
}

fn wrong_origin(origin: &str) -> HttpRefusal {
    let message = format!(
        "expected a page of this host or of http.allowed_origins, found `{}`; list it there to allow it",
        shown(origin)
    );
    HttpRefusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

fn wrong_host(host: &str) -> HttpRefusal {
    let message = format!("expected a name of http.allowed_hosts, found `{}`; list it there to allow it", shown(host));
    HttpRefusal::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message)
}

fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitors(origins: &[&str], hosts: &[&str], requests_open: bool) -> OriginPolicy {
        let owned = |items: &[&str]| items.iter().map(|item| item.to_string()).collect();
        OriginPolicy::new(&OriginRules { allowed_origins: owned(origins), allowed_hosts: owned(hosts), requests_open })
    }

    #[test]
    fn pages_of_other_hosts_may_read_what_is_public_and_speak_only_if_listed() {
        for (origins, requests_open, origin, host, expected) in [
            (&[][..], false, "https://evil.example", "feed.example.com", true),
            (&[], true, "https://evil.example", "feed.example.com", false),
            (&[], true, "https://feed.example.com", "feed.example.com", true),
            (&[], true, "https://feed.example.com:8443", "Feed.Example.com", true),
            (&[], true, "http://[::1]:3000", "[::1]:8080", true),
            (&[], true, "null", "feed.example.com", false),
            (&[], true, "https://feed.example.com.evil.example", "feed.example.com", false),
            (&[], true, "https://evil.example", "", false),
            (&["*"], true, "https://evil.example", "feed.example.com", true),
            (&["https://app.example.com"], false, "https://App.example.com", "feed.example.com", true),
            (&["https://app.example.com"], false, "http://app.example.com", "feed.example.com", false),
            (&["https://app.example.com"], false, "https://app.example.com:8443", "feed.example.com", false),
            (&["https://app.example.com"], true, "https://feed.example.com", "feed.example.com", true),
            (&["null"], true, "null", "feed.example.com", true),
        ] {
            let admitted = visitors(origins, &[], requests_open).admits_origin(origin, host);
            assert_eq!(admitted, expected, "{origins:?}, {requests_open}: {origin} asks {host}");
        }
    }

    #[test]
    fn a_server_with_names_answers_to_no_other() {
        for (hosts, host, expected) in [
            (&[][..], "evil.example", true),
            (&["feed.example.com"], "evil.example", false),
            (&["feed.example.com"], "FEED.example.com:8080", true),
            (&["feed.example.com:8080"], "feed.example.com:8080", true),
            (&["feed.example.com:8080"], "feed.example.com:9090", false),
            (&["[::1]"], "[::1]:8080", true),
            (&["::1"], "[::1]", false),
            (&["feed.example.com"], "", false),
        ] {
            assert_eq!(visitors(&[], hosts, false).admits_host(host), expected, "{hosts:?}: {host}");
        }
    }

    #[test]
    fn what_is_no_origin_or_host_is_refused_as_a_setting() {
        for (text, expected) in [
            ("*", true),
            ("null", true),
            ("https://example.com", true),
            ("http://localhost:3000", true),
            ("chrome-extension://abcdef", true),
            ("https://example.com/", false),
            ("https://example.com/path", false),
            ("example.com", false),
            ("https://*.example.com", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(check_origin(text).is_ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("feed.example.com", true),
            ("127.0.0.1:8080", true),
            ("[::1]", true),
            ("https://feed.example.com", false),
            ("a/b", false),
            ("me@host", false),
            ("", false),
        ] {
            assert_eq!(check_host(text).is_ok(), expected, "{text}");
        }
    }
}
