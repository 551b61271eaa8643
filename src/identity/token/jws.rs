//! The compact form of a JWS (RFC 7515 section 7.1), read strictly: one text, one meaning.
//!
//! Only the header members `alg`, `kid`, `typ` and `crit` are looked at. Keys and their addresses in the header (`jwk`,
//! `jku`, `x5u`, `x5c`) are never used.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::token::fault::TokenFault;
use crate::json::strict::{SameName, read_strict};

/// 256 bytes: thumbprints have 43, the longest ids of large issuers about 100.
const KEY_ID_BYTES_MAX: usize = 256;

/// A token that has the right form. Nothing in it is verified.
pub struct Jws<'t> {
    /// None: no algorithm that anybody here signs with, such as `none`.
    pub algorithm: Option<SigningAlgorithm>,
    pub key_id: Option<Box<str>>,
    pub payload: Map<String, Value>,
    /// What is signed.
    pub message: &'t [u8],
    pub signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Errors: [`TokenFault::Malformed`].
    pub fn read(token: &'t str) -> Result<Jws<'t>, TokenFault> {
        Jws::read_parts(token).ok_or(TokenFault::Malformed)
    }

    fn read_parts(token: &'t str) -> Option<Jws<'t>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if signature.is_empty() || payload.contains('.') {
            return None;
        }
        let header = read_object(header)?;
        let is_fit =
            !header.contains_key("crit") && !header.contains_key("b64") && header.get("typ").is_none_or(is_jwt);
        let algorithm = SigningAlgorithm::find(header.get("alg")?.as_str()?);
        let key_id = match header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().filter(|id| id.len() <= KEY_ID_BYTES_MAX)?.into()),
        };
        let payload = read_object(payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        is_fit.then_some(Jws { algorithm, key_id, payload, message: message.as_bytes(), signature })
    }
}

/// Tokens of other kinds (`logout+jwt`, `dpop+jwt`) must not pass for access tokens (RFC 8725 section 3.11).
fn is_jwt(kind: &Value) -> bool {
    let Some(kind) = kind.as_str() else { return false };
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

fn read_object(part: &str) -> Option<Map<String, Value>> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    match read_strict(&text, SameName::Exact)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}
