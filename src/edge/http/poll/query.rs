//! The query of `/v1/poll`.

use std::time::Duration;

use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::query::{bad, parameters, patterns, shown};
use crate::protocol::command::{check_wildcards, parse_cursor};
use crate::words::ids::Cursor;
use crate::words::topic::Pattern;

const WAIT_MS_MAX: u64 = 30_000;
const ITEMS_MAX: u64 = 10_000;
const ITEMS: u64 = 1_000;

const PARAMETERS: [&str; 5] = ["topics", "since", "wait_ms", "max", "ticket"];
/// Without the one that is a credential.
const OPEN_PARAMETERS: usize = 4;

#[derive(Debug)]
pub(in crate::edge) struct PollQuery {
    /// By name, each once; none meaning all topics.
    pub patterns: Vec<Pattern>,
    pub since: Option<Cursor>,
    pub wait: Duration,
    /// Frames and topic statuses of an answer.
    pub max: usize,
    pub ticket: Option<Box<str>>,
}

impl PollQuery {
    pub(crate) fn parse(
        query: Option<&str>,
        (patterns_max, wildcards_max): (usize, usize),
        takes_credentials: bool,
    ) -> Result<PollQuery, HttpRefusal> {
        let known = if takes_credentials { &PARAMETERS[..] } else { &PARAMETERS[..OPEN_PARAMETERS] };
        let mut parsed =
            PollQuery { patterns: Vec::new(), since: None, wait: Duration::ZERO, max: ITEMS as usize, ticket: None };
        for (name, value) in parameters(query, known)? {
            match name {
                "topics" => parsed.patterns = patterns(&value, patterns_max)?,
                "since" => parsed.since = Some(parse_cursor(&value).map_err(bad)?),
                "wait_ms" => parsed.wait = Duration::from_millis(number(name, &value, (0, WAIT_MS_MAX))?),
                "max" => parsed.max = number(name, &value, (1, ITEMS_MAX))? as usize,
                _ => parsed.ticket = Some(value.into()),
            }
        }
        check_wildcards(&parsed.patterns, wildcards_max).map_err(bad)?;
        parsed.patterns.sort_unstable();
        parsed.patterns.dedup();
        Ok(parsed)
    }
}

fn number(name: &str, value: &str, (min, max): (u64, u64)) -> Result<u64, HttpRefusal> {
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| {
        let message = format!("expected a number from {min} to {max} in `{name}`, found `{}`", shown(value));
        HttpRefusal::bad("bad_request", message)
    })
}
