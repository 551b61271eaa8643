//! A token on its way from a client to who verifies it.

use std::fmt;

/// A token, which no log and no error may show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretToken(pub Box<str>);

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken")
    }
}
