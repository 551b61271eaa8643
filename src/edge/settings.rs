//! Bounds and options of the edge, from the table's sections; 0 becomes "no limit" where that is documented.

use std::time::Duration;

use crate::delivery::settings::behind_max;
use crate::settings::listener::ListenAddress;
use crate::settings::table::{AuthSettings, Config, TlsMinVersion};
use crate::settings::trusted_proxies::{ProxyHeader, TrustedProxies};

/// Time for answers under way after a stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose, see [`crate::edge::Edge::addresses`].
    pub listen: Vec<ListenAddress>,
    /// Where `/metrics` and health are served; without it `/metrics` is served at `listen`.
    pub admin: Option<ListenAddress>,
    /// Whether permessage-deflate is accepted from clients that offer it.
    pub compression: bool,
    /// Sessions at most; further upgrades are refused with 503.
    pub sessions_max: usize,
    /// Sessions at most from one IPv4 address or one IPv6 /64 network; further upgrades are refused with 503.
    pub sessions_per_address_max: Option<usize>,
    /// How far this server may be behind another one that a client comes from; zero if it is alone.
    pub behind_max: Duration,
    /// Patterns at most in one `topics` parameter; more are refused with 400.
    pub patterns_max: usize,
    /// Wildcards at most among them, for `/v1/topics` and `/v1/snapshot`; delivery counts those of sessions.
    pub wildcards_max: usize,
    /// Upgrades to `format=raw` are refused while the feed is stale.
    pub refuses_raw_when_stale: bool,
    /// The feed is the simulated market; `/readyz` and `/v1/snapshot` report it.
    pub simulated: bool,
    /// Time for answers under way after [`crate::edge::phase::Phase::Stopped`].
    pub stop_timeout: Duration,
    /// For connections before the upgrade.
    pub connections: ConnectionLimits,
    /// For bodies that are made once and shared.
    pub answers: AnswerLimits,
    /// For requests that wait for something new.
    pub polls: PollLimits,
    /// Who may name the address of a client.
    pub proxies: ProxyRules,
    /// Allowed web pages and names of the server.
    pub visitors: OriginRules,
    /// Where clients may show credentials; only looked at where somebody knows what they mean.
    pub credentials: CredentialSources,
    /// Sessions that have shown no credential at most, where one is required.
    pub unauthenticated_max: usize,
    /// For listeners that speak TLS.
    pub tls: TlsSettings,
}

/// Where clients may show credentials, besides their first command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSources {
    /// `Authorization: Bearer`.
    pub header: bool,
    pub subprotocol: bool,
    /// Name of the cookie.
    pub cookie: Option<String>,
    pub ticket: bool,
}

impl CredentialSources {
    fn new(settings: &AuthSettings) -> CredentialSources {
        let has = |source: &str| settings.sources.iter().any(|found| found == source);
        CredentialSources {
            header: has("header"),
            subprotocol: has("subprotocol"),
            cookie: has("cookie").then(|| settings.cookie.clone()),
            ticket: has("ticket"),
        }
    }
}

impl Settings {
    /// For a feed that is not simulated.
    pub fn new(config: &Config) -> Settings {
        let limited = |max: usize| (max > 0).then_some(max);
        let (http, credentials) = (&config.http, CredentialSources::new(&config.auth));
        Settings {
            listen: config.listen.clone(),
            admin: config.admin.listen.clone(),
            compression: config.compression.enabled,
            sessions_max: config.limits.sessions_max,
            sessions_per_address_max: limited(config.limits.sessions_per_address_max),
            behind_max: behind_max(config),
            patterns_max: config.limits.patterns_max,
            wildcards_max: config.limits.wildcards_max,
            refuses_raw_when_stale: config.raw.on_stale.closes(),
            simulated: false,
            stop_timeout: STOP_TIMEOUT,
            connections: ConnectionLimits {
                total_max: http.connections_max,
                files_max: config.limits.sessions_max.saturating_add(http.connections_max),
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
            polls: PollLimits {
                // Others must be able to connect, whatever is set.
                waiting_max: config.poll.waiting_max.min(http.connections_max / 2),
                per_address_max: limited(config.poll.waiting_per_address_max),
                gather: config.poll.gather,
            },
            proxies: ProxyRules { trusted: config.proxy.trusted.clone(), header: config.proxy.header },
            visitors: OriginRules {
                allowed_origins: http.allowed_origins.clone(),
                allowed_hosts: http.allowed_hosts.clone(),
                requests_open: !config.upstream.send.is_empty()
                    || config.upstream.request
                    || credentials.cookie.is_some(),
            },
            credentials,
            unauthenticated_max: config.auth.unauthenticated_max,
            tls: TlsSettings {
                certificates: config.tls.certificates.clone(),
                client_ca: config.tls.client_ca.clone(),
                ticket_key_file: config.tls.ticket_key_file.clone(),
                allows_tls12: config.tls.min_version == TlsMinVersion::Tls12,
                records_per_key: config.tls.records_per_key,
                handshake_threads: config.tls.handshake_threads,
                handshake_timeout: config.tls.handshake_timeout,
                handshakes_waiting_max: config.tls.handshakes_waiting_max,
                reload_interval: config.tls.reload_interval,
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

/// TLS of listeners.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// `CHAIN:KEY`, or one file with both. The first is for clients that ask for no known name.
    pub certificates: Vec<String>,
    /// Issuers of clients' certificates; with them every client must have one.
    pub client_ca: Option<String>,
    pub ticket_key_file: Option<String>,
    /// Otherwise TLS 1.3 alone.
    pub allows_tls12: bool,
    /// Records sealed with one key.
    pub records_per_key: u64,
    /// 0: a quarter of the cores.
    pub handshake_threads: usize,
    pub handshake_timeout: Duration,
    pub handshakes_waiting_max: usize,
    /// Time between two looks at the files.
    pub reload_interval: Duration,
}

/// Bounds of connections before the upgrade.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections at most; at the bound an idle or silent one makes room, else new ones wait.
    pub total_max: usize,
    /// Open files of connections and of sessions together.
    pub files_max: usize,
    /// Of one address; at the bound one of its idle or silent ones makes room, else the new one is refused.
    pub per_address_max: Option<usize>,
    /// Of one address, without a complete request head; at the bound the oldest of them makes room.
    pub pending_per_address_max: Option<usize>,
    /// Time for a client to send a request head.
    pub header_timeout: Duration,
    /// Longest idle time between two requests.
    pub keep_alive: Duration,
    /// Longest time in which a client takes no byte of an answer.
    pub write_timeout: Duration,
    /// Requests per second on one connection; further ones wait until the second is over.
    pub requests_per_second_max: u32,
}

/// Bounds of answers that are made once and shared by all requests at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Bytes of different answers that are held at a time; beyond them requests are refused with 503.
    pub bytes_max: usize,
    /// Of these, bytes of answers that clients of one address read.
    pub bytes_per_address_max: Option<usize>,
}

/// Bounds of requests that wait for something new.
#[derive(Clone, Copy, Debug)]
pub struct PollLimits {
    pub waiting_max: usize,
    pub per_address_max: Option<usize>,
    /// What is new within it is answered together.
    pub gather: Duration,
}

/// Proxies in front of the server.
#[derive(Clone, Debug)]
pub struct ProxyRules {
    pub trusted: TrustedProxies,
    /// Where they name the client of a request.
    pub header: ProxyHeader,
}

/// Allowed web pages, and allowed names of the server.
#[derive(Clone, Debug, Default)]
pub struct OriginRules {
    /// Exact origins, or `*`; pages of the same host are always allowed. Empty: any, unless `requests_open`.
    pub allowed_origins: Vec<String>,
    /// Values of `Host`, with or without a port. Empty: any.
    pub allowed_hosts: Vec<String>,
    /// Whether pages may act in somebody's name: clients may send to the feed, or are known by a cookie.
    pub requests_open: bool,
}
