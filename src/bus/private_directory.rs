//! A directory for one process alone, in which others can remove nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Of a directory's mode: everybody may write.
const WORLD_WRITABLE: u32 = 0o002;
/// Of a directory's mode: only the owner of a file removes it.
const STICKY: u32 = 0o1000;

/// Why the directory of a setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirectoryError {
    #[error("{setting}: expected a writable directory, found `{}`: {error}; create it, or choose another", .path.display())]
    Directory { setting: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "{setting}: expected a directory in which others can remove nothing, found `{}` with the mode {mode:o}; \
         run `chmod o-w` on it, or choose another", .path.display()
    )]
    Open { setting: &'static str, path: PathBuf, mode: u32 },
    #[error(
        "{setting}: expected `{}` for this process alone, found another that has its files there; \
         stop it, or choose another directory", .path.display()
    )]
    Locked { setting: &'static str, path: PathBuf },
}

/// The directory, locked as long as this exists.
pub struct PrivateDirectory {
    setting: &'static str,
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// Creates the directory if there is none, and locks it by a file of this name.
    ///
    /// # Errors
    /// It cannot be written, everybody may remove files in it, or another process uses it.
    pub fn open(path: &Path, lock: &str, setting: &'static str) -> Result<PrivateDirectory, PrivateDirectoryError> {
        let wrong = |error| PrivateDirectoryError::Directory { setting, path: path.into(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        let mode = fs::metadata(path).map_err(wrong)?.mode() & 0o7777;
        if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
            return Err(PrivateDirectoryError::Open { setting, path: path.into(), mode });
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(lock));
        let lock = lock.map_err(wrong)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PrivateDirectoryError::Locked { setting, path: path.into() },
            TryLockError::Error(error) => wrong(error),
        })?;
        Ok(PrivateDirectory { setting, path: path.into(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It cannot be used for this reason.
    pub fn unusable(&self, error: io::Error) -> PrivateDirectoryError {
        PrivateDirectoryError::Directory { setting: self.setting, path: self.path.clone(), error }
    }
}
