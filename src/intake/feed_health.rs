//! Health of the feed: whether published values are current. Decides which state is announced, and announces nothing.

use crate::bus::feed_state::{FeedState, StaleReason};

/// Message to clients, in fanline's own words.
const WAITING: &str = "the connection to the feed is up again, but has brought nothing yet";
/// Message to clients when the feed reports it itself.
pub(super) const OUTDATED: &str = "the feed reports that its values may be outdated: its own source is down or silent";

#[derive(Debug, Default)]
pub(super) struct FeedHealth {
    live: bool,
    /// The feed itself reports outdated values: new data do not make them current.
    outdated: bool,
    /// Since when published values may be outdated; none while the feed is live.
    stale_since_ms: Option<u64>,
}

impl FeedHealth {
    /// Whether the newest data are current.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// An update was published.
    pub(super) fn updated(&mut self) -> Option<FeedState> {
        (!self.live && !self.outdated).then(|| self.live())
    }

    fn live(&mut self) -> FeedState {
        self.live = true;
        self.stale_since_ms = None;
        FeedState::Live
    }

    /// Stale values stay stale since the same time, whatever else goes wrong.
    pub(super) fn stale(&mut self, reason: StaleReason, since_ms: u64, message: String) -> FeedState {
        self.live = false;
        let since_ms = *self.stale_since_ms.get_or_insert(since_ms);
        FeedState::Stale { reason, since_ms, message }
    }

    /// A connection is up again, and has brought nothing yet.
    pub(super) fn waiting(&mut self) -> Option<FeedState> {
        let since_ms = self.stale_since_ms.filter(|_| !self.live)?;
        Some(self.stale(StaleReason::UpstreamSilent, since_ms, WAITING.to_string()))
    }

    /// Nothing is subscribed, so nothing will arrive; or something is again.
    pub(super) fn idle(&mut self, idle: Option<FeedState>) -> FeedState {
        if idle.is_some() {
            self.stale_since_ms = None;
        }
        idle.unwrap_or(FeedState::Connecting)
    }

    /// Since when the feed reports outdated values; none: it no longer does. `reports_current`: because it reports that
    /// they are current.
    pub(super) fn outdated(&mut self, since_ms: Option<u64>, reports_current: bool) -> Option<FeedState> {
        let was_outdated = std::mem::replace(&mut self.outdated, since_ms.is_some());
        match since_ms {
            Some(since_ms) if !was_outdated => {
                Some(self.stale(StaleReason::UpstreamDown, since_ms, OUTDATED.to_string()))
            }
            None if was_outdated && reports_current => Some(self.live()),
            _ => None,
        }
    }
}
