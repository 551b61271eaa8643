//! The files of a spool: blocks are appended to segments, and a segment goes when no block of it is left.
//!
//! A block that has been read is on disk no longer. Frames come and go in one order, so the oldest segment goes first.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bus::delay::spool::failure::SpoolFailure;

/// Segments that fill a spool: so much of it may be taken by blocks that were read. Each is an open file.
const SEGMENTS: u64 = 16;

/// Where the files of spools come from.
pub trait SpoolFiles: Send + Sync {
    /// A new file, empty, which is gone when it is dropped.
    ///
    /// # Errors
    /// The disk is full or faulty, or there are too many open files.
    fn create(&self) -> io::Result<Box<dyn SpoolFile>>;
}

/// One file. All bytes are written and read, or there is an error.
pub trait SpoolFile: Send + Sync {
    /// # Errors
    /// The disk is full or faulty.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// # Errors
    /// The disk is faulty, or the file is shorter.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
}

/// Bytes in all files of a view.
#[derive(Clone, Debug, Default)]
pub(in crate::bus::delay) struct SpoolUsage(Arc<Mutex<u64>>);

impl SpoolUsage {
    pub fn bytes(&self) -> u64 {
        *self.lock()
    }

    /// Takes these bytes, if there are not more than `max` then.
    fn take(&self, bytes: u64, max: u64) -> bool {
        let mut used = self.lock();
        let is_room = used.saturating_add(bytes) <= max;
        *used += if is_room { bytes } else { 0 };
        is_room
    }

    fn give_back(&self, bytes: u64) {
        *self.lock() -= bytes;
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // An addition is complete or has not happened.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One file, for as long as a block of it is wanted.
struct SpoolSegment {
    file: Box<dyn SpoolFile>,
    /// Of the usage; the next block is written here.
    bytes: Mutex<u64>,
    usage: SpoolUsage,
}

impl SpoolSegment {
    fn bytes(&self) -> MutexGuard<'_, u64> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpoolSegment {
    fn drop(&mut self) {
        let bytes = *self.bytes();
        self.usage.give_back(bytes);
    }
}

/// Where a block is. It is on disk as long as this exists.
pub(super) struct BlockPlace {
    segment: Arc<SpoolSegment>,
    at: u64,
    bytes: usize,
}

/// Appends and reads blocks.
pub(super) struct SpoolStore {
    files: Arc<dyn SpoolFiles>,
    bytes_max: u64,
    usage: SpoolUsage,
    current: Option<Arc<SpoolSegment>>,
}

impl SpoolStore {
    pub fn new(files: Arc<dyn SpoolFiles>, bytes_max: u64, usage: SpoolUsage) -> SpoolStore {
        SpoolStore { files, bytes_max, usage, current: None }
    }

    pub fn append(&mut self, block: &[u8]) -> Result<BlockPlace, SpoolFailure> {
        let bytes = block.len() as u64;
        let segment = self.segment_for(bytes).map_err(SpoolFailure::Write)?;
        let mut end = segment.bytes();
        if !self.usage.take(bytes, self.bytes_max) {
            return Err(SpoolFailure::Full);
        }
        let at = *end;
        // After a failure the next block is written in the same place.
        if let Err(error) = segment.file.write_at(block, at) {
            self.usage.give_back(bytes);
            return Err(SpoolFailure::Write(error));
        }
        *end += bytes;
        drop(end);
        Ok(BlockPlace { segment, at, bytes: block.len() })
    }

    pub fn read(&self, place: &BlockPlace, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.resize(place.bytes, 0);
        place.segment.file.read_at(buffer, place.at)
    }

    /// Forgets a segment that nobody reads any more.
    pub fn tidy(&mut self) {
        self.current.take_if(|current| Arc::strong_count(current) == 1);
    }

    fn segment_for(&mut self, bytes: u64) -> io::Result<Arc<SpoolSegment>> {
        let segment_bytes = self.bytes_max / SEGMENTS;
        self.current.take_if(|current| *current.bytes() > 0 && *current.bytes() + bytes > segment_bytes);
        if let Some(current) = &self.current {
            return Ok(current.clone());
        }
        let segment = SpoolSegment { file: self.files.create()?, bytes: Mutex::default(), usage: self.usage.clone() };
        Ok(self.current.insert(Arc::new(segment)).clone())
    }
}
