//! Who a client is, from a verified credential.

use std::sync::Arc;

/// One verified credential. Sessions share it by `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The claim `iss`.
    pub issuer: Arc<str>,
    /// The claim `sub`.
    pub subject: Arc<str>,
    /// SHA-256 of the claim `jti`: what logs, revocations and reports know of the token.
    pub token_id: TokenId,
    /// Such as `professional`; reported, and otherwise without meaning here.
    pub status: Option<Arc<str>>,
    /// The claim `iat`, in milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// The claim `exp`, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl Identity {
    /// Whether both are the same user of the same issuer, whichever tokens they have.
    pub fn is_same_subject(&self, other: &Identity) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
}

/// SHA-256 of a token's `jti`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 32]);
