//! The key of the operator, of relays, or of the canary: mostly read from a file, and compared in constant time.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Shorter ones can be guessed: 16 random characters have about 96 bits.
const KEY_CHARS_MIN: usize = 16;
/// A key is far shorter; an endless file must not fill the memory.
const KEY_BYTES_MAX: u64 = 4096;

/// A key, without its text. Clones share it; it has no `Debug`.
#[derive(Clone)]
pub struct AdminKey {
    digest: Arc<[u8; 32]>,
}

/// Why a file holds no key.
#[derive(Debug, thiserror::Error)]
pub enum AdminKeyError {
    #[error("{setting}: expected a readable file, found `{}`: {error}; check the path and its permissions", .path.display())]
    Unreadable { setting: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "{setting}: expected a key of at least {KEY_CHARS_MIN} printable characters without spaces in `{}`, found something \
         else; make one with `openssl rand -hex 32`", .path.display()
    )]
    Unfit { setting: &'static str, path: PathBuf },
}

impl AdminKey {
    /// Reads the key of a file that a setting names; white space around it does not count.
    pub fn read(setting: &'static str, path: &Path) -> Result<AdminKey, AdminKeyError> {
        Ok(AdminKey::of(&read_key(setting, path)?))
    }

    /// The key with this text.
    pub fn of(text: &str) -> AdminKey {
        AdminKey { digest: Arc::new(Sha256::digest(text).into()) }
    }

    /// Whether the value of `Authorization` shows it. The time taken says nothing about the key: digests are compared, and
    /// all of their bytes.
    pub(in crate::edge) fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let Some((scheme, key)) = authorization.split_at_checked(b"Bearer ".len()) else { return false };
        let digest: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
        let differing =
            digest.iter().zip(self.digest.iter()).fold(0, |differing, (one, other)| differing | (one ^ other));
        scheme.eq_ignore_ascii_case(b"Bearer ") && differing == 0
    }
}

/// The text of a key, for whoever shows it.
///
/// # Errors
/// The file has none.
pub fn read_key(setting: &'static str, path: &Path) -> Result<String, AdminKeyError> {
    let unreadable = |error| AdminKeyError::Unreadable { setting, path: path.into(), error };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(KEY_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    let key = bytes.trim_ascii();
    let fits = (KEY_CHARS_MIN..=KEY_BYTES_MAX as usize).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(key) {
        Ok(key) if fits => Ok(key.to_owned()),
        _ => Err(AdminKeyError::Unfit { setting, path: path.into() }),
    }
}
