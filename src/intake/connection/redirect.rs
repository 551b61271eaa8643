//! Redirects of the handshake (RFC 9110 section 15.4): followed where allowed, never out of TLS, and never with
//! credentials to another host.

use tokio_tungstenite::tungstenite::http::header::{SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use url::Url;

use crate::intake::connection::dial::Endpoint;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::upstream_line::FeedRoute;
use crate::profile::target::{FeedUrl, without_secrets};

/// Why a redirect is not followed, with the remedy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    #[error("which is no address of a WebSocket; look up the feed's address")]
    Unreadable,
    #[error("which is this machine, while the feed is not; look up the feed's address")]
    Here,
    #[error("which has no TLS, while the address has; look up the feed's address")]
    Downgrade,
    #[error(
        "and credentials never follow to another host; if it is the feed's, write this address into `upstream.url`"
    )]
    Credentials,
    #[error("and {max} redirects were followed already; raise `upstream.redirects_max`, or use the last address")]
    TooMany { max: usize },
}

/// The redirects of one attempt.
pub(super) struct Redirects<'r> {
    route: &'r FeedRoute,
    followed: usize,
    /// Whether fanline's certificate is for the current host.
    pub shows_certificate: bool,
}

impl Redirects<'_> {
    pub(super) fn new(route: &FeedRoute) -> Redirects<'_> {
        Redirects { route, followed: 0, shows_certificate: route.tls.shows_certificate() }
    }

    /// The endpoint to try next.
    pub(super) fn next(&mut self, from: &Endpoint, location: &str) -> Result<Endpoint, Loss> {
        let has_credentials = self.shows_certificate || self.route.says_secrets;
        let next = if self.followed == self.route.redirects_max {
            Err(RedirectError::TooMany { max: self.followed })
        } else {
            follow(from, location, has_credentials)
        };
        let (url, location) = (from.target.shown(), shown(location));
        let next = next.map_err(|error| Loss::Redirected { url: url.clone(), location, error })?;
        tracing::info!(from = url, to = next.target.shown(), "the feed redirects");
        self.shows_certificate &= next.target.place() == from.target.place();
        self.followed += 1;
        Ok(next)
    }
}

/// The endpoint that `location` leads to.
fn follow(from: &Endpoint, location: &str, has_credentials: bool) -> Result<Endpoint, RedirectError> {
    let base = Url::parse(from.target.as_str()).map_err(|_| RedirectError::Unreadable)?;
    let url = base.join(location).map_err(|_| RedirectError::Unreadable)?;
    let text = match url.as_str().split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(("http", rest)) => format!("ws://{rest}"),
        _ => url.to_string(),
    };
    let mut target = FeedUrl::parse(&text).map_err(|_| RedirectError::Unreadable)?;
    if from.target.is_tls() && !target.is_tls() {
        return Err(RedirectError::Downgrade);
    }
    if target.is_here() && !from.target.is_here() {
        return Err(RedirectError::Here);
    }
    if target.place() == from.target.place() {
        target.set_user_of(&from.target);
        return Ok(Endpoint { target, headers: from.headers.clone() });
    }
    if has_credentials || from.target.authorization().is_some() {
        return Err(RedirectError::Credentials);
    }
    let mut headers = from.headers.clone();
    headers.retain(|(name, _)| *name == USER_AGENT || *name == SEC_WEBSOCKET_PROTOCOL);
    Ok(Endpoint { target, headers })
}

/// A location for the log.
fn shown(location: &str) -> String {
    without_secrets(location).chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn from(url: &str) -> Endpoint {
        let header = |name| (HeaderName::from_static(name), HeaderValue::from_static("x"));
        let headers = vec![header("x-key"), header("sec-websocket-protocol")];
        Endpoint { target: FeedUrl::parse(url).expect("a URL"), headers }
    }

    #[test]
    fn the_same_host_gets_everything_and_another_one_nothing_secret() {
        for (url, location, to, headers) in [
            ("wss://h/a?x=1", "/b", "wss://h/b", 2),
            ("wss://me:word@h/a", "https://h/b", "wss://me:word@h/b", 2),
            ("ws://h/a", "wss://h/a", "wss://h/a", 1),
            ("wss://h/a", "https://other/b", "wss://other/b", 1),
        ] {
            let next = follow(&from(url), location, false).expect(location);
            assert_eq!((next.target.as_str(), next.headers.len()), (to, headers));
        }
    }

    #[test]
    fn redirects_that_cost_secrecy_are_refused() {
        for (url, location, has_credentials, error) in [
            ("wss://h/a", "http://h/a", false, RedirectError::Downgrade),
            ("wss://h/a", "ws://other/a", false, RedirectError::Downgrade),
            ("wss://h/a", "wss://other/a", true, RedirectError::Credentials),
            ("wss://h/a", "wss://h:9/a", true, RedirectError::Credentials),
            ("wss://me:word@h/a", "wss://other/a", false, RedirectError::Credentials),
            ("wss://h/a", "wss://127.0.0.1/a", false, RedirectError::Here),
            ("wss://h/a", "wss://localhost:8080/a", false, RedirectError::Here),
            ("wss://h/a", "ftp://h/a", false, RedirectError::Unreadable),
            ("wss://h/a", "//", false, RedirectError::Unreadable),
        ] {
            assert_eq!(follow(&from(url), location, has_credentials).err(), Some(error), "{url} to {location}");
        }
    }
}
