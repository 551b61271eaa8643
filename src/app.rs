//! Floor 5: puts the rooms together, one function per command.

mod street;

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
use crate::config::{self, Config, Demand};
use crate::delivery::door::{Delivery, Ends, Threads};
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::window::WindowSettings;
use crate::edge::{self, Edge, EdgeError, Phase, Rooms};
use crate::intake::probe::{ProbeError, probe as listen_to};
use crate::intake::profile::section::ProfileError;
use crate::intake::profile::{ChoiceError, Profile, check as check_profile};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::open_files::raise_open_files_limit;
use crate::venue::VenueError;
use crate::venue::market::MarketSettings;
use crate::venue::recording::{Recording, RecordingError};
use crate::venue::replay::{Replay as ReplayVenue, Speed};
use crate::venue::simulate::Simulator;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::topic::{Pattern, TopicError};

/// Topics that `probe` shows with a sample; more would scroll away.
const PROBE_SAMPLES: usize = 40;
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
    let (delivery, threads) = Delivery::start(delivery_settings(&config), &ends, clock, &meters)
        .map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    let door = delivery.clone();
    let rooms =
        Rooms { reader, door: Arc::new(move |newcomer| door.adopt(newcomer)), meters: meters.clone(), exposition };
    let edge = Edge::bind(street::settings(&config), rooms)?;
    let address = edge.local_addr();
    if let Some(admin) = edge.admin_addr() {
        tracing::info!("metrics and health are served at http://{admin}");
    }
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
    tracing::info!(sessions, "stopping: no new sessions; those there are are told to reconnect elsewhere");
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(config.drain.readiness_delay).await;
    delivery.drain(config.drain.reconnect_spread);
    let everyone_left = async {
        while delivery.sessions() > 0 {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
    };
    if tokio::time::timeout(config.drain.timeout, everyone_left).await.is_err() {
        tracing::warn!(sessions = delivery.sessions(), "drain.timeout has passed; the sessions left are cut");
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

/// The feed that is configured; without one, the simulated market, served on a loopback port of its own and reached
/// through the same client as any other.
async fn open_upstream(
    config: &Config,
    (publisher, interest, asks): (Publisher, Option<Arc<Interest>>, AskQueue),
    (clock, meters): (Clock, &Meters),
    stopped: &watch::Receiver<bool>,
) -> Result<Upstream, AppError> {
    let profile = profile(config)?;
    let url = match config.upstream.url.clone().or_else(|| profile.url()) {
        Some(url) => url,
        None => {
            let simulator = Simulator::bind((Ipv4Addr::LOCALHOST, 0).into(), market_settings(config)).await?;
            let url = format!("ws://{}", simulator.local_addr());
            tracing::info!(%url, "no feed is configured: serving the built-in simulated market");
            tokio::spawn(simulator.serve(stopped.clone()));
            url
        }
    };
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

fn delivery_settings(config: &Config) -> DeliverySettings {
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
