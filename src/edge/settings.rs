//! Bounds and choices of the edge: what the table's sections say, with 0 read as "no limit" where that is documented.

use std::net::SocketAddr;
use std::time::Duration;

use crate::settings::table::Config;

/// How long answers under way may take to end after a stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose, see [`crate::edge::Edge::local_addr`].
    pub listen: SocketAddr,
    /// Where `/metrics` is served, and health beside it; without it `/metrics` is served at `listen`.
    pub admin: Option<SocketAddr>,
    /// Whether permessage-deflate is agreed on with clients that offer it.
    pub compression: bool,
    /// Sessions at most; further upgrades are refused with 503.
    pub sessions_max: usize,
    /// Sessions at most from one IPv4 address or one IPv6 /64 network; further upgrades are refused with 503. None is
    /// right behind a proxy, where all clients have the proxy's address.
    pub sessions_per_address_max: Option<usize>,
    /// Patterns at most in one `topics` parameter; more are refused with 400.
    pub patterns_max: usize,
    /// Wildcards at most among them, for `/v1/topics` and `/v1/snapshot`; sessions are counted by the delivery.
    pub wildcards_max: usize,
    /// Upgrades to `format=raw` are refused while the feed is stale.
    pub refuses_raw_when_stale: bool,
    /// The feed is the simulated market: `/readyz` and `/v1/snapshot` say so.
    pub simulated: bool,
    /// How long answers under way may take to end after [`crate::edge::phase::Phase::Stopped`].
    pub stop_timeout: Duration,
    /// Of each connection until it is upgraded.
    pub connections: ConnectionLimits,
    /// Of the bodies that are made once and shared.
    pub answers: AnswerLimits,
    /// Who may ask.
    pub visitors: OriginRules,
}

impl Settings {
    /// Of a feed that is not simulated.
    pub fn new(config: &Config) -> Settings {
        let limited = |max: usize| (max > 0).then_some(max);
        let http = &config.http;
        Settings {
            listen: config.listen,
            admin: config.admin.listen,
            compression: config.compression.enabled,
            sessions_max: config.limits.sessions_max,
            sessions_per_address_max: limited(config.limits.sessions_per_address_max),
            patterns_max: config.limits.patterns_max,
            wildcards_max: config.limits.wildcards_max,
            refuses_raw_when_stale: config.raw.on_stale.closes(),
            simulated: false,
            stop_timeout: STOP_TIMEOUT,
            connections: ConnectionLimits {
                total_max: http.connections_max,
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
                requests_open: !config.upstream.send.is_empty() || config.upstream.request,
            },
        }
    }
}

impl Default for Settings {
    /// The documented defaults.
    fn default() -> Settings {
        Settings::new(&Config::default())
    }
}

/// Bounds of connections that are not upgraded.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections at most; at the bound an idle or silent one makes room, else new ones wait.
    pub total_max: usize,
    /// Of one address; at the bound one of its idle or silent ones makes room, else the new one is refused.
    pub per_address_max: Option<usize>,
    /// Of one address, without a complete request head; at the bound the oldest of them makes room.
    pub pending_per_address_max: Option<usize>,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// How long a connection may idle between two requests.
    pub keep_alive: Duration,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// Requests in a second on one connection; further ones wait until the second is over.
    pub requests_per_second_max: u32,
}

/// Bounds of answers that are made once and shared by all who ask at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Bytes of different answers that are held at a time; beyond them requests are refused with 503.
    pub bytes_max: usize,
    /// Of them, bytes of answers that clients of one address read.
    pub bytes_per_address_max: Option<usize>,
}

/// Which web pages may ask, and by which names the server may be asked.
#[derive(Clone, Debug, Default)]
pub struct OriginRules {
    /// Exact origins, or `*`; pages of the same host always may. If there is none, any may, unless `requests_open`.
    pub allowed_origins: Vec<String>,
    /// Values of `Host`, with or without a port; any if there is none.
    pub allowed_hosts: Vec<String>,
    /// Whether clients may speak to the feed in the server's name.
    pub requests_open: bool,
}
