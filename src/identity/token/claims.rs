//! The claims of a token (RFC 7519 section 4, RFC 9068), each of the right type or the token is refused.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::access::identity::{ClaimedRights, TokenId};
use crate::identity::token::fault::TokenFault;
use crate::words::topic::Pattern;

/// 256 bytes: the longest subjects of large issuers have about 100.
const TEXT_BYTES_MAX: usize = 256;
/// Beyond it a number of JSON is no integer for every reader.
const DATE_MAX: u64 = 1 << 53;
/// Patterns that one token may name; a tier names more in the configuration.
const TOPICS_MAX: usize = 64;
/// The longest pace of the protocol.
const PACE_MAX: Duration = Duration::from_secs(60);

/// What a token says, with the right types. Whether it is true, the signature decides.
#[derive(Debug)]
pub struct Claims {
    pub subject: Arc<str>,
    pub token_id: TokenId,
    pub audience: Vec<String>,
    pub issued_ms: u64,
    pub expires_ms: u64,
    pub not_before_ms: Option<u64>,
    pub status: Option<Arc<str>>,
    pub rights: ClaimedRights,
}

/// How long a token may be valid, and the error of clocks.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    pub leeway: Duration,
    pub life_max: Duration,
}

impl Claims {
    /// `claim`: the member that holds tier, topics and so on, by its name or as a JSON pointer.
    ///
    /// Errors: [`TokenFault::Claims`].
    pub fn read(payload: &Map<String, Value>, claim: &str) -> Result<Claims, TokenFault> {
        Claims::read_members(payload, claim).ok_or(TokenFault::Claims)
    }

    fn read_members(payload: &Map<String, Value>, claim: &str) -> Option<Claims> {
        let audience = match payload.get("aud")? {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            _ => return None,
        };
        let not_before_ms = match payload.get("nbf") {
            None => None,
            Some(date) => Some(read_date(date)?),
        };
        let own = match claim.starts_with('/') {
            true => find(payload, claim),
            false => payload.get(claim),
        };
        let own = match own {
            None => &Map::new(),
            Some(Value::Object(own)) => own,
            Some(_) => return None,
        };
        Some(Claims {
            subject: read_text(payload.get("sub")?)?.into(),
            token_id: TokenId::of(read_text(payload.get("jti")?)?),
            audience,
            issued_ms: read_date(payload.get("iat")?)?,
            expires_ms: read_date(payload.get("exp")?)?,
            not_before_ms,
            status: optional(own.get("status"), read_text)?.map(Into::into),
            rights: read_rights(own)?,
        })
    }

    /// Whether the token counts now.
    pub fn check_times(&self, now_ms: u64, times: &TokenTimes) -> Result<(), TokenFault> {
        let leeway = millis(times.leeway);
        if self.expires_ms <= self.issued_ms {
            return Err(TokenFault::Claims);
        }
        if self.expires_ms.saturating_add(leeway) <= now_ms {
            return Err(TokenFault::Expired);
        }
        let begins_ms = self.not_before_ms.unwrap_or(0).max(self.issued_ms);
        if begins_ms > now_ms.saturating_add(leeway) {
            return Err(TokenFault::NotYetValid);
        }
        if self.expires_ms - self.issued_ms > millis(times.life_max) {
            return Err(TokenFault::TooLongLived);
        }
        Ok(())
    }
}

impl TokenId {
    /// Of the claim `jti`.
    pub fn of(jti: &str) -> TokenId {
        TokenId(Sha256::digest(jti.as_bytes()).into())
    }
}

fn find<'p>(payload: &'p Map<String, Value>, pointer: &str) -> Option<&'p Value> {
    let (first, rest) = pointer[1..].split_once('/').map_or((&pointer[1..], None), |(first, rest)| (first, Some(rest)));
    let inner = payload.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        None => Some(inner),
        Some(rest) => inner.pointer(&format!("/{rest}")),
    }
}

fn read_rights(own: &Map<String, Value>) -> Option<ClaimedRights> {
    // A delay is a view of the feed, and views are made at the start. A token that asks for one must not get none.
    if own.contains_key("delay") {
        return None;
    }
    let topics = |value: &Value| {
        let texts = value.as_array().filter(|texts| texts.len() <= TOPICS_MAX)?;
        texts.iter().map(|text| Pattern::parse(text.as_str()?).ok()).collect::<Option<Box<[Pattern]>>>()
    };
    let pace = |value: &Value| humantime::parse_duration(value.as_str()?).ok().filter(|pace| *pace <= PACE_MAX);
    let sessions = |value: &Value| u32::try_from(value.as_u64()?).ok();
    Some(ClaimedRights {
        tier: optional(own.get("tier"), read_text)?.map(Into::into),
        topics: optional(own.get("topics"), topics)?,
        pace_min: optional(own.get("every"), pace)?,
        sessions_max: optional(own.get("sessions"), sessions)?,
    })
}

/// The outer value is none for a member that is there and wrong.
fn optional<'v, T>(value: Option<&'v Value>, read: impl FnOnce(&'v Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => read(value).map(Some),
    }
}

/// What is shown in logs and lists: not empty, not long, without control characters.
fn read_text(value: &Value) -> Option<&str> {
    let is_fit = |text: &&str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
    value.as_str().filter(is_fit)
}

/// NumericDate (RFC 7519 section 2): seconds since the Unix epoch, perhaps with a fraction; in milliseconds.
fn read_date(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    if let Some(seconds) = number.as_u64() {
        return (seconds <= DATE_MAX).then(|| seconds * 1000);
    }
    let seconds = number.as_f64()?;
    let is_fit = seconds.is_sign_positive() && seconds <= DATE_MAX as f64;
    is_fit.then_some((seconds * 1000.0) as u64)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLAIM: &str = "fanline";

    fn payload() -> Value {
        json!({ "iss": "i", "sub": "alice", "aud": "fanline", "exp": 2000, "iat": 1000, "jti": "a" })
    }

    fn read(payload: &Value, claim: &str) -> Result<Claims, TokenFault> {
        Claims::read(payload.as_object().expect("an object"), claim)
    }

    #[test]
    fn a_claim_that_is_missing_or_of_another_type_refuses_the_token() {
        assert!(read(&payload(), CLAIM).is_ok());
        for name in ["sub", "aud", "exp", "iat", "jti"] {
            let mut without = payload();
            without.as_object_mut().expect("an object").remove(name);
            assert_eq!(read(&without, CLAIM).err(), Some(TokenFault::Claims), "{name}");
        }
        let mut wrong = Vec::new();
        for name in ["exp", "iat", "nbf"] {
            let dates =
                [json!("2000"), json!(-1), json!(-0.5), json!(1e17), json!((1u64 << 53) + 1), json!(null), json!([1])];
            wrong.extend(dates.map(|value| (name, value)));
        }
        for name in ["sub", "jti"] {
            wrong.extend(
                [json!(""), json!(7), json!(null), json!("a\u{0}b"), json!("x".repeat(257))].map(|value| (name, value)),
            );
        }
        wrong.extend([json!(7), json!(["a", 7]), json!({})].map(|value| ("aud", value)));
        let rights = [
            json!("pro"),
            json!({ "tier": 7 }),
            json!({ "tier": "" }),
            json!({ "topics": "a" }),
            json!({ "topics": ["a..b"] }),
            json!({ "topics": vec!["a"; 65] }),
            json!({ "every": 1000 }),
            json!({ "every": "2h" }),
            json!({ "sessions": -1 }),
            json!({ "delay": "15m" }),
            json!({ "status": ["professional"] }),
        ];
        wrong.extend(rights.map(|value| (CLAIM, value)));
        for (name, value) in wrong {
            let mut changed = payload();
            changed[name] = value.clone();
            assert_eq!(read(&changed, CLAIM).err(), Some(TokenFault::Claims), "{name}: {value}");
        }
    }

    #[test]
    fn dates_may_have_fractions() {
        let mut fractions = payload();
        fractions["exp"] = json!(2000.25);
        fractions["nbf"] = json!(1e3);
        let claims = read(&fractions, CLAIM).expect("good claims");
        assert_eq!((claims.expires_ms, claims.not_before_ms), (2_000_250, Some(1_000_000)));
    }

    #[test]
    fn rights_are_found_by_name_or_by_pointer() {
        let own = json!({ "tier": "pro", "topics": ["a.>"], "every": "1s", "sessions": 2, "status": "professional" });
        for (claim, place) in [
            ("fanline", json!({ "fanline": own })),
            ("https://example.com/fanline", json!({ "https://example.com/fanline": own })),
            ("/x/fanline", json!({ "x": { "fanline": own } })),
            ("/a~1b/fanline/c", json!({ "a/b": { "fanline": { "c": own } } })),
        ] {
            let mut whole = payload();
            whole.as_object_mut().expect("an object").extend(place.as_object().expect("an object").clone());
            let claims = read(&whole, claim).expect("good claims");
            assert_eq!((claims.rights.tier.as_deref(), claims.rights.sessions_max), (Some("pro"), Some(2)), "{claim}");
            assert_eq!(claims.status.as_deref(), Some("professional"));
        }
    }

    #[test]
    fn a_token_counts_from_its_beginning_to_its_end() {
        let times = TokenTimes { leeway: Duration::from_secs(30), life_max: Duration::from_secs(3600) };
        let claims = |iat: u64, nbf: u64, exp: u64| {
            let mut changed = payload();
            (changed["iat"], changed["nbf"], changed["exp"]) = (json!(iat), json!(nbf), json!(exp));
            read(&changed, CLAIM).expect("good claims")
        };
        for (iat, nbf, exp, now, expected) in [
            (1000, 1000, 2000, 1500, Ok(())),
            (1000, 1000, 2000, 2029, Ok(())),
            (1000, 1000, 2000, 2030, Err(TokenFault::Expired)),
            (1000, 1000, 2000, 970, Ok(())),
            (1000, 1000, 2000, 969, Err(TokenFault::NotYetValid)),
            (1000, 1600, 2000, 1500, Err(TokenFault::NotYetValid)),
            (1000, 1000, 4600, 1500, Ok(())),
            (1000, 1000, 4601, 1500, Err(TokenFault::TooLongLived)),
            (2000, 1000, 2000, 2000, Err(TokenFault::Claims)),
            (3000, 1000, 2000, 2000, Err(TokenFault::Claims)),
        ] {
            assert_eq!(claims(iat, nbf, exp).check_times(now * 1000, &times), expected, "{iat} {nbf} {exp} {now}");
        }
    }
}
