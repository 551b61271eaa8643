//! Floor 6: puts the rooms together, one function per command.

pub(crate) mod demand;
mod edge_settings;
mod fault_injection;
mod parts;
mod roles;
mod server;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::watch;

use crate::bus::clock::Clock;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests;
use crate::bus::demand::requests::RequestQueue;
use crate::bus::history::{History, HistoryError};
use crate::bus::publisher::Publisher;
use crate::bus::signal::pulse::Vitals;
use crate::bus::{self, Limits};
use crate::config::error::ConfigError;
use crate::config::log_queue::LogQueue;
use crate::config::logs::write_within;
use crate::config::{Config, DemandMode, OnStale};
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::settings::WindowSettings;
use crate::delivery::shards::Delivery;
use crate::edge::{self, Edge, EdgeError, EdgeParts, Phase};
use crate::intake::probe::{ProbeError, probe as listen_to};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::open_files::{Shares, open_files_limit, raise_open_files_limit};
use crate::profile::client::NoSend;
use crate::profile::section::ProfileError;
use crate::profile::{ChoiceError, Profile};
use crate::simulator::SimulatorError;
use crate::simulator::market::MarketSettings;
use crate::simulator::market_server::Simulator;
use crate::simulator::recording::{Recording, RecordingError};
use crate::simulator::replay::{ReplayServer, Speed};
use crate::words::ids::Epoch;
use crate::words::metrics::{self as names, Meters};
use crate::words::topic::TopicError;

use self::parts::{EndedPart, VitalParts};
use self::roles::{feed, serve_http, start_simulator};
use self::server::RunningServer;
use self::signals::Signals;
use crate::app::fault_injection::FaultInjection;

/// Topics that `probe` shows with a sample; more would scroll away.
const PROBE_SAMPLES: usize = 40;
/// The profile of the simulated market.
const SIMULATED: &str = "simulated";

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: expected a configuration, a profile or a recording, found {found}; check the file", .path.display())]
    NothingToCheck { path: PathBuf, found: &'static str },
    #[error(
        "expected the URL of a feed, found none in the settings and none in profile `{profile}`; \
         give it, as in `fanline wss://HOST/PATH --profile {profile}`, or in upstream.url"
    )]
    NoUrl { profile: String },
    #[error("history.keep: {0}")]
    History(#[from] HistoryError),
    #[error("upstream.send: {0}")]
    Send(#[from] TopicError),
    #[error("upstream.send: {0}")]
    NoSend(#[from] NoSend),
    #[error("upstream.demand_topics: {0}")]
    Demand(TopicError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    ProfileChoice(#[from] ChoiceError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error(transparent)]
    Venue(#[from] SimulatorError),
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error("{0}; start the server again, and report this if it is a panic")]
    PartEnded(EndedPart),
    #[error("expected to {what}, found: {error}")]
    System { what: &'static str, error: io::Error },
}

impl AppError {
    /// Whether what the operator wrote is wrong (exit code 2), rather than what happened (1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            AppError::Config(_)
                | AppError::Unreadable { .. }
                | AppError::NothingToCheck { .. }
                | AppError::NoUrl { .. }
                | AppError::History(_)
                | AppError::Send(_)
                | AppError::NoSend(_)
                | AppError::Demand(_)
                | AppError::Profile(_)
                | AppError::ProfileChoice(_)
                | AppError::Recording(_)
        ) || matches!(self, AppError::Upstream(error) if !matches!(error, UpstreamError::Tls(_)))
    }

    fn system(what: &'static str) -> impl Fn(io::Error) -> AppError {
        move |error| AppError::System { what, error }
    }
}

/// What `fanline replay` serves, and how.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    pub capture: PathBuf,
    pub listen: SocketAddr,
    pub speed: Speed,
    /// Start over at the end.
    pub looped: bool,
}

/// Serves the feed until it is told to stop. Each part has threads of its own, so that none can hold up another one; this
/// one watches over them.
pub fn serve(config: Config, log: LogQueue) -> Result<(), AppError> {
    let runtime = parts::runtime().map_err(AppError::system("start a runtime"))?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::watch()?
    };
    let (server, address) = start(config, log)?;
    announce(format_args!("fanline listening on http://{address}"));
    server.run(&runtime, &mut signals)
}

/// Starts all parts of a server; answers where clients find it.
fn start(config: Config, log: LogQueue) -> Result<(RunningServer, SocketAddr), AppError> {
    let (stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let plant = FaultInjection::find();
    let (meters, exposition) = edge::http::metrics::recorder();
    let history = History::parse(&config.history.keep)?;
    let simulated = is_simulated(&profile(&config)?);
    meters.gauge(&names::UPSTREAM_SIMULATED, &[]).set(f64::from(u8::from(simulated)));
    let limits = Limits {
        ring_frames_max: config.ring.frames_max,
        ring_bytes_max: config.ring.bytes_max,
        topics_max: config.limits.topics_max,
    };
    let (publisher, reader) = bus::open_with_history(Epoch(rand::random()), limits, history, &meters);
    let bounds = demand::bounds(&config)?;
    let interest = (config.upstream.demand == DemandMode::On).then(|| Interest::within(bounds, &meters));
    let (asks, ask_queue) = requests::open(demand::ask_rules(&config)?);
    let shares = share_open_files(&config);

    let ends = BusHandles { reader: reader.clone(), interest: interest.clone(), requests: asks };
    let (delivery, threads) = Delivery::start(delivery_settings(&config, simulated), &ends, clock, &meters)
        .map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    let vitals = Vitals::new(clock, [delivery.pulses(), vec![("feed".into(), reader.pulse())]].concat());
    let door = delivery.clone();
    let rooms = EdgeParts {
        reader: reader.clone(),
        door: plant.behind(Arc::new(move |newcomer| door.adopt(newcomer))),
        vitals: vitals.clone(),
        meters: meters.clone(),
        exposition: exposition.measuring(measure(&vitals, log, &meters)),
    };
    let edge = Edge::bind(edge_settings::settings(&config, &shares, simulated), rooms)?;
    let address = edge.local_addr();
    if let Some(admin) = edge.admin_addr() {
        tracing::info!(address = %admin, "metrics and health are served for the operator");
    }

    let mut parts = VitalParts::default();
    threads.into_handles().into_iter().for_each(|shard| parts.watch(shard));
    let bus = (publisher, interest, ask_queue);
    let simulate = || start_simulator(market_settings(&config), &mut parts, plant.clone(), stopped.clone());
    let upstream = open_upstream(&config, bus, (clock, &meters), simulate)?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let tended = plant.clone();
    let serve = move || serve_http(async move { tended.tend("edge", edge.serve(phases)).await });
    parts.start("edge", serve).map_err(AppError::system("start the edge"))?;
    let (runtime, tended) = (parts::runtime().map_err(AppError::system("start a runtime"))?, plant.clone());
    let serve = move || parts::drive(runtime, tended.tend("feed", feed(upstream, stopped, reader.pulse())));
    parts.start("feed", serve).map_err(AppError::system("start the feed"))?;
    Ok((RunningServer { parts, delivery, vitals, phase, stop, drain: config.drain, plant }, address))
}

/// What is measured when somebody asks for the metrics.
fn measure(vitals: &Vitals, log: LogQueue, meters: &Meters) -> impl Fn() + Send + Sync + 'static {
    let ages: Vec<Gauge> =
        vitals.ages().map(|(part, _)| meters.gauge(&names::LIVENESS_AGE, &[("part", part)])).collect();
    let (vitals, dropped) = (vitals.clone(), meters.counter(&names::LOG_DROPPED, &[]));
    move || {
        for (gauge, (_, age)) in ages.iter().zip(vitals.ages()) {
            gauge.set(age.as_secs_f64());
        }
        dropped.absolute(log.dropped());
    }
}

/// Serves the simulated market of `config.simulate` on `listen` until SIGTERM or SIGINT.
pub async fn simulate(listen: SocketAddr, config: Config) -> Result<(), AppError> {
    let signals = Signals::watch()?;
    let simulator = Simulator::bind(listen, market_settings(&config)).await?;
    announce(format_args!("fanline simulating on ws://{}", simulator.local_addr()));
    serve_venue(signals, |stopped| simulator.serve(stopped)).await;
    Ok(())
}

/// Serves a recording as if it were the venue until SIGTERM or SIGINT.
pub async fn replay(replay: ReplayOptions) -> Result<(), AppError> {
    let ReplayOptions { capture, listen, speed, looped } = replay;
    let signals = Signals::watch()?;
    let recording = Recording::load(&capture)?;
    let venue = ReplayServer::bind(listen, recording, speed, looped).await?;
    announce(format_args!("fanline replaying on ws://{}", venue.local_addr()));
    serve_venue(signals, |stopped| venue.serve(stopped)).await;
    Ok(())
}

/// Listens to `config.upstream` for `duration` and answers what was found.
pub async fn probe(config: Config, duration: Duration) -> Result<impl fmt::Display, AppError> {
    let profile = profile(&config)?;
    let url = feed_url(&config, &profile)?.unwrap_or_default();
    let mut settings = upstream_settings(&config, profile, url);
    // What has not come by then is worth a line of the report.
    settings.first_message_timeout = settings.first_message_timeout.min(duration / 2);
    Ok(listen_to(settings, Clock::start(), duration, PROBE_SAMPLES).await?)
}

/// The feed that is configured; without one, the simulated market of `simulate`, which answers where it is served, and is
/// reached through the same client as any other.
fn open_upstream(
    config: &Config,
    (publisher, interest, asks): (Publisher, Option<Arc<Interest>>, RequestQueue),
    (clock, meters): (Clock, &Meters),
    simulate: impl FnOnce() -> Result<String, AppError>,
) -> Result<Upstream, AppError> {
    let profile = profile(config)?;
    profile.check_client_requests(!config.upstream.send.is_empty(), config.upstream.request)?;
    let url = feed_url(config, &profile)?.map_or_else(simulate, Ok)?;
    let settings = UpstreamSettings { interest, requests: Some(asks), ..upstream_settings(config, profile, url) };
    Ok(Upstream::new(settings, publisher, clock, meters)?)
}

/// The URL of the feed; none if it is the built-in simulated market.
pub(crate) fn feed_url(config: &Config, profile: &Profile) -> Result<Option<String>, AppError> {
    match config.upstream.url.clone().or_else(|| profile.url()) {
        None if !is_simulated(profile) => Err(AppError::NoUrl { profile: profile.name.clone() }),
        url => Ok(url),
    }
}

/// Whether the prices are invented, by the market built in or by `fanline simulate` somewhere else.
fn is_simulated(profile: &Profile) -> bool {
    profile.name == SIMULATED
}

pub(crate) fn profile(config: &Config) -> Result<Profile, AppError> {
    let upstream = &config.upstream;
    Ok(match (&upstream.profile, &upstream.topic, &upstream.url) {
        // Only `generic` takes a pointer beside it; the configuration refuses it beside another one.
        (_, Some(topic), _) => Profile::generic_with_topic(topic)?,
        (Some(choice), None, _) => Profile::choose(choice)?,
        (None, None, Some(url)) => Profile::recognise(url),
        (None, None, None) => Profile::choose(SIMULATED)?,
    })
}

pub(crate) fn upstream_settings(config: &Config, profile: Profile, url: String) -> UpstreamSettings {
    let upstream = &config.upstream;
    UpstreamSettings {
        idle_timeout: upstream.idle_timeout.map(|patience| patience.0.unwrap_or(Duration::ZERO)),
        headers: upstream.headers.clone(),
        urls: std::iter::once(url).chain(upstream.fallback_urls.iter().cloned()).collect(),
        legs: upstream.legs,
        connections: upstream.connections,
        rotate_after: upstream.rotate_after,
        profile,
        items: upstream.subscribe.clone(),
        connect_timeout: upstream.connect_timeout,
        ping_interval: upstream.ping_interval,
        pong_timeout: upstream.pong_timeout,
        backoff_min: upstream.backoff_min,
        backoff_max: upstream.backoff_max,
        message_bytes_max: upstream.message_bytes_max,
        interest: None,
        linger: upstream.linger,
        requests: None,
        first_message_timeout: upstream.first_message_timeout,
        expire_after: Some(config.topics.expire_after).filter(|after| !after.is_zero()),
    }
}

fn market_settings(config: &Config) -> MarketSettings {
    let simulate = &config.simulate;
    MarketSettings { seed: simulate.seed, rate: simulate.rate, symbols: simulate.symbols }
}

fn shards(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Some(config.shards.count).filter(|count| *count > 0).unwrap_or_else(cores)
}

fn delivery_settings(config: &Config, simulated: bool) -> DeliverySettings {
    DeliverySettings {
        shards: shards(config),
        spread_after: config.shards.spread_after,
        patterns_max: config.limits.patterns_max,
        wildcards_max: config.limits.wildcards_max,
        wildcards_total_max: config.limits.wildcards_total_max,
        lanes_max: config.limits.lanes_max,
        pattern_bytes_max: config.limits.pattern_bytes_max,
        lane_bytes_total_max: config.limits.lane_bytes_total_max,
        message_bytes_max: config.limits.message_bytes_max,
        messages_per_second_max: u32::try_from(config.limits.messages_per_second_max).unwrap_or(u32::MAX),
        inbound_bytes_per_second_max: u32::try_from(config.limits.inbound_bytes_per_second_max).unwrap_or(u32::MAX),
        message_timeout: config.limits.message_timeout,
        inbound_bytes_total_max: config.limits.inbound_bytes_total_max,
        client_requests_per_second_max: u32::try_from(config.limits.client_requests_per_second_max).unwrap_or(u32::MAX),
        heartbeat_interval: config.heartbeat.interval,
        ping_interval: config.ping.interval,
        ping_timeout: config.ping.timeout,
        replay_max: config.slow.replay_max,
        write_deadline: config.slow.write_deadline,
        unsent_bytes_max: u32::try_from(config.slow.unsent_bytes_max).unwrap_or(u32::MAX),
        unsent_bytes_total_max: config.slow.unsent_bytes_total_max,
        ends_raw_when_stale: config.raw.on_stale == OnStale::Close,
        compression_level: config.compression.level,
        window: WindowSettings {
            windows_max: config.compression.windows_max,
            members_min: config.compression.window_members_min,
            cut_frames_max: u32::try_from(config.compression.window_cut_max).unwrap_or(u32::MAX),
        },
        simulated,
    }
}

/// Each client takes one file; what the limit leaves to them is worth a word before it is reached.
fn share_open_files(config: &Config) -> Shares {
    if let Err(error) = raise_open_files_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let limit = open_files_limit();
    let upstreams = config.upstream.legs * config.upstream.connections;
    let wanted = Shares { sessions_max: config.limits.sessions_max, connections_max: config.http.connections_max };
    let shares = wanted.within(limit, shards(config), upstreams);
    if shares == wanted {
        tracing::debug!(limit, "open files");
    } else {
        tracing::info!(
            limit,
            sessions_max = shares.sessions_max,
            wanted = wanted.sessions_max,
            connections_max = shares.connections_max,
            "fewer open files are allowed than limits.sessions_max needs, and so fewer sessions; `ulimit -n` can raise it"
        );
    }
    shares
}

async fn serve_venue<F: Future<Output = ()>>(mut signals: Signals, serve: impl FnOnce(watch::Receiver<bool>) -> F) {
    let (stop, stopped) = watch::channel(false);
    let signalled = async {
        signals.stop().await;
        stop.send_replace(true);
    };
    tokio::join!(serve(stopped), signalled);
}

/// The one line on stdout, for people and for programs that wait for it. Nobody has to read it.
fn announce(line: fmt::Arguments<'_>) {
    if let Err(error) = write_within(io::stdout(), format!("{line}\n")) {
        tracing::warn!(%error, "could not write to stdout: {line}");
    }
}
