//! The feed: connects, receives, and reconnects until it is stopped, over one connection or several.
//!
//! One task drives all connections (`Connections`), so that there is one order of publication and nothing between a
//! socket and the publisher. Each message is stamped once, on receipt, and classified at once; messages that have
//! arrived already are taken without a return to the scheduler. A lost connection is replaced after a growing, random
//! wait, which becomes short again only after data has flowed for a while.

mod addresses;
mod assignment;
mod awaited;
mod change;
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
mod terms;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::clock::Clock;
use crate::bus::demand::requests::{ClientRequest, RequestQueue};
use crate::bus::publisher::Publisher;
use crate::bus::signal::pulse::Pulse;
use crate::profile::Profile;
use crate::profile::hidden::Hidden;
use crate::profile::placeholders::Missing;
use crate::profile::secrets::SecretError;
use crate::profile::target::FeedUrlError;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use crate::intake::classify::Guess;
use crate::intake::connection::feed_tls::FeedTlsError;
use crate::intake::connection::protocol_config::ProtocolConfig;
use crate::intake::connection::proxy::ProxyError;
use crate::intake::connection::{ConnectionRole, FeedPart};
use crate::intake::pipeline::{Pipeline, PipelineSettings};
use crate::intake::probe_counts::ProbeCounts;
use crate::intake::upstream::assignment::Assignment;
use crate::intake::upstream::awaited::Awaited;
use crate::intake::upstream::connections::Connections;
use crate::intake::upstream::demand::UpstreamDemand;
use crate::intake::upstream::idle::Idleness;
use crate::intake::upstream::meters::UpstreamMeters;
use crate::intake::upstream::requests::ForwardedRequests;
use crate::intake::upstream::resubscribe::Renewals;
use crate::intake::upstream::snapshots::Snapshots;

/// Longest time between two signs of life, however quiet the feed is.
const TURN_NS: u64 = 1_000_000_000;
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

pub use terms::{FeedChanges, FeedTerms, Settings};

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
    /// The terms in force, as they were given.
    settings: Settings,
    /// Of the terms that connections are made by; counts up.
    version: u32,
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
        Ok(Upstream::with(FeedTerms::read(settings, clock)?, publisher, clock, meters))
    }

    fn with(terms: FeedTerms, publisher: Publisher, clock: Clock, meters: &Meters) -> Upstream {
        let FeedTerms { settings, profile, config, addresses, rules, pinned, hidden } = terms;
        let (pulse, now) = (publisher.pulse(), clock.now());
        let (legs, per_leg) = settings.legs_and_connections();
        let pipeline = PipelineSettings {
            profile: &profile.name,
            stale_after: profile.keepalive.stale_after,
            expire_after: settings.expire_after,
            legs,
            resume: profile.resume.as_ref(),
            hidden: hidden.clone(),
            kept: settings.kept.clone(),
        };
        let mut upstream = Upstream {
            connections: Connections::new(addresses, rules),
            assignment: Assignment::new(
                (legs, 1 + profile.connect.branches.len()),
                profile.connect.items_max.unwrap_or(usize::MAX),
                profile.can_drop(),
            ),
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
            settings,
            version: 0,
            hidden,
            clock,
            pulse,
            meters: UpstreamMeters::new(meters),
        };
        for leg in 0..legs {
            // Connections to branches come with the first item of each.
            let own = FeedPart { leg, branch: 0 };
            (0..per_leg).for_each(|_| upstream.join(own, ConnectionRole::Regular, now));
        }
        upstream.want(&pinned, now);
        upstream
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
        let changes = self.settings.changes.clone();
        loop {
            let now = self.clock.now();
            self.pulse.beat(now);
            self.tick(now);
            let turn_ns = now.mono_ns + TURN_NS;
            let deadline_ns = self.deadline_ns().map_or(turn_ns, |deadline_ns| deadline_ns.min(turn_ns));
            let (mut news, mut snapshot, mut change) = (ClientNews::None, None, None);
            // No order of preference: neither a busy feed nor busy clients starve the others.
            tokio::select! {
                () = stopped(stop) => return Ok(()),
                () = self.connections.gather(self.clock) => {}
                answer = self.snapshots.next() => snapshot = Some(answer),
                () = UpstreamDemand::changed(&interest), if self.demand.is_ready() => news = ClientNews::Interest,
                request = ForwardedRequests::next(&requests) => news = ClientNews::Request(request),
                terms = changes.next() => change = Some(terms),
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
            // Before a change, so that what has arrived is read by the terms that it came under.
            let taken = self.take_events();
            if let Some(terms) = change {
                self.change(terms, self.clock.now());
            }
            if let Err(mut error) = taken {
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

    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// The first URL without secrets.
    pub(super) fn shown_url(&self) -> String {
        self.connections.addresses.shown(0)
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
