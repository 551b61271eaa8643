//! Parameters in the query of a request. None is ignored: unknown or wrong ones are refused by name.

use url::form_urlencoded;

use crate::edge::http::answer::HttpRefusal;
use crate::protocol::command::{CommandRefusal, check_wildcards, parse_pattern};
use crate::words::nearest::distance;
use crate::words::topic::Pattern;

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

/// Splits the query; each parameter must be in `known` and occur once.
pub(in crate::edge) fn parameters(
    query: Option<&str>,
    known: &[&'static str],
) -> Result<Vec<(&'static str, String)>, HttpRefusal> {
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
