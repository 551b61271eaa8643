//! `fanline bench`, the load tool.
//!
//! Many clients on one thread measure a fanline: a child process with the tool's own feed or the user's, or a running
//! server. `plan` checks the options, `harness` owns what runs, `capacity` searches, `report` prints. The server's rooms
//! know nothing of it.

pub mod bare;
pub mod capacity;
pub mod client;
pub mod client_pool;
pub mod client_tls;
pub mod cpu;
pub mod dial;
pub mod feed;
pub mod follower;
pub mod generator;
pub mod harness;
pub mod list_changes;
pub mod options;
pub mod plan;
pub mod report;
mod server;
pub mod socket;
pub mod subscribe;
pub mod subscription_plan;
pub mod tally;
pub mod text_ledger;
pub mod timestamp;

use std::io;
use std::path::PathBuf;

use crate::certificate::CertificateError;
use crate::simulator::SimulatorError;
use crate::words::topic::TopicError;

use self::capacity::Capacity;
use self::dial::DialError;
use self::harness::BenchHarness;
use self::plan::Plan;
use self::report::BenchReport;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("expected a fanline at ws://HOST:PORT or wss://HOST:PORT, found `{found}`")]
    Target { found: String },
    #[error("expected a host name that a certificate can have, found `{found}`")]
    ServerName { found: String },
    #[error("expected `{flag}` with a target at wss://HOST:PORT, found one without TLS; remove the flag")]
    TrustWithoutTls { flag: &'static str },
    #[error("expected certificates in PEM for --ca, found in `{}`: {found}", .path.display())]
    Ca { path: PathBuf, found: String },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("expected to find the host of `{host}`, found: {error}; check the name")]
    Host { host: String, error: io::Error },
    #[error("expected `{flag}` only with the feed of the bench itself, found a configured feed; remove one of them")]
    NotOurFeed { flag: &'static str },
    #[error("expected no server settings together with --target, found `{found}`; that server has its own")]
    SettingsOfTarget { found: String },
    #[error("expected a feed with messages for `{flag}`, found a silent one; remove one of the two flags")]
    Silent { flag: &'static str },
    #[error("expected at most {topics} for --topics-each, found {found}; more topics come with --simulate-symbols")]
    TopicsEach { topics: usize, found: usize },
    #[error("expected a rate of messages to change lists under, found `max`; give --rate a number")]
    ChangesAtMax,
    #[error("expected fewer topics each than the market's {topics}, to change to another; raise --simulate-symbols")]
    NothingToChangeTo { topics: usize },
    #[error(
        "expected at most {max} changes per second of {clients} clients, found {found}; raise --clients, or \
         limits.messages_per_second_max"
    )]
    Changes { clients: usize, max: u64, found: u64 },
    #[error("expected clients to subscribe to at most {max} {what}, found {found}; raise {setting}")]
    Limit { what: &'static str, max: usize, found: usize, setting: &'static str },
    #[error(
        "expected the server to accept every subscription, found {refused} of {clients} refused; raise limits.lanes_max \
         (different sets of patterns), limits.patterns_max or limits.wildcards_max"
    )]
    Refused { refused: u64, clients: usize },
    #[error("expected messages with a time to search by latency, found none; use --format envelope")]
    NoLatency,
    #[error(
        "expected to open {needed} files, found a limit of {limit}; raise it (`ulimit -Hn`, as root), or ask for at most \
         {clients} clients"
    )]
    OpenFiles { needed: u64, limit: u64, clients: u64 },
    #[error("--topics: {0}")]
    Topics(#[from] TopicError),
    #[error(transparent)]
    Feed(#[from] SimulatorError),
    #[error("expected to start the server as a child process, found: {error}")]
    Start { error: io::Error },
    #[error("expected the server to listen, found that it ended; the reason is above")]
    NotListening,
    #[error(
        "expected the server to connect to the bench's feed and read its first messages within 20 s each, found that it did not"
    )]
    NotConnected,
    #[error("{error}; clients connected by then: {connected}")]
    Dial { connected: usize, error: DialError },
    #[error("expected to {what}, found: {error}")]
    System { what: &'static str, error: io::Error },
}

impl BenchError {
    /// Whether the options are wrong (exit code 2), rather than the run (1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            BenchError::Target { .. }
                | BenchError::ServerName { .. }
                | BenchError::TrustWithoutTls { .. }
                | BenchError::Ca { .. }
                | BenchError::NotOurFeed { .. }
                | BenchError::SettingsOfTarget { .. }
                | BenchError::Silent { .. }
                | BenchError::TopicsEach { .. }
                | BenchError::ChangesAtMax
                | BenchError::NothingToChangeTo { .. }
                | BenchError::Changes { .. }
                | BenchError::Limit { .. }
                | BenchError::NoLatency
                | BenchError::OpenFiles { .. }
                | BenchError::Topics(_)
                | BenchError::Feed(_)
        )
    }

    fn system(what: &'static str) -> impl Fn(io::Error) -> BenchError {
        move |error| BenchError::System { what, error }
    }
}

/// Carries out the plan; `progress` receives a line about once a second.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<BenchReport, BenchError> {
    let mut harness = BenchHarness::open(plan)?;
    let (mut capacity, mut unchanged) = (None, None);
    let result = if plan.capacity {
        let (result, found) = Capacity::find(&mut harness, plan, progress)?;
        capacity = Some(found);
        result
    } else {
        harness.fill(plan.clients, progress)?;
        harness.warm_up();
        if plan.changes_per_second.is_some() {
            unchanged = Some(harness.measure(plan.span, None, progress));
        }
        harness.measure(plan.span, plan.changes_per_second, progress)
    };
    drop(harness);
    let bare = if plan.bare { bare::compare(plan, progress)? } else { Vec::new() };
    Ok(BenchReport::new(plan, result, unchanged, capacity, bare))
}
