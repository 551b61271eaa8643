//! Placeholders of `[downstream]`: which there are where, and what they stand for.

use std::time::{Duration, UNIX_EPOCH};

use crate::json::{Pointer, find};
use crate::profile::compile::Scope;
use crate::profile::rule::{Field, FieldValue, View};
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::{SourceValue, Template};
use crate::words::stamp::Stamp;

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A place in the client's message.
    Said(Field),
    /// `.`: the element of `each`, or the part of `split`.
    Element,
    Item,
    Items,
    Refused,
    All,
    Reason,
    NowMs,
    NowUs,
    NowIso,
    /// `path`: what `*` stands for.
    Path,
    Query(String),
    Topic,
    Payload,
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
    /// Said without being asked.
    Unasked,
    Form,
}

impl WordSite {
    fn known(self) -> &'static [&'static str] {
        match self {
            WordSite::Path => &["path", "query.NAME"],
            WordSite::Item { .. } => &["/pointer", ".", "./pointer", "text"],
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
                "reason",
                "now.ms",
                "now.us",
                "now.iso",
            ],
            WordSite::Unasked => &["now.ms", "now.us", "now.iso"],
            WordSite::Form => &["topic", "payload", "/pointer"],
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
        let is_place = source == "text" || source.starts_with("./") || source.starts_with('/');
        let family = if source.starts_with("./") { "./pointer" } else { "/pointer" };
        if !(site.known().contains(&source) || is_place && site.known().contains(&family)) {
            return unknown();
        }
        Ok(match (source, site) {
            (".", _) => Word::Element,
            ("item", _) => Word::Item,
            ("items", _) => Word::Items,
            ("refused", _) => Word::Refused,
            ("all", _) => Word::All,
            ("reason", _) => Word::Reason,
            ("now.ms", _) => Word::NowMs,
            ("now.us", _) => Word::NowUs,
            ("now.iso", _) => Word::NowIso,
            ("path", _) => Word::Path,
            ("topic", _) => Word::Topic,
            ("payload", _) => Word::Payload,
            (place, WordSite::Form) => Word::Part(Pointer::parse(place).map_err(|error| error.to_string())?),
            (place, WordSite::Item { each } | WordSite::Reply { each }) => Word::Said(scope.field(place, each)?),
            _ => return unknown(),
        })
    }

    /// It stands for several items.
    pub(super) fn is_list(word: &Word) -> bool {
        matches!(word, Word::Items | Word::Refused | Word::All)
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
        Word::NowIso => {
            let time = UNIX_EPOCH.checked_add(Duration::from_millis(now.wall_ms))?;
            Some(humantime::format_rfc3339_millis(time).to_string())
        }
        _ => None,
    }
}

/// A message of the server that nobody asked for.
pub(super) fn moment(template: &Template<Word>, now: Stamp) -> String {
    rendered(template, |word| of_moment(word, now).map(text)).unwrap_or_default()
}

/// The name of a topic that an item stands for.
pub(super) fn with_item(template: &Template<Word>, item: &str) -> String {
    rendered(template, |word| (*word == Word::Item).then(|| text(item.to_string()))).unwrap_or_default()
}

/// The text around a payload.
pub(super) fn around(template: &Template<Word>, topic: &str, whole: &str, payload: &str) -> String {
    let value = |word: &Word| {
        Some(match word {
            Word::Topic => text(topic.to_string()),
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
