//! The plan of a measurement: options and configuration, checked and combined.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use crate::open_files::raise_open_files_limit;
use crate::settings::table::Config;
use crate::settings::table::MarketSettings;
use crate::words::topic::Pattern;

use super::BenchError;
use super::client::{AgeSource, MessageFields};
use super::client_tls::Trust;
use super::dial::DialTarget;
use super::options::{FormatName, Options, RateOption};
use super::subscribe::command_bytes;
use super::subscription_plan::SubscriptionPlan;

/// Open files of a process besides its clients: sockets, pipes, the log, epoll.
const FILES_BESIDE: u64 = 100;
/// Longest topic of the simulated market.
const TOPIC_BYTES: usize = 24;

/// A measurement, ready to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// With `capacity`, the most to try.
    pub clients: usize,
    /// How long to measure; with `capacity` how long to search.
    pub span: Duration,
    pub topics: String,
    /// Number of topics for each client, instead of `topics`.
    pub topics_each: Option<usize>,
    /// Groups of clients have the same topics, instead of each its own.
    pub overlap: bool,
    /// Changes of lists per second, over all clients.
    pub changes_per_second: Option<u64>,
    pub format: FormatName,
    pub deflate: bool,
    /// What the started server shows, if clients speak TLS with it.
    pub certificate: Option<ShownCertificate>,
    /// Of the started server, for the bare loop.
    pub compression_level: u32,
    pub source: FeedSource,
    pub capacity: bool,
    pub latency_max: Duration,
    pub bare: bool,
}

/// The certificate of a server that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownCertificate {
    /// That of its settings.
    Configured,
    /// One made for the measurement.
    Made,
}

/// The server under test, and its feed.
#[derive(Clone, Debug)]
pub enum FeedSource {
    /// A child process, with the bench's feed.
    Ours { arguments: Vec<OsString>, feed: FeedPlan },
    /// A child process, with the configured feed.
    Configured { arguments: Vec<OsString> },
    /// A running server.
    Target(DialTarget),
}

/// The bench's feed.
#[derive(Clone, Debug)]
pub struct FeedPlan {
    pub market: MarketSettings,
    pub rate: RateOption,
    /// Approximate size of a message; 0: as in the market.
    pub bytes: usize,
    pub subscriptions: Arc<SubscriptionPlan>,
}

impl Plan {
    /// `config` is the configuration of a server started with `arguments`.
    ///
    /// Errors: the options contradict each other, or exceed what this machine allows.
    pub fn new(options: &Options, config: &Config, arguments: Vec<OsString>) -> Result<Plan, BenchError> {
        let patterns = options.topics.split(',').map(Pattern::parse).collect::<Result<Vec<_>, _>>()?;
        let topics_each = options.topics_each.map(|each| usize::try_from(each).unwrap_or(usize::MAX));
        if options.target.is_none() {
            check_limits(&patterns, topics_each, config)?;
        }
        let source = match &options.target {
            Some(url) => {
                if let Some(found) = arguments.first() {
                    return Err(BenchError::SettingsOfTarget { found: found.to_string_lossy().into_owned() });
                }
                FeedSource::Target(target(url, options)?)
            }
            None if config.upstream.url.is_some() || config.upstream.profile.is_some() => {
                let given = [
                    ("--rate", options.rate.is_some()),
                    ("--bytes", options.bytes.is_some()),
                    ("--topics-each", topics_each.is_some()),
                    ("--bare", options.bare),
                ];
                if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(BenchError::NotOurFeed { flag });
                }
                FeedSource::Configured { arguments }
            }
            None => {
                let simulate = &config.simulate;
                let rate = options.rate.unwrap_or(RateOption::PerSecond(simulate.rate));
                let market = MarketSettings { rate: 1.0, ..config.simulate };
                let bytes = usize::try_from(options.bytes.unwrap_or(0)).unwrap_or(usize::MAX);
                let subscriptions = match topics_each {
                    Some(found) if found > 2 * simulate.symbols => {
                        return Err(BenchError::TopicsEach { topics: 2 * simulate.symbols, found });
                    }
                    Some(each) if options.overlap => SubscriptionPlan::overlap(market, each)?,
                    Some(each) => SubscriptionPlan::own(market, each)?,
                    None => SubscriptionPlan::alike(market, &patterns)?,
                };
                let audible = rate != RateOption::PerSecond(0.0) && !subscriptions.list(0).is_empty();
                let given = [("--capacity", options.capacity), ("--bare", options.bare)];
                if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given && !audible) {
                    return Err(BenchError::Silent { flag });
                }
                let mut arguments = arguments;
                if config.upstream.idle_timeout.is_none() {
                    // The feed's pauses are intended.
                    arguments.extend(["--upstream-idle-timeout", "1day"].map(OsString::from));
                }
                FeedSource::Ours {
                    arguments,
                    feed: FeedPlan { market, rate, bytes, subscriptions: Arc::new(subscriptions) },
                }
            }
        };
        let certificate = match config.tls.certificates.is_empty() {
            true => ShownCertificate::Made,
            false => ShownCertificate::Configured,
        };
        let seconds = options.seconds.unwrap_or(if options.capacity { 60 } else { 10 });
        let plan = Plan {
            clients: clients(options)?,
            span: Duration::from_secs(seconds),
            topics: options.topics.clone(),
            topics_each,
            overlap: options.overlap,
            changes_per_second: options.changes_per_second,
            format: options.format,
            deflate: options.deflate,
            certificate: options.tls.then_some(certificate),
            compression_level: config.compression.level,
            source,
            capacity: options.capacity,
            latency_max: options.latency_max,
            bare: options.bare,
        };
        if let Some(found) = plan.changes_per_second {
            check_changes(found, &plan, config)?;
        }
        if plan.capacity && plan.reading().age == AgeSource::Unknown {
            return Err(BenchError::NoLatency);
        }
        Ok(plan)
    }

    /// What clients read in messages. The query of a target overrides topics and format.
    pub fn reading(&self) -> MessageFields {
        let asked = |name| match &self.source {
            FeedSource::Target(target) => target.parameter(name),
            _ => None,
        };
        let envelope = asked("format").map_or(self.format == FormatName::Envelope, |format| format == "envelope");
        let topics = asked("topics").unwrap_or_else(|| self.topics.clone());
        let all = self.topics_each.is_none() && topics.split(',').any(|pattern| pattern == ">");
        let age = match &self.source {
            FeedSource::Ours { .. } => AgeSource::Timestamp,
            _ if envelope => AgeSource::Ts,
            _ => AgeSource::Unknown,
        };
        // Padded messages may lack the market's own members.
        let is_market = matches!(&self.source, FeedSource::Ours { feed, .. } if feed.bytes == 0);
        let sequenced = envelope && is_market && self.topics_each.is_some();
        MessageFields { notices: envelope, dense: envelope && all, sequenced, age }
    }

    /// Whether clients speak TLS.
    pub fn tls(&self) -> bool {
        match &self.source {
            FeedSource::Target(target) => target.tls.is_some(),
            _ => self.certificate.is_some(),
        }
    }

    /// Messages per second of the bench's feed.
    pub fn rate(&self) -> Option<RateOption> {
        match &self.source {
            FeedSource::Ours { feed, .. } => Some(feed.rate),
            _ => None,
        }
    }
}

/// A running server, and whom its clients trust.
fn target(url: &str, options: &Options) -> Result<DialTarget, BenchError> {
    let trust = if options.insecure { Trust::Anyone } else { Trust::Issuers { ca: options.ca.clone() } };
    let target = DialTarget::parse(url, &trust)?;
    let given = [("--ca", options.ca.is_some()), ("--insecure", options.insecure)];
    match given.into_iter().find(|(_, given)| *given && target.tls.is_none()) {
        Some((flag, _)) => Err(BenchError::TrustWithoutTls { flag }),
        None => Ok(DialTarget { deflate: options.deflate, ..target }),
    }
}

/// Checks that a server with this configuration accepts the subscriptions of the clients.
fn check_limits(patterns: &[Pattern], topics_each: Option<usize>, config: &Config) -> Result<(), BenchError> {
    let limits = &config.limits;
    let wildcards = patterns.iter().filter(|pattern| !pattern.is_exact()).count();
    let (count, wildcards, pattern_bytes) = match topics_each {
        Some(each) => (each, 0, TOPIC_BYTES),
        None => (patterns.len(), wildcards, patterns.iter().map(|pattern| pattern.as_str().len()).max().unwrap_or(0)),
    };
    for (what, found, max, setting) in [
        ("patterns", count, limits.patterns_max, "limits.patterns_max"),
        ("wildcards", wildcards, limits.wildcards_max, "limits.wildcards_max"),
        ("bytes", command_bytes(count, pattern_bytes), limits.message_bytes_max, "limits.message_bytes_max"),
    ] {
        if found > max {
            return Err(BenchError::Limit { what, max, found, setting });
        }
    }
    Ok(())
}

/// Checks that lists can be changed this often, and leave topics to change to.
fn check_changes(found: u64, plan: &Plan, config: &Config) -> Result<(), BenchError> {
    let FeedSource::Ours { feed, .. } = &plan.source else { return Ok(()) };
    if feed.rate == RateOption::Max {
        return Err(BenchError::ChangesAtMax);
    }
    if plan.topics_each.is_some_and(|each| each >= feed.subscriptions.topics()) {
        return Err(BenchError::NothingToChangeTo { topics: feed.subscriptions.topics() });
    }
    // Two commands each, and half of what the server reads, so that none waits.
    let max = u64::from(config.limits.messages_per_second_max) * plan.clients as u64 / 4;
    if found > max {
        return Err(BenchError::Changes { clients: plan.clients, max, found });
    }
    Ok(())
}

/// Number of clients, within the open files of each of the two processes.
fn clients(options: &Options) -> Result<usize, BenchError> {
    let (_, limit) = raise_open_files_limit().map_err(BenchError::system("raise the limit of open files"))?;
    // The bare loop holds both ends of each connection.
    let files_each = if options.bare { 2 } else { 1 };
    let most = (limit.saturating_sub(FILES_BESIDE) / files_each).min(1_000_000);
    let clients = options.clients.unwrap_or(if options.capacity { most } else { 1000 });
    if clients > most {
        let needed = clients * files_each + FILES_BESIDE;
        return Err(BenchError::OpenFiles { needed, limit, clients: most });
    }
    Ok(usize::try_from(clients).unwrap_or(usize::MAX))
}
