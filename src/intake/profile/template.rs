//! Texts with placeholders: `ticker.${/data/s|lower}`, `{"params":${items|json},"id":${req}}`.
//!
//! A placeholder is `${source|filter|…}`. What sources there are depends on where the template stands, so the source
//! is a type parameter and is read and looked up by the caller. Braces without `$` are plain text: templates are JSON.
//! `${source?text}` is the text, placeholders and all, if the source has a value, and nothing otherwise.
//!
//! | filter | gives |
//! |---|---|
//! | `lower`, `upper` | the text in that case |
//! | `before:X`, `after:X` | what stands before or after the first X; the whole text if there is no X |
//! | `strip:X` | the text without X at its beginning and end |
//! | `json` | the text as a JSON string, the list as a JSON array of strings |
//! | `join:X` | the list's texts with X between them |

use std::borrow::Cow;

use super::section::{did_you_mean, one_of};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template<S> {
    source: String,
    pieces: Vec<Piece<S>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<S> {
    Text(String),
    Place(S, Vec<Filter>),
    /// There only if the source has a value.
    If(S, Template<S>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Lower,
    Upper,
    Before(String),
    After(String),
    Strip(String),
    Json,
    Join(String),
}

/// What a source stands for at the moment.
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    List(&'a [String]),
}

impl<S> Template<S> {
    /// Reads a template; `source` reads the part of a placeholder before its filters. Errors are problems to be told
    /// under the key where the template stands.
    pub fn parse(text: &str, mut source: impl FnMut(&str) -> Result<S, String>) -> Result<Template<S>, String> {
        Template::parse_with(text, &mut source)
    }

    fn parse_with(text: &str, source: &mut dyn FnMut(&str) -> Result<S, String>) -> Result<Template<S>, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inside, tail)) = split_at_end(after) else {
                return Err(format!("expected `}}` to end the placeholder, found none after `${{{after}`"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_string()));
            }
            rest = tail;
            if let Some((name, inner)) = inside.split_once('?').filter(|(name, _)| !name.contains('|')) {
                pieces.push(Piece::If(source(name)?, Template::parse_with(inner, source)?));
                continue;
            }
            let mut parts = inside.split('|');
            let place = source(parts.next().unwrap_or_default())?;
            pieces.push(Piece::Place(place, parts.map(Filter::parse).collect::<Result<_, _>>()?));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_string()));
        }
        Ok(Template { source: text.to_string(), pieces })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The sources that the template uses.
    pub fn sources(&self) -> Vec<&S> {
        let mut sources = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(_) => {}
                Piece::Place(source, _) => sources.push(source),
                Piece::If(source, inner) => {
                    sources.push(source);
                    sources.extend(inner.sources());
                }
            }
        }
        sources
    }

    /// The sources that must have a value: those outside of `${NAME?…}`.
    pub fn required_sources(&self) -> impl Iterator<Item = &S> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Place(source, _) => Some(source),
            Piece::Text(_) | Piece::If(..) => None,
        })
    }

    /// The same template over other sources.
    pub fn map_sources<T>(&self, mut map: impl FnMut(&S) -> T) -> Template<T> {
        self.map_with(&mut map)
    }

    fn map_with<T>(&self, map: &mut dyn FnMut(&S) -> T) -> Template<T> {
        let piece = |piece: &Piece<S>| match piece {
            Piece::Text(text) => Piece::Text(text.clone()),
            Piece::Place(source, filters) => Piece::Place(map(source), filters.clone()),
            Piece::If(source, inner) => Piece::If(map(source), inner.map_with(map)),
        };
        Template { source: self.source.clone(), pieces: self.pieces.iter().map(piece).collect() }
    }

    /// Appends the text with its placeholders filled in; ends at the first source that has no value.
    pub fn render<'a, E>(
        &'a self,
        out: &mut String,
        mut value: impl FnMut(&'a S) -> Result<Value<'a>, E>,
    ) -> Result<(), E> {
        self.render_with(out, &mut value)
    }

    fn render_with<'a, E>(
        &'a self,
        out: &mut String,
        value: &mut dyn FnMut(&'a S) -> Result<Value<'a>, E>,
    ) -> Result<(), E> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Place(source, filters) => {
                    let filled = filters.iter().fold(value(source)?, |value, filter| filter.apply(value));
                    match filled {
                        Value::Text(text) => out.push_str(&text),
                        Value::List(list) => out.push_str(&list.join(",")),
                    }
                }
                Piece::If(source, inner) => {
                    if value(source).is_ok() {
                        inner.render_with(out, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What stands before the brace that ends a placeholder, and what after; braces inside come in pairs.
fn split_at_end(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some((&text[..at], &text[at + 1..])),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

impl Filter {
    const NAMES: [&'static str; 7] = ["lower", "upper", "before", "after", "strip", "json", "join"];

    fn parse(text: &str) -> Result<Filter, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let given = || match argument {
            Some(argument) if !argument.is_empty() => Ok(argument.to_string()),
            _ => Err(format!("expected a text after `{name}:`, found nothing; write for instance `{name}:@`")),
        };
        match (name, argument) {
            ("lower", None) => Ok(Filter::Lower),
            ("upper", None) => Ok(Filter::Upper),
            ("json", None) => Ok(Filter::Json),
            ("lower" | "upper" | "json", Some(_)) => Err(format!("expected `{name}` alone, found `{text}`")),
            ("before", _) => Ok(Filter::Before(given()?)),
            ("after", _) => Ok(Filter::After(given()?)),
            ("strip", _) => Ok(Filter::Strip(given()?)),
            ("join", _) => Ok(Filter::Join(argument.unwrap_or_default().to_string())),
            _ => Err(format!(
                "expected {} after `|`, found `{text}`{}",
                one_of(&Filter::NAMES),
                did_you_mean(name, &Filter::NAMES)
            )),
        }
    }

    /// Filters of a text are applied to a list's texts joined by commas.
    fn apply<'a>(&self, value: Value<'a>) -> Value<'a> {
        let text = match (self, value) {
            (Filter::Json, Value::List(list)) => return Value::Text(Cow::Owned(json(list))),
            (Filter::Join(between), Value::List(list)) => return Value::Text(Cow::Owned(list.join(between))),
            (_, Value::List(list)) => Cow::Owned(list.join(",")),
            (_, Value::Text(text)) => text,
        };
        Value::Text(match self {
            Filter::Lower => Cow::Owned(text.to_lowercase()),
            Filter::Upper => Cow::Owned(text.to_uppercase()),
            Filter::Before(mark) => part(text, |text| text.split_once(&**mark).map(|(before, _)| before)),
            Filter::After(mark) => part(text, |text| text.split_once(&**mark).map(|(_, after)| after)),
            Filter::Strip(mark) => part(text, |text| {
                let text = text.strip_prefix(&**mark).unwrap_or(text);
                Some(text.strip_suffix(&**mark).unwrap_or(text))
            }),
            Filter::Json => Cow::Owned(json(&*text)),
            Filter::Join(_) => text,
        })
    }
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
        let template = Template::parse(template, |source| match source {
            "v" | "list" => Ok(source.to_string()),
            other => Err(format!("expected `v`, found `{other}`")),
        })?;
        let list = [value.to_string(), "b\"c".to_string()];
        let mut out = String::new();
        template
            .render(&mut out, |source| {
                Ok::<_, String>(if source == "v" { Value::Text(value.into()) } else { Value::List(&list) })
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
        ] {
            assert_eq!(filled(template, value).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_refused_with_the_remedy() {
        for (template, part) in [
            ("${v", "expected `}`"),
            ("${w}", "expected `v`, found `w`"),
            ("${v|lowr}", "did you mean `lower`?"),
            ("${v|before}", "write for instance `before:@`"),
            ("${v|lower:x}", "expected `lower` alone"),
        ] {
            let error = filled(template, "x").expect_err(template);
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
