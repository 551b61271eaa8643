//! The directory of spools: for one process alone, or for two while one hands over to the other, and without a trace of the
//! files that are open in it.
//!
//! A file is for its owner alone, and loses its name before the first byte is written: nobody else can open it, and
//! the system frees it when the process ends, however that happens. A process that is killed between the two steps
//! leaves an empty file, which the next start removes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::bus::delay::spool::segment::{SpoolFile, SpoolFiles};
use crate::bus::private_directory::{PrivateDirectory, PrivateDirectoryError};

const SETTING: &str = "delay.spool_dir";
const LOCK: &str = "spool.lock";
const PREFIX: &str = "spool-";
const SUFFIX: &str = ".segment";

/// The locked directory.
pub struct SpoolDirectory {
    private: PrivateDirectory,
    /// The number of the next file.
    next: Mutex<u64>,
}

impl SpoolDirectory {
    /// Creates the directory if there is none, locks it, and removes what a killed process has left.
    ///
    /// # Errors
    /// It cannot be written, everybody may remove files in it, or another process uses it.
    pub fn open(path: &Path) -> Result<SpoolDirectory, PrivateDirectoryError> {
        let private = PrivateDirectory::open(path, LOCK, SETTING)?;
        remove_left(path).map_err(|error| private.unusable(error))?;
        SpoolDirectory::begin(private)
    }

    /// As [`SpoolDirectory::open`], beside the process that has handed over its lock, and goes on for a while. What may be
    /// left is for a later start, because the other process may be about to open it.
    ///
    /// # Errors
    /// As [`SpoolDirectory::open`].
    pub fn open_beside(path: &Path, lock: &File) -> Result<SpoolDirectory, PrivateDirectoryError> {
        match PrivateDirectory::open_with(path, LOCK, SETTING, lock)? {
            Some(private) => SpoolDirectory::begin(private),
            None => SpoolDirectory::open(path),
        }
    }

    /// The lock, for another process that shares the directory.
    ///
    /// # Errors
    /// No further file can be opened.
    pub fn lock(&self) -> io::Result<File> {
        self.private.lock()
    }

    fn begin(private: PrivateDirectory) -> Result<SpoolDirectory, PrivateDirectoryError> {
        // Two processes that share the directory do not choose the same name.
        let directory = SpoolDirectory { private, next: Mutex::new(u64::from(std::process::id()) << 32) };
        directory.create().map_err(|error| directory.private.unusable(error))?;
        Ok(directory)
    }
}

impl SpoolFiles for SpoolDirectory {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        let number = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next
        };
        let path = self.private.path().join(format!("{PREFIX}{number}{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Box::new(file))
    }
}

impl SpoolFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }
}

/// Removes empty files with names of ours. Anything else is not ours.
fn remove_left(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_ours(entry.file_name().to_str()) && entry.file_type()?.is_file() && entry.metadata()?.len() == 0 {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_ours(name: Option<&str>) -> bool {
    let number = name.and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("fanline-spool-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            Folder(folder)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("a folder");
            let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
            let mut names: Vec<String> = entries.map(|entry| name(entry).expect("UTF-8")).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_has_no_name_once_it_is_open_and_one_that_was_left_is_removed() {
        let folder = Folder::new("names");
        let left = ["spool-1.segment", "spool-77.segment"];
        let foreign = ["spool-.segment", "spool-1.segment.bak", "spool-x.segment", "other"];
        left.iter().chain(&foreign).for_each(|name| drop(File::create(folder.0.join(name)).expect("a file")));
        fs::write(folder.0.join("spool-8.segment"), "somebody's").expect("a file");
        fs::create_dir(folder.0.join("spool-9.segment")).expect("a folder");
        let directory = SpoolDirectory::open(&folder.0).expect("a good directory");
        let file = directory.create().expect("a file");
        file.write_at(b"behind", 3).expect("room");
        let mut bytes = [0; 4];
        file.read_at(&mut bytes, 5).expect("it was written");
        assert_eq!(&bytes, b"hind");
        assert!(file.read_at(&mut bytes, 6).is_err(), "there is no more");
        let mut expected = foreign.map(String::from).to_vec();
        expected.extend([LOCK, "spool-8.segment", "spool-9.segment"].map(String::from));
        expected.sort();
        assert_eq!(folder.names(), expected);
    }

    #[test]
    fn a_directory_is_for_one_process_and_not_for_everybody() {
        let folder = Folder::new("lock");
        let directory = SpoolDirectory::open(&folder.0).expect("a good directory");
        let told = |path: &Path| match SpoolDirectory::open(path) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        };
        let second = told(&folder.0);
        assert!(second.contains("delay.spool_dir") && second.contains("found another"), "{second}");
        let lock = fs::metadata(folder.0.join(LOCK)).expect("a file").permissions();
        assert_eq!(lock.mode() & 0o777, 0o600);
        let lock = directory.lock().expect("a file");
        let beside = SpoolDirectory::open_beside(&folder.0, &lock).expect("it has the lock");
        drop((directory, lock));
        assert!(told(&folder.0).contains("found another"), "the second of the two still holds it");
        let elsewhere = Folder::new("lock-elsewhere");
        let other = SpoolDirectory::open(&elsewhere.0).expect("a good directory");
        let wrong = other.lock().expect("a file");
        assert!(SpoolDirectory::open_beside(&folder.0, &wrong).is_err(), "the lock of another directory opens nothing");
        drop(beside);
        SpoolDirectory::open(&folder.0).expect("both have ended");

        let no_directory = folder.0.join(LOCK);
        assert!(told(&no_directory).contains("expected a writable directory"));
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(told(&folder.0).contains("chmod o-w"));
    }
}
