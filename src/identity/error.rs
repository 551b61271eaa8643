//! What can be wrong with the identities' configuration and files.

use std::io;
use std::path::PathBuf;

use crate::identity::keys::key::KeyError;

/// Only the operator can fix it. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("expected a readable {what}, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { what: &'static str, path: PathBuf, error: io::Error },
    #[error("expected a {what} of at most {max} bytes, found more in `{}`; check the path", .path.display())]
    TooLarge { what: &'static str, path: PathBuf, max: u64 },
    #[error(
        "`{}`: expected a secret of at least {min} bytes for {algorithm}, found {bytes}; \
         make one with `head -c 64 /dev/urandom | base64 -w 0`",
        .path.display()
    )]
    ShortSecret { path: PathBuf, algorithm: &'static str, min: usize, bytes: usize },
    #[error("`{}`: {error}", .path.display())]
    Keys { path: PathBuf, error: KeyError },
    #[error("{}:{line}: expected a revocation as it was written, found something else; remove the line", .path.display())]
    Revocation { path: PathBuf, line: usize },
    #[error("expected at most {max} revocations in force, found more; revoke by subject or issuer instead of by token")]
    TooManyRevocations { max: usize },
    #[error("expected to write `{}`: {error}; the revocation is in force until the server ends", .path.display())]
    RevocationNotWritten { path: PathBuf, error: io::Error },
    #[error(
        "expected tiers with at most {max} different delays, found more in tier `{tier}`; give tiers the same delays"
    )]
    TooManyViews { tier: Box<str>, max: usize },
    #[error("expected a delay that a tier had at the start, found another one in tier `{tier}`; restart the server")]
    NewView { tier: Box<str> },
    #[error("expected the name of a tier in {place}, found `{tier}`; write `[auth.tier.{tier}]`, or another name")]
    NoTier { place: String, tier: Box<str> },
    #[error(
        "expected `[[auth.issuer]]`, or `[auth.anonymous]` without auth.required, found neither; write one of them"
    )]
    NoIssuer,
    #[error("expected a tier, found none; write `[auth.tier.NAME]` with `topics = [\">\"]`")]
    NoTiers,
    #[error("expected to start a thread that verifies tokens: {0}; raise the limit of processes (ulimit -u)")]
    Thread(io::Error),
    #[error("expected to set up TLS for JWKS: {0}")]
    Tls(rustls::Error),
}
