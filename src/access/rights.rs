//! What a tier may do.

use std::time::Duration;

use serde_json::Value;

use crate::json::strict::{SameName, read_strict};
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
    /// What clients may `send`, and `request`, as far as the server's settings allow it at all.
    pub send: GrantedCommands,
    pub request: GrantedCommands,
}

/// The topics that may be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrantedTopics {
    All,
    /// The first pattern that matches counts, also for the delay.
    Matching(Box<[GrantedPattern]>),
    /// Of these, only those that a token names: a topic must match both.
    Narrowed {
        named: Box<[Pattern]>,
        within: Box<[GrantedPattern]>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantedPattern {
    pub pattern: Pattern,
    /// How much later than received its messages are sent.
    pub delay: Duration,
}

/// What clients may say to the feed through the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrantedCommands {
    None,
    All,
    /// What any of the rules allows.
    Rules(Box<[CommandRule]>),
}

/// Allows commands by their topic and their content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandRule {
    /// None: of any topic, or without one.
    pub topics: Option<Pattern>,
    /// All must hold.
    pub content: Box<[ContentTest]>,
}

/// Allows content that has one of some values at a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentTest {
    /// JSON pointer of RFC 6901.
    pub pointer: Box<str>,
    pub values: Box<[Value]>,
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
        let granted = match topics {
            GrantedTopics::All => return ViewDelay::Uniform(Duration::ZERO),
            GrantedTopics::Matching(granted) | GrantedTopics::Narrowed { within: granted, .. } => granted,
        };
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
            send: GrantedCommands::All,
            request: GrantedCommands::All,
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
            GrantedTopics::Narrowed { named, within } => {
                if named.iter().any(|pattern| pattern.matches(topic)) {
                    delay_of(within, topic)
                } else {
                    None
                }
            }
        }
    }
}

fn delay_of(granted: &[GrantedPattern], topic: &str) -> Option<Duration> {
    granted.iter().find(|granted| granted.pattern.matches(topic)).map(|granted| granted.delay)
}

impl GrantedCommands {
    /// Whether content for a topic, or a request without one, is allowed. Content that repeats a member, in whatever
    /// case, passes no rule: the feed may take another one than was tested.
    pub fn allows(&self, topic: Option<&str>, data: &str) -> bool {
        match self {
            GrantedCommands::None => false,
            GrantedCommands::All => true,
            GrantedCommands::Rules(rules) => {
                let of_topic = |rule: &&CommandRule| match &rule.topics {
                    None => true,
                    Some(pattern) => topic.is_some_and(|topic| pattern.matches(topic)),
                };
                let mut concerned = rules.iter().filter(of_topic).peekable();
                if concerned.peek().is_none() {
                    return false;
                }
                let Some(content) = read_strict(data, SameName::AnyCase) else { return false };
                concerned.any(|rule| rule.content.iter().all(|test| test.holds(&content)))
            }
        }
    }
}

impl ContentTest {
    fn holds(&self, content: &Value) -> bool {
        content.pointer(&self.pointer).is_some_and(|found| self.values.contains(found))
    }
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

    #[test]
    fn a_command_is_allowed_by_its_topic_and_its_content() {
        let pattern = |text: &str| Pattern::parse(text).expect(text);
        let test = |pointer: &str, values: &[&str]| ContentTest {
            pointer: pointer.into(),
            values: values.iter().map(|value| Value::from(*value)).collect(),
        };
        let rules = GrantedCommands::Rules(Box::new([
            CommandRule { topics: Some(pattern("chat.*")), content: Box::new([test("/kind", &["text", "smile"])]) },
            CommandRule { topics: None, content: Box::new([test("/method", &["public/ticker"]), test("/v", &["2"])]) },
        ]));
        for (topic, data, allowed) in [
            (Some("chat.a"), r#"{"kind":"text"}"#, true),
            (Some("chat.a"), r#"{"kind":"smile","x":1}"#, true),
            (Some("chat.a"), r#"{"kind":"image"}"#, false),
            (Some("chat.a"), r#"{"kind":"image","kind":"text"}"#, false),
            (Some("chat.a"), r#"{"kind":"text","Kind":"image"}"#, false),
            (Some("chat.a"), r#"{"kind":["text"]}"#, false),
            (Some("chat.a"), "text", false),
            (Some("news.a"), r#"{"kind":"text"}"#, false),
            (None, r#"{"kind":"text"}"#, false),
            (None, r#"{"method":"public/ticker","v":"2"}"#, true),
            (None, r#"{"method":"public/ticker","v":2}"#, false),
            (None, r#"{"method":"private/buy","v":"2"}"#, false),
        ] {
            assert_eq!(rules.allows(topic, data), allowed, "{topic:?} {data}");
        }
        assert!(GrantedCommands::All.allows(None, "{") && !GrantedCommands::None.allows(None, "{}"));
    }

    #[test]
    fn narrowed_topics_are_named_and_granted_with_the_delay_of_the_grant() {
        let pattern = |text: &str| Pattern::parse(text).expect(text);
        let within = Box::new([granted("a.b", 900), granted("a.>", 0), granted("c.*", 5)]);
        let topics = GrantedTopics::Narrowed { named: Box::new([pattern("*.b"), pattern("d.*")]), within };
        for (topic, delay) in [("a.b", Some(900)), ("c.b", Some(5)), ("a.c", None), ("d.b", None), ("b", None)] {
            assert_eq!(topics.delay_of(topic), delay.map(Duration::from_secs), "{topic}");
        }
    }
}
