//! Reader of a profile's TOML: every mistake is reported with its line, its key and the remedy.
//!
//! A `ProfileSection` rejects unknown keys when it is opened; a `ProfileEntry` is one value that knows its place.
//! Reserved keys are rejected as well, never ignored.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::profile::keys::Keys;
use crate::words::nearest::distance;
use crate::words::size::read_size;

/// A fault of a profile, and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}:{line}: {key}: {problem}")]
pub struct ProfileError {
    /// File or built-in name the profile came from.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// Key with its path, such as `on.3.topic`.
    pub key: String,
    /// The expectation, the finding, the remedy.
    pub problem: String,
}

/// The text of a profile and its origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProfileSource<'a> {
    pub origin: &'a str,
    pub text: &'a str,
}

impl ProfileSource<'_> {
    pub(crate) fn error(&self, span: Range<usize>, key: &str, problem: impl Display) -> ProfileError {
        let (line, problem) = (self.line(span.start), problem.to_string());
        ProfileError { origin: self.origin.to_string(), line, key: key.to_string(), problem }
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        1 + before.bytes().filter(|&byte| byte == b'\n').count()
    }
}

/// One table of the profile.
#[derive(Clone, Debug)]
pub(crate) struct ProfileSection<'a> {
    source: ProfileSource<'a>,
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> ProfileSection<'a> {
    /// The whole file.
    pub(crate) fn root(
        source: ProfileSource<'a>,
        table: &'a DeTable<'a>,
        keys: Keys,
    ) -> Result<ProfileSection<'a>, ProfileError> {
        ProfileSection { source, path: String::new(), span: 0..0, table }.checked(keys)
    }

    fn checked(self, keys: Keys) -> Result<ProfileSection<'a>, ProfileError> {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if keys.known.iter().any(|known| known.name == name) {
                continue;
            }
            let problem = if keys.later.contains(&name) {
                format!("expected a key of this version, found `{name}`, which is reserved for a later one; remove it")
            } else {
                format!("expected {}, found `{name}`{}", one_of(&keys.names()), did_you_mean(name, &keys.names()))
            };
            return Err(self.source.error(key.span(), &self.path_to(name), problem));
        }
        Ok(self)
    }

    pub(crate) fn get(&self, key: &str) -> Option<ProfileEntry<'a>> {
        let value = self.table.get(key)?;
        Some(ProfileEntry { source: self.source, path: self.path_to(key), span: value.span(), value: value.get_ref() })
    }

    /// The required entry; `example` shows how it is written.
    pub(crate) fn require(&self, key: &str, example: &str) -> Result<ProfileEntry<'a>, ProfileError> {
        self.get(key).ok_or_else(|| self.error(key, format!("expected `{example}`, found nothing; add it")))
    }

    /// An error about the section as a whole, reported under one of its keys.
    pub(crate) fn error(&self, key: &str, problem: impl Display) -> ProfileError {
        self.source.error(self.span.clone(), &self.path_to(key), problem)
    }

    /// The line at which it begins, from 1.
    pub(crate) fn line(&self) -> usize {
        self.source.line(self.span.start)
    }

    fn path_to(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }
}

/// One value of the profile.
#[derive(Clone, Debug)]
pub(crate) struct ProfileEntry<'a> {
    source: ProfileSource<'a>,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> ProfileEntry<'a> {
    pub(crate) fn error(&self, problem: impl Display) -> ProfileError {
        self.source.error(self.span.clone(), &self.path, problem)
    }

    fn unlike(&self, expected: &str) -> ProfileError {
        let found = match self.value {
            DeValue::String(text) => format!("`{text}`"),
            DeValue::Integer(number) => format!("`{}`", number.as_str()),
            other => format!("a TOML {}", other.type_str()),
        };
        self.error(format!("expected {expected}, found {found}"))
    }

    pub(crate) fn text(&self) -> Result<&'a str, ProfileError> {
        self.value.as_str().ok_or_else(|| self.unlike("a text in quotes"))
    }

    pub(crate) fn list(&self) -> Result<Vec<ProfileEntry<'a>>, ProfileError> {
        let array = self.value.as_array().ok_or_else(|| self.unlike("a list in brackets"))?;
        let entry = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| ProfileEntry {
            source: self.source,
            path: format!("{}.{}", self.path, index + 1),
            span: value.span(),
            value: value.get_ref(),
        };
        Ok(array.iter().enumerate().map(entry).collect())
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Result<bool, ProfileError> {
        self.value.as_bool().ok_or_else(|| self.unlike("`true` or `false`"))
    }

    /// The value of one of these texts.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Result<T, ProfileError> {
        let text = self.text()?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, value)| value.clone()).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.error(format!("expected {}, found `{text}`{}", one_of(&names), did_you_mean(text, &names)))
        })
    }

    pub(crate) fn section(&self, keys: Keys) -> Result<ProfileSection<'a>, ProfileError> {
        let table = self.value.as_table().ok_or_else(|| self.unlike("a table"))?;
        ProfileSection { source: self.source, path: self.path.clone(), span: self.span.clone(), table }.checked(keys)
    }

    /// A whole number of at least 1.
    pub(crate) fn count(&self) -> Result<usize, ProfileError> {
        let number = self.value.as_integer().and_then(|number| number.as_str().parse().ok());
        number.filter(|&count| count > 0).ok_or_else(|| self.unlike("a whole number of at least 1"))
    }

    /// A position in a list: a whole number, 0 included.
    pub(crate) fn position(&self) -> Result<usize, ProfileError> {
        let number = self.value.as_integer().and_then(|number| number.as_str().parse().ok());
        number.ok_or_else(|| self.unlike("a position such as `0`, or a key in quotes"))
    }

    /// A duration such as `250ms`, `30s` or `5m`, longer than 0.
    pub(crate) fn duration(&self) -> Result<Duration, ProfileError> {
        let parsed = humantime::parse_duration(self.text()?).ok();
        parsed.filter(|duration| !duration.is_zero()).ok_or_else(|| self.unlike("a duration such as `30s` or `250ms`"))
    }

    /// A duration, or `none`.
    pub(crate) fn duration_or_none(&self) -> Result<Option<Duration>, ProfileError> {
        if self.text()? == "none" { Ok(None) } else { self.duration().map(Some) }
    }

    /// A number of bytes: `4096`, or a text such as `16MiB`.
    pub(crate) fn bytes(&self) -> Result<usize, ProfileError> {
        if self.value.is_integer() {
            return self.count();
        }
        let bytes = read_size(self.text()?).and_then(|bytes| usize::try_from(bytes).ok()).filter(|&bytes| bytes > 0);
        bytes.ok_or_else(|| self.unlike("a number of bytes such as `4096` or `16MiB`"))
    }

    /// Tables with a name each, in the order of the file: a table of them, or a list in which each has the key `name`.
    pub(crate) fn named(&self, keys: Keys, example: &str) -> Result<Vec<(&'a str, ProfileSection<'a>)>, ProfileError> {
        let Some(table) = self.value.as_table() else {
            let section = |entry: &ProfileEntry<'a>| {
                let section = entry.section(keys)?;
                Ok((section.require("name", example)?.text()?, section))
            };
            let list = self.list().map_err(|_| self.unlike("a table of tables by name"))?;
            return list.iter().map(section).collect();
        };
        let mut members: Vec<_> = table.iter().collect();
        members.sort_unstable_by_key(|(key, _)| key.span().start);
        let section = |(key, value): (&'a toml::Spanned<Cow<'a, str>>, &'a toml::Spanned<DeValue<'a>>)| {
            let name: &str = key.get_ref();
            let path = format!("{}.{name}", self.path);
            let entry = ProfileEntry { source: self.source, path, span: value.span(), value: value.get_ref() };
            let section = entry.section(keys)?;
            match section.get("name") {
                None => Ok((name, section)),
                Some(again) => {
                    Err(again.error(format!("expected no `name` in `{}`, found one; remove it", entry.path)))
                }
            }
        };
        members.into_iter().map(section).collect()
    }

    /// The members of a table whose keys are free.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, ProfileEntry<'a>)>, ProfileError> {
        let table = self.value.as_table().ok_or_else(|| self.unlike("a table"))?;
        let entry = |(key, value): (&'a toml::Spanned<Cow<'a, str>>, &'a toml::Spanned<DeValue<'a>>)| {
            let name: &str = key.get_ref();
            let path = format!("{}.{name}", self.path);
            (name, ProfileEntry { source: self.source, path, span: value.span(), value: value.get_ref() })
        };
        Ok(table.iter().map(entry).collect())
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value, ProfileError> {
        let wrong = || self.unlike("a text, a number, `true`, `false`, a list or a table");
        Ok(match self.value {
            DeValue::String(text) => serde_json::Value::from(&**text),
            DeValue::Boolean(truth) => serde_json::Value::from(*truth),
            DeValue::Integer(number) => serde_json::from_str(number.as_str()).map_err(|_| wrong())?,
            DeValue::Float(number) => serde_json::from_str(number.as_str()).map_err(|_| wrong())?,
            DeValue::Array(_) => self.list()?.iter().map(ProfileEntry::json).collect::<Result<_, _>>()?,
            DeValue::Table(_) => {
                let members = self.members()?.into_iter();
                let members = members.map(|(name, entry)| Ok((name.to_string(), entry.json()?)));
                serde_json::Value::Object(members.collect::<Result<_, ProfileError>>()?)
            }
            DeValue::Datetime(_) => return Err(wrong()),
        })
    }

    /// A rate such as `4/s` or `300/5m`: a count per time.
    pub(crate) fn rate(&self) -> Result<RateRule, ProfileError> {
        let parse = |text: &str| {
            let (count, period) = text.split_once('/')?;
            let count: u32 = count.trim().parse().ok().filter(|&count| count > 0)?;
            let period = period.trim();
            let period = if period.starts_with(|c: char| c.is_ascii_digit()) {
                humantime::parse_duration(period).ok()?
            } else {
                humantime::parse_duration(&format!("1{period}")).ok()?
            };
            Some(RateRule { count, period })
        };
        parse(self.text()?).ok_or_else(|| self.unlike("a rate such as `4/s` or `300/5m`"))
    }
}

/// At most this many events in this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateRule {
    pub count: u32,
    pub period: Duration,
}

/// A hint at the nearest of `known`, for the end of an error message; empty if none is near.
pub(crate) fn did_you_mean(found: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|name| (distance(found, name), name));
    match scored.min() {
        Some((distance, name)) if distance <= 1 + found.len() / 3 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// `one of `a`, `b`, `c``, for error messages.
pub(crate) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("one of {}", quoted.join(", "))
}
