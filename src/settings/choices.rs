//! Types of settings that are one of a few words, or of a value and a word.

use std::time::Duration;

/// Value of `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub const NAMES: &'static [&'static str] = &["text", "json"];
}

/// Value of `upstream.demand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandMode {
    Off,
    On,
}

impl DemandMode {
    pub const NAMES: &'static [&'static str] = &["off", "on"];
}

/// How long something may last; none: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// Value of `raw.on_stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    Close,
    Keep,
}

impl OnStale {
    pub const NAMES: &'static [&'static str] = &["close", "keep"];

    /// Raw sessions are closed while the feed is stale, because they cannot be notified.
    pub fn closes(self) -> bool {
        self == OnStale::Close
    }
}

/// Value of `audit.on_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFull {
    RefuseSessions,
    Drop,
}

impl OnAuditFull {
    pub const NAMES: &'static [&'static str] = &["refuse_sessions", "drop"];
}

/// Value of `tls.min_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMinVersion {
    Tls12,
    Tls13,
}

impl TlsMinVersion {
    pub const NAMES: &'static [&'static str] = &["1.2", "1.3"];
}
