//! The verification of a token, in a fixed order: size, structure, issuer, algorithm, key, signature, claims.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::access::identity::Identity;
use crate::identity::error::Error;
use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::keys::issuer_keys::{FetchTimes, IssuerKeys};
use crate::identity::keys::key::VerificationKey;
use crate::identity::keys::key_set::{KeySet, SignatureVerdict};
use crate::identity::meters::KeyMeters;
use crate::identity::tables::{IssuerTable, KeySource};
use crate::identity::token::claims::{Claims, TokenTimes};
use crate::identity::token::fault::TokenFault;
use crate::identity::token::jws::Jws;
use crate::words::metrics::Meters;

/// A file of 100 RSA keys has about 80 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is checked of every token.
#[derive(Clone, Copy, Debug)]
pub struct TokenLimits {
    pub bytes_max: usize,
    pub times: TokenTimes,
}

/// The issuers of one configuration.
pub struct Verifier {
    issuers: Vec<Issuer>,
    limits: TokenLimits,
}

/// One issuer: keys, and which of its tokens are for this server.
pub struct Issuer {
    name: Arc<str>,
    audience: Vec<String>,
    algorithms: Vec<SigningAlgorithm>,
    claim: Box<str>,
    tier: Option<Box<str>>,
    pub keys: Arc<IssuerKeys>,
}

/// A token that is true.
pub struct VerifiedToken<'v> {
    pub identity: Identity,
    pub issuer: &'v Issuer,
}

/// Why a token is not true, and the keys that may have become better by now.
pub struct Rejection {
    pub fault: TokenFault,
    pub keys: Option<Arc<IssuerKeys>>,
}

impl From<TokenFault> for Rejection {
    fn from(fault: TokenFault) -> Rejection {
        Rejection { fault, keys: None }
    }
}

impl Verifier {
    pub fn new(issuers: Vec<Issuer>, limits: TokenLimits) -> Verifier {
        Verifier { issuers, limits }
    }

    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The issuer of this name, compared as it is.
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| &*issuer.name == name)
    }

    /// Whether a token is so long that it need not be looked at.
    pub fn is_too_large(&self, token: &str) -> bool {
        token.len() > self.limits.bytes_max
    }

    pub fn verify(&self, token: &str, now_ms: u64) -> Result<VerifiedToken<'_>, Rejection> {
        if self.is_too_large(token) {
            return Err(TokenFault::TooLarge.into());
        }
        let jws = Jws::read(token)?;
        let issuer = jws.payload.get("iss").and_then(|issuer| self.issuer(issuer.as_str()?));
        let issuer = issuer.ok_or(TokenFault::UnknownIssuer)?;
        let algorithm = jws.algorithm.filter(|algorithm| issuer.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(TokenFault::Algorithm)?;
        let keys = issuer.keys.current().ok_or(TokenFault::KeysMissing)?;
        match keys.verify(algorithm, jws.key_id.as_deref(), jws.message, &jws.signature, now_ms) {
            SignatureVerdict::Good => {}
            SignatureVerdict::NoKey => {
                return Err(Rejection { fault: TokenFault::UnknownKey, keys: Some(issuer.keys.clone()) });
            }
            SignatureVerdict::Bad => return Err(TokenFault::Signature.into()),
        }
        let claims = Claims::read(&jws.payload, &issuer.claim)?;
        if !claims.audience.iter().any(|audience| issuer.audience.contains(audience)) {
            return Err(TokenFault::Audience.into());
        }
        claims.check_times(now_ms, &self.limits.times)?;
        let identity = Identity {
            issuer: issuer.name.clone(),
            subject: claims.subject,
            token_id: claims.token_id,
            status: claims.status,
            issued_ms: claims.issued_ms,
            expires_ms: claims.expires_ms,
            claimed: claims.rights,
        };
        Ok(VerifiedToken { identity, issuer })
    }
}

impl Issuer {
    /// Reads its files. `known` are issuers whose fetched keys are taken over, if they come from the same place.
    pub fn open(
        table: &IssuerTable,
        known: &[Issuer],
        (tls, times): (&Arc<ClientConfig>, FetchTimes),
        meters: &Meters,
    ) -> Result<Issuer, Error> {
        let meters = KeyMeters::new(meters, &table.issuer);
        let keys = match &table.keys {
            KeySource::Secret { file, previous } => {
                let mut keys = vec![read_secret(file, &table.algorithms, None)?];
                if let Some((file, until_ms)) = previous {
                    keys.push(read_secret(file, &table.algorithms, Some(*until_ms))?);
                }
                Arc::new(IssuerKeys::fixed(KeySet::of_secrets(keys), meters))
            }
            KeySource::File(path) => {
                let text = String::from_utf8_lossy(&read_file("file of keys", path)?).into_owned();
                let keys = KeySet::read(&text, &table.algorithms);
                let keys = keys.map_err(|error| Error::Keys { path: path.clone(), error })?;
                Arc::new(IssuerKeys::fixed(keys, meters))
            }
            KeySource::Url(url) => {
                let is_same = |issuer: &&Issuer| {
                    *issuer.name == *table.issuer
                        && issuer.keys.url() == Some(url)
                        && issuer.algorithms == table.algorithms
                };
                match known.iter().find(is_same) {
                    Some(issuer) => issuer.keys.clone(),
                    None => Arc::new(IssuerKeys::remote(url.clone(), tls.clone(), &table.algorithms, times, meters)),
                }
            }
        };
        Ok(Issuer {
            name: (*table.issuer).into(),
            audience: table.audience.clone(),
            algorithms: table.algorithms.clone(),
            claim: table.claim.clone(),
            tier: table.tier.clone(),
            keys,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tier of its tokens that name none.
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }
}

/// The bytes of a secret: the file without a final line break.
pub fn read_secret_file(path: &Path) -> Result<Vec<u8>, Error> {
    let mut secret = read_file("file of a secret", path)?;
    while secret.last().is_some_and(|last| matches!(last, b'\r' | b'\n')) {
        secret.pop();
    }
    Ok(secret)
}

fn read_secret(path: &Path, algorithms: &[SigningAlgorithm], until_ms: Option<u64>) -> Result<VerificationKey, Error> {
    let secret = read_secret_file(path)?;
    let needs = algorithms.iter().filter_map(|algorithm| Some((algorithm.secret_bytes_min()?, algorithm.name())));
    if let Some((min, algorithm)) = needs.max().filter(|(min, _)| secret.len() < *min) {
        return Err(Error::ShortSecret { path: path.into(), algorithm, min, bytes: secret.len() });
    }
    Ok(VerificationKey::of_secret(&secret, until_ms))
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::Unreadable { what, path: path.into(), error };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLarge { what, path: path.into(), max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}
