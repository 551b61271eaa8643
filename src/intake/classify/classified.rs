//! The result of classification, and why some messages have no topic.

use std::sync::Arc;

use crate::intake::classify::binding::{BINDINGS_MAX, BOUND_BYTES_MAX, UNBOUND_MAX, UNBOUND_NS};
use crate::json::{ELEMENTS_MAX, LEVELS_MAX, Pointer};
use crate::profile::rule::MessageClass;
use crate::profile::rules::numbers::GapRemedy;
use crate::words::stamp::Stamp;
use crate::words::topic::TopicError;

/// The result for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    pub class: MessageClass,
    /// Name of the rule that decided; None also for data without a problem, which nobody asks about.
    pub rule: Option<Arc<str>>,
    /// The answer to send.
    pub reply: Option<String>,
    /// Messages of this connection are missing before this one.
    pub gap: Option<ConnectionGap>,
    /// Why the class is `Unmatched` or `Garbled`, why elements of a batch could not be named or numbered, or why an
    /// acknowledgement binds nothing.
    pub problem: Option<Unnamed>,
    /// Of the classes `Stale`, `Live` and `Gap`: the feed's report. Boxed, since few messages have one and all are moved.
    pub status: Option<Box<UpstreamStatus>>,
}

/// A message that has waited, and its class.
pub struct WaitedMessage {
    pub text: String,
    pub received: Stamp,
    pub classified: Classified,
}

/// A report of the feed about its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// None: about everything on this connection.
    pub topic: Option<String>,
    /// Value of the rule's `since`, `missed` or `until`.
    pub number: Option<u64>,
    /// Where data have the number that `until` is compared with.
    pub data_number: Option<Pointer>,
}

/// Messages are missing in unknown topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionGap {
    /// Number of messages, if known.
    pub missed: Option<u64>,
    /// `Mark` or `Reconnect`.
    pub remedy: GapRemedy,
}

/// Why a message or an element has no topic. Shown to people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    #[error("expected a topic at `{pointer}`, found {found}")]
    NoTopic { pointer: String, found: &'static str },
    #[error("expected a topic at `{pointer}`, found {found}, {doubt}")]
    BadGuess { pointer: String, found: &'static str, doubt: Arc<str> },
    #[error("expected a valid topic from the rule's template: {0}")]
    Unusable(#[from] TopicError),
    #[error("expected a message that a rule matches, found another; add a rule, if necessary with `as = \"ignore\"`")]
    NoRule,
    #[error("expected JSON, found other text{hint}")]
    NoJson { hint: &'static str },
    #[error("expected JSON of at most {LEVELS_MAX} levels, found more, which many parsers reject")]
    TooDeep,
    #[error("expected JSON in UTF-8, found other bytes{hint}")]
    NoText { hint: &'static str },
    #[error("expected an IRC message, found other text")]
    NoIrc,
    #[error("expected text messages, found a binary one; say what it holds with `decode.binary`")]
    NoBinary,
    #[error("expected {format} in a binary message, found other bytes; say what it holds with `decode.binary`")]
    Unpackable { format: &'static str },
    #[error(
        "expected at most {bytes_max} bytes in a compressed message, found more; \
             raise `connect.max_message` in the profile, or `upstream.message_bytes_max` if the profile has none"
    )]
    TooBig { bytes_max: usize },
    #[error("expected at most {ELEMENTS_MAX} elements in a message, found {count}; the others are not published")]
    TooManyElements { count: usize },
    #[error(
        "expected an acknowledgement that binds `{key}`, found none within {} s or {} waiting messages",
        UNBOUND_NS / 1_000_000_000,
        UNBOUND_MAX
    )]
    Unbound { key: Box<str> },
    #[error(
        "expected a whole number below 2^64 where the rule's `seq` points, found something else; the message is \
         published as unnumbered"
    )]
    NoNumber,
    #[error("expected a key to bind, found none")]
    NoKey,
    #[error("expected a key and values of at most {BOUND_BYTES_MAX} bytes to bind, found {bytes}")]
    BoundTooLong { bytes: usize },
    #[error("expected at most {BINDINGS_MAX} bound keys on a connection, found more; unsubscribe from some")]
    TooManyBound,
}

impl Classified {
    pub fn of(class: MessageClass) -> Classified {
        Classified { class, rule: None, reply: None, gap: None, problem: None, status: None }
    }

    pub fn garbled(problem: Unnamed) -> Classified {
        Classified { problem: Some(problem), ..Classified::of(MessageClass::Garbled) }
    }
}
