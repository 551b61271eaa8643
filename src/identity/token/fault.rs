//! Why a credential is refused: fixed words for metrics and the audit log.

use crate::access::gatekeeper::AuthRefusal;
use crate::words::goodbye::Goodbye;

/// In the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// The address has shown too many bad credentials.
    TooManyFailures,
    /// Too many tokens wait to be verified.
    Busy,
    TooLarge,
    /// Not a JWS in compact form, or its JSON repeats members.
    Malformed,
    UnknownIssuer,
    /// The issuer does not sign with this algorithm.
    Algorithm,
    /// The issuer's keys have not been fetched yet.
    KeysMissing,
    /// The issuer has no such key.
    UnknownKey,
    Signature,
    /// A claim is missing, or of the wrong type.
    Claims,
    Audience,
    Expired,
    NotYetValid,
    /// It is valid for longer than `auth.life_max`.
    TooLongLived,
    Revoked,
    UnknownTier,
    /// A refresh shows the token of somebody else.
    OtherSubject,
    TooManySessions,
    /// The ticket is unknown, used, expired, or of another origin.
    Ticket,
}

impl TokenFault {
    pub const ALL: [TokenFault; 19] = [
        TokenFault::TooManyFailures,
        TokenFault::Busy,
        TokenFault::TooLarge,
        TokenFault::Malformed,
        TokenFault::UnknownIssuer,
        TokenFault::Algorithm,
        TokenFault::KeysMissing,
        TokenFault::UnknownKey,
        TokenFault::Signature,
        TokenFault::Claims,
        TokenFault::Audience,
        TokenFault::Expired,
        TokenFault::NotYetValid,
        TokenFault::TooLongLived,
        TokenFault::Revoked,
        TokenFault::UnknownTier,
        TokenFault::OtherSubject,
        TokenFault::TooManySessions,
        TokenFault::Ticket,
    ];

    /// Value of the label `result` of `fanline_auth_credentials_total`.
    pub fn label(self) -> &'static str {
        match self {
            TokenFault::TooManyFailures => "too_many_failures",
            TokenFault::Busy => "busy",
            TokenFault::TooLarge => "too_large",
            TokenFault::Malformed => "malformed",
            TokenFault::UnknownIssuer => "unknown_issuer",
            TokenFault::Algorithm => "algorithm",
            TokenFault::KeysMissing => "keys_missing",
            TokenFault::UnknownKey => "unknown_key",
            TokenFault::Signature => "signature",
            TokenFault::Claims => "claims",
            TokenFault::Audience => "audience",
            TokenFault::Expired => "expired",
            TokenFault::NotYetValid => "not_yet_valid",
            TokenFault::TooLongLived => "too_long_lived",
            TokenFault::Revoked => "revoked",
            TokenFault::UnknownTier => "unknown_tier",
            TokenFault::OtherSubject => "other_subject",
            TokenFault::TooManySessions => "too_many_sessions",
            TokenFault::Ticket => "ticket",
        }
    }

    /// What the client is told depends on what it can do about it, not on what is wrong with its token.
    pub fn refusal(self) -> AuthRefusal {
        let goodbye = match self {
            // The server's own trouble: the same token is good later.
            TokenFault::Busy | TokenFault::KeysMissing => Goodbye::Overloaded,
            TokenFault::TooManySessions => Goodbye::TooManySubjectSessions,
            TokenFault::Revoked => Goodbye::Forbidden,
            _ => Goodbye::Unauthenticated,
        };
        AuthRefusal { goodbye, reason: self.label() }
    }

    /// Whether it counts against the address that showed the credential.
    pub fn is_suspicious(self) -> bool {
        !matches!(
            self,
            TokenFault::TooManyFailures | TokenFault::Busy | TokenFault::KeysMissing | TokenFault::TooManySessions
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_counted_under_a_word_of_its_own() {
        let labels = crate::words::metrics::AUTH_CREDENTIALS.labels[0].values;
        let expected: Vec<&str> = ["accepted"].into_iter().chain(TokenFault::ALL.map(TokenFault::label)).collect();
        assert_eq!(labels, expected);
    }
}
