//! The form of an entry in a segment: length, checksum, bytes. And a reader of them, which also checks the chain.
//!
//! ```text
//! 0  bytes of the entry     4  CRC-32 of the entry     8  entry
//! ```
//! Numbers are little-endian.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Crc;

use crate::chain::Chain;
use crate::entry::header::{EntryHeader, HEADER_BYTES};
use crate::segments::disk::LogFile;
use crate::segments::error::SegmentError;

pub(super) const RECORD_HEADER_BYTES: u64 = 8;
/// A longer entry is not written, so a length beyond is damage.
pub const ENTRY_BYTES_MAX: usize = 160 << 20;

/// The bytes of a record.
pub(super) fn record(entry: &[u8]) -> io::Result<Vec<u8>> {
    if entry.len() > ENTRY_BYTES_MAX {
        let message = format!("expected an entry of at most {ENTRY_BYTES_MAX} bytes, found {}", entry.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut record = Vec::with_capacity(entry.len() + RECORD_HEADER_BYTES as usize);
    record.extend_from_slice(&(entry.len() as u32).to_le_bytes());
    record.extend_from_slice(&checksum(entry).to_le_bytes());
    record.extend_from_slice(entry);
    Ok(record)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads the entries of one segment in order.
pub struct SegmentReader {
    segment: u64,
    file: Arc<dyn LogFile>,
    at: u64,
    end: u64,
    /// After the entry before; none before the first.
    chain: Option<Chain>,
}

/// An entry that is whole, and continues the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    pub header: EntryHeader,
    pub bytes: Bytes,
    pub chain: Chain,
}

impl SegmentReader {
    pub(super) fn new(segment: u64, file: Arc<dyn LogFile>, end: u64) -> SegmentReader {
        SegmentReader { segment, file, at: 0, end, chain: None }
    }

    /// Everything before is read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The next entry; none at the end.
    ///
    /// # Errors
    /// What stands there is no entry that continues the one before: cut off, damaged, or of another history.
    pub fn next_entry(&mut self) -> Result<Option<StoredEntry>, SegmentError> {
        let Some((length, crc)) = self.next_length()? else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.read(&mut bytes, RECORD_HEADER_BYTES)?;
        if checksum(&bytes) != crc {
            return Err(self.damaged("a checksum that fits"));
        }
        let header = EntryHeader::decode(&bytes).map_err(|error| self.not_entry(error))?;
        if self.chain.is_some_and(|chain| chain != header.chain_before) {
            return Err(self.damaged("an entry that continues the one before it"));
        }
        let chain = Chain::after(&bytes);
        self.chain = Some(chain);
        self.at += RECORD_HEADER_BYTES + length as u64;
        Ok(Some(StoredEntry { header, bytes: bytes.into(), chain }))
    }

    /// The header of the next entry, which is not moved past; none at the end. Its checksum is not looked at.
    ///
    /// # Errors
    /// What stands there is no entry.
    pub fn peek(&self) -> Result<Option<EntryHeader>, SegmentError> {
        let Some((length, _)) = self.next_length()? else { return Ok(None) };
        let mut bytes = vec![0; length.min(HEADER_BYTES)];
        self.read(&mut bytes, RECORD_HEADER_BYTES)?;
        EntryHeader::decode(&bytes).map(Some).map_err(|error| self.not_entry(error))
    }

    /// Moves past entries whose numbered items all are at this offset or before.
    ///
    /// # Errors
    /// What stands there is no entry.
    pub fn skip_to(&mut self, after: u64) -> Result<(), SegmentError> {
        while let Some(header) = self.peek()?
            && header.next_offset() <= after.saturating_add(1)
        {
            let length = self.next_length()?.map_or(0, |(length, _)| length);
            self.at += RECORD_HEADER_BYTES + length as u64;
            self.chain = None;
        }
        Ok(())
    }

    fn next_length(&self) -> Result<Option<(usize, u32)>, SegmentError> {
        if self.at == self.end {
            return Ok(None);
        }
        let left = self.end - self.at;
        if left < RECORD_HEADER_BYTES {
            return Err(self.damaged("the header of a record"));
        }
        let (mut length, mut crc) = ([0; 4], [0; 4]);
        self.read(&mut length, 0)?;
        self.read(&mut crc, 4)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ENTRY_BYTES_MAX || length as u64 > left - RECORD_HEADER_BYTES {
            return Err(self.damaged("a whole entry"));
        }
        Ok(Some((length, u32::from_le_bytes(crc))))
    }

    fn read(&self, bytes: &mut [u8], after: u64) -> Result<(), SegmentError> {
        let read = self.file.read_at(bytes, self.at + after);
        read.map_err(|error| SegmentError::Read { segment: self.segment, at: self.at, error })
    }

    fn damaged(&self, expected: &'static str) -> SegmentError {
        SegmentError::Damaged { segment: self.segment, at: self.at, expected }
    }

    fn not_entry(&self, error: crate::entry::error::EntryError) -> SegmentError {
        SegmentError::Entry { segment: self.segment, at: self.at, error }
    }
}
