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
    lock: File,
}

impl PrivateDirectory {
    /// Creates the directory if there is none, and locks it by a file of this name.
    ///
    /// # Errors
    /// It cannot be written, everybody may remove files in it, or another process uses it.
    pub fn open(path: &Path, lock: &str, setting: &'static str) -> Result<PrivateDirectory, PrivateDirectoryError> {
        let directory = PrivateDirectory::find(path, lock, setting)?;
        directory.lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PrivateDirectoryError::Locked { setting, path: path.into() },
            TryLockError::Error(error) => directory.unusable(error),
        })?;
        Ok(directory)
    }

    /// As [`PrivateDirectory::open`], with a lock that another process holds and has handed over: from now on both hold it,
    /// and nobody else can. None if it is the lock of another directory.
    ///
    /// # Errors
    /// It cannot be written, or everybody may remove files in it.
    pub fn open_with(
        path: &Path,
        lock: &str,
        setting: &'static str,
        handed: &File,
    ) -> Result<Option<PrivateDirectory>, PrivateDirectoryError> {
        let mut directory = PrivateDirectory::find(path, lock, setting)?;
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let same = identity(&directory.lock).and_then(|wanted| Ok(wanted == identity(handed)?));
        if !same.map_err(|error| directory.unusable(error))? {
            return Ok(None);
        }
        directory.lock = handed.try_clone().map_err(|error| directory.unusable(error))?;
        Ok(Some(directory))
    }

    /// The directory, before it is locked.
    fn find(path: &Path, lock: &str, setting: &'static str) -> Result<PrivateDirectory, PrivateDirectoryError> {
        let wrong = |error| PrivateDirectoryError::Directory { setting, path: path.into(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        let mode = fs::metadata(path).map_err(wrong)?.mode() & 0o7777;
        if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
            return Err(PrivateDirectoryError::Open { setting, path: path.into(), mode });
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(lock));
        let lock = lock.map_err(wrong)?;
        Ok(PrivateDirectory { setting, path: path.into(), lock })
    }

    /// The lock, for another process that shares the directory.
    ///
    /// # Errors
    /// No further file can be opened.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It cannot be used for this reason.
    pub fn unusable(&self, error: io::Error) -> PrivateDirectoryError {
        PrivateDirectoryError::Directory { setting: self.setting, path: self.path.clone(), error }
    }
}
