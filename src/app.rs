//! Floor 5: puts the rooms together, one function per command.

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::bus::asks::{self, AskQueue, AskRules};
use crate::bus::clock::Clock;
use crate::bus::history::{History, HistoryError};
use crate::bus::interest::Interest;
use crate::bus::publisher::Publisher;
use crate::bus::{self, Limits};
use crate::config::error::ConfigError;
use crate::config::{Config, Demand};
use crate::delivery::door::{Delivery, Ends, Threads};
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::window::WindowSettings;
use crate::edge::{self, Edge, EdgeError, Phase, Rooms};
use crate::intake::probe::{ProbeError, probe as listen_to};
use crate::intake::profile::section::ProfileError;
use crate::intake::profile::{ChoiceError, Profile};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::open_files::raise_open_files_limit;
use crate::venue::VenueError;
use crate::venue::market::MarketSettings;
use crate::venue::recording::{Recording, RecordingError};
use crate::venue::replay::{Replay as ReplayVenue, Speed};
use crate::venue::simulate::Simulator;
use crate::words::ids::Epoch;
use crate::words::metrics::{self as names, Meters};
use crate::words::topic::{Pattern, TopicError};

/// Topics that `probe` shows with a sample; more would scroll away.
const PROBE_SAMPLES: usize = 40;
/// Connections that are not upgraded: they are short-lived, and each takes a task and a buffer.
const CONNECTIONS_MAX: usize = 10_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The profile of the simulated market.
const SIMULATED: &str = "simulated";
/// How often the log may say how many sessions there are.
const SESSIONS_GLANCE: Duration = Duration::from_secs(10);
/// How often the end of a drain is looked for.
const DRAIN_GLANCE: Duration = Duration::from_millis(20);

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
    Venue(#[from] VenueError),
    #[error(transparent)]
    Edge(#[from] EdgeError),
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
pub struct Replay {
    pub capture: PathBuf,
    pub listen: SocketAddr,
    pub speed: Speed,
    /// Start over at the end.
    pub looped: bool,
}

/// Serves the feed until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<(), AppError> {
    let mut signals = Signals::watch()?;
    let (stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let (meters, exposition) = edge::metrics::recorder();
    let history = History::parse(&config.history.keep)?;
    let simulated = is_simulated(&profile(&config)?);
    meters.gauge(&names::UPSTREAM_SIMULATED, &[]).set(f64::from(u8::from(simulated)));
    let limits = Limits {
        ring_frames_max: config.ring.frames_max,
        ring_bytes_max: config.ring.bytes_max,
        topics_max: config.limits.topics_max,
    };
    let (publisher, reader) = bus::open_with_history(Epoch(rand::random()), limits, history, &meters);
    let wanted_max = config.limits.topics_max;
    let interest = (config.upstream.demand == Demand::On).then(|| Interest::new(wanted_max, &meters));
    let (asks, ask_queue) = asks::open(ask_rules(&config)?);
    tell_open_files(config.limits.sessions_max);

    let ends = Ends { reader: reader.clone(), interest: interest.clone(), asks };
    let (delivery, threads) = Delivery::start(delivery_settings(&config, simulated), &ends, clock, &meters)
        .map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    let door = delivery.clone();
    let rooms =
        Rooms { reader, door: Arc::new(move |newcomer| door.adopt(newcomer)), meters: meters.clone(), exposition };
    let edge = Edge::bind(edge_settings(&config, simulated), rooms)?;
    let address = edge.local_addr();
    let upstream = open_upstream(&config, (publisher, interest, ask_queue), (clock, &meters), &stopped).await?;

    let (phase, phases) = watch::channel(Phase::Serving);
    let edge = tokio::spawn(edge.serve(phases));
    let feed = tokio::spawn(async move {
        if let Err(error) = upstream.run(stopped).await {
            tracing::error!(%error, "the feed has ended for good; clients keep the last values, marked as stale");
        }
    });
    tokio::spawn(log_sessions(delivery.clone(), stop.subscribe()));
    announce(format_args!("fanline listening on http://{address}"))?;
    signals.next().await;
    tokio::select! {
        ended = drain(&config, &delivery, threads, &phase) => ended?,
        () = signals.next() => tracing::warn!("stopping at once: signalled again"),
    }
    phase.send_replace(Phase::Stopped);
    stop.send_replace(true);
    let ended = edge.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    ended.map_err(AppError::system("serve HTTP"))?;
    feed.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    tracing::info!("stopped");
    Ok(())
}

/// Tells the log how many sessions there are, when that has changed, until the end.
async fn log_sessions(delivery: Arc<Delivery>, mut stopped: watch::Receiver<bool>) {
    let mut told = 0;
    let mut glances = tokio::time::interval(SESSIONS_GLANCE);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = glances.tick() => {}
        }
        let sessions = delivery.sessions();
        if sessions != told {
            tracing::info!(sessions, before = told, "sessions connected");
            told = sessions;
        }
    }
}

/// Readiness first, then the goodbyes, then the end; a second signal cuts it short.
async fn drain(
    config: &Config,
    delivery: &Arc<Delivery>,
    threads: Threads,
    phase: &watch::Sender<Phase>,
) -> Result<(), AppError> {
    let sessions = delivery.sessions();
    tracing::info!(
        sessions,
        "stopping: new sessions are refused, and connected clients are told to reconnect elsewhere"
    );
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(config.drain.readiness_delay).await;
    delivery.drain(config.drain.reconnect_spread);
    let everyone_left = async {
        while delivery.sessions() > 0 {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
    };
    if tokio::time::timeout(config.drain.timeout, everyone_left).await.is_err() {
        tracing::warn!(sessions = delivery.sessions(), "drain.timeout has passed; the remaining sessions are closed");
    }
    delivery.stop();
    tokio::task::spawn_blocking(|| threads.join())
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    Ok(())
}

/// Serves the simulated market of `config.simulate` on `listen` until SIGTERM or SIGINT.
pub async fn simulate(listen: SocketAddr, config: Config) -> Result<(), AppError> {
    let signals = Signals::watch()?;
    let simulator = Simulator::bind(listen, market_settings(&config)).await?;
    announce(format_args!("fanline simulating on ws://{}", simulator.local_addr()))?;
    serve_venue(signals, |stopped| simulator.serve(stopped)).await;
    Ok(())
}

/// Serves a recording as if it were the venue until SIGTERM or SIGINT.
pub async fn replay(replay: Replay) -> Result<(), AppError> {
    let Replay { capture, listen, speed, looped } = replay;
    let signals = Signals::watch()?;
    let recording = Recording::load(&capture)?;
    let venue = ReplayVenue::bind(listen, recording, speed, looped).await?;
    announce(format_args!("fanline replaying on ws://{}", venue.local_addr()))?;
    serve_venue(signals, |stopped| venue.serve(stopped)).await;
    Ok(())
}

/// Listens to `config.upstream` for `duration` and answers what was found.
pub async fn probe(config: Config, duration: Duration) -> Result<impl fmt::Display, AppError> {
    let profile = profile(&config)?;
    let url = feed_url(&config, &profile)?.unwrap_or_default();
    Ok(listen_to(upstream_settings(&config, profile, url), Clock::start(), duration, PROBE_SAMPLES).await?)
}

/// The feed that is configured; without one, the simulated market, served on a loopback port of its own and reached
/// through the same client as any other.
async fn open_upstream(
    config: &Config,
    (publisher, interest, asks): (Publisher, Option<Arc<Interest>>, AskQueue),
    (clock, meters): (Clock, &Meters),
    stopped: &watch::Receiver<bool>,
) -> Result<Upstream, AppError> {
    let profile = profile(config)?;
    let url = match feed_url(config, &profile)? {
        Some(url) => url,
        None => {
            let simulator = Simulator::bind((Ipv4Addr::LOCALHOST, 0).into(), market_settings(config)).await?;
            let url = format!("ws://{}", simulator.local_addr());
            tracing::warn!(
                %url,
                "SIMULATED PRICES: no feed is configured, so the built-in market is served; name one, as in `fanline wss://HOST/PATH`"
            );
            tokio::spawn(simulator.serve(stopped.clone()));
            url
        }
    };
    let settings = UpstreamSettings { interest, asks: Some(asks), ..upstream_settings(config, profile, url) };
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

pub(crate) fn ask_rules(config: &Config) -> Result<AskRules, AppError> {
    let send = config.upstream.send.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
    Ok(AskRules { send, request: config.upstream.request })
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
        idle_timeout: upstream.idle_timeout,
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
        asks: None,
    }
}

fn market_settings(config: &Config) -> MarketSettings {
    let simulate = &config.simulate;
    MarketSettings { seed: simulate.seed, rate: simulate.rate, symbols: simulate.symbols }
}

fn delivery_settings(config: &Config, simulated: bool) -> DeliverySettings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    DeliverySettings {
        shards: if config.shards.count == 0 { cores } else { config.shards.count },
        spread_after: config.shards.spread_after,
        patterns_max: config.limits.patterns_max,
        wildcards_max: config.limits.wildcards_max,
        lanes_max: config.limits.lanes_max,
        message_bytes_max: config.limits.message_bytes_max,
        messages_per_second_max: u32::try_from(config.limits.messages_per_second_max).unwrap_or(u32::MAX),
        asks_per_second_max: u32::try_from(config.limits.asks_per_second_max).unwrap_or(u32::MAX),
        heartbeat_interval: config.heartbeat.interval,
        ping_interval: config.ping.interval,
        ping_timeout: config.ping.timeout,
        replay_max: config.slow.replay_max,
        write_deadline: config.slow.write_deadline,
        unsent_bytes_max: u32::try_from(config.slow.unsent_bytes_max).unwrap_or(u32::MAX),
        compression_level: config.compression.level,
        window: WindowSettings {
            windows_max: config.compression.windows_max,
            members_min: config.compression.window_members_min,
            cut_frames_max: u32::try_from(config.compression.window_cut_max).unwrap_or(u32::MAX),
        },
        simulated,
    }
}

fn edge_settings(config: &Config, simulated: bool) -> edge::Settings {
    let per_address = config.limits.sessions_per_address_max;
    edge::Settings {
        listen: config.listen,
        compression: config.compression.enabled,
        sessions_max: config.limits.sessions_max,
        sessions_per_address_max: (per_address > 0).then_some(per_address),
        patterns_max: config.limits.patterns_max,
        connections_max: CONNECTIONS_MAX,
        header_timeout: HEADER_TIMEOUT,
        stop_timeout: STOP_TIMEOUT,
        simulated,
    }
}

/// Each session takes one file, so a low limit is worth a word before it is reached.
fn tell_open_files(sessions_max: usize) {
    match raise_open_files_limit() {
        Ok((_, limit)) if limit < sessions_max as u64 => {
            tracing::info!(limit, sessions_max, "fewer open files are allowed than sessions; `ulimit -n` can raise it");
        }
        Ok((_, limit)) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

async fn serve_venue<F: Future<Output = ()>>(mut signals: Signals, serve: impl FnOnce(watch::Receiver<bool>) -> F) {
    let (stop, stopped) = watch::channel(false);
    let signalled = async {
        signals.next().await;
        stop.send_replace(true);
    };
    tokio::join!(serve(stopped), signalled);
}

/// SIGTERM and SIGINT, watched from the moment this is made. That is before the announcement: whoever waits for it may
/// ask for a stop at once, and a signal that nobody watches ends the process without one.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> Result<Signals, AppError> {
        let watch = |kind| signal(kind).map_err(AppError::system("watch for signals"));
        Ok(Signals { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    /// Waits for the next one. None is missed between two calls, but several may count as one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The one line on stdout, for people and for programs that wait for it.
fn announce(line: fmt::Arguments<'_>) -> Result<(), AppError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(AppError::system("write to stdout"))
}
