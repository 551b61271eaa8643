//! Parameters in the query of a request. None is ignored: unknown or wrong ones are refused by name.

use url::form_urlencoded;

use crate::edge::http::answer::HttpRefusal;
use crate::protocol::command::{CommandRefusal, check_wildcards, parse_pattern};
use crate::words::nearest::distance;
use crate::words::topic::Pattern;

/// Reads the query of `/v1/topics` and `/v1/snapshot`.
pub(in crate::edge) fn topics(
    query: Option<&str>,
    patterns_max: usize,
    wildcards_max: usize,
    takes_credentials: bool,
) -> Result<TopicsQuery, HttpRefusal> {
    let known: &[&str] = if takes_credentials { &["topics", "ticket"] } else { &["topics"] };
    let mut parsed = TopicsQuery::default();
    for (name, value) in parameters(query, known)? {
        match name {
            "topics" => parsed.patterns = patterns(&value, patterns_max)?,
            _ => parsed.ticket = Some(value.into()),
        }
    }
    check_wildcards(&parsed.patterns, wildcards_max).map_err(bad)?;
    Ok(parsed)
}

/// The query of `/v1/topics` and `/v1/snapshot`.
#[derive(Default)]
pub(in crate::edge) struct TopicsQuery {
    /// None meaning all topics.
    pub patterns: Vec<Pattern>,
    pub ticket: Option<Box<str>>,
}

/// Splits the query; each parameter must be in `known` and occur once.
pub(in crate::edge) fn parameters(
    query: Option<&str>,
    known: &[&'static str],
) -> Result<Vec<(&'static str, String)>, HttpRefusal> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if TOKEN_NAMES.contains(&&*name.to_ascii_lowercase()) {
            return Err(token_in_url());
        }
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

/// Under which tokens are put into URLs.
const TOKEN_NAMES: [&str; 6] = ["token", "access_token", "id_token", "jwt", "auth_token", "authorization"];

fn token_in_url() -> HttpRefusal {
    let message = "expected no token in the URL, found one: URLs are logged, kept in histories and passed on to other \
                   sites; send `auth` as the first command, use the header `Authorization`, or get a ticket from /v1/ticket. \
                   Take this token out of use";
    HttpRefusal::bad("token_in_url", message)
}

fn unknown(name: &str, known: &[&'static str]) -> HttpRefusal {
    let listed = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    let nearest = known
        .iter()
        .map(|known| (distance(&name.to_lowercase(), known), known))
        .min_by_key(|(distance, _)| *distance)
        // With more than half of its letters changed it is a different name, and a guess would mislead.
        .filter(|(distance, known)| *distance <= known.len() / 2);
    let hint = nearest.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
    HttpRefusal::bad("bad_request", format!("expected one of {listed}, found the parameter `{}`{hint}", shown(name)))
}

pub(in crate::edge) fn patterns(value: &str, patterns_max: usize) -> Result<Vec<Pattern>, HttpRefusal> {
    let count = value.split(',').count();
    if count > patterns_max {
        return Err(bad(CommandRefusal::too_many_patterns(patterns_max, count)));
    }
    value.split(',').map(parse_pattern).collect::<Result<_, _>>().map_err(bad)
}

/// The refusal of a pattern, in the same words as for a command.
pub(in crate::edge) fn bad(refusal: CommandRefusal) -> HttpRefusal {
    HttpRefusal::bad(refusal.code, refusal.message)
}

/// A client's text, safe to quote.
pub(in crate::edge) fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(64).collect()
}
