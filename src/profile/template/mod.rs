//! Texts with placeholders: `ticker.${/data/s|lower}`, `{"params":${items|json},"id":${req}}`.
//!
//! A placeholder is `${source|filter|…}`. The sources depend on the place of the template, so the source is a type
//! parameter and is read and looked up by the caller. Braces without `$` are plain text: templates are JSON.
//! `${source?text}` is a conditional: the text, itself a template, if the source has a value, and a list an element;
//! else nothing; `${!source?text}` is the opposite. Braces inside a placeholder must be balanced, except after a backslash.
//!
//! | filter | gives |
//! |---|---|
//! | `lower`, `upper` | the text in that case |
//! | `before:X`, `after:X` | the part before or after the first X |
//! | `split:X:N` | the part with this number between the Xs, from 0; `-1` is the last |
//! | `re:PATTERN` | the first group of the regular expression, where it matches first |
//! | `strip:X` | the text without X at its beginning and end |
//! | `map:NAME` | the entry of the profile's table `[alias.NAME]` for the text |
//! | `add:N` | a whole number plus N, which may be negative |
//! | `or:TEXT` | TEXT, which may itself be a template, if the source has no value |
//! | `text` | the text that a JSON string stands for |
//! | `json` | the text as a JSON string, the list as a JSON array of strings |
//! | `query` | the text as a part of a URL's query |
//! | `join:X` | the list's texts with X between them |
//!
//! A filter that finds nothing leaves the text as it is.

mod ends;
mod quoting;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use url::form_urlencoded;

use crate::json::{decode_string, put_string};
use crate::profile::section::{did_you_mean, one_of};
use crate::profile::template::ends::{pattern_end, until_brace};

/// Compiled size of a profile's regular expression. 256 KiB: ten times that of a long list of symbols.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// Nested conditionals.
const DEPTH_MAX: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Template<S> {
    source: String,
    segments: Vec<Segment<S>>,
}

#[derive(Clone, Debug)]
enum Segment<S> {
    Text(String),
    Place(S, Vec<Filter>),
    /// Left out if the source has no value.
    If(S, Template<S>),
    /// Left out if it has one.
    Unless(S, Template<S>),
}

#[derive(Clone, Debug)]
enum Filter {
    Lower,
    Upper,
    Before(String),
    After(String),
    Split(String, i32),
    Re(Regex),
    Strip(String),
    Map(Arc<Alias>),
    Add(i64),
    Or(String),
    Text,
    Json,
    Query,
    Join(String),
    /// As a part of a JSON string.
    Escape,
}

/// Texts and their replacements.
pub(crate) type Alias = BTreeMap<String, String>;

/// A profile's `[alias.NAME]` tables.
pub(crate) type Aliases = BTreeMap<String, Arc<Alias>>;

/// The current value of a source.
pub(crate) enum SourceValue<'a> {
    Text(Cow<'a, str>),
    List(&'a [String]),
}

impl<S> Template<S> {
    /// Reads a template; `source` reads the part of a placeholder before its filters. Errors are problems, to be
    /// reported under the template's key.
    pub(crate) fn parse(text: &str, source: impl FnMut(&str) -> Result<S, String>) -> Result<Template<S>, String> {
        Template::parse_with(text, &Aliases::new(), source)
    }

    /// As `parse`, for a template that may use these tables.
    pub(crate) fn parse_with(
        text: &str,
        aliases: &Aliases,
        mut source: impl FnMut(&str) -> Result<S, String>,
    ) -> Result<Template<S>, String> {
        Template::parse_deep(text, aliases, &mut source, 0)
    }

    fn parse_deep(
        text: &str,
        aliases: &Aliases,
        source: &mut dyn FnMut(&str) -> Result<S, String>,
        depth: usize,
    ) -> Result<Template<S>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("expected at most {DEPTH_MAX} nested conditionals, found more"));
        }
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inside, tail)) = until_brace(after) else {
                return Err(format!("expected `}}` to end the placeholder, found none after `${{{after}`"));
            };
            if !before.is_empty() {
                segments.push(Segment::Text(before.to_string()));
            }
            let (name, more) = inside.split_at(inside.find(['|', '?']).unwrap_or(inside.len()));
            let text = more.strip_prefix('?');
            let (name, unless) = match name.strip_prefix('!') {
                Some(name) if text.is_some() => (name, true),
                _ => (name, false),
            };
            let place = source(name)?;
            let segment = match text {
                Some(text) => {
                    let inner = Template::parse_deep(text, aliases, source, depth + 1)?;
                    if unless { Segment::Unless(place, inner) } else { Segment::If(place, inner) }
                }
                None => match more.split_once("|or:").filter(|(_, instead)| instead.contains("${")) {
                    Some((filters, instead)) => {
                        let filters = Filter::parse_all(filters, aliases)?;
                        let there = vec![Segment::Place(source(name)?, filters)];
                        segments.push(Segment::If(place, Template { source: String::new(), segments: there }));
                        if instead.rsplit_once('}').is_some_and(|(_, after)| after.contains('|')) {
                            return Err(format!("expected `or:` as the last filter, found another after `{instead}`"));
                        }
                        Segment::Unless(source(name)?, Template::parse_deep(instead, aliases, source, depth + 1)?)
                    }
                    None => Segment::Place(place, Filter::parse_all(more, aliases)?),
                },
            };
            segments.push(segment);
            rest = tail;
        }
        if !rest.is_empty() {
            segments.push(Segment::Text(rest.to_string()));
        }
        Ok(Template { source: text.to_string(), segments })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The sources that must have a value: those outside `${NAME?…}`.
    pub(crate) fn required_sources(&self) -> impl Iterator<Item = &S> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Place(source, filters) => Filter::instead(filters).is_none().then_some(source),
            Segment::Text(_) | Segment::If(..) | Segment::Unless(..) => None,
        })
    }

    /// The sources that the template uses.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &S> {
        let mut sources = Vec::new();
        self.put_sources(&mut sources);
        sources.into_iter()
    }

    fn put_sources<'a>(&'a self, sources: &mut Vec<&'a S>) {
        for segment in &self.segments {
            match segment {
                Segment::Text(_) => {}
                Segment::Place(source, _) => sources.push(source),
                Segment::If(source, inner) | Segment::Unless(source, inner) => {
                    sources.push(source);
                    inner.put_sources(sources);
                }
            }
        }
    }

    /// The same template, in which a placeholder without `or` and without a value gives this text.
    pub(crate) fn or(mut self, text: &str) -> Template<S> {
        for segment in &mut self.segments {
            match segment {
                Segment::Place(_, filters) if !filters.iter().any(|filter| matches!(filter, Filter::Or(_))) => {
                    filters.push(Filter::Or(text.to_string()));
                }
                Segment::If(_, inner) | Segment::Unless(_, inner) => *inner = std::mem::take(inner).or(text),
                Segment::Text(_) | Segment::Place(..) => {}
            }
        }
        self
    }

    /// Appends the text with its placeholders filled in; ends at the first source that has no value and no `or`.
    pub(crate) fn render<'a, E>(
        &'a self,
        out: &mut String,
        mut value: impl FnMut(&'a S) -> Result<SourceValue<'a>, E>,
    ) -> Result<(), E> {
        self.render_deep(out, &mut value)
    }

    fn render_deep<'a, E>(
        &'a self,
        out: &mut String,
        value: &mut dyn FnMut(&'a S) -> Result<SourceValue<'a>, E>,
    ) -> Result<(), E> {
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.push_str(text),
                Segment::Place(source, filters) => {
                    let (found, filters) = match value(source) {
                        Ok(found) => (found, &filters[..]),
                        Err(error) => Filter::instead(filters).ok_or(error)?,
                    };
                    match filters.iter().fold(found, |value, filter| filter.apply(value)) {
                        SourceValue::Text(text) => out.push_str(&text),
                        SourceValue::List(list) => out.push_str(&list.join(",")),
                    }
                }
                Segment::If(source, inner) | Segment::Unless(source, inner) => {
                    let is_there = value(source).is_ok_and(|value| !matches!(value, SourceValue::List([])));
                    if is_there == matches!(segment, Segment::If(..)) {
                        inner.render_deep(out, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl<S> Default for Template<S> {
    fn default() -> Template<S> {
        Template { source: String::new(), segments: Vec::new() }
    }
}

impl Filter {
    const NAMES: [&'static str; 14] = [
        "lower", "upper", "before", "after", "split", "re", "strip", "map", "add", "or", "text", "json", "query",
        "join",
    ];

    /// Reads `|filter|…`.
    fn parse_all(text: &str, aliases: &Aliases) -> Result<Vec<Filter>, String> {
        let mut filters = Vec::new();
        let mut rest = text;
        while let Some(after) = rest.strip_prefix('|') {
            let end = if after.starts_with("re:") { pattern_end(after) } else { after.find('|') };
            let (filter, tail) = after.split_at(end.unwrap_or(after.len()));
            filters.push(Filter::parse(filter, aliases)?);
            rest = tail;
        }
        Ok(filters)
    }

    fn parse(text: &str, aliases: &Aliases) -> Result<Filter, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let given = || match argument {
            Some(argument) if !argument.is_empty() => Ok(argument),
            _ => Err(format!("expected a text after `{name}:`, found nothing; write for example `{name}:@`")),
        };
        match (name, argument) {
            ("lower", None) => Ok(Filter::Lower),
            ("upper", None) => Ok(Filter::Upper),
            ("json", None) => Ok(Filter::Json),
            ("query", None) => Ok(Filter::Query),
            ("text", None) => Ok(Filter::Text),
            ("lower" | "upper" | "json" | "query" | "text", Some(_)) => {
                Err(format!("expected `{name}` alone, found `{text}`"))
            }
            ("before", _) => Ok(Filter::Before(given()?.to_string())),
            ("after", _) => Ok(Filter::After(given()?.to_string())),
            ("strip", _) => Ok(Filter::Strip(given()?.to_string())),
            ("add", _) => argument.and_then(|argument| argument.parse().ok()).map(Filter::Add).ok_or_else(|| {
                format!("expected a whole number after `add:`, found `{text}`; write for example `add:60`")
            }),
            ("join", _) => Ok(Filter::Join(argument.unwrap_or_default().to_string())),
            ("or", Some(text)) => Ok(Filter::Or(text.to_string())),
            ("or", None) => Err("expected a text after `or`, found nothing; write for example `or:none`".to_string()),
            ("split", _) => {
                let parts = argument.and_then(|argument| argument.rsplit_once(':'));
                let parts = parts.and_then(|(mark, number)| Some((mark, number.parse().ok()?)));
                let parts = parts.filter(|(mark, _)| !mark.is_empty());
                let (mark, number) = parts.ok_or_else(|| {
                    format!("expected a mark and a number, found `{text}`; write for example `split:/:0`")
                })?;
                Ok(Filter::Split(mark.to_string(), number))
            }
            ("re", _) => compiled(argument.unwrap_or_default()).map(Filter::Re),
            ("map", _) => {
                let table = given()?;
                let names: Vec<&str> = aliases.keys().map(String::as_str).collect();
                aliases.get(table).cloned().map(Filter::Map).ok_or_else(|| {
                    let known = if names.is_empty() { "a table".to_string() } else { one_of(&names) };
                    let hint = did_you_mean(table, &names);
                    format!("expected {known} after `map:`, found `{table}`{hint}; add `[alias.{table}]`")
                })
            }
            _ => Err(format!(
                "expected {} after `|`, found `{text}`{}",
                one_of(&Filter::NAMES),
                did_you_mean(name, &Filter::NAMES)
            )),
        }
    }

    /// The text for a source without a value.
    fn instead(filters: &[Filter]) -> Option<(SourceValue<'_>, &[Filter])> {
        let text = |filter: &'_ Filter| matches!(filter, Filter::Or(_));
        let place = filters.iter().position(text)?;
        let Filter::Or(text) = &filters[place] else { return None };
        Some((SourceValue::Text(text.into()), &filters[place + 1..]))
    }

    /// Filters of a text are applied to a list's texts joined by commas.
    fn apply<'a>(&'a self, value: SourceValue<'a>) -> SourceValue<'a> {
        let text = match (self, value) {
            (Filter::Json, SourceValue::List(list)) => return SourceValue::Text(Cow::Owned(json(list))),
            (Filter::Join(between), SourceValue::List(list)) => {
                return SourceValue::Text(Cow::Owned(list.join(between)));
            }
            (_, SourceValue::List(list)) => Cow::Owned(list.join(",")),
            (_, SourceValue::Text(text)) => text,
        };
        SourceValue::Text(match self {
            Filter::Lower if !text.chars().any(char::is_uppercase) => text,
            Filter::Upper if !text.chars().any(char::is_lowercase) => text,
            Filter::Lower => Cow::Owned(text.to_lowercase()),
            Filter::Upper => Cow::Owned(text.to_uppercase()),
            Filter::Before(mark) => part(text, |text| text.split_once(&**mark).map(|(before, _)| before)),
            Filter::After(mark) => part(text, |text| text.split_once(&**mark).map(|(_, after)| after)),
            Filter::Split(mark, number) => part(text, |text| match usize::try_from(*number) {
                Ok(number) => text.split(&**mark).nth(number),
                Err(_) => text.rsplit(&**mark).nth(number.unsigned_abs() as usize - 1),
            }),
            Filter::Re(pattern) => part(text, |text| Some(pattern.captures(text)?.get(1)?.as_str())),
            Filter::Strip(mark) => part(text, |text| {
                let text = text.strip_prefix(&**mark).unwrap_or(text);
                Some(text.strip_suffix(&**mark).unwrap_or(text))
            }),
            Filter::Add(more) => match text.parse::<i64>().ok().and_then(|number| number.checked_add(*more)) {
                Some(sum) => Cow::Owned(sum.to_string()),
                None => text,
            },
            Filter::Map(alias) => alias.get(&*text).map_or(text, |other| Cow::Borrowed(other)),
            Filter::Text => decode_string(&text).map(|decoded| Cow::Owned(decoded.into_owned())).unwrap_or(text),
            Filter::Json => Cow::Owned(json(&*text)),
            Filter::Query => Cow::Owned(form_urlencoded::byte_serialize(text.as_bytes()).collect()),
            Filter::Escape => {
                let mut quoted = String::new();
                put_string(&mut quoted, &text);
                Cow::Owned(quoted[1..quoted.len() - 1].to_string())
            }
            Filter::Join(_) | Filter::Or(_) => text,
        })
    }
}

/// A regular expression that has a group.
fn compiled(pattern: &str) -> Result<Regex, String> {
    let regex = regex(pattern)?;
    match regex.captures_len() {
        1 => {
            Err(format!("expected a group in the regular expression, found `{pattern}`; write for example `re:^(.+)-`"))
        }
        _ => Ok(regex),
    }
}

/// A regular expression of bounded size; matching takes time in proportion to the text.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        format!("expected a regular expression, found `{pattern}`: {reason}")
    })
}

/// The part of the text that `find` gives, or the whole text, without a copy where that is possible.
fn part<'a>(text: Cow<'a, str>, find: impl for<'t> Fn(&'t str) -> Option<&'t str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(find(text).unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(find(&text).unwrap_or(&text).to_string()),
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and lists of texts have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, value: &str) -> Result<String, String> {
        let coins = Alias::from([("XBT".to_string(), "BTC".to_string())]);
        let aliases = Aliases::from([("coins".to_string(), Arc::new(coins))]);
        let template = Template::parse_with(template, &aliases, |source| match source {
            "v" | "list" | "none" => Ok(source.to_string()),
            other => Err(format!("expected `v`, found `{other}`")),
        })?;
        let list = [value.to_string(), "b\"c".to_string()];
        let mut out = String::new();
        template
            .render(&mut out, |source| match source.as_str() {
                "v" => Ok(SourceValue::Text(value.into())),
                "list" => Ok(SourceValue::List(&list)),
                _ => Err("no value".to_string()),
            })
            .map(|()| out)
    }

    #[test]
    fn placeholders_are_filled_and_filtered() {
        for (template, value, expected) in [
            ("plain {} $ }", "x", "plain {} $ }"),
            ("${v}", "BTC", "BTC"),
            ("a.${v|lower}.${v}", "BTC", "a.btc.BTC"),
            ("${v|strip:!|before:@}", "!miniTicker@arr", "miniTicker"),
            ("${v|after:/|upper}", "xbt/usd", "USD"),
            ("${v|before:@}", "none", "none"),
            (r#"{"p":${list|json},"i":${v|json}}"#, "a", r#"{"p":["a","b\"c"],"i":"a"}"#),
            ("?s=${list|join:/}", "a", "?s=a/b\"c"),
            ("${v|split:-:0}.${v|split:-:-1}", "BTC-USD-PERP", "BTC.PERP"),
            ("${v|split:-:7}", "BTC-USD", "BTC-USD"),
            ("${v|split:-:-3}", "BTC-USD", "BTC-USD"),
            ("${v|split:::1}", "a:b", "b"),
            (r"${v|re:^(\w{3})-|lower}", "BTC-USD", "btc"),
            ("${v|re:(USD|EUR)$}", "BTCEUR", "EUR"),
            ("${v|re:[|](.)}", "a|b", "b"),
            ("${v|re:^x(.)}", "BTC", "BTC"),
            ("${v|map:coins}", "XBT", "BTC"),
            ("${v|map:coins}", "ETH", "ETH"),
            ("${none|or:all|upper}", "x", "ALL"),
            ("${v|or:all}", "x", "x"),
            ("${v|text}", r#""a\"b""#, "a\"b"),
            ("${v|text}", "17", "17"),
            ("a${v?,${v}{}}b", "x", "a,x{}b"),
            (r#"{"a":1${none?,"b":{"c":"${none}"}}}"#, "x", r#"{"a":1}"#),
            ("${v?${none?no}yes}", "x", "yes"),
        ] {
            assert_eq!(filled(template, value).as_deref(), Ok(expected), "{template}");
        }
        assert_eq!(filled("${none}", "x"), Err("no value".to_string()));
    }

    #[test]
    fn wrong_templates_are_refused_with_the_remedy() {
        for (template, part) in [
            ("${v", "expected `}`"),
            ("${w}", "expected `v`, found `w`"),
            ("${v|lowr}", "did you mean `lower`?"),
            ("${v|before}", "write for example `before:@`"),
            ("${v|lower:x}", "expected `lower` alone"),
            ("${v|split:-}", "write for example `split:/:0`"),
            ("${v|split::1}", "write for example `split:/:0`"),
            ("${v|re:^x}", "expected a group"),
            ("${v|re:(}", "expected a regular expression, found `(`: unclosed group"),
            ("${v|map:coin}", "did you mean `coins`?; add `[alias.coin]`"),
            ("${v|or}", "write for example `or:none`"),
            ("${v?${v", "expected `}`"),
            ("${v?${v?${v?${v?${v?x}}}}}", "expected at most 4"),
        ] {
            let error = filled(template, "x").expect_err(template);
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
