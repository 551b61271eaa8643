//! How long a login, or a value from a venue's answer, lasts.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use crate::json::{Pointer, decode_string, find};

use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection};
use crate::words::stamp::Stamp;

/// Unix times from here on are in milliseconds: in seconds it is the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lifespan {
    Fixed(Duration),
    /// Of so many seconds, as the answer says here.
    Seconds(Pointer),
    /// To a Unix time, or to the `exp` of a JSON Web Token (RFC 7519 section 4.1.4), that the answer has here.
    Until(Pointer),
}

impl Lifespan {
    /// Reads the keys `life` and `expires`.
    pub(crate) fn read(section: &ProfileSection<'_>) -> Result<Option<Lifespan>, ProfileError> {
        let pointer = |entry: &ProfileEntry<'_>| Pointer::parse(entry.text()?).map_err(|error| entry.error(error));
        match (section.get("life"), section.get("expires")) {
            (None, None) => Ok(None),
            (None, Some(expires)) => pointer(&expires).map(|pointer| Some(Lifespan::Until(pointer))),
            (Some(life), None) if life.text()?.starts_with('/') => pointer(&life).map(|it| Some(Lifespan::Seconds(it))),
            (Some(life), None) => life.duration().map(|life| Some(Lifespan::Fixed(life))),
            (Some(_), Some(expires)) => {
                Err(expires.error("expected `life` or `expires`, found both; remove one of them"))
            }
        }
    }

    /// What is left at `now`, by the answer. The error says what is wrong with the answer.
    pub(crate) fn left(&self, answer: &str, now: Stamp) -> Result<Duration, String> {
        let (pointer, is_end) = match self {
            Lifespan::Fixed(life) => return Ok(*life),
            Lifespan::Seconds(pointer) => (pointer, false),
            Lifespan::Until(pointer) => (pointer, true),
        };
        let place = pointer.as_str();
        let expected = if is_end { "a Unix time or a JSON Web Token with `exp`" } else { "a number of seconds" };
        let token = find(answer, pointer).ok_or_else(|| format!("expected {expected} at `{place}`, found nothing"))?;
        let text = decode_string(token).unwrap_or(token.into());
        let number = whole(&text).or_else(|| is_end.then(|| end_of_token(&text)).flatten());
        let number = number.ok_or_else(|| format!("expected {expected} at `{place}`, found something else"))?;
        let left = match is_end {
            false => Duration::from_secs(number),
            true if number < MILLISECONDS_FROM => Duration::from_millis((number * 1000).saturating_sub(now.wall_ms)),
            true => Duration::from_millis(number.saturating_sub(now.wall_ms)),
        };
        if left.is_zero() {
            return Err(format!(
                "expected an end in the future at `{place}`, found one that is over; check this machine's clock"
            ));
        }
        Ok(left)
    }
}

/// A number without its fraction.
fn whole(text: &str) -> Option<u64> {
    text.split('.').next().and_then(|whole| whole.parse().ok())
}

fn end_of_token(token: &str) -> Option<u64> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    whole(&claims.get("exp")?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str) -> Pointer {
        Pointer::parse(pointer).expect("a pointer")
    }

    #[test]
    fn an_answer_says_how_long_it_counts() {
        let now = Stamp { wall_ms: 1_700_000_000_500, mono_ns: 0 };
        let token = |claims: &str| format!(r#"{{"t":"e30.{}.x"}}"#, BASE64_URL_SAFE_NO_PAD.encode(claims));
        let seconds = || Lifespan::Seconds(at("/in"));
        let until = || Lifespan::Until(at("/t"));
        for (life, answer, expected) in [
            (Lifespan::Fixed(Duration::from_secs(5)), "", Ok(5_000)),
            (seconds(), r#"{"in":3600}"#, Ok(3_600_000)),
            (seconds(), r#"{"in":"60"}"#, Ok(60_000)),
            (seconds(), r#"{"in":-1}"#, Err("found something else")),
            (seconds(), r#"{"out":1}"#, Err("expected a number of seconds at `/in`, found nothing")),
            (seconds(), r#"{"in":0}"#, Err("found one that is over")),
            (until(), r#"{"t":1700000010}"#, Ok(9_500)),
            (until(), r#"{"t":1700000010.9}"#, Ok(9_500)),
            (until(), r#"{"t":"1700000010000"}"#, Ok(9_500)),
            (until(), r#"{"t":1600000000}"#, Err("check this machine's clock")),
            (until(), r#"{"t":"abc"}"#, Err("found something else")),
            (until(), &token(r#"{"exp":1700000010}"#), Ok(9_500)),
            (until(), &token(r#"{"iat":1700000010}"#), Err("found something else")),
        ] {
            match (life.left(answer, now), expected) {
                (Ok(left), Ok(ms)) => assert_eq!(left.as_millis(), ms, "{answer}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{answer}: {error}"),
                (found, expected) => panic!("{answer}: expected {expected:?}, found {found:?}"),
            }
        }
    }
}
