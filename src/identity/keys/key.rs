//! One key that tokens are verified with: a shared secret or a public key, never both for one issuer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::keys::der::{BIT_STRING, DerReader, INTEGER, OBJECT_ID, SEQUENCE, unsigned};

/// Why a text has no key to verify with. Shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("expected a JWK Set (RFC 7517) or public keys in PEM, found neither")]
    NotKeys,
    #[error("expected public keys, found a private one; write only the public part into the file")]
    Private,
    #[error(
        "expected a key for one of the issuer's algorithms, found none: RSA of 2048 to 8192 bits, P-256, P-384 or \
         Ed25519, for signatures"
    )]
    NoneUsable,
    #[error("expected at most {max} keys, found {found}")]
    TooMany { max: usize, found: usize },
}

/// A key with what it is bound to. There is no `Debug`: it may be a secret.
pub struct VerificationKey {
    /// The member `kid`.
    pub id: Option<Box<str>>,
    /// The member `alg`: the only algorithm that the key is for.
    pub only: Option<SigningAlgorithm>,
    /// From then on it is not used, in milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    material: VerificationMaterial,
}

enum VerificationMaterial {
    /// For HS256, HS384, HS512.
    Secret(Box<[hmac::Key; 3]>),
    /// Modulus and exponent, big endian, without zeros in front.
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// Points, uncompressed.
    P256(Box<[u8]>),
    P384(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl VerificationKey {
    pub fn of_secret(secret: &[u8], until_ms: Option<u64>) -> VerificationKey {
        let key = |algorithm| hmac::Key::new(algorithm, secret);
        let keys = [key(hmac::HMAC_SHA256), key(hmac::HMAC_SHA384), key(hmac::HMAC_SHA512)];
        VerificationKey { id: None, only: None, until_ms, material: VerificationMaterial::Secret(Box::new(keys)) }
    }

    /// A public key of a JWK Set; none if it is of another kind or for another use. Its certificates and addresses are
    /// not looked at.
    pub fn of_jwk(jwk: &Value) -> Option<VerificationKey> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_for_signatures = jwk.get("use").is_none_or(|found| found == "sig");
        let verifies = |operations: &Value| operations.as_array().is_some_and(|all| all.contains(&"verify".into()));
        if !is_for_signatures || !jwk.get("key_ops").is_none_or(verifies) || jwk.get("d").is_some() {
            return None;
        }
        let only = match jwk.get("alg") {
            None => None,
            Some(name) => Some(SigningAlgorithm::find(name.as_str()?)?),
        };
        let point = |bytes_each: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let is_fit = x.len() == bytes_each && y.len() == bytes_each;
            is_fit.then(|| [&[4], &x[..], &y[..]].concat().into_boxed_slice())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => VerificationMaterial::rsa(&bytes("n")?, &bytes("e")?)?,
            ("EC", Some("P-256")) => VerificationMaterial::P256(point(32)?),
            ("EC", Some("P-384")) => VerificationMaterial::P384(point(48)?),
            ("OKP", Some("Ed25519")) => VerificationMaterial::Ed25519(bytes("x").filter(|x| x.len() == 32)?.into()),
            _ => return None,
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.into()),
        };
        let key = VerificationKey { id, only, until_ms: None, material };
        only.is_none_or(|algorithm| key.suits(algorithm)).then_some(key)
    }

    /// A public key as SubjectPublicKeyInfo (RFC 5280 section 4.1); none if it is of another kind.
    pub fn of_spki(spki: &[u8]) -> Option<VerificationKey> {
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
        const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
        const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
        let mut whole = DerReader(spki);
        let mut info = DerReader(whole.take(SEQUENCE)?);
        let mut algorithm = DerReader(info.take(SEQUENCE)?);
        let (&unused_bits, key) = info.take(BIT_STRING)?.split_first()?;
        if unused_bits != 0 || !info.is_at_end() || !whole.is_at_end() {
            return None;
        }
        let is_point = |bytes: usize| key.len() == 1 + 2 * bytes && key.first() == Some(&4);
        let material = match algorithm.take(OBJECT_ID)? {
            RSA => {
                let mut outer = DerReader(key);
                let mut numbers = DerReader(outer.take(SEQUENCE)?);
                let (modulus, exponent) = (unsigned(numbers.take(INTEGER)?)?, unsigned(numbers.take(INTEGER)?)?);
                VerificationMaterial::rsa(modulus, exponent)?
            }
            EC => match algorithm.take(OBJECT_ID)? {
                P256 if is_point(32) => VerificationMaterial::P256(key.into()),
                P384 if is_point(48) => VerificationMaterial::P384(key.into()),
                _ => return None,
            },
            ED25519 if key.len() == 32 => VerificationMaterial::Ed25519(key.into()),
            _ => return None,
        };
        Some(VerificationKey { id: None, only: None, until_ms: None, material })
    }

    /// Whether signatures of this algorithm can be verified with it.
    pub fn suits(&self, algorithm: SigningAlgorithm) -> bool {
        let is_of_kind = match self.material {
            VerificationMaterial::Secret(_) => algorithm.secret_bytes_min().is_some(),
            VerificationMaterial::Rsa { .. } => matches!(algorithm, SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256),
            VerificationMaterial::P256(_) => algorithm == SigningAlgorithm::Es256,
            VerificationMaterial::P384(_) => algorithm == SigningAlgorithm::Es384,
            VerificationMaterial::Ed25519(_) => algorithm == SigningAlgorithm::EdDsa,
        };
        is_of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is of this message, by this algorithm and key. In constant time for secrets.
    pub fn verifies(&self, algorithm: SigningAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.suits(algorithm) {
            return false;
        }
        let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (VerificationMaterial::Secret(keys), _) => {
                let place = match algorithm {
                    SigningAlgorithm::Hs256 => 0,
                    SigningAlgorithm::Hs384 => 1,
                    _ => 2,
                };
                hmac::verify(&keys[place], message, signature).is_ok()
            }
            (VerificationMaterial::Rsa { modulus, exponent }, algorithm) => {
                let parameters: &RsaParameters = match algorithm {
                    SigningAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature).is_ok()
            }
            (VerificationMaterial::P256(point), _) => with(&ECDSA_P256_SHA256_FIXED, point),
            (VerificationMaterial::P384(point), _) => with(&ECDSA_P384_SHA384_FIXED, point),
            (VerificationMaterial::Ed25519(key), _) => with(&ED25519, key),
        }
    }
}

impl VerificationMaterial {
    /// None beyond 2048 to 8192 bits, or with an exponent that is even or too small.
    fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<VerificationMaterial> {
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = &modulus[zeros..];
        let bits = 8 * modulus.len() - modulus.first()?.leading_zeros() as usize;
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1) && exponent.first() != Some(&0);
        let is_fit = (2048..=8192).contains(&bits) && is_odd && exponent != [1] && exponent.len() <= 4;
        is_fit.then(|| VerificationMaterial::Rsa { modulus: modulus.into(), exponent: exponent.into() })
    }
}
