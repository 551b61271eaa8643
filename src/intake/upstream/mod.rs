//! The feed: connects, receives, and reconnects until it is stopped, over one connection or several.
//!
//! One task drives all connections (`Connections`), so that there is one order of publication and nothing between a
//! socket and the publisher. Each message is stamped once, on receipt, and classified at once; messages that have
//! arrived already are taken without a return to the scheduler. A lost connection is replaced after a growing, random
//! wait, which becomes short again only after data has flowed for a while.

mod addresses;
mod assignment;
mod awaited;
mod connections;
mod demand;
mod idle;
mod inbound;
mod lifecycle;
mod meters;
mod renewal;
mod requests;
mod resubscribe;
mod snapshots;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::clock::Clock;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::{ClientRequest, RequestQueue};
use crate::bus::publisher::Publisher;
use crate::bus::signal::pulse::Pulse;
use crate::profile::Profile;
use crate::profile::headers::{Headers, read_line, together};
use crate::profile::hidden::Hidden;
use crate::profile::placeholders::Missing;
use crate::profile::secrets::{SecretError, Secrets};
use crate::profile::subscribe::ItemChange;
use crate::profile::target::{FeedUrl, FeedUrlError};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::classify::Guess;
use crate::intake::connection::ConnectionRole;
use crate::intake::connection::attempt::EndpointValues;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::feed_tls::{FeedTls, FeedTlsError};
use crate::intake::connection::protocol_config::{ProtocolConfig, Timing};
use crate::intake::connection::proxy::{Proxy, ProxyError};
use crate::intake::connection::upstream_line::FeedRoute;
use crate::intake::pipeline::{Pipeline, PipelineSettings};
use crate::intake::probe_counts::ProbeCounts;
use crate::intake::time::unless_zero;
use crate::intake::upstream::addresses::{DialRules, FeedAddresses, plain_target, read_urls};
use crate::intake::upstream::assignment::Assignment;
use crate::intake::upstream::awaited::Awaited;
use crate::intake::upstream::connections::{ConnectionRules, Connections};
use crate::intake::upstream::demand::{UpstreamDemand, pinned};
use crate::intake::upstream::idle::Idleness;
use crate::intake::upstream::meters::UpstreamMeters;
use crate::intake::upstream::requests::ForwardedRequests;
use crate::intake::upstream::resubscribe::Renewals;
use crate::intake::upstream::snapshots::Snapshots;

/// Longest time between two signs of life, however quiet the feed is.
const TURN_NS: u64 = 1_000_000_000;
/// More connections than this to one venue are a mistake.
const CONNECTIONS_MAX: usize = 256;

/// Address and limits of one feed. A time or limit of the profile overrides the setting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ws://…` or `wss://…`, at least one: the first that answers is used, the next when it fails.
    pub urls: Vec<String>,
    pub profile: Profile,
    /// Further headers of the handshake, as `Name: value`; they override the profile's.
    pub headers: Vec<String>,
    /// Items to subscribe to; may be empty.
    pub items: Vec<String>,
    /// Whole copies of the feed that are received at a time; the first copy of each message counts.
    pub legs: usize,
    /// Connections over which the items of a leg are spread, at least.
    pub connections: usize,
    /// Limit for proxy, TCP, TLS, handshake and redirects together.
    pub connect_timeout: Duration,
    /// `http://…` or `socks5://…`; none: the feed is dialed itself.
    pub proxy: Option<String>,
    /// `CHAIN:KEY`, or one file with both.
    pub client_certificate: Option<String>,
    /// Followed at most in one attempt.
    pub redirects_max: usize,
    /// After this time without a message the feed is `stale`; after twice this fanline reconnects. None: the profile's,
    /// else 30 s; zero: never.
    pub idle_timeout: Option<Duration>,
    /// Time between two WebSocket pings; zero: no pings.
    pub ping_interval: Duration,
    /// Limit for the answer to a WebSocket ping, and for the feed to accept sent bytes.
    pub pong_timeout: Duration,
    /// Longest wait before the first attempt to reconnect.
    pub backoff_min: Duration,
    /// Longest wait before any attempt.
    pub backoff_max: Duration,
    /// Age at which a connection is replaced. None: the profile's, else never (`config/effective.rs` has decided).
    pub rotate_after: Option<Duration>,
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// Whether the feed may compress its messages.
    pub deflate: bool,
    /// Clients' interest, subscribed besides the items. None: the items alone.
    pub interest: Option<Arc<Interest>>,
    /// How long a topic stays subscribed after its last client has left.
    pub linger: Duration,
    /// Client requests to the feed.
    pub requests: Option<RequestQueue>,
    /// A granted item without a message for this long is reported as silent.
    pub first_message_timeout: Duration,
    /// A topic without a message for this long is forgotten; none: never.
    pub expire_after: Option<Duration>,
}

/// Why there will be no feed; retrying does not help until something changes.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    BadUrl(#[from] FeedUrlError),
    #[error("upstream.headers: {0}")]
    BadHeader(String),
    #[error(
        "in the messages profile `{profile}` sends after connecting: {missing}; set it, or make the part optional: `${{NAME?…}}`"
    )]
    NoValue { profile: String, missing: Missing },
    #[error("in the feed's URL: {0}")]
    BadUrlTemplate(String),
    #[error(
        "expected no items, because profile `{profile}` has no `[subscribe]`, found {items}; \
         remove `--subscribe`, or put them into the URL"
    )]
    NoSubscribe { profile: String, items: usize },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(
        "expected at most {max} connections to the venue of profile `{profile}`, found {legs} legs of {connections}; \
         lower `upstream.legs` or `upstream.connections`"
    )]
    TooManyConnections { profile: String, max: usize, legs: usize, connections: usize },
    #[error(transparent)]
    Tls(#[from] FeedTlsError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("refused permanently by the feed (rule `{rule}` of profile `{profile}`): {message}")]
    Refused { profile: String, rule: String, message: String },
}

/// News of clients for the feed.
enum ClientNews {
    None,
    Interest,
    Request(ClientRequest),
}

/// The feed, before and while it is connected.
pub struct Upstream {
    profile: Arc<Profile>,
    /// Shared by every connection.
    config: Arc<ProtocolConfig>,
    connections: Connections,
    /// The connection of each item.
    assignment: Assignment,
    demand: UpstreamDemand,
    requests: ForwardedRequests,
    request_queue: Option<RequestQueue>,
    awaited: Awaited,
    renewals: Renewals,
    snapshots: Snapshots,
    idleness: Idleness,
    pipeline: Pipeline,
    /// Several connections carry the same until then at least; 0: none do.
    copies_until_ns: u64,
    /// Origin of the message limit in force: a key of the profile, or a setting.
    limit_setting: &'static str,
    hidden: Hidden,
    clock: Clock,
    pulse: Pulse,
    meters: UpstreamMeters,
}

impl Upstream {
    /// Checks everything that can be checked without connecting.
    pub fn new(
        settings: Settings,
        publisher: Publisher,
        clock: Clock,
        meters: &Meters,
    ) -> Result<Upstream, UpstreamError> {
        let (pulse, now) = (publisher.pulse(), clock.now());
        let profile = settings.checked_profile()?;
        let taken: Vec<String> = profile.taken().map(str::to_string).collect();
        let urls = read_urls(&settings.urls, &taken)?;
        let templates = profile.templates().chain(&urls);
        let secrets = Secrets::gather(&profile.name, templates, &profile.signs, |name| std::env::var(name).ok())?;
        let targets: Vec<FeedUrl> = urls.iter().flat_map(|url| plain_target(url, &secrets)).collect();
        let hidden = secrets.hidden(targets.iter().flat_map(FeedUrl::secrets));
        let says_secrets =
            !secrets.is_empty() || !taken.is_empty() || targets.iter().any(|target| target.authorization().is_some());
        let config = Arc::new(ProtocolConfig::new(&profile, settings.timing(), secrets));
        let bytes_max = profile.connect.message_bytes_max.unwrap_or(settings.message_bytes_max);
        let deflate = profile.connect.deflate.unwrap_or(settings.deflate);
        let open_timeout = profile.connect.open_timeout.unwrap_or(settings.connect_timeout);
        let route = FeedRoute {
            timeout: open_timeout,
            tls: Arc::new(FeedTls::new(settings.client_certificate.clone())?),
            proxy: settings.proxy.as_deref().map(Proxy::parse).transpose()?.map(Arc::new),
            redirects_max: settings.redirects_max,
            says_secrets,
        };
        let dial_rules = DialRules { route, message_bytes_max: bytes_max, deflate, hidden: hidden.clone(), clock };
        let addresses = FeedAddresses::new(urls, &profile.connect, config.clone(), dial_rules);
        let rules = settings.connection_rules(&profile)?;
        let subscribe = profile.subscribe.as_ref();
        let can_drop = subscribe.is_some_and(|how| how.change == ItemChange::Live && how.unsubscribes());
        let (legs, per_leg) = settings.legs_and_connections();
        let pinned = pinned(&profile, &settings.items);
        let pipeline = PipelineSettings {
            stale_after: profile.keepalive.stale_after,
            expire_after: settings.expire_after,
            legs,
            resume: profile.resume.as_ref(),
            hidden: hidden.clone(),
        };
        let mut upstream = Upstream {
            connections: Connections::new(addresses, rules),
            assignment: Assignment::new(legs, profile.connect.items_max.unwrap_or(usize::MAX), can_drop),
            demand: UpstreamDemand::new(settings.interest.clone(), settings.linger, &pinned),
            requests: ForwardedRequests::default(),
            request_queue: settings.requests.clone(),
            awaited: Awaited::new(settings.first_message_timeout),
            renewals: Renewals::default(),
            snapshots: Snapshots::new(profile.snapshot.as_ref()),
            idleness: Idleness::default(),
            pipeline: Pipeline::new((publisher, settings.interest.clone()), pipeline, meters),
            copies_until_ns: 0,
            limit_setting: settings.limit_setting(),
            config,
            profile: Arc::new(profile),
            hidden,
            clock,
            pulse,
            meters: UpstreamMeters::new(meters),
        };
        for leg in 0..legs {
            (0..per_leg).for_each(|_| upstream.join(leg, ConnectionRole::Regular, now));
        }
        upstream.want(&pinned, now);
        upstream.check(says_secrets, now)?;
        Ok(upstream)
    }

    /// Checks that every message of the opening and every address can be made.
    fn check(&self, says_secrets: bool, now: Stamp) -> Result<(), UpstreamError> {
        let first = self.connections.iter().next().map(|connection| self.venue_names(connection));
        let values = EndpointValues { items: first.unwrap_or_default(), cursor: None };
        self.connections.addresses.check(&values, says_secrets, now)?;
        let no_value = |missing| UpstreamError::NoValue { profile: self.profile.name.clone(), missing };
        self.config.check().map_err(no_value)
    }

    /// Feeds the publisher until `stop` becomes true or its sender is gone. Every other end is an error that retrying
    /// cannot fix.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<(), UpstreamError> {
        self.run_for_now(stop).await.1
    }

    /// As [`Upstream::run`]; gives the publisher back, for another feed that goes on with it.
    pub async fn run_for_now(mut self, mut stop: watch::Receiver<bool>) -> (Publisher, Result<(), UpstreamError>) {
        let ended = self.serve(&mut stop).await;
        (self.pipeline.into_publisher(), ended)
    }

    /// As `run`, so that the outcome can be read afterwards.
    pub(super) async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        let ended = self.serve_until_stopped(stop).await;
        // An early stop does not hold back received messages.
        self.settle_guesses();
        self.connections.close().await;
        ended
    }

    async fn serve_until_stopped(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        let (interest, requests) = (self.demand.interest(), self.request_queue.clone());
        loop {
            let now = self.clock.now();
            self.pulse.beat(now);
            self.tick(now);
            let turn_ns = now.mono_ns + TURN_NS;
            let deadline_ns = self.deadline_ns().map_or(turn_ns, |deadline_ns| deadline_ns.min(turn_ns));
            let (mut news, mut snapshot) = (ClientNews::None, None);
            // No order of preference: neither a busy feed nor busy clients starve the others.
            tokio::select! {
                () = stopped(stop) => return Ok(()),
                () = self.connections.gather(self.clock) => {}
                answer = self.snapshots.next() => snapshot = Some(answer),
                () = UpstreamDemand::changed(&interest), if self.demand.is_ready() => news = ClientNews::Interest,
                request = ForwardedRequests::next(&requests) => news = ClientNews::Request(request),
                () = sleep_until(now, deadline_ns) => {}
            }
            match news {
                ClientNews::None => {}
                ClientNews::Interest => self.follow_demand(self.clock.now()),
                ClientNews::Request(request) => self.forward(request, self.clock.now()),
            }
            if let Some((topic, answer)) = snapshot {
                self.snapshot_answered(&topic, answer, self.clock.now());
            }
            if let Err(mut error) = self.take_events() {
                if let UpstreamError::Refused { message, .. } = &mut error {
                    *message = self.hidden.mask(message).into_owned();
                }
                self.pipeline.output.refused_permanently(&error.to_string(), self.clock.now());
                return Err(error);
            }
        }
    }

    pub(super) fn counts(&self) -> &ProbeCounts {
        &self.pipeline.output.counts
    }

    /// The topic template, if it was guessed.
    pub(super) fn guess(&self) -> Option<&Guess> {
        self.connections.guess()
    }

    /// The first URL without secrets.
    pub(super) fn shown_url(&self) -> String {
        self.connections.addresses.shown(0)
    }
}

/// Settings and profile combined.
impl Settings {
    /// The profile with the settings' additions.
    fn checked_profile(&self) -> Result<Profile, UpstreamError> {
        let mut profile = self.profile.clone();
        let headers = self.headers.iter().map(|line| read_line(line)).collect::<Result<Headers, _>>();
        profile.connect.headers = together(profile.connect.headers, headers.map_err(UpstreamError::BadHeader)?);
        profile.connect.message_bytes_max.get_or_insert(self.message_bytes_max);
        if profile.subscribe.is_none() && !self.items.is_empty() {
            return Err(UpstreamError::NoSubscribe { profile: profile.name, items: self.items.len() });
        }
        Ok(profile)
    }

    fn timing(&self) -> Timing {
        Timing {
            idle_timeout: self.idle_timeout,
            ws_ping: unless_zero(self.ping_interval),
            pong_timeout: self.pong_timeout,
        }
    }

    fn connection_rules(&self, profile: &Profile) -> Result<ConnectionRules, UpstreamError> {
        let (connect, retry) = (&profile.connect, &profile.retry);
        let max = connect.connections_max.unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX);
        let (legs, connections) = self.legs_and_connections();
        if legs * connections > max {
            let profile = profile.name.clone();
            return Err(UpstreamError::TooManyConnections { profile, max, legs, connections });
        }
        let (wait_min, wait_max) = (retry.min.unwrap_or(self.backoff_min), retry.max.unwrap_or(self.backoff_max));
        Ok(ConnectionRules {
            max,
            backoff: Backoff::new(wait_min, wait_max),
            sustained: retry.reset_after.unwrap_or(wait_max),
            rotate_after: self.rotate_after.or(connect.rotate_after),
        })
    }

    fn legs_and_connections(&self) -> (usize, usize) {
        (self.legs.max(1), self.connections.max(1))
    }

    fn limit_setting(&self) -> &'static str {
        match self.profile.connect.message_bytes_max {
            Some(_) => "`connect.max_message` in the profile",
            None => "`upstream.message_bytes_max`",
        }
    }
}

/// Returns once `stop` is true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Sleeps until a time on the clock, which is now at `now`.
async fn sleep_until(now: Stamp, deadline_ns: u64) {
    tokio::time::sleep(Duration::from_nanos(deadline_ns.saturating_sub(now.mono_ns))).await;
}
