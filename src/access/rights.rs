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

/// How much later than received a view shows its topics. Tiers with equal delays share a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ViewDelay {
    /// All topics alike. The view has the epoch and the offsets of the live log.
    Uniform(Duration),
    /// The first pattern that matches counts; other topics are not in the view, whose epoch and offsets are its own.
    ByTopic(Box<[GrantedPattern]>),
}

impl ViewDelay {
    /// The view that a tier with these topics sees.
    pub fn of(topics: &GrantedTopics) -> ViewDelay {
        let GrantedTopics::Matching(granted) = topics else { return ViewDelay::Uniform(Duration::ZERO) };
        let first = granted.first().map_or(Duration::ZERO, |granted| granted.delay);
        if granted.iter().all(|granted| granted.delay == first) {
            ViewDelay::Uniform(first)
        } else {
            ViewDelay::ByTopic(granted.clone())
        }
    }

    /// Whether it is the live log.
    pub fn is_live(&self) -> bool {
        *self == ViewDelay::Uniform(Duration::ZERO)
    }

    /// How much later than received the topic is shown; none if it is not in the view.
    pub fn of_topic(&self, topic: &str) -> Option<Duration> {
        match self {
            ViewDelay::Uniform(delay) => Some(*delay),
            ViewDelay::ByTopic(granted) => delay_of(granted, topic),
        }
    }
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
            GrantedTopics::Matching(granted) => delay_of(granted, topic),
        }
    }
}

fn delay_of(granted: &[GrantedPattern], topic: &str) -> Option<Duration> {
    granted.iter().find(|granted| granted.pattern.matches(topic)).map(|granted| granted.delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(pattern: &str, seconds: u64) -> GrantedPattern {
        GrantedPattern { pattern: Pattern::parse(pattern).expect(pattern), delay: Duration::from_secs(seconds) }
    }

    #[test]
    fn one_delay_is_a_view_of_all_topics_and_several_are_a_view_of_their_own() {
        let minute = Duration::from_secs(60);
        let of = |granted: &[GrantedPattern]| ViewDelay::of(&GrantedTopics::Matching(granted.into()));
        assert!(ViewDelay::of(&GrantedTopics::All).is_live() && of(&[granted("a.>", 0)]).is_live());
        let alike = of(&[granted("a.>", 60), granted("b", 60)]);
        assert_eq!((alike.of_topic("a.x"), alike.of_topic("c")), (Some(minute), Some(minute)));
        let mixed = of(&[granted("a.x", 0), granted("a.>", 60)]);
        assert_eq!((mixed.of_topic("a.x"), mixed.of_topic("a.y")), (Some(Duration::ZERO), Some(minute)));
        assert_eq!(mixed.of_topic("c"), None, "a topic that nobody may see is not in the view");
    }
}
