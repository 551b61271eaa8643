//! The dialect of a venue's clients: what they say, what they are answered, and how messages go out to them.
//!
//! It is the section `[downstream]` of a profile. Everything here is a function of texts: it knows no session, no socket
//! and no clock. What a client asks for is granted or refused elsewhere, and the answer is made from the outcome.

pub mod conversation;
pub mod conversation_file;
mod forms;
pub mod kept;
pub mod paths;
mod read;
pub mod session_items;
pub(crate) mod words;

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::json::Pointers;
use crate::profile::downstream::conversation::SaidRule;
use crate::profile::downstream::forms::DialectForm;
use crate::profile::downstream::paths::DialectPath;
pub(crate) use crate::profile::downstream::read::read_dialect;
use crate::profile::downstream::words::{Word, heartbeat, moment};
use crate::profile::template::Template;
use crate::protocol::form::{FormId, Forms};
use crate::words::stamp::Stamp;
use crate::words::topic::{Pattern, TOPIC_BYTES_MAX, TopicError, check_topic};

/// A checked section `[downstream]`.
#[derive(Debug)]
pub struct Dialect {
    paths: Vec<DialectPath>,
    /// Those that are echoed if a client offers them.
    pub subprotocols: Vec<String>,
    /// Clients may say several messages in one, a line each.
    is_in_lines: bool,
    /// Items of one session at most.
    pub items_max: usize,
    /// How long a client may say nothing until it is pinged; none: as by the settings.
    pub ws_ping: Option<Duration>,
    /// How long the feed may be down until sessions end; none: they go on.
    pub stale_close: Option<Duration>,
    /// At least one; `FormId` is the place.
    forms: Vec<DialectForm>,
    items: Vec<ItemTopics>,
    open: Vec<Template<Word>>,
    pub heartbeat: Option<DialectHeartbeat>,
    /// Before the end of a session whose client may come back.
    goodbyes: Vec<(FormId, Template<Word>)>,
    /// All that the rules look for in a message.
    pointers: Pointers,
    rules: Vec<SaidRule>,
    /// How the items in force of one channel stand in a list of groups.
    group: Option<Template<Word>>,
}

/// The topics of items that are not topics themselves.
#[derive(Debug)]
struct ItemTopics {
    pub like: Regex,
    pub topics: Vec<Template<Word>>,
}

#[derive(Debug)]
pub struct DialectHeartbeat {
    pub every: Duration,
    send: Template<Word>,
    /// Only to clients that are subscribed to this pattern; none: to all.
    pub topics: Option<Pattern>,
    /// Only after so long without another message.
    pub when_idle: bool,
}

impl Dialect {
    /// The messages after the upgrade.
    pub fn greeting(&self, now: Stamp) -> Vec<String> {
        self.open.iter().map(|template| moment(template, now)).collect()
    }

    /// The message before the end of a session that has this form, if its client may come back.
    pub fn goodbye(&self, form: FormId, now: Stamp) -> Option<String> {
        let (_, template) = self.goodbyes.iter().find(|(other, _)| *other == form)?;
        Some(moment(template, now))
    }

    /// The topics and patterns of an item.
    pub fn topics_of(&self, item: &str) -> Vec<Pattern> {
        let Some(known) = self.renames(item) else { return Pattern::parse(item).into_iter().collect() };
        let texts = known.topics.iter().map(|template| words::with_item(template, item));
        texts.filter_map(|text| Pattern::parse(&text).ok()).collect()
    }

    /// Checks an item: a topic, or one that a table of `items` knows.
    pub(super) fn check_item(&self, item: &str) -> Result<(), TopicError> {
        match self.renames(item) {
            Some(_) if item.len() > TOPIC_BYTES_MAX => Err(TopicError::TooLong { bytes: item.len() }),
            Some(_) => Ok(()),
            None => check_topic(item),
        }
    }

    /// The item is a topic, its own.
    pub fn is_plain(&self, item: &str) -> bool {
        self.renames(item).is_none()
    }

    fn renames(&self, item: &str) -> Option<&ItemTopics> {
        self.items.iter().find(|known| known.like.is_match(item))
    }

    /// How forms are made, for encoders.
    pub fn forms(self: &Arc<Dialect>) -> Arc<dyn Forms> {
        self.clone()
    }
}

impl DialectHeartbeat {
    /// The message that was sent `count` times before.
    pub fn message(&self, count: u64, now: Stamp) -> String {
        heartbeat(&self.send, count, now)
    }
}
