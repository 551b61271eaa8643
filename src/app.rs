//! The wiring of the rooms, one function per command.

mod archiving;
pub(crate) mod clustering;
mod configuration_digest;
pub(crate) mod demand;
mod fault_injection;
pub(crate) mod file_shares;
pub(crate) mod gatekeeping;
mod measuring;
mod opening;
mod operator;
mod parts;
mod reload;
mod roles;
mod server;
mod signals;
mod views;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::access::rights::ViewId;
use crate::audit::OpenError;
use crate::audit::log::AuditLog;
use crate::bus::Limits;
use crate::bus::archive::open::ArchiveError;
use crate::bus::clock::Clock;
use crate::bus::demand::ClientInput;
use crate::bus::history::{History, HistoryError};
use crate::bus::private_directory::PrivateDirectoryError;
use crate::bus::publisher::Publisher;
use crate::bus::signal::pulse::Vitals;
use crate::cluster::nats::NatsError;
use crate::config::effective::{Decision, EffectiveUpstream};
use crate::config::error::ConfigError;
use crate::config::logs::{Logging, write_within};
use crate::config::{ConfigSources, Effective};
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::shards::Delivery;
use crate::edge::admin_key::AdminKeyError;
use crate::edge::http::terms::EdgeTerms;
use crate::edge::parts::EdgeParts;
use crate::edge::phase::Phase;
use crate::edge::{Edge, EdgeError, exposition};
use crate::identity::error::Error as IdentityError;
use crate::intake::probe::{ProbeError, probe as listen_to};
use crate::intake::upstream::{Settings as UpstreamSettings, Upstream, UpstreamError};
use crate::profile::client::NoSend;
use crate::profile::section::ProfileError;
use crate::profile::{ChoiceError, Profile};
use crate::settings::listener::{ListenAddress, ListenEndpoint};
use crate::settings::table::Config;
use crate::simulator::SimulatorError;
use crate::simulator::market_server::Simulator;
use crate::simulator::recording::{Recording, RecordingError};
use crate::simulator::replay::{ReplayServer, Speed};
use crate::words::metrics::{self as names, Meters};
use crate::words::topic::TopicError;

use self::clustering::{JoinError, feed_in_turns};
use self::configuration_digest::ConfigurationDigest;
use self::file_shares::{edge_settings, share_open_files};
use self::gatekeeping::Gatekeeping;
use self::measuring::measure;
use self::opening::{BusWriter, OpenBus};
use self::operator::ServerOperator;
use self::parts::{EndedPart, VitalParts};
use self::reload::{Reload, ReloadMeters};
use self::roles::{feed, serve_http, start_simulator};
use self::server::RunningServer;
use self::signals::{Signals, serve_until_signalled};
use self::views::{LogTerms, OpenViews};
use crate::app::fault_injection::FaultInjection;

/// Topics that `probe` shows with a sample; more would scroll off the screen.
const PROBE_SAMPLES: usize = 40;

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
    #[error("{0}")]
    Identity(#[from] IdentityError),
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
    Simulator(#[from] SimulatorError),
    #[error(transparent)]
    Audit(#[from] OpenError),
    #[error(transparent)]
    Spool(#[from] PrivateDirectoryError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    AdminKey(#[from] AdminKeyError),
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error("{0}; start the server again, and report this if it is a panic")]
    PartEnded(EndedPart),
    #[error("expected to {what}, found: {error}")]
    System { what: &'static str, error: io::Error },
}

impl AppError {
    /// Whether the operator's input is wrong (exit code 2), rather than the run (1).
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
                | AppError::AdminKey(_)
                | AppError::Identity(_)
                | AppError::Profile(_)
                | AppError::ProfileChoice(_)
                | AppError::Recording(_)
                | AppError::Edge(EdgeError::Tls(_))
                | AppError::Join(
                    JoinError::Credentials { .. } | JoinError::Nats(NatsError::Url(_) | NatsError::Credentials(_))
                )
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
    /// Start again at the end.
    pub looped: bool,
}

/// Serves the feed until it is asked to stop. Each part has its own threads, so that none can hold up another; this thread
/// watches over them.
pub fn serve(effective: Effective, sources: ConfigSources, log: &Logging) -> Result<(), AppError> {
    let runtime = parts::runtime().map_err(AppError::system("start a runtime"))?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::watch()?
    };
    let (server, addresses) = start(effective, sources, log)?;
    for address in &addresses {
        announce(format_args!("fanline listening on {}", announced(address)));
    }
    server.run(&runtime, &mut signals)
}

/// An address as a client uses it.
fn announced(address: &ListenAddress) -> String {
    match &address.endpoint {
        ListenEndpoint::Tcp(socket) => format!("{}://{socket}", if address.tls { "https" } else { "http" }),
        ListenEndpoint::Unix { path, .. } => format!("unix:{}", path.display()),
    }
}

/// Starts all parts of a server; returns the addresses for clients.
fn start(
    effective: Effective,
    sources: ConfigSources,
    log: &Logging,
) -> Result<(RunningServer, Vec<ListenAddress>), AppError> {
    let (config, auth) = (effective.config.clone(), effective.auth.clone());
    let (stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let faults = FaultInjection::find();
    let (meters, exposition) = exposition::recorder();
    let digest = ConfigurationDigest::of(&config, &auth);
    let audit = AuditLog::open(&config.audit, &digest.to_string(), &meters)?;
    let gatekeeping = Gatekeeping::start(&config.auth, auth, &meters)?;
    let history = History::parse(&config.history.keep)?;
    let chosen = profile(&config)?;
    let (simulated, dialect) = (chosen.is_simulated(), chosen.dialect);
    meters.gauge(&names::UPSTREAM_SIMULATED, &[]).set(f64::from(u8::from(simulated)));
    let limits = Limits {
        ring_frames_max: config.ring.frames_max,
        ring_bytes_max: config.ring.bytes_max,
        topics_max: config.limits.topics_max,
    };
    let rules = demand::rules(&config)?;
    let node = clustering::join((&config, rules), (limits, &history), &digest.to_string(), (clock, &meters))?;
    let (client_requests, clients) = demand::open(&config, &meters)?;
    let interest = clients.interest.clone();
    let OpenBus { source, reader, archive, cluster } =
        opening::open(&config, (node, clients), (limits, &history), (clock, &meters))?;
    let delays = gatekeeping.views();
    let handles = BusHandles {
        view: ViewId::LIVE,
        reader: reader.clone(),
        interest,
        requests: client_requests,
        gatekeeper: gatekeeping.gatekeeper.clone(),
        audit: audit.clone(),
        dialect: dialect.clone(),
    };
    let live = (&handles, shards(&config));
    let terms = LogTerms { limits, history: &history, delay: &config.delay };
    let OpenViews { views, lines, workers, shards: on_views } = views::open(&delays, live, &terms, (clock, &meters))?;
    let shares = share_open_files(&config, workers.len());
    let settings = DeliverySettings::new(&config, shards(&config), simulated);
    let (delivery, threads) =
        Delivery::start_views(settings, on_views, clock, &meters).map_err(AppError::system("start the shards"))?;
    let delivery = Arc::new(delivery);
    gatekeeping.connect(&delivery);
    let mut pulses = [delivery.pulses(), vec![("feed".into(), reader.pulse())]].concat();
    if !lines.is_empty() {
        pulses.push(("delay".into(), lines.pulse.clone()));
    }
    let vitals = Vitals::new(clock, pulses);
    let edge_settings = edge_settings(&config, &shares, simulated);
    let tls = edge_settings.load_tls(&meters).map_err(EdgeError::Tls)?;
    let terms = EdgeTerms::new(&edge_settings);
    let reload = Arc::new(Reload {
        sources,
        effective: ArcSwap::from_pointee(effective),
        turn: Mutex::default(),
        identities: gatekeeping.identities.clone(),
        tls: tls.clone(),
        terms: terms.clone(),
        delivery: delivery.clone(),
        level: log.level.clone(),
        audit: audit.clone(),
        meters: ReloadMeters::new(&meters, &digest),
        simulated,
        spools: workers.len(),
    });
    let adopting = delivery.clone();
    let parts_of_edge = EdgeParts {
        views,
        adopt: faults.attach(Arc::new(move |handoff| adopting.adopt(handoff))),
        vitals: vitals.clone(),
        meters: meters.clone(),
        exposition: exposition.measuring(measure(&vitals, log.queue.clone(), &meters)),
        audit: audit.clone(),
        admin: Some(operator::admin_parts(
            &config,
            ServerOperator::new(delivery.clone(), gatekeeping.identities.clone(), reload.clone(), cluster),
        )?),
        gatekeeper: gatekeeping.gatekeeper.clone(),
        dialect,
        tls,
    };
    let edge = Edge::bind(edge_settings, terms, parts_of_edge)?;
    let addresses = edge.addresses().cloned().collect();
    if let Some(admin) = edge.admin_address() {
        tracing::info!(address = %admin, "the operator's listener serves metrics, health and the operator's calls");
    }

    let mut parts = VitalParts::default();
    threads.into_handles().into_iter().for_each(|shard| parts.watch(shard));
    if !lines.is_empty() {
        let stopped = stopped.clone();
        let run = move || lines.run(clock, &stopped);
        parts.start("delay", run).map_err(AppError::system("start the delayed views"))?;
    }
    for worker in workers {
        parts.start("spool", move || worker.run()).map_err(AppError::system("start a spool"))?;
    }
    if let Some(archive) = archive {
        let stopped = stopped.clone();
        let record = move || archiving::record(archive.recorder, clock, &stopped);
        parts.start("archive", record).map_err(AppError::system("start the archive"))?;
        parts.start("archive-sync", move || archive.sync.run()).map_err(AppError::system("start the archive"))?;
    }
    let simulate = || start_simulator(config.simulate, &mut parts, faults.clone(), stopped.clone());
    let connect = connector(&config, (clock, &meters), simulate)?;
    let (runtime, feed_faults) = (parts::runtime().map_err(AppError::system("start a runtime"))?, faults.clone());
    let start_feed: Box<dyn FnOnce() -> io::Result<()> + Send> = match source {
        BusWriter::Own(publisher, clients) => {
            let (upstream, stopped, pulse) = (connect(*publisher, clients)?, stopped.clone(), reader.pulse());
            Box::new(move || parts::drive(runtime, feed_faults.run("feed", feed(upstream, stopped, pulse))))
        }
        BusWriter::Cluster(drive, orders) => {
            let told = stopped.clone();
            parts.start("cluster", move || drive(told)).map_err(AppError::system("start the cluster's node"))?;
            let in_turns = feed_in_turns(orders, connect, stopped.clone());
            Box::new(move || parts::drive(runtime, feed_faults.run("feed", in_turns)))
        }
    };
    let (phase, phases) = watch::channel(Phase::Serving);
    let edge_faults = faults.clone();
    let serve = move || serve_http(async move { edge_faults.run("edge", edge.serve(phases)).await });
    parts.start("edge", serve).map_err(AppError::system("start the edge"))?;
    parts.start("feed", start_feed).map_err(AppError::system("start the feed"))?;
    Ok((RunningServer { parts, delivery, vitals, phase, stop, faults, audit, reload }, addresses))
}

/// Serves the simulated market of `config.simulate` on `listen` until SIGTERM or SIGINT.
pub async fn simulate(listen: SocketAddr, config: Config) -> Result<(), AppError> {
    let signals = Signals::watch()?;
    let simulator = Simulator::bind(listen, config.simulate).await?;
    announce(format_args!("fanline simulating on ws://{}", simulator.local_addr()));
    serve_until_signalled(signals, |stopped| simulator.serve(stopped)).await;
    Ok(())
}

/// Serves a recording as a feed until SIGTERM or SIGINT.
pub async fn replay(replay: ReplayOptions) -> Result<(), AppError> {
    let ReplayOptions { capture, listen, speed, looped } = replay;
    let signals = Signals::watch()?;
    let recording = Recording::load(&capture)?;
    let server = ReplayServer::bind(listen, recording, speed, looped).await?;
    announce(format_args!("fanline replaying on ws://{}", server.local_addr()));
    serve_until_signalled(signals, |stopped| server.serve(stopped)).await;
    Ok(())
}

/// Listens to `config.upstream` for `duration`; returns the findings.
pub async fn probe(config: Config, duration: Duration) -> Result<impl fmt::Display, AppError> {
    let profile = profile(&config)?;
    let url = feed_url(&config, &profile)?.unwrap_or_default();
    let mut settings = EffectiveUpstream::new(&config, profile, url).settings;
    // A topic without a message by then gets a line in the report.
    settings.first_message_timeout = settings.first_message_timeout.min(duration / 2);
    Ok(listen_to(settings, Clock::start(), duration, PROBE_SAMPLES).await?)
}

/// Connects to the configured feed. Without one, to the simulated market: `simulate` starts it and returns its URL, and it
/// is reached through the same client as any other feed.
fn connector(
    config: &Config,
    (clock, meters): (Clock, &Meters),
    simulate: impl FnOnce() -> Result<String, AppError>,
) -> Result<impl Fn(Publisher, ClientInput) -> Result<Upstream, UpstreamError> + Send + 'static, AppError> {
    let profile = profile(config)?;
    profile.check_client_requests(!config.upstream.send.is_empty(), config.upstream.request)?;
    let url = feed_url(config, &profile)?.map_or_else(simulate, Ok)?;
    let effective = EffectiveUpstream::new(config, profile, url);
    effective.overridden().for_each(|sentence| tracing::warn!("{sentence}"));
    let meters = meters.clone();
    Ok(move |publisher, ClientInput { interest, requests }| {
        let settings = UpstreamSettings { interest, requests: Some(requests), ..effective.settings.clone() };
        Upstream::new(settings, publisher, clock, &meters)
    })
}

/// The URL of the feed; none if it is the built-in simulated market.
pub(crate) fn feed_url(config: &Config, profile: &Profile) -> Result<Option<String>, AppError> {
    match config.upstream.url.clone().or_else(|| profile.url()) {
        None if !profile.is_simulated() => Err(AppError::NoUrl { profile: profile.name.clone() }),
        url => Ok(url),
    }
}

/// The values in force where a setting and the profile can both have one.
pub fn decisions(config: &Config) -> Result<Vec<Decision>, AppError> {
    Ok(EffectiveUpstream::new(config, profile(config)?, String::new()).decisions)
}

pub(crate) fn profile(config: &Config) -> Result<Profile, AppError> {
    let upstream = &config.upstream;
    Ok(match (&upstream.profile, &upstream.topic, &upstream.url) {
        // Only `generic` takes a pointer; the configuration rejects it together with another profile.
        (_, Some(topic), _) => Profile::generic_with_topic(topic)?,
        (Some(choice), None, _) => Profile::choose(choice)?,
        (None, None, Some(url)) => Profile::recognise(url),
        (None, None, None) => Profile::simulated(),
    })
}

pub(crate) fn shards(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Some(config.shards.count).filter(|count| *count > 0).unwrap_or_else(cores)
}

/// A line on stdout, for people and for programs that wait for it. Reading it is optional.
fn announce(line: fmt::Arguments<'_>) {
    if let Err(error) = write_within(io::stdout(), format!("{line}\n")) {
        tracing::warn!(%error, "could not write to stdout: {line}");
    }
}
