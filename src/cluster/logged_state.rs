//! The state of the feed as an item of the log, and back.

use feed_log::entry::LoggedText;
use feed_log::entry::item::LoggedState;

use crate::bus::feed_state::{FeedState, StaleReason};

/// `reason` of a feed that is idle until clients want something.
const FOR_CLIENTS: &str = "for_clients";

pub(super) fn logged_state(state: &FeedState) -> LoggedState {
    let (reason, since_ms, message) = match state {
        FeedState::Connecting | FeedState::Live => ("", 0, ""),
        FeedState::Idle { for_clients, message } => (if *for_clients { FOR_CLIENTS } else { "" }, 0, message.as_str()),
        FeedState::Stale { reason, since_ms, message } => (reason.label(), *since_ms, message.as_str()),
    };
    let text = LoggedText::from;
    LoggedState { label: text(state.label()), reason: text(reason), since_ms, message: text(message) }
}

pub(super) fn feed_state(state: &LoggedState) -> FeedState {
    let message = state.message.as_str().to_owned();
    let stale = |reason| FeedState::Stale { reason, since_ms: state.since_ms, message: message.clone() };
    match state.label.as_str() {
        "connecting" => FeedState::Connecting,
        "idle" => FeedState::Idle { for_clients: state.reason.as_str() == FOR_CLIENTS, message },
        "live" => FeedState::Live,
        "silent" => stale(StaleReason::UpstreamSilent),
        _ => stale(StaleReason::UpstreamDown),
    }
}
