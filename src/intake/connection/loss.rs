//! Every way in which a connection to the feed can fail or end: a sentence for the log, one for the public, a metric
//! label.
//!
//! The log has everything: addresses, and the words of the venue and the system. The public receives fanline's own
//! words, with numbers at most, because foreign text may hold a key, and the feed's address concerns only the operator.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::words::stamp::Stamp;

use crate::intake::connection::race::Tried;
use crate::intake::connection::redirect::RedirectError;
use crate::intake::connection::retry_after::RetryAfter;
use crate::intake::time::in_s;
use crate::profile::target::FeedUrlError;

/// Why there is no connection. Retrying may help with each of these, and fanline does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Loss {
    #[error("the address of `{host}` was not found: {error}; check the name and this machine's name servers")]
    Unresolved { host: String, error: io::Error },
    #[error("the address of `{host}` was not found within {}; check this machine's name servers", in_s(*.after))]
    ResolveTimeout { host: String, after: Duration },
    #[error("`{host}` could not be reached{}: {tried}", within(.tried.is_late(), *.after))]
    Unreachable { host: String, tried: Tried, after: Duration },
    #[error("`{host}` ({address}) did not complete the WebSocket handshake within {}", in_s(*.after))]
    ConnectTimeout { host: String, address: SocketAddr, after: Duration },
    #[error(
        "no TLS connection with `{host}` ({address}): {error}; check the URL, this machine's clock and \
         certificates, and `upstream.client_certificate` if the feed wants one"
    )]
    Tls { host: String, address: SocketAddr, error: String },
    #[error("no way to `{host}` through the proxy `{proxy}`: {error}")]
    Proxy { host: String, proxy: String, error: String },
    #[error("request `{name}` to `{url}`: {error}")]
    Request { name: String, url: String, error: String, status: Option<u16>, retry_after: Option<RetryAfter> },
    #[error("what the feed has answered before the connection: {error}")]
    Answer { error: String },
    #[error("expected a WebSocket at `{url}`, found a redirect to `{location}`, {error}")]
    Redirected { url: String, location: String, error: RedirectError },
    #[error("expected a WebSocket at `{url}`, found HTTP status {status}; {remedy}")]
    NotWebSocket { url: String, status: u16, remedy: String, retry_after: Option<RetryAfter> },
    #[error("expected a WebSocket at `{url}`, found something else: {error}; check the URL's scheme, port and path")]
    NotHttp { url: String, error: String },
    #[error("closed by the feed{}", close_words(*.code, .reason))]
    Closed { code: Option<u16>, reason: String },
    #[error("cut by the feed: {error}")]
    Cut { error: String },
    #[error("expected WebSocket frames (RFC 6455), found broken ones: {error}")]
    Broken { error: String },
    #[error(
        "expected a feed whose compressed messages can be read, found another: {error}; switch `upstream.deflate` off"
    )]
    Compression { error: String },
    #[error("expected messages of at most {max} bytes, found {}; raise {setting}", size(*.bytes))]
    TooBig {
        /// None: of a compressed message, it is not known.
        bytes: Option<usize>,
        max: usize,
        /// Origin of the limit in force.
        setting: &'static str,
    },
    #[error("no message from the feed for {}", in_s(*.after))]
    Silent { after: Duration },
    #[error("no answer to a WebSocket ping within {}", in_s(*.after))]
    PongMissing { after: Duration },
    #[error("no answer to a heartbeat within {}", in_s(*.after))]
    AnswerMissing { after: Duration },
    #[error("expected a message of rule `{waiting_for}` after connecting, found none in time")]
    NotOpened { waiting_for: String },
    #[error("the feed accepted no bytes for {}", in_s(*.after))]
    Stuck { after: Duration },
    #[error("the feed asked for a new connection (rule `{rule}`)")]
    Asked { rule: String },
    /// The URL or a header cannot be made from the current values.
    #[error("the feed's address is invalid: {0}")]
    Address(#[from] FeedUrlError),
}

impl Loss {
    /// The label of a connection that is replaced because messages are missing on it; it is not lost.
    pub(crate) const GAP: &'static str = "gap";

    /// Every value of `label`, so that each series exists before its first loss.
    pub(crate) const LABELS: [&'static str; 18] = [
        "unreachable",
        "proxy",
        "connect_timeout",
        "tls",
        "request",
        "not_websocket",
        "closed",
        "cut",
        "broken_frames",
        "message_too_big",
        "silent",
        "pong_timeout",
        "heartbeat_timeout",
        "not_opened",
        "write_timeout",
        Loss::GAP,
        "asked",
        "address",
    ];

    /// Value of the `reason` label of `fanline_upstream_reconnects_total`.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Loss::Unreachable { tried, .. } if tried.is_late() => "connect_timeout",
            Loss::Unresolved { .. } | Loss::Unreachable { .. } => "unreachable",
            Loss::ResolveTimeout { .. } | Loss::ConnectTimeout { .. } => "connect_timeout",
            Loss::Tls { .. } => "tls",
            Loss::Proxy { .. } => "proxy",
            Loss::Request { .. } | Loss::Answer { .. } => "request",
            Loss::NotWebSocket { .. } | Loss::NotHttp { .. } | Loss::Redirected { .. } => "not_websocket",
            Loss::Closed { .. } => "closed",
            Loss::Cut { .. } => "cut",
            Loss::Broken { .. } | Loss::Compression { .. } => "broken_frames",
            Loss::TooBig { .. } => "message_too_big",
            Loss::Silent { .. } => "silent",
            Loss::PongMissing { .. } => "pong_timeout",
            Loss::AnswerMissing { .. } => "heartbeat_timeout",
            Loss::NotOpened { .. } => "not_opened",
            Loss::Stuck { .. } => "write_timeout",
            Loss::Asked { .. } => "asked",
            Loss::Address(_) => "address",
        }
    }

    /// The sentence in fanline's own words, for clients, readiness and snapshots.
    pub(crate) fn public(&self) -> String {
        let sentence = match self {
            Loss::Unresolved { .. }
            | Loss::ResolveTimeout { .. }
            | Loss::Unreachable { .. }
            | Loss::Proxy { .. }
            | Loss::Address(_) => "the feed cannot be reached",
            Loss::Request { status: Some(status), .. } => {
                return format!("the feed refuses a request with HTTP status {status}");
            }
            Loss::Request { status: None, .. } | Loss::Answer { .. } => {
                "the feed does not answer a request as expected"
            }
            Loss::Redirected { .. } => "the feed refers to another address",
            Loss::ConnectTimeout { .. } => "the feed does not answer in time",
            Loss::Tls { .. } => "there is no secure connection to the feed",
            Loss::NotWebSocket { status, .. } => {
                return format!("the feed refuses the connection with HTTP status {status}");
            }
            Loss::NotHttp { .. } => "the feed does not answer as a WebSocket server",
            Loss::Closed { code: Some(code), .. } => {
                return format!("the feed has closed the connection with code {code}");
            }
            Loss::Closed { code: None, .. } => "the feed has closed the connection",
            Loss::Cut { .. } => "the connection to the feed was cut",
            Loss::Broken { .. } | Loss::Compression { .. } => "the feed sent broken WebSocket frames",
            Loss::TooBig { .. } => "the feed sent a message above the limit",
            Loss::Silent { .. } => "the feed was silent for too long",
            Loss::PongMissing { .. } | Loss::AnswerMissing { .. } | Loss::Stuck { .. } => "the feed does not respond",
            Loss::NotOpened { .. } => "the feed has not completed its greeting or login",
            Loss::Asked { .. } => "the feed has asked for a new connection",
        };
        sentence.to_string()
    }

    /// The same loss, with the origin of the exceeded limit: the profile's key or the operator's setting.
    pub(crate) fn with_limit_of(self, setting: &'static str) -> Loss {
        match self {
            Loss::TooBig { bytes, max, .. } => Loss::TooBig { bytes, max, setting },
            other => other,
        }
    }

    /// The wait that the feed demands (RFC 9110 section 10.2.3).
    pub(crate) fn retry_after(&self, now: Stamp) -> Option<Duration> {
        match self {
            Loss::NotWebSocket { retry_after, .. } | Loss::Request { retry_after, .. } => {
                retry_after.map(|after| after.wait(now))
            }
            _ => None,
        }
    }

    /// Whether the same request would be refused again.
    pub(crate) fn is_definite(&self) -> bool {
        matches!(self, Loss::Request { status: Some(400..=407 | 409..=417 | 419..=428 | 430..=499), .. })
    }

    /// Whether the feed reports too many attempts (RFC 6585 section 4; 418 is the ban of Binance and others).
    pub(crate) fn is_ban(&self) -> bool {
        matches!(self, Loss::NotWebSocket { status: 418 | 429, .. } | Loss::Request { status: Some(418 | 429), .. })
    }
}

fn size(bytes: Option<usize>) -> String {
    bytes.map_or("a larger one".to_string(), |bytes| format!("one of {bytes}"))
}

fn within(is_late: bool, after: Duration) -> String {
    if is_late { format!(" within {}", in_s(after)) } else { String::new() }
}

fn close_words(code: Option<u16>, reason: &str) -> String {
    let code = code.map(|code| format!(" with code {code}")).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(" (`{reason}`)") };
    code + &reason
}
