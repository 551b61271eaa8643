//! Allowed web pages (`Origin`), allowed names of the server (`Host`), and the answers for browsers (CORS).
//!
//! A browser sends the page of a request as its `Origin`; other programs do not, and are not restricted here. Pages of the
//! same host are always allowed: those whose scheme, host and port are the server's own, as the browser knows them. Other
//! pages may read what is public, unless there is a list. Where clients may send to the feed in the server's name, only
//! listed pages are allowed, and never those without an origin of their own (`null`). The list of names protects servers
//! in private networks: without it, a page whose name resolves to the server's address counts as a page of the same host
//! (DNS rebinding).
//!
//! Identities are deliberately unknown here (`credentials.rs`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{self, HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::edge::http::answer::{HttpRefusal, address_of};
use crate::edge::http::context::AnswerContext;
use crate::edge::listen::forwarded::WebScheme;
use crate::edge::listen::peer::WebClient;
use crate::edge::settings::OriginRules;

/// Values of the `reason` label of `fanline_refusals_total`.
pub(in crate::edge) const REASONS: [&str; 2] = ["origin", "host"];

/// Methods of `/v1/…`.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Of `/v1/ticket`.
const TICKET_METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// Time before a browser must ask again: two hours, the most that Chromium accepts.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The rules, prepared.
pub struct OriginPolicy {
    origins: Origins,
    /// In lower case; empty allows any name.
    hosts: Vec<String>,
}

enum Origins {
    Any,
    /// Pages of the same host are always allowed.
    Listed {
        origins: Vec<WebOrigin>,
        /// Pages without an origin of their own, such as files and sandboxed frames: anybody's.
        null: bool,
    },
}

/// The server as the page knows it: what its `Origin` must be to be of the same host.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'r> {
    pub scheme: WebScheme,
    /// `Host`, or the authority of the request's target; empty if there is none, or not exactly one.
    pub host: &'r str,
}

/// A scheme, a host and a port, as browsers compare them: exactly, but for the case of letters and the port that the
/// scheme implies.
#[derive(Debug, PartialEq, Eq)]
struct WebOrigin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl WebOrigin {
    /// None for everything else, `null` included.
    fn parse(text: &str) -> Option<WebOrigin> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || !is_host(authority) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority)?;
        let implied = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(WebOrigin { scheme, host: host.to_ascii_lowercase(), port: port.or(implied) })
    }

    fn is_of(&self, target: RequestTarget<'_>) -> bool {
        let scheme = match target.scheme {
            WebScheme::Http => "http",
            WebScheme::Https => "https",
        };
        WebOrigin::parse(&format!("{scheme}://{}", target.host)).is_some_and(|own| own == *self)
    }
}

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `*`, `null` or an origin such as `https://example.com` or `http://localhost:3000`, found `{0}`; leave out paths and final slashes"
)]
pub struct OriginError(String);

/// Checks an item of `http.allowed_origins`.
pub fn check_origin(text: &str) -> Result<(), OriginError> {
    if matches!(text, "*" | "null") || WebOrigin::parse(text).is_some() {
        Ok(())
    } else {
        Err(OriginError(text.into()))
    }
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
    let is_authority = text.parse::<Authority>().is_ok_and(|authority| !authority.host().is_empty());
    is_authority && !text.contains(['@', '*', '%']) && split_port(text).is_some()
}

/// `feed.example.com:8443` and `[::1]:8443`, without and with the port; none if what stands behind the colon is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        // A colon inside the brackets of an IPv6 address.
        Some((_, behind)) if behind.ends_with(']') => Some((authority, None)),
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
        None => Some((authority, None)),
    }
}

impl OriginPolicy {
    pub(crate) fn new(rules: &OriginRules) -> OriginPolicy {
        let listed = &rules.allowed_origins;
        let any = listed.iter().any(|origin| origin == "*") || (listed.is_empty() && !rules.requests_open);
        let origins = if any {
            Origins::Any
        } else {
            let null = !rules.requests_open && listed.iter().any(|origin| origin == "null");
            Origins::Listed { origins: listed.iter().filter_map(|origin| WebOrigin::parse(origin)).collect(), null }
        };
        OriginPolicy { origins, hosts: rules.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Whether a request with credentials that a browser adds by itself, such as cookies, comes from a page that may use
    /// them: one of the same host, or one that is listed by name. Without an `Origin` nobody knows whose page it is.
    pub fn allows_credentials(&self, origin: Option<&str>, target: RequestTarget<'_>) -> bool {
        let Some(origin) = origin.and_then(WebOrigin::parse) else { return false };
        let is_listed = match &self.origins {
            Origins::Any => false,
            Origins::Listed { origins, .. } => origins.contains(&origin),
        };
        is_listed || origin.is_of(target)
    }

    /// Whether the server answers to this name.
    fn admits_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = split_port(&host).map_or("", |(name, _)| name);
        self.hosts.is_empty() || self.hosts.iter().any(|allowed| *allowed == host || allowed == name)
    }

    /// Whether the name is in the list, which an empty list is not taken for.
    pub(in crate::edge) fn lists_host(&self, host: &str) -> bool {
        !self.hosts.is_empty() && self.admits_host(host)
    }

    fn admits_origin(&self, origin: &str, target: RequestTarget<'_>) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed { null, .. } if origin == "null" => *null,
            Origins::Listed { .. } => self.allows_credentials(Some(origin), target),
        }
    }

    /// The origin that may read an answer, for the browser; none for requests without an origin.
    fn reader(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Listed { .. } => headers.get(header::ORIGIN).cloned(),
        }
    }
}

/// Refuses requests of other pages and names; adds the CORS headers to answers.
pub(in crate::edge) async fn guard(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    // Load balancers ask by address, and health reveals nothing. The canary does, too, and shows a key.
    let is_by_address = matches!(path, "/healthz" | "/readyz" | "/v1/canary");
    let is_public_file = path.starts_with("/static/");
    // Also a WebSocket at a path of a dialect.
    let is_data = path.starts_with("/v1/") || request.headers().contains_key(header::UPGRADE);
    let terms = context.terms.requests();
    let visitors = &terms.visitors;
    let host = host(&request).to_owned();
    let scheme = request.extensions().get::<WebClient>().map_or(WebScheme::Http, |client| client.scheme);
    let target = RequestTarget { scheme, host: &host };
    if !is_by_address && !visitors.admits_host(&host) {
        let refusal = wrong_host(&host);
        context.refuse(address_of(&request), REASONS[1], &refusal);
        return refusal.into_response();
    }
    let origin = origin(request.headers());
    if is_data && let Some(origin) = origin.filter(|origin| !visitors.admits_origin(origin, target)) {
        let refusal = wrong_origin(&origin, target);
        context.refuse(address_of(&request), REASONS[0], &refusal);
        return refusal.into_response();
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
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after, etag, fanline-next, fanline-feed"),
        );
    }
    if is_data && matches!(visitors.origins, Origins::Listed { .. }) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Refuses other names on the operator's listener. By an address or as `localhost` it can always be asked.
pub(in crate::edge) async fn guard_operator(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
    next: Next,
) -> Response {
    let host = host(&request);
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !is_health && !is_own_name(host) && !context.terms.requests().visitors.admits_host(host) {
        context.count_refusal(REASONS[1]);
        return wrong_host(host).into_response();
    }
    next.run(request).await
}

/// An address, or this machine: no name that somebody could have pointed here.
pub(in crate::edge) fn is_own_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
}

/// Answers `OPTIONS` at `/v1/…`: preflights, which a browser sends for example if a page adds a header.
pub(in crate::edge) async fn preflight(request: Request) -> Response {
    const REQUEST_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
    const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = if request.uri().path() == "/v1/ticket" { TICKET_METHODS } else { METHODS };
    headers.insert(header::ALLOW, methods.clone());
    if !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return response;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
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

/// The name in the request; empty if there is none, or not exactly one.
pub(in crate::edge) fn host<B>(request: &http::Request<B>) -> &str {
    let by_header = || only(request.headers(), header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(|authority| authority.as_str()).or_else(by_header).unwrap_or_default()
}

/// The page of the request, if it names one. Several are all of them, and so no origin that could be allowed.
pub(in crate::edge) fn origin(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::ORIGIN).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

fn wrong_origin(origin: &str, target: RequestTarget<'_>) -> HttpRefusal {
    let other = match target.scheme {
        WebScheme::Http => WebScheme::Https,
        WebScheme::Https => WebScheme::Http,
    };
    let target = RequestTarget { scheme: other, ..target };
    let remedy = match WebOrigin::parse(origin).is_some_and(|page| page.is_of(target)) {
        true => "the scheme differs: behind a proxy that speaks TLS, set proxy.trusted, or list the page there",
        false => "list it there to allow it",
    };
    let message =
        format!("expected a page of this host or of http.allowed_origins, found `{}`; {remedy}", shown(origin));
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

    fn target(scheme: WebScheme, host: &str) -> RequestTarget<'_> {
        RequestTarget { scheme, host }
    }

    #[test]
    fn pages_of_other_hosts_may_read_what_is_public_and_speak_only_if_listed() {
        use WebScheme::{Http, Https};
        for (origins, requests_open, origin, scheme, host, expected) in [
            (&[][..], false, "https://evil.example", Https, "feed.example.com", true),
            (&[], true, "https://evil.example", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com", Https, "feed.example.com", true),
            (&[], true, "https://Feed.example.com", Https, "feed.Example.com", true),
            (&[], true, "https://feed.example.com", Https, "feed.example.com:443", true),
            (&[], true, "https://feed.example.com:443", Https, "feed.example.com", true),
            (&[], true, "http://feed.example.com:80", Http, "feed.example.com", true),
            (&[], true, "http://[::1]:8080", Http, "[::1]:8080", true),
            // Another scheme or port is another page.
            (&[], true, "http://feed.example.com", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com", Http, "feed.example.com", false),
            (&[], true, "https://feed.example.com", Http, "feed.example.com:443", false),
            (&[], true, "https://feed.example.com:8443", Https, "feed.example.com", false),
            (&[], true, "http://[::1]:3000", Http, "[::1]:8080", false),
            (&[], true, "wss://feed.example.com", Https, "feed.example.com", false),
            // What looks alike.
            (&[], true, "null", Https, "feed.example.com", false),
            (&[], true, "", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com.evil.example", Https, "feed.example.com", false),
            (&[], true, "https://evilfeed.example.com", Https, "feed.example.com", false),
            (&[], true, "https://example.com", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com.", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com@evil.example", Https, "feed.example.com", false),
            (&[], true, "https://evil.example/feed.example.com", Https, "feed.example.com", false),
            (&[], true, "https://evil.example#feed.example.com", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com/", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com:0443", Https, "feed.example.com:", false),
            (&[], true, "https://feed.example.com, https://evil.example", Https, "feed.example.com", false),
            (&[], true, "https://feed.example.com https://evil.example", Https, "feed.example.com", false),
            (&[], true, "https://feed%2eexample.com", Https, "feed.example.com", false),
            (&[], true, "https://[::1].evil.example", Https, "[::1]", false),
            (&[], true, "//feed.example.com", Https, "feed.example.com", false),
            (&[], true, "https://evil.example", Https, "", false),
            (&[], true, "https://", Https, "", false),
            (&["*"], true, "https://evil.example", Https, "feed.example.com", true),
            (&["https://app.example.com"], false, "https://App.example.com", Https, "feed.example.com", true),
            (&["https://app.example.com:443"], false, "https://app.example.com", Https, "feed.example.com", true),
            (&["https://app.example.com"], false, "http://app.example.com", Https, "feed.example.com", false),
            (&["https://app.example.com"], false, "https://app.example.com:8443", Https, "feed.example.com", false),
            (&["https://app.example.com"], false, "https://app.example.com.evil.example", Https, "a.example", false),
            (&["https://app.example.com"], true, "https://feed.example.com", Https, "feed.example.com", true),
            (&["chrome-extension://abcdef"], true, "chrome-extension://abcdef", Https, "feed.example.com", true),
            (&["chrome-extension://abcdef"], true, "chrome-extension://abcdeg", Https, "feed.example.com", false),
            (&["null"], false, "null", Https, "feed.example.com", true),
            (&["null"], true, "null", Https, "feed.example.com", false),
        ] {
            let admitted = visitors(origins, &[], requests_open).admits_origin(origin, target(scheme, host));
            assert_eq!(admitted, expected, "{origins:?}, {requests_open}: {origin} asks {scheme:?} {host}");
        }
    }

    #[test]
    fn what_browsers_add_by_themselves_counts_only_for_pages_that_are_known() {
        let own = target(WebScheme::Https, "feed.example.com");
        for (origins, origin, expected) in [
            (&[][..], Some("https://feed.example.com"), true),
            (&[], Some("https://evil.example"), false),
            (&[], Some("http://feed.example.com"), false),
            (&[], Some("null"), false),
            (&[], None, false),
            (&["*"], Some("https://evil.example"), false),
            (&["*"], Some("https://feed.example.com"), true),
            (&["null"], Some("null"), false),
            (&["https://app.example.com"], Some("https://app.example.com"), true),
            (&["https://app.example.com"], Some("https://app.example.com.evil.example"), false),
            (&["https://app.example.com"], None, false),
        ] {
            for requests_open in [false, true] {
                let allowed = visitors(origins, &[], requests_open).allows_credentials(origin, own);
                assert_eq!(allowed, expected, "{origins:?}: {origin:?}");
            }
        }
    }

    #[test]
    fn a_request_of_several_pages_or_names_is_of_none() {
        let mut request = Request::new(axum::body::Body::empty());
        assert_eq!((origin(request.headers()), host(&request)), (None, ""));
        request.headers_mut().append(header::ORIGIN, HeaderValue::from_static("https://feed.example.com"));
        request.headers_mut().append(header::HOST, HeaderValue::from_static("feed.example.com"));
        assert_eq!(origin(request.headers()).as_deref(), Some("https://feed.example.com"));
        assert_eq!(host(&request), "feed.example.com");
        request.headers_mut().append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        request.headers_mut().append(header::HOST, HeaderValue::from_static("evil.example"));
        let page = origin(request.headers()).expect("some page");
        let own = target(WebScheme::Https, "feed.example.com");
        assert!(!visitors(&["https://evil.example"], &[], true).admits_origin(&page, own), "{page}");
        assert_eq!(host(&request), "");
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
            (&["feed.example.com"], "feed.example.com:80:80", false),
            (&["feed.example.com"], "feed.example.com.evil.example", false),
            (&["feed.example.com"], "feed.example.com:evil", false),
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
            ("https://example.com:99999", false),
            ("https://example.com:", false),
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
