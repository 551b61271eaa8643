//! What settings and profile say of a feed, checked as far as that goes without connecting.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::bus::clock::Clock;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::RequestQueue;
use crate::profile::Profile;
use crate::profile::headers::{Headers, read_line, together};
use crate::profile::hidden::Hidden;
use crate::profile::secrets::Secrets;
use crate::profile::target::FeedUrl;
use crate::words::stamp::Stamp;

use crate::intake::connection::attempt::EndpointValues;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::feed_tls::FeedTls;
use crate::intake::connection::protocol_config::{ProtocolConfig, Timing};
use crate::intake::connection::proxy::Proxy;
use crate::intake::connection::upstream_line::FeedRoute;
use crate::intake::kept_messages::KeptMessages;
use crate::intake::time::unless_zero;
use crate::intake::upstream::UpstreamError;
use crate::intake::upstream::addresses::{DialRules, FeedAddresses, plain_target, read_urls};
use crate::intake::upstream::connections::ConnectionRules;
use crate::intake::upstream::demand::pinned;

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
    /// Other terms for the feed while it runs.
    pub changes: FeedChanges,
    /// Keeps some of the messages; none: no look at them is wanted.
    pub kept: Option<KeptMessages>,
}

/// The terms of a feed, which may replace those of one that runs.
pub struct FeedTerms {
    pub(super) settings: Settings,
    pub(super) profile: Profile,
    /// Shared by every connection.
    pub(super) config: Arc<ProtocolConfig>,
    pub(super) addresses: FeedAddresses,
    pub(super) rules: ConnectionRules,
    /// The operator's items, by the names of their topics.
    pub(super) pinned: Vec<String>,
    pub(super) hidden: Hidden,
}

/// The way of other terms to the feed that runs; newer ones replace those that were not taken yet.
#[derive(Clone, Default)]
pub struct FeedChanges(Arc<ChangeSlot>);

#[derive(Default)]
struct ChangeSlot {
    next: Mutex<Option<FeedTerms>>,
    news: Notify,
}

impl FeedTerms {
    /// # Errors
    /// There can be no feed by them.
    pub fn read(settings: Settings, clock: Clock) -> Result<FeedTerms, UpstreamError> {
        let profile = settings.checked_profile()?;
        for other in settings.urls.iter().filter_map(|url| profile.other_than(url)) {
            tracing::warn!("the feed's URL is one of profile `{other}`, but profile `{}` is used", profile.name);
        }
        let taken: Vec<String> = profile.taken().map(str::to_string).collect();
        let mut urls = read_urls(&settings.urls, &taken)?;
        urls.extend(profile.connect.branches.iter().map(|(_, url)| url.clone()));
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
        let pinned = pinned(&profile, &settings.items);
        let terms = FeedTerms { settings, profile, config, addresses, rules, pinned, hidden };
        terms.check(says_secrets, clock.now())?;
        Ok(terms)
    }

    /// Checks that every message of the opening and every address can be made.
    fn check(&self, says_secrets: bool, now: Stamp) -> Result<(), UpstreamError> {
        let (_, connections) = self.settings.legs_and_connections();
        let of_one = self.pinned.len().div_ceil(connections).min(self.profile.connect.items_max.unwrap_or(usize::MAX));
        let subscribe = self.profile.subscribe.as_ref();
        let name = |name: &String| subscribe.map(|subscribe| subscribe.item(name).venue);
        let items = self.pinned.iter().take(of_one).filter_map(name).collect();
        self.addresses.check(&EndpointValues { items, cursor: None }, says_secrets, now)?;
        let no_value = |missing| UpstreamError::NoValue { profile: self.profile.name.clone(), missing };
        self.config.check().map_err(no_value)
    }
}

impl FeedChanges {
    /// For the feed that runs, at its next turn.
    pub fn put(&self, terms: FeedTerms) {
        // A whole value is replaced, so a poisoned lock is still valid.
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(terms);
        self.0.news.notify_one();
    }

    /// Waits for other terms.
    pub(super) async fn next(&self) -> FeedTerms {
        loop {
            let told = self.0.news.notified();
            if let Some(terms) = self.0.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return terms;
            }
            told.await;
        }
    }
}

impl fmt::Debug for FeedChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedChanges")
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

    pub(super) fn legs_and_connections(&self) -> (usize, usize) {
        (self.legs.max(1), self.connections.max(1))
    }

    pub(super) fn limit_setting(&self) -> &'static str {
        match self.profile.connect.message_bytes_max {
            Some(_) => "`connect.max_message` in the profile",
            None => "`upstream.message_bytes_max`",
        }
    }

    /// Whether a connection that is open is as one by these settings would be.
    pub(super) fn connects_as(&self, other: &Settings) -> bool {
        let of = |it: &Settings| {
            let addresses = (it.urls.clone(), it.headers.clone(), it.proxy.clone(), it.client_certificate.clone());
            let bounds = (it.connect_timeout, it.redirects_max, it.message_bytes_max, it.deflate);
            (addresses, bounds, (it.idle_timeout, it.ping_interval, it.pong_timeout))
        };
        of(self) == of(other) && self.profile.says_the_same_as(&other.profile)
    }
}
