//! What of delivery can be set: whole sections of the table, which has the names, the defaults and what each means.

use std::time::Duration;

use crate::settings::table::{
    CompressionSettings, Config, HeartbeatSettings, Ping, Raw, ServerLimits, Shards, Slow, Sse,
};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// `count` is at least 1 here.
    pub shards: Shards,
    pub limits: ServerLimits,
    pub heartbeat: HeartbeatSettings,
    pub ping: Ping,
    pub sse: Sse,
    pub slow: Slow,
    pub raw: Raw,
    pub compression: CompressionSettings,
    pub access: AccessSettings,
    /// How long a client waits that is ahead of this server, which may be behind others of its cluster; 0 without one.
    pub behind_max: Duration,
    /// The feed is the simulated market; the greeting marks it as simulated.
    pub simulated: bool,
}

/// How long this server may be behind others of its cluster; a client that is ahead waits for it, and one that is further
/// behind has lost its log. 0 without a cluster, and without parents.
pub fn behind_max(config: &Config) -> Duration {
    const BEHIND_MAX: Duration = Duration::from_secs(5);
    let is_alone = config.cluster.urls.is_empty() && config.relay.parents.is_empty();
    if is_alone { Duration::ZERO } else { BEHIND_MAX }
}

/// How long sessions may be here without a valid credential, where one is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// From the upgrade to the verdict about the first credential.
    pub deadline: Duration,
    /// After the end of a token: time for a fresh one.
    pub expiry_grace: Duration,
    /// The command `auth` is a place for tokens.
    pub takes_command: bool,
}

impl Default for AccessSettings {
    fn default() -> AccessSettings {
        AccessSettings { deadline: Duration::from_secs(5), expiry_grace: Duration::from_secs(25), takes_command: true }
    }
}

/// When a lane gets a shared window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Windows of one shard at most; 0 for none. Each costs about 300 KiB.
    pub windows_max: usize,
    /// Sessions in step that a lane must have to get a window; it loses the window below half of that.
    pub members_min: usize,
}

impl Settings {
    /// `shards` is how many of them, at least 1.
    pub fn new(config: &Config, shards: usize, simulated: bool) -> Settings {
        Settings {
            shards: Shards { count: shards, ..config.shards },
            limits: config.limits,
            heartbeat: config.heartbeat,
            ping: config.ping,
            sse: config.sse,
            slow: config.slow,
            raw: config.raw,
            compression: config.compression,
            access: AccessSettings {
                deadline: config.auth.deadline,
                expiry_grace: config.auth.expiry_grace,
                takes_command: config.auth.sources.iter().any(|source| source == "message"),
            },
            behind_max: behind_max(config),
            simulated,
        }
    }

    /// One shard with bounds that are never reached and deadlines that never pass. A test or benchmark of one of them
    /// sets that one.
    pub fn lenient() -> Settings {
        let long = Duration::from_secs(24 * 3600);
        Settings {
            shards: Shards { count: 1, spread_after: 1, batch_delay: Duration::ZERO },
            limits: ServerLimits {
                wildcards_total_max: 100_000,
                lane_bytes_total_max: 1 << 30,
                messages_per_second_max: 1_000_000,
                inbound_bytes_per_second_max: 1 << 30,
                message_timeout: long,
                inbound_bytes_total_max: 1 << 30,
                client_requests_per_second_max: 1000,
                ..ServerLimits::default()
            },
            heartbeat: HeartbeatSettings { interval: long },
            ping: Ping { interval: long, timeout: long },
            sse: Sse { age_max: 2 * long },
            slow: Slow {
                replay_max: long,
                write_deadline: long,
                unsent_bytes_max: 1 << 20,
                unsent_bytes_total_max: 1 << 30,
            },
            compression: CompressionSettings { windows_max: 8, ..CompressionSettings::default() },
            ..Settings::default()
        }
    }

    /// The shared windows.
    pub fn window(&self) -> WindowSettings {
        let CompressionSettings { windows_max, window_members_min, .. } = self.compression;
        WindowSettings { windows_max, members_min: window_members_min }
    }
}
