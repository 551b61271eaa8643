//! How late a client's view is, as the client is told.

use std::time::Duration;

use crate::access::rights::{GrantedTopics, Rights, ViewDelay};
use crate::protocol::server_message::DelayMs;

/// None for clients that see the feed live.
pub fn shown_delay(rights: &Rights) -> Option<DelayMs> {
    let ms = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    if rights.topics == GrantedTopics::All {
        return None;
    }
    match ViewDelay::of(&rights.topics) {
        ViewDelay::Uniform(Duration::ZERO) => None,
        ViewDelay::Uniform(delay) => Some(DelayMs::Every(ms(delay))),
        ViewDelay::ByTopic(granted) => {
            let pairs = granted.iter().map(|granted| (granted.pattern.as_str().into(), ms(granted.delay)));
            Some(DelayMs::ByPattern(pairs.collect()))
        }
    }
}
