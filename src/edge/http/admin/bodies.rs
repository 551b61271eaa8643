//! Bodies of the operator's calls, read strictly: one JSON object, no unknown and no repeated members.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::access::identity::TokenId;
use crate::access::operator::RevokedCredentials;
use crate::access::selector::SessionSelector;
use crate::edge::http::answer::HttpRefusal;
use crate::words::goodbye::Goodbye;

/// Longest time over which reconnects are spread.
const RECONNECT_MS_MAX: u64 = 3_600_000;
/// Of reconnects, if nothing is said: a kick of thousands is not to be followed by a stampede.
const RECONNECT_MS: u64 = 5_000;

/// `POST /admin/disconnect`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectBody {
    sub: Option<String>,
    iss: Option<String>,
    tier: Option<String>,
    jti: Option<String>,
    jti_sha256: Option<String>,
    all: Option<bool>,
    #[serde(default)]
    code: EndCode,
    reconnect_ms: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndCode {
    /// The client may come back, with a new token.
    #[default]
    Kicked,
    /// It may not.
    Revoked,
}

/// `POST /admin/revoke`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    jti: Option<String>,
    jti_sha256: Option<String>,
    iss: Option<String>,
    sub: Option<String>,
    issued_before_ms: Option<u64>,
    pub until_ms: Option<u64>,
}

/// `POST /admin/reload`: nothing, or `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadBody {}

/// `POST /admin/handover`: nothing, or `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandoverBody {}

impl DisconnectBody {
    pub(super) fn selector(&self) -> Result<SessionSelector, HttpRefusal> {
        let token = token(self.jti.as_deref(), self.jti_sha256.as_deref())?;
        let subject = self.sub.as_deref().map(|subject| SessionSelector::Subject {
            issuer: self.iss.as_deref().map(Arc::from),
            subject: subject.into(),
        });
        let tier = self.tier.as_deref().map(|tier| SessionSelector::Tier(tier.into()));
        let all = self.all.unwrap_or_default().then_some(SessionSelector::All);
        let mut given = [subject, tier, token.map(SessionSelector::Token), all].into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(selector), None) if self.iss.is_none() || self.sub.is_some() => Ok(selector),
            _ => Err(bad(
                "expected one of `sub` (with or without `iss`), `tier`, `jti`, `jti_sha256` and `\"all\":true`",
            )),
        }
    }

    pub(super) fn goodbye(&self) -> Goodbye {
        match self.code {
            EndCode::Kicked => Goodbye::Kicked,
            EndCode::Revoked => Goodbye::Forbidden,
        }
    }

    pub(super) fn spread(&self) -> Result<Duration, HttpRefusal> {
        spread(self.reconnect_ms)
    }
}

/// The time over which reconnects are spread.
pub(super) fn spread(reconnect_ms: Option<u64>) -> Result<Duration, HttpRefusal> {
    match reconnect_ms.unwrap_or(RECONNECT_MS) {
        ms if ms <= RECONNECT_MS_MAX => Ok(Duration::from_millis(ms)),
        ms => Err(bad(format!("expected `reconnect_ms` up to {RECONNECT_MS_MAX}, found {ms}"))),
    }
}

impl RevokeBody {
    /// Of a subject or an issuer without a moment: those issued until now.
    pub(super) fn credentials(&self) -> Result<RevokedCredentials, HttpRefusal> {
        let token = token(self.jti.as_deref(), self.jti_sha256.as_deref())?;
        let others = (&self.iss, &self.sub, self.issued_before_ms);
        match (token, others) {
            (Some(token), (None, None, None)) => Ok(RevokedCredentials::Token(token)),
            (None, (Some(_), ..) | (_, Some(_), _)) => Ok(RevokedCredentials::IssuedBefore {
                issuer: self.iss.as_deref().map(Arc::from),
                subject: self.sub.as_deref().map(Arc::from),
                before_ms: self.issued_before_ms.unwrap_or_else(now_ms),
            }),
            _ => Err(bad("expected `jti`, or `jti_sha256`, or `sub` or `iss` or both (and `issued_before_ms`)")),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // One more: tokens of this very second are meant, too.
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

fn token(jti: Option<&str>, jti_sha256: Option<&str>) -> Result<Option<TokenId>, HttpRefusal> {
    match (jti, jti_sha256) {
        (None, None) => Ok(None),
        (Some(jti), None) => Ok(Some(TokenId(Sha256::digest(jti.as_bytes()).into()))),
        (None, Some(text)) => {
            let mut digest = [0; 32];
            let decoded = hex::decode_to_slice(text, &mut digest);
            decoded.map_err(|_| bad("expected `jti_sha256` as 64 hexadecimal digits"))?;
            Ok(Some(TokenId(digest)))
        }
        (Some(_), Some(_)) => Err(bad("expected one of `jti` and `jti_sha256`, found both")),
    }
}

/// Reads a body. An error repeats nothing of it: it may hold a token by mistake.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpRefusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        // Of serde's texts only these repeat nothing but names of members.
        let known = ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
        let found = if known { text } else { format!("something else at column {}", error.column()) };
        bad(format!("expected a JSON object with the members of this call, found {found}"))
    })
}

pub(super) fn bad(message: impl Into<String>) -> HttpRefusal {
    HttpRefusal::new(StatusCode::BAD_REQUEST, "bad_request", message)
}
