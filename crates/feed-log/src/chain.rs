//! The hash by which an entry names its predecessor.

use std::fmt;

use sha2::{Digest, Sha256};

/// 16 bytes of SHA-256: of an entry's bytes, which hold the chain before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; Chain::BYTES]);

impl Chain {
    pub const BYTES: usize = 16;

    /// Before the first entry.
    pub const START: Chain = Chain([0; Chain::BYTES]);

    /// After an entry with these bytes.
    pub fn after(entry: &[u8]) -> Chain {
        let digest = Sha256::digest(entry);
        let mut cut = [0; Chain::BYTES];
        cut.copy_from_slice(&digest[..Chain::BYTES]);
        Chain(cut)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
