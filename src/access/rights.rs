//! What a tier may do.

use std::time::Duration;

use crate::words::topic::Pattern;

/// Rights of all sessions of a tier, or of a token that narrows them. Equal rights are one `Arc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Name of the tier in the configuration.
    pub tier: Box<str>,
    pub topics: GrantedTopics,
    /// The fastest pace; none: every frame.
    pub pace_min: Option<Duration>,
    /// The view of the feed that the sessions see.
    pub view: ViewId,
    /// Whether clients may `send`, and `request`, as far as the server's settings allow it at all.
    pub send: bool,
    pub request: bool,
}

/// The topics that may be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrantedTopics {
    All,
    /// The first pattern that matches counts, also for the delay.
    Matching(Box<[GrantedPattern]>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantedPattern {
    pub pattern: Pattern,
    /// How much later than received its messages are sent.
    pub delay: Duration,
}

/// A view of the feed: the live one, or one that shows topics later. Each is a log of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(pub u8);

impl ViewId {
    pub const LIVE: ViewId = ViewId(0);
}

impl Rights {
    /// All topics, live, as fast and as often as the limits of the server allow.
    pub fn unlimited() -> Rights {
        Rights {
            tier: "".into(),
            topics: GrantedTopics::All,
            pace_min: None,
            view: ViewId::LIVE,
            send: true,
            request: true,
        }
    }
}

impl GrantedTopics {
    pub fn allows(&self, topic: &str) -> bool {
        self.delay_of(topic).is_some()
    }

    /// How much later than received the topic is shown; none if it is not allowed.
    pub fn delay_of(&self, topic: &str) -> Option<Duration> {
        match self {
            GrantedTopics::All => Some(Duration::ZERO),
            GrantedTopics::Matching(granted) => {
                granted.iter().find(|granted| granted.pattern.matches(topic)).map(|granted| granted.delay)
            }
        }
    }
}
