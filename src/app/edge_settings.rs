//! What the configuration says to the edge.

use std::time::Duration;

use crate::config::{Config, OnStale};
use crate::edge::settings::{AnswerLimits, ConnectionLimits, OriginRules, Settings};
use crate::open_files::Shares;

/// How long answers under way may take to end after a stop.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// `shares` is what the limit of open files leaves.
pub(super) fn settings(config: &Config, shares: &Shares, simulated: bool) -> Settings {
    let limited = |max: usize| (max > 0).then_some(max);
    let http = &config.http;
    Settings {
        listen: config.listen,
        admin: config.admin.listen,
        compression: config.compression.enabled,
        sessions_max: shares.sessions_max,
        sessions_per_address_max: limited(config.limits.sessions_per_address_max),
        patterns_max: config.limits.patterns_max,
        wildcards_max: config.limits.wildcards_max,
        refuses_raw_when_stale: config.raw.on_stale == OnStale::Close,
        simulated,
        stop_timeout: STOP_TIMEOUT,
        connections: ConnectionLimits {
            total_max: shares.connections_max,
            per_address_max: limited(http.connections_per_address_max),
            pending_per_address_max: limited(http.pending_per_address_max),
            header_timeout: http.header_timeout,
            keep_alive: http.keep_alive,
            write_timeout: http.write_timeout,
            requests_per_second_max: http.requests_per_second_max,
        },
        answers: AnswerLimits {
            bytes_max: http.answer_bytes_max,
            bytes_per_address_max: limited(http.answer_bytes_per_address_max),
        },
        visitors: OriginRules {
            allowed_origins: http.allowed_origins.clone(),
            allowed_hosts: http.allowed_hosts.clone(),
            asks_open: !config.upstream.send.is_empty() || config.upstream.request,
        },
    }
}
