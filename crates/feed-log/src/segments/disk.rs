//! The disk, as far as segments need it. Tests break it anywhere.

use std::io;
use std::sync::Arc;

/// A directory of files, for this process alone.
pub trait LogDisk: Send + Sync {
    /// # Errors
    /// The disk is faulty.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new file, empty.
    ///
    /// # Errors
    /// The disk is full or faulty, or there are too many open files.
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// # Errors
    /// There is no such file, or the disk is faulty.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// # Errors
    /// There is no such file, or the disk is faulty.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once files that were created or removed stay so, whatever happens.
    ///
    /// # Errors
    /// The disk is faulty.
    fn sync(&self) -> io::Result<()>;
}

/// One file. All bytes are written and read, or there is an error.
pub trait LogFile: Send + Sync {
    /// # Errors
    /// The disk is faulty.
    fn length(&self) -> io::Result<u64>;
    /// # Errors
    /// The disk is faulty, or the file is shorter.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// # Errors
    /// The disk is full or faulty; some of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// # Errors
    /// The disk is faulty.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Returns once what was written stays written, whatever happens.
    ///
    /// # Errors
    /// The disk is full or faulty.
    fn sync(&self) -> io::Result<()>;
}
