//! Parameters in the query of a request. None is ignored: what is unknown or wrong is refused by name.

use std::time::Duration;

use url::form_urlencoded;

use crate::edge::http::answer::HttpRefusal;
use crate::protocol::command::{
    CommandRefusal, Policy, check_wildcards, parse_cursor, parse_every, parse_pattern, parse_policy,
};
use crate::protocol::encoding::Format;
use crate::words::ids::Cursor;
use crate::words::nearest::distance;
use crate::words::topic::Pattern;

/// The query of `/v1/ws`.
#[derive(Debug, Default)]
pub(in crate::edge) struct WsQuery {
    pub patterns: Vec<Pattern>,
    pub format: Format,
    pub since: Option<Cursor>,
    pub policy: Policy,
    pub every: Option<Duration>,
}

impl WsQuery {
    pub fn parse(query: Option<&str>, patterns_max: usize) -> Result<WsQuery, HttpRefusal> {
        let mut parsed = WsQuery::default();
        for (name, value) in parameters(query, &["topics", "format", "since", "policy", "every"])? {
            match name {
                "topics" => parsed.patterns = patterns(&value, patterns_max)?,
                "format" => parsed.format = format(&value)?,
                "since" => parsed.since = Some(parse_cursor(&value).map_err(bad)?),
                "every" => parsed.every = every(&value)?,
                _ => parsed.policy = parse_policy(&value).map_err(bad)?,
            }
        }
        if parsed.since.is_some() && parsed.patterns.is_empty() {
            let message = "expected `topics` beside `since`, found none; a cursor resumes a subscription";
            return Err(HttpRefusal::bad("bad_request", message));
        }
        Ok(parsed)
    }
}

/// The query of `/v1/topics` and `/v1/snapshot`: patterns, none meaning all topics.
pub(in crate::edge) fn topics(
    query: Option<&str>,
    patterns_max: usize,
    wildcards_max: usize,
) -> Result<Vec<Pattern>, HttpRefusal> {
    let Some((_, value)) = parameters(query, &["topics"])?.pop() else { return Ok(Vec::new()) };
    let patterns = patterns(&value, patterns_max)?;
    check_wildcards(&patterns, wildcards_max).map_err(bad)?;
    Ok(patterns)
}

/// Splits the query; each parameter must be one of `known` and come once.
fn parameters(query: Option<&str>, known: &[&'static str]) -> Result<Vec<(&'static str, String)>, HttpRefusal> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(&name) = known.iter().find(|known| **known == name) else {
            return Err(unknown(&name, known));
        };
        if found.iter().any(|(earlier, _)| *earlier == name) {
            let message = format!("expected `{name}` once, found it again; separate several values with commas");
            return Err(HttpRefusal::bad("bad_request", message));
        }
        found.push((name, value.into_owned()));
    }
    Ok(found)
}

fn unknown(name: &str, known: &[&'static str]) -> HttpRefusal {
    let listed = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    let nearest = known
        .iter()
        .map(|known| (distance(&name.to_lowercase(), known), known))
        .min_by_key(|(distance, _)| *distance)
        // Beyond half of its letters a name is a different one, and to guess it would mislead.
        .filter(|(distance, known)| *distance <= known.len() / 2);
    let hint = nearest.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
    HttpRefusal::bad("bad_request", format!("expected one of {listed}, found the parameter `{}`{hint}", shown(name)))
}

fn patterns(value: &str, patterns_max: usize) -> Result<Vec<Pattern>, HttpRefusal> {
    let count = value.split(',').count();
    if count > patterns_max {
        return Err(bad(CommandRefusal::too_many_patterns(patterns_max, count)));
    }
    value.split(',').map(parse_pattern).collect::<Result<_, _>>().map_err(bad)
}

fn format(value: &str) -> Result<Format, HttpRefusal> {
    match value {
        "envelope" => Ok(Format::Envelope),
        "raw" => Ok(Format::Raw),
        _ => Err(HttpRefusal::bad(
            "unknown_format",
            format!("expected `envelope` or `raw` in `format`, found `{}`", shown(value)),
        )),
    }
}

fn every(value: &str) -> Result<Option<Duration>, HttpRefusal> {
    let duration = humantime::parse_duration(value).map_err(|error| {
        let message = format!(
            "expected a pace such as `250ms` or `2s` in `every`, found `{}`: {}",
            shown(value),
            shown(&error.to_string())
        );
        HttpRefusal::bad("bad_pace", message)
    })?;
    parse_every(duration).map_err(bad)
}

/// What a command would be refused for is refused here in the same words.
pub(in crate::edge) fn bad(refusal: CommandRefusal) -> HttpRefusal {
    HttpRefusal::bad(refusal.code, refusal.message)
}

/// A client's own text, fit to be quoted back to it.
fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}
