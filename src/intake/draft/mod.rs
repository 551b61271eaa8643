//! A first draft of a profile, from the messages of a look at a feed: `fanline profile new`.
//!
//! ```text
//! decoding.rs   how frames become messages
//! control.rs    messages about the connection, and the rules for them
//! kinds.rs      the kinds of the others, and where they are named
//! members.rs    lists, times and numbers in them
//! rule.rs       the rule of one kind
//! ```
//! What the draft cannot know it says in comments. It is checked like any profile, with the messages that it was made
//! from; a fold that does not fit them is left out.

mod control;
mod decoding;
mod kinds;
mod members;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::intake::classify::drive::{self, Onlooker};
use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage};
use crate::intake::draft::decoding::FrameFormat;
use crate::intake::draft::kinds::{KindPlace, kinds};
use crate::intake::kept_messages::{KeepBounds, KeptMessage, MessageStore};
use crate::intake::update::Update;
use crate::profile::rule::MessageClass;
use crate::profile::section::ProfileError;
use crate::profile::{Profile, check};
use crate::words::stamp::Stamp;

/// Silences of a look are short: five of them, and at least the usual time.
const SILENCES: u64 = 5;
const IDLE_S: std::ops::RangeInclusive<u64> = 30..=300;

/// A draft, and how far it goes.
#[derive(Clone, Debug)]
pub(crate) struct ProfileDraft {
    pub text: String,
    /// The file of messages beside it, and the number of messages in it.
    pub messages: (String, usize),
    /// Messages that may be data, and those that a rule gives a topic.
    pub data: usize,
    pub named: usize,
    /// The topics, sorted.
    pub topics: Vec<String>,
}

/// What a draft makes of the messages it was made from.
#[derive(Default)]
struct DraftTrial {
    kept: MessageStore,
    first: Option<(Arc<str>, bool)>,
    data: usize,
    named: usize,
    topics: std::collections::BTreeSet<String>,
}

/// Drafts a profile of the feed at `url`, to which `sent` was sent. `bounds` are those of the file of messages.
pub(crate) fn draft(
    url: &url::Url,
    sent: &[String],
    seen: &[KeptMessage],
    bounds: KeepBounds,
) -> Result<ProfileDraft, ProfileError> {
    let decoding = FrameFormat::of(seen);
    let texts = decoding.messages(seen)?;
    let head = head(url, sent, seen, &decoding, texts.len());
    let name = name(url);
    let mut folds = true;
    loop {
        let text = format!("{head}\n[on]\n{}", rules(&decoding, &texts, folds));
        let profile = check(&text, &name)?;
        let mut trial = DraftTrial { kept: MessageStore::new(bounds), ..DraftTrial::default() };
        let mut classifier = Classifier::new(&profile);
        texts.iter().for_each(|text| {
            drive::take(&mut classifier, FeedFrame::Text(text), Stamp::default(), &mut trial);
        });
        let DraftTrial { mut kept, data, named, topics, .. } = trial;
        let few: Vec<String> = kept.take().into_iter().filter_map(|message| message.content.ok()).collect();
        let count = few.len();
        let messages = profile.tell_messages(&[], few);
        if messages.1 == count || !folds {
            let topics = topics.into_iter().collect();
            return Ok(ProfileDraft { text, messages, data, named, topics });
        }
        folds = false;
    }
}

impl Onlooker for DraftTrial {
    fn update(&mut self, update: &Update<'_>) {
        self.first.get_or_insert_with(|| (update.treatment.rule.name.clone(), update.snapshot));
        self.topics.insert(update.topic.to_string());
    }

    fn classified(&mut self, classified: &Classified, message: &FeedMessage<'_>) {
        let (rule, is_snapshot) = self.first.take().unzip();
        self.data += usize::from(classified.class == MessageClass::Data || classified.class.is_misfit());
        self.named += usize::from(classified.class == MessageClass::Data && rule.is_some());
        let kind = (classified.rule.clone().or(rule), classified.class, is_snapshot.unwrap_or_default());
        self.kept.keep(message, kind, Stamp::default());
    }
}

/// Everything before the rules.
fn head(url: &url::Url, sent: &[String], seen: &[KeptMessage], decoding: &FrameFormat, messages: usize) -> String {
    let host = url.host_str().unwrap_or("localhost");
    let mut text = format!(
        "# A first draft from {messages} messages of {host}: correct it, and run `fanline check` with the messages beside it.\n\
         profile = 1\nname    = \"{}\"\nhosts   = [\"{host}\"]\n",
        name(url)
    );
    let plain: Vec<String> = sent.iter().filter(|text| !text.contains("${")).map(|text| literal(text)).collect();
    if plain.is_empty() {
        text += "# If the feed expects to be told what to send: `[subscribe]`, with `send` as its documentation shows it.\n";
    } else {
        text += &format!(
            "# As given with --send; `[subscribe]` makes such messages from items.\nopen    = [{}]\n",
            plain.join(", ")
        );
    }
    let mut bare = url.clone();
    bare.set_query(None);
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    text += &format!("\n[connect]\nurl = {}\n", literal(bare.as_str()));
    if url.query().is_some() {
        text += "# The query is left out, as it may hold a key: write one as `?key=${env.NAME|query}`.\n";
    }
    if !decoding.keys.is_empty() {
        text += &format!("\n[decode]\n{}\n", decoding.keys.join("\n"));
    }
    let silences = seen.windows(2).map(|pair| pair[1].received.ns_since(pair[0].received));
    let longest_ms = silences.max().unwrap_or_default() / 1_000_000;
    let idle_s = (longest_ms * SILENCES).div_ceil(1000).clamp(*IDLE_S.start(), *IDLE_S.end());
    text += &format!(
        "\n[keepalive]                       # the longest silence was {}.{} s; `ping`, if the feed wants heartbeats\n\
         idle_timeout = \"{idle_s}s\"\n",
        longest_ms / 1000,
        longest_ms % 1000 / 100
    );
    text
}

/// The rules, short ones first.
fn rules(decoding: &FrameFormat, texts: &[String], folds: bool) -> String {
    if decoding.is_irc {
        return decoding::IRC_RULES.to_string();
    }
    let (mut about, mut values, mut data) = (control::ControlRules::default(), Vec::new(), Vec::new());
    for text in texts.iter().filter(|text| !about.take(text)) {
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            values.push(value);
            data.push(&**text);
        }
    }
    let place = KindPlace::find(&values);
    let mut text = about.lines();
    let mut names = about.names();
    for kind in kinds(&values, place.as_ref()) {
        text += &rule::write(&kind, place.as_ref(), (&data, &values), folds, &mut names);
    }
    if data.is_empty() {
        text += "\n# No data came: this takes what has a symbol.\n[on.data]\nwhen  = ['/symbol exists']\ntopic = \"${/symbol}\"\n";
    }
    text
}

/// The label of the host that its owner is known by.
fn name(url: &url::Url) -> String {
    let labels: Vec<&str> = url.domain().unwrap_or_default().split('.').collect();
    let owner = labels.len().checked_sub(2).map_or("feed", |index| labels[index]);
    // `co` of `acme.co.uk`.
    let owner = if owner.len() <= 3 && labels.len() > 2 { labels[labels.len() - 3] } else { owner };
    let plain: String = owner.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if plain.is_empty() || Profile::built_in(&plain).is_some() { format!("my-{plain}feed") } else { plain }
}

/// A text in TOML, as it is if that is possible.
fn literal(text: &str) -> String {
    match text.contains('\'') || text.chars().any(char::is_control) {
        true => Value::from(text).to_string(),
        false => format!("'{text}'"),
    }
}
