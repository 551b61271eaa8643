//! Events of the feed as a whole, reported to clients, the log, the meters and the probe.

use std::fmt::Display;

use crate::bus::feed_state::{FeedState, StaleReason};
use crate::words::stamp::Stamp;

use crate::intake::connection::loss::Loss;
use crate::intake::feed_health::OUTDATED;
use crate::intake::output::Output;

/// Messages to clients, in fanline's own words. The words of the venue or the system are in the log.
const REFUSED_PERMANENTLY: &str = "the feed has refused this server permanently; its operator must act";
const SILENT: &str = "the feed is silent";

impl Output {
    /// A connection is up; its data may follow.
    pub(super) fn connected(&mut self) {
        self.count_connect();
    }

    /// A connection is lost; `plan` is the remedy. The feed is down if it was the last one.
    pub(super) fn lost(&mut self, loss: &Loss, plan: impl Display, was_last: bool, now: Stamp) {
        self.count_loss(loss);
        let sentence = loss.to_string();
        let sentence = self.hidden().mask(&sentence).into_owned();
        tracing::warn!(reason = loss.label(), "upstream: {sentence}; {plan}");
        self.counts.trouble(sentence);
        if was_last {
            let state = self.health.stale(StaleReason::UpstreamDown, now.wall_ms, loss.public());
            self.announce(Some(state));
        }
    }

    /// The feed is over.
    pub(super) fn refused_permanently(&mut self, sentence: &str, now: Stamp) {
        tracing::error!("upstream: {sentence}");
        self.counts.trouble(sentence.to_string());
        let state = self.health.stale(StaleReason::UpstreamDown, now.wall_ms, REFUSED_PERMANENTLY.to_string());
        self.announce(Some(state));
    }

    /// A connection is up, and has brought nothing yet.
    pub(super) fn waiting(&mut self) {
        let state = self.health.waiting();
        self.announce(state);
    }

    /// All connections are up, but no message has arrived since then.
    pub(super) fn silent(&mut self, since: Stamp, message: &str) {
        tracing::warn!("upstream: {message}");
        let state = self.health.stale(StaleReason::UpstreamSilent, since.wall_ms, SILENT.to_string());
        self.announce(Some(state));
    }

    /// As `FeedHealth::outdated`.
    pub(super) fn outdated(&mut self, since_ms: Option<u64>, reports_current: bool) {
        let state = self.health.outdated(since_ms, reports_current);
        if matches!(state, Some(FeedState::Stale { .. })) {
            tracing::warn!("upstream: {OUTDATED}");
        }
        self.announce(state);
    }

    /// As `FeedHealth::idle`.
    pub(super) fn idle(&mut self, idle: Option<FeedState>) {
        let state = self.health.idle(idle);
        self.announce(Some(state));
    }

    pub(super) fn is_live(&self) -> bool {
        self.health.is_live()
    }
}
