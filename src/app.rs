//! Floor 5: puts the rooms together, one function per command.

mod parts;
mod plant;
mod roles;
mod server;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::watch;

use crate::bus::asks::{self, AskQueue, AskRules};
use crate::bus::clock::Clock;
use crate::bus::history::{History, HistoryError};
use crate::bus::interest::Interest;
use crate::bus::publisher::Publisher;
use crate::bus::pulse::Vitals;
use crate::bus::{self, Limits};
use crate::config::error::ConfigError;
use crate::config::log_queue::LogQueue;
use crate::config::logs::write_within;
use crate::config::{self, Config, Demand};
use crate::delivery::door::{Delivery, Ends};
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::window::WindowSettings;
use crate::edge::{self, Edge, EdgeError, Phase, Rooms};
use crate::intake::probe::{ProbeError, probe as listen_to};
use crate::intake::profile::section::ProfileError;
use crate::intake::profile::{ChoiceError, Profile, check as check_profile};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::open_files::{Shares, open_files_limit, raise_open_files_limit};
use crate::venue::VenueError;
use crate::venue::market::MarketSettings;
use crate::venue::recording::{Recording, RecordingError};
use crate::venue::replay::{Replay as ReplayVenue, Speed};
use crate::venue::simulate::Simulator;
use crate::words::ids::Epoch;
use crate::words::metrics::{self as names, Meters};
use crate::words::topic::{Pattern, TopicError};

use self::parts::{Ended, Parts};
use self::plant::Plant;
use self::roles::{feed, serve_http, start_simulator};
use self::server::Server;
use self::signals::Signals;

/// Topics that `probe` shows with a sample; more would scroll away.
const PROBE_SAMPLES: usize = 40;
/// Connections that are not upgraded: they are short-lived, and each takes a task and a buffer.
const CONNECTIONS_MAX: usize = 10_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
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
    #[error("{0}; start the server again, and report this if it is a panic")]
    PartEnded(Ended),
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
fn start(config: Config, log: LogQueue) -> Result<(Server, SocketAddr), AppError> {
    let (stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let plant = Plant::find();
    let (meters, exposition) = edge::metrics::recorder();
    let history = History::parse(&config.history.keep)?;
    let limits = Limits {
        ring_frames_max: config.ring.frames_max,
        ring_bytes_max: config.ring.bytes_max,
        topics_max: config.limits.topics_max,
    };
    let (publisher, reader) = bus::open_with_history(Epoch(rand::random()), limits, history, &meters);
    let wanted_max = config.limits.topics_max;
    let interest = (config.upstream.demand == Demand::On).then(|| Interest::new(wanted_max, &meters));
    let (asks, ask_queue) = asks::open(ask_rules(&config)?);
    let shares = share_open_files(&config);

    let ends = Ends { reader: reader.clone(), interest: interest.clone(), asks };
    let (delivery, threads) = Delivery::start(delivery_settings(&config), &ends, clock, &meters)
        .map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    let vitals = Vitals::new(clock, [delivery.pulses(), vec![("feed".into(), reader.pulse())]].concat());
    let door = delivery.clone();
    let rooms = Rooms {
        reader: reader.clone(),
        door: plant.behind(Arc::new(move |newcomer| door.adopt(newcomer))),
        vitals: vitals.clone(),
        meters: meters.clone(),
        exposition: exposition.measuring(measure(&vitals, log, &meters)),
    };
    let edge = Edge::bind(edge_settings(&config, shares), rooms)?;
    let address = edge.local_addr();

    let mut parts = Parts::default();
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
    Ok((Server { parts, delivery, vitals, phase, stop, drain: config.drain, plant }, address))
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
pub async fn replay(replay: Replay) -> Result<(), AppError> {
    let Replay { capture, listen, speed, looped } = replay;
    let signals = Signals::watch()?;
    let recording = Recording::load(&capture)?;
    let venue = ReplayVenue::bind(listen, recording, speed, looped).await?;
    announce(format_args!("fanline replaying on ws://{}", venue.local_addr()));
    serve_venue(signals, |stopped| venue.serve(stopped)).await;
    Ok(())
}

/// Listens to `config.upstream` for `duration` and answers what was found.
pub async fn probe(config: Config, duration: Duration) -> Result<impl fmt::Display, AppError> {
    let profile = profile(&config)?;
    let url = config.upstream.url.clone().or_else(|| profile.url()).unwrap_or_default();
    Ok(listen_to(upstream_settings(&config, profile, url), Clock::start(), duration, PROBE_SAMPLES).await?)
}

/// Checks a configuration, a profile or a recording, whichever the file is; answers one sentence about it.
pub fn check(path: &Path) -> Result<String, AppError> {
    let text = std::fs::read_to_string(path).map_err(|error| AppError::Unreadable { path: path.into(), error })?;
    let shown = path.display();
    if is_recording(path, &text) {
        let recording = Recording::load(path)?;
        let seconds = recording.duration().as_secs_f64();
        return Ok(format!("{shown}: a valid recording, frames: {}, seconds: {seconds:.1}", recording.len()));
    }
    if is_profile(&text) {
        let profile = check_profile(&text, &shown.to_string())?;
        return Ok(format!("{shown}: a valid profile, `{}`", profile.name));
    }
    let settings = config::check(path)?;
    Ok(format!("{shown}: a valid configuration, settings: {settings}"))
}

/// A profile says `profile = 1` before its first section. Judged by lines, so that a broken file is told what is wrong
/// with it as what it was meant to be.
fn is_profile(text: &str) -> bool {
    let top = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    let mut keys = top.filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    keys.any(|key| key == "profile")
}

/// A recording is JSON lines; neither of the others can start with a brace.
fn is_recording(path: &Path, text: &str) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl") || text.trim_start().starts_with('{')
}

/// The feed that is configured; without one, the simulated market of `simulate`, which answers where it is served, and is
/// reached through the same client as any other.
fn open_upstream(
    config: &Config,
    (publisher, interest, asks): (Publisher, Option<Arc<Interest>>, AskQueue),
    (clock, meters): (Clock, &Meters),
    simulate: impl FnOnce() -> Result<String, AppError>,
) -> Result<Upstream, AppError> {
    let profile = profile(config)?;
    let url = config.upstream.url.clone().or_else(|| profile.url()).map_or_else(simulate, Ok)?;
    let settings = UpstreamSettings { interest, asks: Some(asks), ..upstream_settings(config, profile, url) };
    Ok(Upstream::new(settings, publisher, clock, meters)?)
}

fn ask_rules(config: &Config) -> Result<AskRules, AppError> {
    let send = config.upstream.send.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
    Ok(AskRules { send, request: config.upstream.request })
}

fn profile(config: &Config) -> Result<Profile, AppError> {
    let upstream = &config.upstream;
    Ok(match (&upstream.profile, &upstream.topic, &upstream.url) {
        // Only `generic` takes a pointer beside it; the configuration refuses it beside another one.
        (_, Some(topic), _) => Profile::generic_with_topic(topic)?,
        (Some(choice), None, _) => Profile::choose(choice)?,
        (None, None, Some(url)) => Profile::recognise(url),
        (None, None, None) => Profile::choose("simulated")?,
    })
}

fn upstream_settings(config: &Config, profile: Profile, url: String) -> UpstreamSettings {
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

fn shards(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Some(config.shards.count).filter(|count| *count > 0).unwrap_or_else(cores)
}

fn delivery_settings(config: &Config) -> DeliverySettings {
    DeliverySettings {
        shards: shards(config),
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
    }
}

fn edge_settings(config: &Config, shares: Shares) -> edge::Settings {
    let per_address = config.limits.sessions_per_address_max;
    edge::Settings {
        listen: config.listen,
        compression: config.compression.enabled,
        sessions_max: shares.sessions_max,
        sessions_per_address_max: (per_address > 0).then_some(per_address),
        patterns_max: config.limits.patterns_max,
        connections_max: shares.connections_max,
        header_timeout: HEADER_TIMEOUT,
        stop_timeout: STOP_TIMEOUT,
    }
}

/// Each client takes one file; what the limit leaves to them is worth a word before it is reached.
fn share_open_files(config: &Config) -> Shares {
    if let Err(error) = raise_open_files_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let limit = open_files_limit();
    let upstreams = config.upstream.legs * config.upstream.connections;
    let wanted = Shares { sessions_max: config.limits.sessions_max, connections_max: CONNECTIONS_MAX };
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
