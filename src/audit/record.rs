//! A line of the audit log as its readers see it: place in the chain, and what reports count.

use std::borrow::Cow;

use serde::Deserialize;

/// What verification needs of a line. Other members are skipped.
#[derive(Debug, Deserialize)]
pub struct LinkRecord<'l> {
    pub seq: u64,
    #[serde(borrow)]
    pub prev_sha256: Cow<'l, str>,
}

/// What reports need of a line.
#[derive(Debug, Deserialize)]
pub struct UsageRecord<'l> {
    #[serde(borrow)]
    pub ts: Cow<'l, str>,
    #[serde(borrow)]
    pub event: Cow<'l, str>,
    pub session: Option<u64>,
    pub sub: Option<String>,
    pub iss: Option<String>,
    pub tier: Option<String>,
    pub status: Option<String>,
    #[serde(default)]
    pub patterns: Vec<String>,
    pub delay_ms: Option<u64>,
    pub address: Option<String>,
    /// Of a `query`; none: one.
    pub queries: Option<u64>,
}
