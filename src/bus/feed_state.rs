//! Whether what clients see is current: the state of the feed, for every room above the bus.

/// State of the feed. Only the publisher changes it; clients receive it as `stale` and `live`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// No data has arrived since the start.
    Connecting,
    /// The feed has no subscription, so no data can arrive.
    Idle {
        /// It will be, once there are clients that want something: nothing is wrong.
        for_clients: bool,
        /// What is to be done about it, for people.
        message: String,
    },
    /// Data arrives.
    Live,
    /// What was received may be outdated.
    Stale {
        reason: StaleReason,
        /// Since when, in milliseconds since the Unix epoch.
        since_ms: u64,
        /// What went wrong, in fanline's own words, because everyone may read it. It holds nothing that changes with
        /// time, such as the number of an attempt: it is sent once and read later.
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// There is no connection to the feed.
    UpstreamDown,
    /// The connection stands, but nothing has arrived for longer than the idle timeout.
    UpstreamSilent,
    /// Of a delayed view: it has begun, and nothing that was received since is as old as it must be.
    DelayWarming,
    /// Nobody answers for the cluster's log.
    Cluster,
}

impl StaleReason {
    /// `reason` in a `stale` message and in `/readyz`.
    pub fn label(self) -> &'static str {
        match self {
            StaleReason::UpstreamDown => "upstream_down",
            StaleReason::UpstreamSilent => "upstream_silent",
            StaleReason::DelayWarming => "delay_warming",
            StaleReason::Cluster => "cluster",
        }
    }
}

impl FeedState {
    pub const LABELS: [&'static str; 6] = ["connecting", "idle", "live", "down", "silent", "cut_off"];

    /// Value of the `state` label of `fanline_upstream_state`, which only the live log has: none of it is `warming`.
    pub fn label(&self) -> &'static str {
        match self {
            FeedState::Connecting => "connecting",
            FeedState::Idle { .. } => "idle",
            FeedState::Live => "live",
            FeedState::Stale { reason: StaleReason::UpstreamDown, .. } => "down",
            FeedState::Stale { reason: StaleReason::UpstreamSilent, .. } => "silent",
            FeedState::Stale { reason: StaleReason::DelayWarming, .. } => "warming",
            FeedState::Stale { reason: StaleReason::Cluster, .. } => "cut_off",
        }
    }
}
