//! The directory of an archive: its files are for their owner alone, and stay.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use feed_log::segments::disk::{LogDisk, LogFile};

use crate::bus::private_directory::{PrivateDirectory, PrivateDirectoryError};

const LOCK: &str = "archive.lock";

pub struct ArchiveDirectory(PrivateDirectory);

struct ArchiveFile(File);

impl ArchiveDirectory {
    /// # Errors
    /// It cannot be written, everybody may remove files in it, or another process uses it.
    pub fn open(path: &Path) -> Result<ArchiveDirectory, PrivateDirectoryError> {
        PrivateDirectory::open(path, LOCK, "archive.dir").map(ArchiveDirectory)
    }
}

impl LogDisk for ArchiveDirectory {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.0.path())?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(self.0.path().join(name))?;
        Ok(Arc::new(ArchiveFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.0.path().join(name))?;
        Ok(Arc::new(ArchiveFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.path().join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(self.0.path())?.sync_all()
    }
}

impl LogFile for ArchiveFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
