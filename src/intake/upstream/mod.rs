//! The one feed: connects, listens, and connects again for as long as it is wanted, over one connection or several.
//!
//! One task drives all connections (`Connection`), so that there is one order in what is published and nothing between a
//! socket and the publisher. Each message is stamped once, on receipt, and sorted at once; messages that are there
//! already are taken without going back to the scheduler. A connection that is lost is replaced after a growing,
//! random wait, which becomes short again only after data has flowed for a while.

pub mod assignment;
mod awaited;
mod connections;
mod demand;
mod idle;
mod inbound;
mod lifecycle;
mod resubscribe;
mod tick;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::clock::Clock;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::{ClientRequest, RequestQueue};
use crate::bus::publisher::Publisher;
use crate::bus::signal::pulse::Pulse;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::assemble::sequence::Sequence;
use crate::intake::classify::Classifier;
use crate::intake::connection::backoff::Backoff;
use crate::intake::connection::dial::Dialer;
use crate::intake::connection::protocol_config::{ProtocolConfig, Timing};
use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::connection::resolve::System;
use crate::intake::connection::transport::Event;
use crate::intake::pipeline::{Pipeline, PipelineSettings, ProbeCounts};
use crate::intake::upstream::assignment::{Assignment, ConnectionId};
use crate::profile::Profile;
use crate::profile::headers::{Headers, read_line, together};
use crate::profile::hidden::Hidden;
use crate::profile::placeholders::{Context, Missing, Placeholder, TemplateSite};
use crate::profile::secrets::{SecretError, Secrets};
use crate::profile::subscribe::{FeedItem, ItemChange};
use crate::profile::target::{FeedUrl, FeedUrlError};
use crate::profile::template::Template;

use self::awaited::Awaited;
use self::idle::Idleness;
use crate::intake::upstream::connections::{Connection, ConnectionRole};
use crate::intake::upstream::demand::{UpstreamDemand, pinned};
use crate::intake::upstream::resubscribe::Renewals;

/// Events of one connection taken in one go before deadlines, other connections and the stop signal are looked at
/// again: some 100 us of work.
const BATCH_EVENTS: usize = 256;
/// However quiet the feed is, there is a sign of life this often.
const TURN_NS: u64 = 1_000_000_000;
/// More connections than this to one venue are a mistake.
const CONNECTIONS_MAX: usize = 256;

/// How to reach one feed. Where the profile says something about a time or a limit, the profile counts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ws://…` or `wss://…`, at least one: the first that answers is used, the next one when it fails.
    pub urls: Vec<String>,
    pub profile: Profile,
    /// Further headers of the handshake, as `Name: value`; they go before the profile's.
    pub headers: Vec<String>,
    /// What to subscribe to, in the words of the profile; may be empty.
    pub items: Vec<String>,
    /// Whole copies of the feed that are received at a time; of each message the first copy counts.
    pub legs: usize,
    /// Connections over which the items of a leg are spread at least.
    pub connections: usize,
    /// For TCP, TLS and the handshake together.
    pub connect_timeout: Duration,
    /// Without a message for this long the feed is `stale`, after twice this it is connected anew. None: the profile's, else 30 s;
    /// zero: never.
    pub idle_timeout: Option<Duration>,
    /// Between two WebSocket pings; zero: none are sent.
    pub ping_interval: Duration,
    /// For the answer to a WebSocket ping, and for the upstream to accept what is sent.
    pub pong_timeout: Duration,
    /// Longest wait before the first new attempt.
    pub backoff_min: Duration,
    /// Longest wait at all.
    pub backoff_max: Duration,
    /// A connection is replaced by a new one after this. None: the profile's, else never.
    pub rotate_after: Option<Duration>,
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// What clients want; then only that is asked for, besides the items. None: the items alone.
    pub interest: Option<Arc<Interest>>,
    /// A topic that nobody wants any more is asked for so much longer.
    pub linger: Duration,
    /// What clients say to the upstream.
    pub asks: Option<RequestQueue>,
    /// An item that was granted, and of which nothing has come for this long, is told as silent.
    pub first_message_timeout: Duration,
    /// A topic of which nothing has come for so long is forgotten; none: never.
    pub expire_after: Option<Duration>,
}

/// Why there will be no feed; trying again is of no use before something was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    BadUrl(#[from] FeedUrlError),
    #[error("upstream.headers: {0}")]
    BadHeader(String),
    #[error(
        "in what profile `{profile}` says after connecting: {wanting}; set it, or make the part optional: `${{NAME?…}}`"
    )]
    Unsayable { profile: String, wanting: Missing },
    #[error("in the upstream's URL: {0}")]
    BadUrlTemplate(String),
    #[error(
        "expected nothing to subscribe to, since profile `{profile}` has no `[subscribe]`, found {items} items; \
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
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("refused for good by the upstream (rule `{rule}` of profile `{profile}`): {message}")]
    Refused { profile: String, rule: String, message: String },
}

/// What clients have for the upstream.
enum ClientNews {
    None,
    Interest,
    Ask(ClientRequest),
}

/// The feed, before and while it is connected.
pub struct Upstream {
    profile: Arc<Profile>,
    script: Arc<ProtocolConfig>,
    dialer: Dialer,
    urls: Vec<Template<Placeholder>>,
    backoff: Backoff,
    /// Data for this long show that a connection is worth having.
    sustained: Duration,
    rotate_after: Option<Duration>,
    connections_max: usize,
    /// Where the limit of messages in force comes from: a key of the profile, or a setting.
    limit_setting: &'static str,
    /// By address: not to be dialed by anyone before this.
    held_ns: Vec<u64>,
    /// What is sent, or to be read in the URL, is worth being kept from others.
    says_secrets: bool,
    hidden: Hidden,
    dials: Option<RateLimit>,
    clock: Clock,
    pulse: Pulse,
    roster: Assignment,
    members: Vec<Connection>,
    links: u32,
    lines: u32,
    outlet: Pipeline,
    renewals: Renewals,
    /// Several connections carry the same until then at least.
    merging_until_ns: u64,
    /// Newest cursor of a feed that can go on where it ended.
    cursor: Sequence,
    wishes: UpstreamDemand,
    awaited: Awaited,
    idleness: Idleness,
    events: Vec<(ConnectionId, Event, Stamp)>,
    /// When all connections were last looked at: what came by then was heard.
    polled: Stamp,
    meters: Meters,
}

impl Upstream {
    /// Checks everything that can be checked without connecting.
    pub fn new(
        settings: Settings,
        publisher: Publisher,
        clock: Clock,
        meters: &Meters,
    ) -> Result<Upstream, UpstreamError> {
        let mut profile = settings.profile;
        let limit_setting = match profile.connect.message_bytes_max {
            Some(_) => "`connect.max_message` in the profile",
            None => "`upstream.message_bytes_max`",
        };
        let pinned = pinned(&profile, &settings.items);
        let bytes_max = *profile.connect.message_bytes_max.get_or_insert(settings.message_bytes_max);
        let headers = settings.headers.iter().map(|line| read_line(line)).collect::<Result<Headers, _>>();
        let headers = headers.map_err(UpstreamError::BadHeader)?;
        profile.connect.headers = together(profile.connect.headers, headers);
        let profile = Arc::new(profile);
        let urls = settings.urls.iter().map(|url| {
            FeedUrl::check(url)?;
            Placeholder::template(url, TemplateSite::Url).map_err(UpstreamError::BadUrlTemplate)
        });
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        if profile.subscribe.is_none() && !settings.items.is_empty() {
            let items = settings.items.len();
            return Err(UpstreamError::NoSubscribe { profile: profile.name.clone(), items });
        }
        let templates = profile.templates().chain(&urls);
        let secrets = Secrets::gather(&profile.name, templates, &profile.signs, |name| std::env::var(name).ok())?;
        let timing = Timing {
            idle_timeout: settings.idle_timeout,
            ws_ping: Some(settings.ping_interval).filter(|interval| !interval.is_zero()),
            pong_timeout: settings.pong_timeout,
        };
        let (connect, retry) = (&profile.connect, &profile.retry);
        let connections_max = connect.connections_max.unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX);
        let (legs, connections) = (settings.legs.max(1), settings.connections.max(1));
        if legs * connections > connections_max {
            let (profile, max) = (profile.name.clone(), connections_max);
            return Err(UpstreamError::TooManyConnections { profile, max, legs, connections });
        }
        let subscribe = profile.subscribe.as_ref();
        let can_drop = subscribe.is_some_and(|how| how.change == ItemChange::Live && how.unsubscribe.is_some());
        let places = || urls.iter().map(|url| plain_target(url, &secrets));
        let in_urls: Vec<String> = places().flatten().flat_map(|target| target.secrets().collect::<Vec<_>>()).collect();
        let hidden = secrets.hidden(in_urls.into_iter());
        let says_secrets = !secrets.is_empty() || places().flatten().any(|target| target.authorization().is_some());
        let (min, max) = (retry.min.unwrap_or(settings.backoff_min), retry.max.unwrap_or(settings.backoff_max));
        let mut upstream = Upstream {
            script: Arc::new(ProtocolConfig::new(&profile, timing, secrets)),
            dialer: Dialer::new(
                connect.open_timeout.unwrap_or(settings.connect_timeout),
                bytes_max,
                Arc::new(System::default()),
            )?,
            held_ns: vec![0; urls.len()],
            limit_setting,
            says_secrets,
            urls,
            backoff: Backoff::new(min, max),
            sustained: retry.reset_after.unwrap_or(max),
            rotate_after: settings.rotate_after.or(connect.rotate_after),
            connections_max,
            dials: connect.dial_rate.map(RateLimit::new),
            clock,
            pulse: publisher.pulse(),
            roster: Assignment::new(legs, connect.items_max.unwrap_or(usize::MAX), can_drop),
            members: Vec::new(),
            links: 0,
            lines: 0,
            outlet: Pipeline::new(
                (publisher, settings.interest.clone()),
                PipelineSettings {
                    stale_after: profile.keepalive.stale_after,
                    expire_after: settings.expire_after,
                    legs,
                    hidden: hidden.clone(),
                },
                meters,
            ),
            hidden,
            renewals: Renewals::default(),
            merging_until_ns: 0,
            cursor: Sequence::default(),
            wishes: UpstreamDemand::new(settings.interest, settings.asks, settings.linger, &pinned),
            awaited: Awaited::new(settings.first_message_timeout),
            idleness: Idleness::default(),
            events: Vec::new(),
            polled: Stamp::default(),
            meters: meters.clone(),
            profile,
        };
        let now = upstream.clock.now();
        for leg in 0..legs {
            for _ in 0..connections {
                upstream.join(leg, ConnectionRole::Regular, now);
            }
        }
        upstream.want(&pinned, now);
        upstream.check_doors(now)?;
        let unsayable = |wanting| UpstreamError::Unsayable { profile: upstream.profile.name.clone(), wanting };
        upstream.script.check().map_err(unsayable)?;
        Ok(upstream)
    }

    /// One more connection; it is dialed with the next turn.
    fn join(&mut self, leg: usize, role: ConnectionRole, now: Stamp) {
        let id = ConnectionId(self.links);
        self.links += 1;
        let backoff = (self.urls.len(), self.backoff.clone());
        let mut member = Connection::new(id, leg, role, backoff, Classifier::new(&self.profile));
        member.hold(&self.held_ns, now);
        self.members.push(member);
        if role == ConnectionRole::Regular {
            let orders = self.roster.add_link(leg, id);
            self.obey(orders, now);
        }
        self.judge_merging(now);
    }

    /// The upstream is to be asked for these as well.
    fn want(&mut self, names: &[String], now: Stamp) {
        let Some(subscribe) = self.script.subscribe.clone() else { return };
        let items: Vec<Arc<FeedItem>> = names.iter().map(|name| Arc::new(subscribe.item(name))).collect();
        let orders = self.roster.add(items);
        self.obey(orders, now);
    }

    /// Feeds the publisher until `stop` becomes true or its sender is gone. Every other end is an error that trying
    /// again would not mend.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), UpstreamError> {
        self.serve(&mut stop).await
    }

    /// As `run`, so that what happened can be asked for afterwards.
    pub(super) async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        let ended = self.serve_until_stopped(stop).await;
        // Stopping early is no reason to keep back what was received.
        self.settle_guesses();
        let farewells = self.members.iter_mut().map(|member| member.link.closed());
        futures_util::future::join_all(farewells).await;
        ended
    }

    async fn serve_until_stopped(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        let (interest, asks) = (self.wishes.interest.clone(), self.wishes.asks.clone());
        loop {
            let now = self.clock.now();
            self.pulse.beat(now);
            self.act(now);
            let turn_ns = now.mono_ns + TURN_NS;
            let deadline_ns = self.deadline_ns().map_or(turn_ns, |deadline_ns| deadline_ns.min(turn_ns));
            let mut news = ClientNews::None;
            // In no order of preference: neither a busy feed nor busy clients keep the others waiting.
            tokio::select! {
                () = stopped(stop) => return Ok(()),
                () = self.gather() => {}
                () = UpstreamDemand::changed(&interest), if self.wishes.listens() => news = ClientNews::Interest,
                ask = UpstreamDemand::next(&asks) => news = ClientNews::Ask(ask),
                () = sleep_until(now, deadline_ns) => {}
            }
            match news {
                ClientNews::None => {}
                ClientNews::Interest => self.heed_interest(self.clock.now()),
                ClientNews::Ask(ask) => self.forward(ask, self.clock.now()),
            }
            if let Err(mut error) = self.take_events() {
                if let UpstreamError::Refused { message, .. } = &mut error {
                    *message = self.hidden.mask(message).into_owned();
                }
                self.outlet.refused(&error.to_string(), self.clock.now());
                return Err(error);
            }
        }
    }

    /// Waits until something has happened on some connection, and gathers what has; or until one of them has taken what
    /// was to be sent, and may take more.
    async fn gather(&mut self) {
        let Upstream { members, events, clock, polled, .. } = self;
        std::future::poll_fn(|cx| {
            *polled = clock.now();
            let mut has_written = false;
            for member in members.iter_mut() {
                let takes_more = member.link.takes_more();
                for _ in 0..BATCH_EVENTS {
                    let Poll::Ready(event) = member.link.poll(cx, clock.now()) else { break };
                    events.push((member.id, event, clock.now()));
                }
                has_written |= !takes_more && member.link.takes_more();
            }
            if events.is_empty() && !has_written { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    pub(super) fn tally(&self) -> &ProbeCounts {
        self.outlet.tally()
    }

    /// A sorter that has made its guess, or any.
    pub(super) fn sorter(&self) -> Option<&Classifier> {
        let guessed = self.members.iter().find(|member| member.sorter.guess().is_some());
        guessed.or(self.members.first()).map(|member| &member.sorter)
    }

    /// The first URL without what may be secret.
    pub(super) fn shown_url(&self) -> String {
        self.target(0).map_or_else(|error| error.to_string(), |target| target.shown())
    }
}

/// The address as far as it is known without a cursor or items.
fn plain_target(url: &Template<Placeholder>, secrets: &Secrets) -> Result<FeedUrl, FeedUrlError> {
    let unknown = Context { resume: Some(""), ..Context::plain(secrets, Stamp::default(), 0) };
    FeedUrl::parse(&unknown.fill(url).unwrap_or_else(|_| url.source().to_string()))
}

/// Returns once `stop` is true or nobody can make it so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Sleeps to a time on the clock that now says `now`.
async fn sleep_until(now: Stamp, deadline_ns: u64) {
    tokio::time::sleep(Duration::from_nanos(deadline_ns.saturating_sub(now.mono_ns))).await;
}
