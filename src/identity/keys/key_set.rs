//! The keys of one issuer at one moment, and which of them may have signed a token.

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::keys::key::{KeyError, VerificationKey};
use crate::json::strict::{SameName, read_strict};

/// Large issuers publish two to ten.
pub const KEYS_MAX: usize = 100;
/// Keys that are tried for a token that does not name one: the work that one token may cause.
const TRIED_MAX: usize = 4;

/// Keys of one issuer, never looked up across issuers.
pub struct KeySet {
    keys: Box<[VerificationKey]>,
}

/// What a set says about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    Good,
    /// No key of the set could have made it.
    NoKey,
    Bad,
}

impl KeySet {
    /// Shared secrets, the newest first.
    pub fn of_secrets(keys: Vec<VerificationKey>) -> KeySet {
        KeySet { keys: keys.into() }
    }

    /// The public keys of a JWK Set or of PEM that are for one of these algorithms. Others are left out: issuers also
    /// publish keys for encryption.
    pub fn read(text: &str, algorithms: &[SigningAlgorithm]) -> Result<KeySet, KeyError> {
        let keys = match read_strict(text, SameName::Exact) {
            Some(set) => of_jwks(&set)?,
            None if text.contains("PRIVATE KEY-----") => return Err(KeyError::Private),
            None => of_pem(text)?,
        };
        let is_usable = |key: &VerificationKey| algorithms.iter().any(|algorithm| key.suits(*algorithm));
        let keys: Box<[VerificationKey]> = keys.into_iter().filter(is_usable).collect();
        if keys.is_empty() { Err(KeyError::NoneUsable) } else { Ok(KeySet { keys }) }
    }

    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// A key with an id signs only tokens that name it or name none.
    pub fn verify(
        &self,
        algorithm: SigningAlgorithm,
        key_id: Option<&str>,
        message: &[u8],
        signature: &[u8],
        now_ms: u64,
    ) -> SignatureVerdict {
        let may_have_signed = |key: &&VerificationKey| {
            let is_named = key_id.is_none_or(|id| key.id.as_deref().is_none_or(|own| own == id));
            is_named && key.suits(algorithm) && key.until_ms.is_none_or(|until_ms| now_ms < until_ms)
        };
        let mut candidates = self.keys.iter().filter(may_have_signed).take(TRIED_MAX).peekable();
        if candidates.peek().is_none() {
            return SignatureVerdict::NoKey;
        }
        match candidates.any(|key| key.verifies(algorithm, message, signature)) {
            true => SignatureVerdict::Good,
            false => SignatureVerdict::Bad,
        }
    }
}

fn of_jwks(set: &Value) -> Result<Vec<VerificationKey>, KeyError> {
    let jwks = set.get("keys").and_then(Value::as_array).ok_or(KeyError::NotKeys)?;
    if jwks.len() > KEYS_MAX {
        return Err(KeyError::TooMany { max: KEYS_MAX, found: jwks.len() });
    }
    if jwks.iter().any(|jwk| jwk.get("d").is_some()) {
        return Err(KeyError::Private);
    }
    Ok(jwks.iter().filter_map(VerificationKey::of_jwk).collect())
}

fn of_pem(text: &str) -> Result<Vec<VerificationKey>, KeyError> {
    let mut keys = Vec::new();
    for (number, spki) in (1..).zip(SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes())) {
        let spki = spki.map_err(|_| KeyError::NotKeys)?;
        if number > KEYS_MAX {
            return Err(KeyError::TooMany { max: KEYS_MAX, found: number });
        }
        keys.extend(VerificationKey::of_spki(&spki));
    }
    if keys.is_empty() && !text.contains("BEGIN PUBLIC KEY") { Err(KeyError::NotKeys) } else { Ok(keys) }
}
