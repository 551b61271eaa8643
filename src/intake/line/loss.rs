//! Every way in which a connection to the upstream can fail or end: a sentence for people, a metric label.

use std::time::Duration;

/// Why there is no connection. Trying again may help with each of these, and is what is done.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    #[error("`{host}` could not be reached: {error}")]
    Unreachable { host: String, error: std::io::Error },
    #[error("`{host}` did not complete the WebSocket handshake within {}", in_s(*.after))]
    ConnectTimeout { host: String, after: Duration },
    #[error("no TLS connection with `{host}`: {error}; check the URL and this machine's clock and certificates")]
    Tls { host: String, error: String },
    #[error("expected a WebSocket at `{url}`, found HTTP status {status}; {remedy}")]
    NotWebSocket { url: String, status: u16, remedy: String, retry_after: Option<Duration> },
    #[error("expected a WebSocket at `{url}`, found something else: {error}; check the URL's scheme, port and path")]
    NotHttp { url: String, error: String },
    #[error("closed by the upstream{}", close_words(*.code, .reason))]
    Closed { code: Option<u16>, reason: String },
    #[error("cut by the upstream: {error}")]
    Cut { error: String },
    #[error("expected WebSocket frames (RFC 6455), found broken ones: {error}")]
    Broken { error: String },
    #[error(
        "expected messages of at most {max} bytes, found one of {bytes}; raise the limit (`connect.max_message` in the profile)"
    )]
    TooBig { bytes: usize, max: usize },
    #[error("no message from the upstream for {}", in_s(*.after))]
    Silent { after: Duration },
    #[error("no answer to a WebSocket ping within {}", in_s(*.after))]
    PongMissing { after: Duration },
    #[error("no answer to a heartbeat within {}", in_s(*.after))]
    AnswerMissing { after: Duration },
    #[error("expected a message of rule `{waiting_for}` after connecting, found none in time")]
    NotOpened { waiting_for: String },
    #[error("the upstream accepted no bytes for {}", in_s(*.after))]
    Stuck { after: Duration },
    #[error("something is missing in `{topic}`")]
    Gap { topic: String },
    #[error("the upstream asked to be connected to anew (rule `{rule}`)")]
    Asked { rule: String },
}

impl Loss {
    /// Every value of `label`, so that each series is there before its first loss.
    pub const LABELS: [&'static str; 15] = [
        "unreachable",
        "connect_timeout",
        "tls",
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
        "gap",
        "asked",
    ];

    /// Value of the `reason` label of `fanline_upstream_reconnects_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Loss::Unreachable { .. } => "unreachable",
            Loss::ConnectTimeout { .. } => "connect_timeout",
            Loss::Tls { .. } => "tls",
            Loss::NotWebSocket { .. } | Loss::NotHttp { .. } => "not_websocket",
            Loss::Closed { .. } => "closed",
            Loss::Cut { .. } => "cut",
            Loss::Broken { .. } => "broken_frames",
            Loss::TooBig { .. } => "message_too_big",
            Loss::Silent { .. } => "silent",
            Loss::PongMissing { .. } => "pong_timeout",
            Loss::AnswerMissing { .. } => "heartbeat_timeout",
            Loss::NotOpened { .. } => "not_opened",
            Loss::Stuck { .. } => "write_timeout",
            Loss::Gap { .. } => "gap",
            Loss::Asked { .. } => "asked",
        }
    }

    /// How long the upstream wants to be left alone (RFC 9110 section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Loss::NotWebSocket { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A duration as people say it: `1.2 s`.
pub fn in_s(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn close_words(code: Option<u16>, reason: &str) -> String {
    let code = code.map(|code| format!(" with code {code}")).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!(" (`{reason}`)") };
    code + &reason
}
