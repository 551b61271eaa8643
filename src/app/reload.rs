//! Another configuration for a running server: SIGHUP and the operator's call read the file and the environment again.
//!
//! Everything is read and checked as at a start before anything changes. Then each part gets its new settings in one step.
//! What a running server cannot change stays, and is named.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::access::end_journal::EndJournal;
use crate::access::end_shelf::JournalLimits;
use crate::access::operator::{OperatorError, ReloadOutcome};
use crate::app::configuration_digest::ConfigurationDigest;
use crate::app::feed_settings::FeedSettings;
use crate::app::file_shares::{edge_settings, share_open_files, shares};
use crate::app::shards;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::audit::log::AuditLog;
use crate::check::rehearse;
use crate::config::change::{AppliedParts, ConfigChange};
use crate::config::logs::LogLevel;
use crate::config::{self, ConfigSources, Effective};
use crate::delivery::settings::Settings as DeliverySettings;
use crate::delivery::shards::Delivery;
use crate::edge::http::terms::EdgeTerms;
use crate::edge::listen::tls::files::TlsFiles;
use crate::identity::token_gatekeeper::TokenGatekeeper;
use crate::settings::table::{Config, Drain};
use crate::words::metrics::{self as names, Meters};

/// Settings that the limit of open files may lower.
const SHARED_FILES: [&str; 2] = ["limits.sessions_max", "http.connections_max"];

pub(super) struct Reload {
    pub sources: ConfigSources,
    /// What is in force.
    pub effective: ArcSwap<Effective>,
    /// None where the feed needs a restart: in a cluster, and with the simulated market.
    pub feed: Option<Arc<FeedSettings>>,
    /// Held by the one reload at a time.
    pub turn: Mutex<()>,
    /// None without identities.
    pub identities: Option<Arc<TokenGatekeeper>>,
    /// None without a listener that speaks TLS.
    pub tls: Option<Arc<TlsFiles>>,
    pub terms: Arc<EdgeTerms>,
    pub delivery: Arc<Delivery>,
    pub level: LogLevel,
    pub audit: AuditLog,
    pub journal: EndJournal,
    pub meters: ReloadMeters,
    /// The feed is the simulated market.
    pub simulated: bool,
    /// Threads that hold open files for delayed views.
    pub spools: usize,
}

pub(super) struct ReloadMeters {
    applied: metrics::Counter,
    refused: metrics::Counter,
    is_refused: metrics::Gauge,
    digest: metrics::Gauge,
}

impl ReloadMeters {
    pub(super) fn new(meters: &Meters, digest: &ConfigurationDigest) -> ReloadMeters {
        let counter = |result| meters.counter(&names::RELOADS, &[("result", result)]);
        let (applied, refused) = (counter("applied"), counter("refused"));
        let is_refused = meters.gauge(&names::RELOAD_REFUSED, &[]);
        let digest_gauge = meters.gauge(&names::CONFIGURATION_DIGEST, &[]);
        digest_gauge.set(digest.number());
        ReloadMeters { applied, refused, is_refused, digest: digest_gauge }
    }
}

impl Reload {
    /// Reads everything, and puts it into force if all of it can be used; `cause` is for the log. Waits for the disk.
    ///
    /// Errors: what is wrong; all that was in force stays.
    pub(super) fn run(&self, cause: &str) -> Result<ReloadOutcome, OperatorError> {
        let outcome = self.read_and_apply();
        self.meters.is_refused.set(f64::from(u8::from(outcome.is_err())));
        match &outcome {
            Ok(outcome) => {
                self.meters.applied.increment(1);
                tracing::info!("{cause}: {outcome}");
            }
            Err(error) => {
                self.meters.refused.increment(1);
                tracing::error!("{cause}: {error}; what was in force stays");
            }
        }
        outcome
    }

    /// How the server stops, by the configuration in force.
    pub(super) fn drain(&self) -> Drain {
        self.effective.load().config.drain
    }

    fn read_and_apply(&self) -> Result<ReloadOutcome, OperatorError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let read = config::load_again(&self.sources).map_err(refused)?;
        read.require_feed().map_err(refused)?;
        rehearse(&read.config, &read.auth).map_err(refused)?;
        let ConfigChange { effective, mut changed, restart } = self.change_to(read)?;
        let Effective { config, auth, .. } = &effective;
        let prepare = |feed: &Arc<FeedSettings>| feed.prepare(config, &mut changed);
        let feed = self.feed.as_ref().map(prepare).transpose().map_err(refused)?.flatten();
        // What they lower is in the log, once for each change.
        let shares = if changed.iter().any(|setting| SHARED_FILES.contains(&&*setting.name)) {
            share_open_files(config, self.spools)
        } else {
            shares(config, self.spools)
        };
        let edge = edge_settings(config, &shares, self.simulated);
        let read_again = |tls: &Arc<TlsFiles>| tls.read_again(Arc::new(edge.tls.clone()));
        let files = self.tls.as_ref().map(read_again).transpose().map_err(refused)?;
        if let Some(identities) = &self.identities {
            identities.reload(&config.auth, auth).map_err(refused)?;
        }
        // Nothing below can fail.
        let mut read = vec!["settings"];
        read.extend(self.identities.iter().flat_map(|_| ["issuers", "tiers"]));
        if let (Some(tls), Some(files)) = (&self.tls, files) {
            tls.put_in_force(files);
            read.push("certificates");
        }
        if let (Some(settings), Some(feed)) = (&self.feed, feed) {
            settings.put_in_force(feed);
            read.push("feed");
        }
        self.terms.change(&edge);
        self.delivery.change_settings(&DeliverySettings::new(config, shards(config), self.simulated));
        self.journal.change_limits(journal_limits(config));
        self.level.set(&config.log.level);
        let digest = ConfigurationDigest::of(config, auth);
        self.meters.digest.set(digest.number());
        let event = AuditEvent::new(AuditKind::ConfigChange).reason("reload");
        self.audit.record(event.version(env!("CARGO_PKG_VERSION"), &digest.to_string()));
        self.effective.store(Arc::new(effective));
        Ok(ReloadOutcome { read, changed, restart, digest: digest.to_string() })
    }

    fn change_to(&self, read: Effective) -> Result<ConfigChange, OperatorError> {
        let change = self
            .effective
            .load()
            .changed_to(read, AppliedParts { identities: self.identities.is_some(), feed: self.feed.is_some() });
        change.map_err(|error| {
            OperatorError::Refused(format!(
                "{error}; this holds beside settings that need a restart, so restart for all"
            ))
        })
    }
}

/// What the journal of ends may take.
pub(super) fn journal_limits(config: &Config) -> JournalLimits {
    JournalLimits { rows_max: config.journal.ends_max, bytes_max: config.journal.bytes_max }
}

fn refused(error: impl std::error::Error) -> OperatorError {
    OperatorError::Refused(error.to_string())
}
