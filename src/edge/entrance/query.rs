//! The query of `/v1/ws` and `/v1/sse`: how a client wants to be served.

use std::time::Duration;

use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::query::{bad, parameters, patterns, shown};
use crate::protocol::command::{Policy, parse_cursor, parse_every, parse_policy};
use crate::protocol::encoding::Format;
use crate::words::ids::Cursor;
use crate::words::topic::Pattern;

/// What the query of a session asks for.
#[derive(Debug, Default)]
pub(in crate::edge) struct SessionQuery {
    pub patterns: Vec<Pattern>,
    pub format: Format,
    pub since: Option<Cursor>,
    pub policy: Policy,
    pub every: Option<Duration>,
    pub ticket: Option<Box<str>>,
    /// The client's first command is `auth`.
    pub promises_auth: bool,
}

const OF_WEBSOCKET: [&str; 7] = ["topics", "format", "since", "policy", "every", "auth", "ticket"];
/// Without those that concern credentials.
const OPEN_OF_WEBSOCKET: usize = 5;
const OF_STREAM: [&str; 6] = ["topics", "since", "policy", "every", "errors", "ticket"];
const OPEN_OF_STREAM: usize = 5;

impl SessionQuery {
    pub(crate) fn of_websocket(
        query: Option<&str>,
        patterns_max: usize,
        takes_credentials: bool,
    ) -> Result<SessionQuery, HttpRefusal> {
        let known = if takes_credentials { &OF_WEBSOCKET[..] } else { &OF_WEBSOCKET[..OPEN_OF_WEBSOCKET] };
        let parsed = SessionQuery::parse(query, patterns_max, known)?;
        if parsed.since.is_some() && parsed.patterns.is_empty() {
            let message = "expected `topics` beside `since`, found none; a cursor resumes a subscription";
            return Err(HttpRefusal::bad("bad_request", message));
        }
        Ok(parsed)
    }

    /// Of a client that says nothing more. Its cursor may also come in the header `Last-Event-ID`, which is newer.
    pub(crate) fn of_stream(
        query: Option<&str>,
        last_event_id: Option<&str>,
        patterns_max: usize,
        takes_credentials: bool,
    ) -> Result<SessionQuery, HttpRefusal> {
        let known = if takes_credentials { &OF_STREAM[..] } else { &OF_STREAM[..OPEN_OF_STREAM] };
        let mut parsed = SessionQuery::parse(query, patterns_max, known)?;
        if parsed.patterns.is_empty() {
            let message = "expected `topics`, found none; a stream has no commands to subscribe by";
            return Err(HttpRefusal::bad("bad_request", message));
        }
        // A browser that has received none sends none, or an empty one.
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            parsed.since = Some(parse_cursor(id).map_err(bad)?);
        }
        Ok(parsed)
    }

    fn parse(query: Option<&str>, patterns_max: usize, known: &[&'static str]) -> Result<SessionQuery, HttpRefusal> {
        let mut parsed = SessionQuery::default();
        for (name, value) in parameters(query, known)? {
            match name {
                "topics" => parsed.patterns = patterns(&value, patterns_max)?,
                "format" => parsed.format = format(&value)?,
                "since" => parsed.since = Some(parse_cursor(&value).map_err(bad)?),
                "every" => parsed.every = every(&value)?,
                "auth" => parsed.promises_auth = promise(&value)?,
                "ticket" => parsed.ticket = Some(value.into()),
                "errors" if value == "events" => {}
                "errors" => {
                    let message = format!("expected `errors=events`, found `{}`", shown(&value));
                    return Err(HttpRefusal::bad("bad_request", message));
                }
                _ => parsed.policy = parse_policy(&value).map_err(bad)?,
            }
        }
        Ok(parsed)
    }
}

fn promise(value: &str) -> Result<bool, HttpRefusal> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        // What is there instead may be a token.
        _ => Err(HttpRefusal::bad(
            "bad_request",
            "expected `auth=1` if the first command is `auth`, found another value",
        )),
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
