//! The query of `/v1/ws`: how a client wants to be served, before its first command.

use std::time::Duration;

use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::query::{bad, parameters, patterns, shown};
use crate::protocol::command::{Policy, parse_cursor, parse_every, parse_policy};
use crate::protocol::encoding::Format;
use crate::words::ids::Cursor;
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
    pub(crate) fn parse(query: Option<&str>, patterns_max: usize) -> Result<WsQuery, HttpRefusal> {
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
