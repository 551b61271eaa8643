//! The wiring of the rooms, one function per command.

mod archiving;
mod canary;
pub(crate) mod clustering;
mod configuration_digest;
pub(crate) mod demand;
mod fault_injection;
mod feed_settings;
pub(crate) mod file_shares;
pub(crate) mod gatekeeping;
mod handover;
mod looking;
mod measuring;
mod opening;
mod operator;
mod parts;
mod pausable_feed;
pub(crate) mod relaying;
mod reload;
mod roles;
mod server;
mod signals;
mod start;
mod views;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::audit::OpenError;
use crate::bus::archive::open::ArchiveError;
use crate::bus::history::HistoryError;
use crate::bus::private_directory::PrivateDirectoryError;
use crate::cluster::nats::NatsError;
use crate::config::effective::{Decision, EffectiveUpstream};
use crate::config::error::ConfigError;
use crate::config::logs::{Logging, write_within};
use crate::config::{ConfigSources, Effective};
use crate::edge::EdgeError;
use crate::edge::admin_key::AdminKeyError;
use crate::identity::error::Error as IdentityError;
use crate::intake::probe::ProbeError;
use crate::intake::upstream::UpstreamError;
use crate::profile::client::NoSend;
use crate::profile::section::ProfileError;
use crate::profile::{ChoiceError, Profile};
use crate::settings::listener::{ListenAddress, ListenEndpoint};
use crate::settings::table::Config;
use crate::simulator::SimulatorError;
use crate::simulator::market_server::Simulator;
use crate::simulator::recording::{Recording, RecordingError};
use crate::simulator::replay::{ReplayAnswer, ReplayServer, Speed};
use crate::words::topic::TopicError;

use self::clustering::JoinError;
use self::handover::activation::{self, ActivationError};
use self::handover::predecessor::{Predecessor, PredecessorError};
use self::handover::successor::ProgramStart;
pub use self::looking::{DraftOutcome, NewFile, draft_profile, probe};
use self::parts::EndedPart;
use self::signals::{Signals, serve_until_signalled};
use self::start::start;

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("expected no file `{}`, found one; choose another name, or replace it with --force", .path.display())]
    Exists { path: PathBuf },
    #[error("expected to write `{}`, found: {error}; check the folder and its permissions", .path.display())]
    Unwritable { path: PathBuf, error: io::Error },
    #[error(
        "expected a profile that names its topics beside --record, found `{profile}`, which guesses them; \
         write one with --profile FILE"
    )]
    GuessedTopics { profile: String },
    #[error("{}: expected a configuration, a profile or a recording, found {found}; check the file", .path.display())]
    NothingToCheck { path: PathBuf, found: &'static str },
    #[error(
        "expected the URL of a feed, found none in the settings and none in profile `{profile}`; \
         give it, as in `fanline wss://HOST/PATH --profile {profile}`, or in upstream.url"
    )]
    NoUrl { profile: String },
    #[error(
        "expected profile `{profile}` with the `[downstream]` and the `connect.topics_per_conn` that are in force, found others; \
         restart, or hand over, to apply it"
    )]
    AgreedProfile { profile: String },
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
    #[error(transparent)]
    Predecessor(#[from] PredecessorError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
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
                | AppError::Exists { .. }
                | AppError::Unwritable { .. }
                | AppError::GuessedTopics { .. }
                | AppError::NothingToCheck { .. }
                | AppError::NoUrl { .. }
                | AppError::AgreedProfile { .. }
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
                    JoinError::Credentials { .. }
                        | JoinError::Nats(NatsError::Url(_) | NatsError::Credentials(_))
                        | JoinError::Parent(_)
                        | JoinError::RelayKey(_)
                        | JoinError::NoRelayKey
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
    /// Patterns and answers to what clients say.
    pub answers: Vec<(String, String)>,
}

/// Serves the feed until it is asked to stop. Each part has its own threads, so that none can hold up another; this thread
/// watches over them. `arguments` are those of the process, its program first: a successor is started with them.
pub fn serve(
    effective: Effective,
    sources: ConfigSources,
    arguments: &[OsString],
    log: &Logging,
) -> Result<(), AppError> {
    let runtime = parts::runtime().map_err(AppError::system("start a runtime"))?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::watch()?
    };
    let (mut predecessor, mut inherited) = match Predecessor::find(&sources.variables)? {
        Some((predecessor, sockets)) => (Some(predecessor), sockets),
        None => (None, activation::sockets(&sources.variables)?),
    };
    let program = ProgramStart::of(arguments);
    let before = (predecessor.as_mut(), &mut inherited);
    let (server, addresses) = start(effective, (sources, program), before, log)?;
    for address in inherited.left() {
        tracing::warn!(address, "an inherited socket is closed, because no listener of the configuration is there");
    }
    drop(inherited);
    if let Some(predecessor) = predecessor {
        server.take_over(predecessor, (&runtime, &mut signals))?;
    }
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
    let ReplayOptions { capture, listen, speed, looped, answers } = replay;
    let answers = answers.iter().map(|(pattern, text)| ReplayAnswer::new(pattern, text));
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    let signals = Signals::watch()?;
    let recording = Recording::load(&capture)?;
    let server = ReplayServer::bind(listen, (recording, answers), speed, looped).await?;
    announce(format_args!("fanline replaying on ws://{}", server.local_addr()));
    serve_until_signalled(signals, |stopped| server.serve(stopped)).await;
    Ok(())
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
