//! Who a client is, from a verified credential.

use std::sync::Arc;
use std::time::Duration;

use crate::words::topic::Pattern;

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
    /// What the credential asks to have, from which its rights are made anew when the tiers change.
    pub claimed: ClaimedRights,
}

/// What a token says about rights, before the tiers decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimedRights {
    /// None: the tier that the configuration gives to tokens of the issuer.
    pub tier: Option<Box<str>>,
    /// Only these topics.
    pub topics: Option<Box<[Pattern]>>,
    /// No faster than this.
    pub pace_min: Option<Duration>,
    /// No more sessions than these.
    pub sessions_max: Option<u32>,
}

impl Identity {
    /// Whether both are the same user of the same issuer, whichever tokens they have.
    pub fn is_same_subject(&self, other: &Identity) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
}

#[cfg(test)]
impl Identity {
    /// Of issuer `i`, valid for ever; tests change what they are about.
    pub fn of_subject(subject: &str) -> Identity {
        Identity {
            issuer: "i".into(),
            subject: subject.into(),
            token_id: TokenId([0; 32]),
            status: None,
            issued_ms: 0,
            expires_ms: u64::MAX,
            claimed: ClaimedRights::default(),
        }
    }
}

/// SHA-256 of a token's `jti`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 32]);
