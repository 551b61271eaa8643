//! Append-only files of entries: the newest is written, the oldest go by age and by bytes.
//!
//! Invariants: what was appended is read in the same order, and after a crash a prefix of it; what was synced is in
//! that prefix. A torn tail is cut off when the files are opened, and only the last file can have one. A failed write
//! is overwritten by the next one.

pub mod disk;
pub mod error;
pub mod record;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::chain::Chain;
use crate::entry::header::EntryHeader;
use crate::segments::disk::{LogDisk, LogFile};
use crate::segments::error::SegmentError;
use crate::segments::record::{SegmentReader, record};

const SUFFIX: &str = ".log";
/// Digits of a segment's number in its name.
const DIGITS: usize = 16;

/// How much is kept, in whole segments. The one that is written is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLimits {
    /// A segment with so many bytes is followed by the next.
    pub segment_bytes: u64,
    pub bytes_max: u64,
    pub age_max_ms: u64,
}

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSegment {
    pub number: u64,
    pub bytes: u64,
    /// Of its first entry.
    pub first: EntryHeader,
}

/// All files.
pub struct Segments {
    disk: Arc<dyn LogDisk>,
    limits: SegmentLimits,
    /// Oldest first; all have an entry.
    kept: VecDeque<LogSegment>,
    /// The last of them, open; none if the next entry begins another one.
    written: Option<Arc<dyn LogFile>>,
    /// The file before the next one. It and its name are synced first: else a power loss could leave the next alone.
    ended: Option<Arc<dyn LogFile>>,
    next_number: u64,
    newest: Option<NewestEntry>,
    unsynced: Unsynced,
}

/// The last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestEntry {
    pub header: EntryHeader,
    pub chain: Chain,
}

/// What the files were found to be.
#[derive(Debug, Default)]
pub struct FoundSegments {
    /// Bytes of the tail that were cut off, because they were no whole entries.
    pub torn_bytes: u64,
    /// Files before the last that do not begin with an entry: they were removed.
    pub damaged_files: u64,
}

/// What is to be synced, apart from the segments, so that another thread can do it.
#[derive(Default)]
pub struct Unsynced {
    files: Vec<Arc<dyn LogFile>>,
    names: bool,
}

impl Unsynced {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.names
    }

    /// Takes what another one has.
    pub fn merge(&mut self, other: Unsynced) {
        self.files.extend(other.files);
        self.names |= other.names;
    }

    /// # Errors
    /// The disk is faulty or full.
    pub fn sync(&self, disk: &dyn LogDisk) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync())?;
        if self.names { disk.sync() } else { Ok(()) }
    }
}

impl Segments {
    /// Opens the files of a disk, and cuts off what is torn at the end.
    ///
    /// # Errors
    /// The disk does not answer. Damage is no error.
    pub fn open(disk: Arc<dyn LogDisk>, limits: SegmentLimits) -> Result<(Segments, FoundSegments), SegmentError> {
        let on_disk = |error| SegmentError::Read { segment: 0, at: 0, error };
        let mut numbers: Vec<u64> = disk.names().map_err(on_disk)?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let next_number = numbers.last().map_or(1, |last| last + 1);
        let (kept, unsynced) = (VecDeque::new(), Unsynced::default());
        let mut segments =
            Segments { disk, limits, kept, written: None, ended: None, next_number, newest: None, unsynced };
        let mut found = FoundSegments::default();
        while let Some(last) = numbers.pop() {
            if segments.open_last(last, &mut found)? {
                break;
            }
        }
        for number in numbers.into_iter().rev() {
            match segments.look_at(number)? {
                Some(segment) => segments.kept.push_front(segment),
                None => {
                    found.damaged_files += 1;
                    segments.remove(number).map_err(on_disk)?;
                }
            }
        }
        // A killed process may have synced neither.
        segments.unsynced = Unsynced { files: segments.written.iter().cloned().collect(), names: true };
        Ok((segments, found))
    }

    /// Reads the last file to its end. False if nothing of it is whole: then it is gone, and the file before is the last.
    fn open_last(&mut self, number: u64, found: &mut FoundSegments) -> Result<bool, SegmentError> {
        let on_disk = |error| SegmentError::Read { segment: number, at: 0, error };
        let file = self.disk.open(&name_of(number)).map_err(on_disk)?;
        let length = file.length().map_err(on_disk)?;
        let mut reader = SegmentReader::new(number, file.clone(), length);
        let mut first = None;
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => {
                    first.get_or_insert(entry.header);
                    self.newest = Some(NewestEntry { header: entry.header, chain: entry.chain });
                }
                Ok(None) => break,
                Err(error) if error.is_of_disk() => return Err(error),
                Err(_) => break,
            }
        }
        let bytes = reader.at();
        found.torn_bytes += length - bytes;
        let Some(first) = first else {
            self.remove(number).map_err(on_disk)?;
            return Ok(false);
        };
        if bytes < length {
            file.cut(bytes).map_err(on_disk)?;
        }
        self.kept.push_back(LogSegment { number, bytes, first });
        self.written = Some(file);
        Ok(true)
    }

    fn look_at(&self, number: u64) -> Result<Option<LogSegment>, SegmentError> {
        let on_disk = |error| SegmentError::Read { segment: number, at: 0, error };
        let file = self.disk.open(&name_of(number)).map_err(on_disk)?;
        let bytes = file.length().map_err(on_disk)?;
        match SegmentReader::new(number, file, bytes).peek() {
            Ok(first) => Ok(first.map(|first| LogSegment { number, bytes, first })),
            Err(error) if error.is_of_disk() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &LogSegment> {
        self.kept.iter()
    }

    pub fn bytes(&self) -> u64 {
        self.kept.iter().map(|segment| segment.bytes).sum()
    }

    pub fn newest(&self) -> Option<NewestEntry> {
        self.newest
    }

    /// Whether the next entry should begin another segment.
    pub fn is_full(&self) -> bool {
        self.written.is_none() || self.kept.back().is_none_or(|last| last.bytes >= self.limits.segment_bytes)
    }

    /// The next entry begins another segment.
    pub fn end_segment(&mut self) {
        self.ended = self.written.take().or(self.ended.take());
    }

    /// Appends an entry, whose chain must be that of its bytes.
    ///
    /// # Errors
    /// The disk is full or faulty. Nothing was appended then, and it may be tried again.
    pub fn append(&mut self, entry: &[u8], newest: NewestEntry) -> io::Result<()> {
        let record = record(entry)?;
        let (file, at) = match (&self.written, self.kept.back()) {
            (Some(file), Some(last)) => (file.clone(), last.bytes),
            _ => (self.create()?, 0),
        };
        if let Err(error) = file.write_at(&record, at) {
            // What was written of it is overwritten, or is a torn tail.
            let _ = if at == 0 { self.remove(self.next_number) } else { file.cut(at) };
            return Err(error);
        }
        if at == 0 {
            self.kept.push_back(LogSegment { number: self.next_number, bytes: 0, first: newest.header });
            self.next_number += 1;
            self.written = Some(file.clone());
            self.unsynced.names = true;
        }
        if let Some(last) = self.kept.back_mut() {
            last.bytes += record.len() as u64;
        }
        if !self.unsynced.files.iter().any(|other| Arc::ptr_eq(other, &file)) {
            self.unsynced.files.push(file);
        }
        self.newest = Some(newest);
        Ok(())
    }

    fn create(&mut self) -> io::Result<Arc<dyn LogFile>> {
        if let Some(ended) = &self.ended {
            ended.sync()?;
            self.disk.sync()?;
            self.ended = None;
        }
        self.disk.create(&name_of(self.next_number))
    }

    /// What was appended since the last call, to be synced.
    pub fn take_unsynced(&mut self) -> Unsynced {
        std::mem::take(&mut self.unsynced)
    }

    /// Removes the oldest segments that are too old or too many. Gives how many.
    ///
    /// # Errors
    /// The disk is faulty.
    pub fn retire(&mut self, now_ms: u64) -> io::Result<u64> {
        let (mut retired, mut bytes) = (0, self.bytes());
        while self.kept.len() > 1 {
            // All of a segment is older than the next one's first entry.
            let (oldest, ended_ms) = (self.kept[0], self.kept[1].first.sent_ms);
            let is_old = now_ms.saturating_sub(ended_ms) > self.limits.age_max_ms;
            if !is_old && bytes <= self.limits.bytes_max {
                break;
            }
            self.remove(oldest.number)?;
            self.kept.pop_front();
            bytes -= oldest.bytes;
            retired += 1;
        }
        Ok(retired)
    }

    /// Reads a segment from its beginning to what is written of it now.
    ///
    /// # Errors
    /// The disk is faulty, or the segment is gone.
    pub fn read(&self, number: u64) -> Result<SegmentReader, SegmentError> {
        let on_disk = |error| SegmentError::Read { segment: number, at: 0, error };
        let gone = || on_disk(io::ErrorKind::NotFound.into());
        let segment = self.kept.iter().find(|segment| segment.number == number).ok_or_else(gone)?;
        let file = self.disk.open(&name_of(number)).map_err(on_disk)?;
        Ok(SegmentReader::new(number, file, segment.bytes))
    }

    /// The newest segment that begins at this offset or before it.
    pub fn with_offset(&self, offset: u64) -> Option<&LogSegment> {
        self.kept.iter().rev().find(|segment| segment.first.first <= offset)
    }

    /// The newest segment that was begun at this time or before it, in milliseconds since the Unix epoch.
    pub fn at_time(&self, ms: u64) -> Option<&LogSegment> {
        self.kept.iter().rev().find(|segment| segment.first.sent_ms <= ms)
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.unsynced.names = true;
        self.disk.remove(&name_of(number))
    }
}

fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

/// None of a file that is not ours.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_ours = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| digits.parse().ok())?
}
