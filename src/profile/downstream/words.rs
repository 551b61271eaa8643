//! Placeholders of `[downstream]`: which there are where, and what they stand for.

use std::time::{Duration, UNIX_EPOCH};

use crate::json::{Pointer, find};
use crate::profile::compile::Scope;
use crate::profile::rule::{Field, FieldValue, View};
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::{SourceValue, Template};
use crate::protocol::encoding::Envelope;
use crate::words::stamp::Stamp;

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A place in the client's message.
    Said(Field),
    /// `.`: the element of `each`, or the part of `split`.
    Element,
    /// The element of `with`.
    With,
    Item,
    Items,
    Refused,
    All,
    /// The items in force, a text for each channel.
    Groups,
    /// Of a group.
    Channel,
    Symbols,
    /// What the session has kept under the name with this number.
    Kept(usize),
    Reason,
    NowMs,
    NowUs,
    NowIso,
    /// `path`: what `*` stands for.
    Path,
    Query(String),
    Topic,
    Payload,
    /// When the server received the payload.
    ReceivedMs,
    ReceivedIso,
    /// How often a heartbeat was sent before.
    Count,
    /// A place in the payload.
    Part(Pointer),
}

/// Where a template stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordSite {
    Path,
    /// `each`: the path whose elements it may use.
    Item {
        each: Option<usize>,
    },
    Topics,
    Reply {
        each: Option<usize>,
    },
    /// What a session keeps of a message.
    Keep,
    Group,
    /// Said without being asked.
    Unasked,
    Heartbeat,
    Form,
}

impl WordSite {
    fn known(self) -> &'static [&'static str] {
        match self {
            WordSite::Path => &["path", "query.NAME"],
            WordSite::Item { .. } => &["/pointer", ".", "./pointer", "with", "text"],
            WordSite::Topics => &["item"],
            WordSite::Reply { .. } => &[
                "/pointer",
                ".",
                "./pointer",
                "text",
                "item",
                "items",
                "refused",
                "all",
                "groups",
                "kept.NAME",
                "reason",
                "now.ms",
                "now.us",
                "now.iso",
            ],
            WordSite::Keep => &["/pointer", "text"],
            WordSite::Group => &["channel", "symbols"],
            WordSite::Unasked => &["now.ms", "now.us", "now.iso"],
            WordSite::Heartbeat => &["now.ms", "now.us", "now.iso", "count"],
            WordSite::Form => &["topic", "payload", "/pointer", "received.ms", "received.iso"],
        }
    }
}

impl Word {
    /// Reads a placeholder's source; what it looks for in a client's message is added to the scope.
    fn parse(source: &str, site: WordSite, scope: &mut Scope) -> Result<Word, String> {
        let unknown = || {
            let known = site.known();
            Err(format!("expected {}, found `{source}`{}", one_of(known), did_you_mean(source, known)))
        };
        if let Some(name) = source.strip_prefix("query.").filter(|name| !name.is_empty()) {
            return if site == WordSite::Path { Ok(Word::Query(name.to_string())) } else { unknown() };
        }
        if let (Some(name), WordSite::Reply { .. }) = (source.strip_prefix("kept."), site) {
            let names: Vec<&str> = scope.kept.iter().map(String::as_str).collect();
            return names.iter().position(|known| *known == name).map(Word::Kept).ok_or_else(|| match &*names {
                [] => format!("expected a `keep` that sets `{name}`, found none; add it to the rule that hears it"),
                _ => format!("expected {} after `kept.`, found `{name}`{}", one_of(&names), did_you_mean(name, &names)),
            });
        }
        let is_place = source == "text" || source.starts_with("./") || source.starts_with('/');
        let family = if source.starts_with("./") { "./pointer" } else { "/pointer" };
        if !(site.known().contains(&source) || is_place && site.known().contains(&family)) {
            return unknown();
        }
        Ok(match (source, site) {
            (".", _) => Word::Element,
            ("with", _) => Word::With,
            ("item", _) => Word::Item,
            ("items", _) => Word::Items,
            ("refused", _) => Word::Refused,
            ("all", _) => Word::All,
            ("groups", _) => Word::Groups,
            ("channel", _) => Word::Channel,
            ("symbols", _) => Word::Symbols,
            ("count", _) => Word::Count,
            ("reason", _) => Word::Reason,
            ("now.ms", _) => Word::NowMs,
            ("now.us", _) => Word::NowUs,
            ("now.iso", _) => Word::NowIso,
            ("path", _) => Word::Path,
            ("topic", _) => Word::Topic,
            ("payload", _) => Word::Payload,
            ("received.ms", _) => Word::ReceivedMs,
            ("received.iso", _) => Word::ReceivedIso,
            (place, WordSite::Form) => Word::Part(Pointer::parse(place).map_err(|error| error.to_string())?),
            (place, WordSite::Item { each } | WordSite::Reply { each }) => Word::Said(scope.field(place, each)?),
            (place, WordSite::Keep) => Word::Said(scope.field(place, None)?),
            _ => return unknown(),
        })
    }

    /// It stands for several items.
    pub(super) fn is_list(word: &Word) -> bool {
        matches!(word, Word::Items | Word::Refused | Word::All | Word::Groups)
    }

    pub(crate) fn template(text: &str, site: WordSite, scope: &mut Scope) -> Result<Template<Word>, String> {
        let aliases = scope.aliases.clone();
        Template::parse_with(text, &aliases, |source| Word::parse(source, site, scope))
    }
}

/// A moment as a word; none for other words.
pub(super) fn of_moment(word: &Word, now: Stamp) -> Option<String> {
    match word {
        Word::NowMs => Some(now.wall_ms.to_string()),
        Word::NowUs => Some((u128::from(now.wall_ms) * 1000).to_string()),
        Word::NowIso => iso(now.wall_ms),
        _ => None,
    }
}

/// Milliseconds since the Unix epoch as a date and time.
fn iso(ms: u64) -> Option<String> {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(ms))?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}

/// A message of the server that nobody asked for.
pub(super) fn moment(template: &Template<Word>, now: Stamp) -> String {
    rendered(template, |word| of_moment(word, now).map(text)).unwrap_or_default()
}

/// A heartbeat that was sent `count` times before.
pub(super) fn heartbeat(template: &Template<Word>, count: u64, now: Stamp) -> String {
    let value = |word: &Word| match word {
        Word::Count => Some(count.to_string()),
        word => of_moment(word, now),
    };
    rendered(template, |word| value(word).map(text)).unwrap_or_default()
}

/// Items, of which each channel has a text. The channel is the part before the first `.`; items are sorted.
pub(super) fn groups(template: &Template<Word>, items: &[String]) -> Vec<String> {
    let parts = |item: &String| item.split_once('.').map(|(channel, symbol)| (channel.to_string(), symbol.to_string()));
    let parts: Vec<(String, String)> =
        items.iter().map(|item| parts(item).unwrap_or_else(|| (item.clone(), String::new()))).collect();
    let texts = parts.chunk_by(|(channel, _), (other, _)| channel == other).map(|group| {
        let symbols: Vec<String> =
            group.iter().map(|(_, symbol)| symbol.clone()).filter(|symbol| !symbol.is_empty()).collect();
        let mut out = String::new();
        let value = |word: &Word| match word {
            Word::Channel => Ok(text(group[0].0.clone())),
            Word::Symbols => Ok(SourceValue::List(&symbols)),
            _ => Err(()),
        };
        template.render(&mut out, value).map(|()| out).unwrap_or_default()
    });
    texts.collect()
}

/// The name of a topic that an item stands for.
pub(super) fn with_item(template: &Template<Word>, item: &str) -> String {
    rendered(template, |word| (*word == Word::Item).then(|| text(item.to_string()))).unwrap_or_default()
}

/// The text around a payload.
pub(super) fn around(template: &Template<Word>, envelope: &Envelope<'_>, whole: &str, payload: &str) -> String {
    let value = |word: &Word| {
        Some(match word {
            Word::Topic => text(envelope.topic.to_string()),
            Word::ReceivedMs => text(envelope.ts_ms.to_string()),
            Word::ReceivedIso => text(iso(envelope.ts_ms)?),
            Word::Payload => text(payload.to_string()),
            Word::Part(pointer) => text(find(whole, pointer).unwrap_or("null").to_string()),
            _ => return None,
        })
    };
    rendered(template, value).unwrap_or_default()
}

/// A place in a client's message: as it stands there, or the text that it is.
pub(super) fn said(view: &View<'_>, field: Field, as_text: bool) -> Option<String> {
    let found = view.look(field)?;
    if as_text {
        return found.scalar().map(|text| text.into_owned());
    }
    let (FieldValue::Token(text) | FieldValue::Text(text)) = found;
    Some(text.to_string())
}

/// The template filled in; none if a word has no value.
pub(super) fn rendered<'t>(
    template: &'t Template<Word>,
    value: impl Fn(&'t Word) -> Option<SourceValue<'t>>,
) -> Option<String> {
    let mut out = String::new();
    template.render(&mut out, |word| value(word).ok_or(())).ok()?;
    Some(out)
}

pub(super) fn text<'t>(text: String) -> SourceValue<'t> {
    SourceValue::Text(text.into())
}
