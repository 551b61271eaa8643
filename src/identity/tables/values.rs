//! Values of tables, each with its problem if it is another one.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::identity::tables::{TableProblem, TablesReader};
use crate::words::nearest::distance;
use crate::words::topic::Pattern;

pub(super) type TomlValue<'a> = Spanned<DeValue<'a>>;

impl TablesReader {
    pub(super) fn problem(&mut self, span: Range<usize>, sentence: &str) {
        self.problems.push(TableProblem { at: span.start, sentence: sentence.to_owned() });
    }

    pub(super) fn table<'v, 'a>(
        &mut self,
        value: &'v TomlValue<'a>,
        place: &str,
        remedy: &str,
    ) -> Option<&'v DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.problem(value.span(), &format!("{place}: expected a table, found another value; write `{remedy}`"));
        }
        table
    }

    pub(super) fn refuse_unknown(&mut self, keys: &DeTable<'_>, place: &str, known: &[&str]) {
        for (key, _) in keys.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
            let (name, remedy) = (shown(key.get_ref()), nearest(key.get_ref(), known));
            self.problem(key.span(), &format!("{place}: expected a key of this table, found `{name}`; {remedy}"));
        }
    }

    pub(super) fn required<'v, 'a>(
        &mut self,
        keys: &'v DeTable<'a>,
        span: &Range<usize>,
        place: &str,
        name: &str,
        remedy: &str,
    ) -> Option<&'v TomlValue<'a>> {
        let value = keys.get(name);
        if value.is_none() {
            self.problem(span.clone(), &format!("{place}: expected `{name}`, found none; write {remedy}"));
        }
        value
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, value: &TomlValue<'_>, place: &str) -> Option<Box<str>> {
        let text = value.get_ref().as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.problem(value.span(), &format!("{place}: expected a text, found another value; write it in quotes"));
        }
        text.map(Into::into)
    }

    pub(super) fn optional_text(&mut self, keys: &DeTable<'_>, place: &str, name: &str) -> Option<Box<str>> {
        keys.get(name).and_then(|value| self.text(value, &format!("{place}.{name}")))
    }

    /// A list of texts that is not empty.
    pub(super) fn texts(&mut self, value: &TomlValue<'_>, place: &str, remedy: &str) -> Option<Vec<String>> {
        let read = |item: &TomlValue<'_>| item.get_ref().as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let items = value.get_ref().as_array().filter(|items| !items.is_empty());
        let texts = items.and_then(|items| items.iter().map(read).collect());
        if texts.is_none() {
            self.problem(
                value.span(),
                &format!("{place}: expected a list of texts, found another value; write {remedy}"),
            );
        }
        texts
    }

    pub(super) fn pattern(&mut self, value: &TomlValue<'_>, place: &str) -> Option<Pattern> {
        let text = self.text(value, place)?;
        match Pattern::parse(&text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problem(value.span(), &format!("{place}: {error}"));
                None
            }
        }
    }

    pub(super) fn duration(&mut self, value: &TomlValue<'_>, place: &str, max: Duration) -> Option<Duration> {
        let read = |text: &str| humantime::parse_duration(text).ok().filter(|duration| *duration <= max);
        let duration = value.get_ref().as_str().and_then(read);
        if duration.is_none() {
            let max = humantime::format_duration(max);
            let sentence = format!(
                "{place}: expected a duration of at most {max}, found another value; write it as `\"15m\"` or `\"250ms\"`"
            );
            self.problem(value.span(), &sentence);
        }
        duration
    }

    pub(super) fn count(&mut self, value: &TomlValue<'_>, place: &str) -> Option<u32> {
        let count = integer(value.get_ref()).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        if count.is_none() {
            self.problem(
                value.span(),
                &format!("{place}: expected an integer from 1, found another value; remove it for no limit"),
            );
        }
        count
    }

    /// In milliseconds since the Unix epoch.
    pub(super) fn moment(&mut self, value: &TomlValue<'_>, place: &str) -> Option<u64> {
        let text = match value.get_ref() {
            DeValue::Datetime(moment) => moment.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let whole = if text.len() == "2027-01-31".len() { format!("{text}T00:00:00Z") } else { text };
        let moment = humantime::parse_rfc3339(&whole).ok();
        let since = moment.and_then(|moment| moment.duration_since(SystemTime::UNIX_EPOCH).ok());
        if since.is_none() {
            let sentence = "expected a moment in UTC, found another value; write it as `2027-01-31T00:00:00Z`";
            self.problem(value.span(), &format!("{place}: {sentence}"));
        }
        since.and_then(|since| u64::try_from(since.as_millis()).ok())
    }
}

/// A text, an integer or a boolean as content would have it.
pub(super) fn scalar(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::from(&**text)),
        DeValue::Boolean(on) => Some(Value::from(*on)),
        value => integer(value).map(Value::from),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(integer) = value else { return None };
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The remedy for a wrong name.
pub(super) fn nearest(found: &str, valid: &[&str]) -> String {
    match valid.iter().map(|name| (distance(found, name), name)).min() {
        Some((edits, name)) if edits <= (found.chars().count() / 3).max(2) => format!("did you mean `{name}`?"),
        _ => format!("valid here: {}", valid.join(", ")),
    }
}

pub(super) fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}
