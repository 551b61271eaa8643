//! How the limit of open files is shared among clients, connections and what the server itself needs.

use crate::edge::settings::{ConnectionLimits, Settings as EdgeSettings};
use crate::identity::tiers::VIEWS_MAX;
use crate::open_files::{Shares, open_files_limit, raise_open_files_limit};
use crate::settings::table::Config;

use super::shards;

/// Settings of the edge, with the shares that the limit of open files allows.
pub(super) fn edge_settings(config: &Config, shares: &Shares, simulated: bool) -> EdgeSettings {
    let settings = EdgeSettings::new(config);
    EdgeSettings {
        sessions_max: shares.sessions_max,
        connections: ConnectionLimits {
            total_max: shares.connections_max,
            files_max: shares.files_max,
            ..settings.connections
        },
        simulated,
        ..settings
    }
}

/// Raises the limit of open files, and shares it. Each client takes one file, so a limit that is too low is logged at the
/// start.
pub(super) fn share_open_files(config: &Config, spools: usize) -> Shares {
    if let Err(error) = raise_open_files_limit() {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let (limit, wanted, shares) = (open_files_limit(), wanted(config), shares(config, spools));
    if shares == wanted {
        tracing::debug!(limit, "open files");
    } else {
        tracing::info!(
            limit,
            sessions_max = shares.sessions_max,
            wanted = wanted.sessions_max,
            connections_max = shares.connections_max,
            "the limit of open files is too low for limits.sessions_max and http.connections_max, so fewer clients are admitted; \
             `ulimit -n` can raise it"
        );
    }
    shares
}

/// Shares of the limit of open files as it is.
pub(super) fn shares(config: &Config, spools: usize) -> Shares {
    shares_of(config, spools, open_files_limit())
}

/// What is wanted, and what another limit of open files allows of it.
pub(crate) fn wanted_and_allowed(config: &Config, limit: u64) -> (Shares, Shares) {
    let spools = if config.delay.spool_dir.is_some() { VIEWS_MAX } else { 0 };
    (wanted(config), shares_of(config, spools, limit))
}

fn shares_of(config: &Config, spools: usize, limit: u64) -> Shares {
    let upstreams = config.upstream.legs * config.upstream.connections;
    wanted(config).within(limit, (shards(config), upstreams, spools))
}

fn wanted(config: &Config) -> Shares {
    let (sessions_max, connections_max) = (config.limits.sessions_max, config.http.connections_max);
    Shares { sessions_max, connections_max, files_max: sessions_max.saturating_add(connections_max) }
}
