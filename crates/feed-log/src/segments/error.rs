//! Why a segment cannot be read.

use std::io;

use crate::entry::error::EntryError;

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("expected to read segment {segment} at byte {at}, found: {error}; check the disk")]
    Read { segment: u64, at: u64, error: io::Error },
    #[error("expected {expected} at byte {at} of segment {segment}, found something else; it is cut off or damaged")]
    Damaged { segment: u64, at: u64, expected: &'static str },
    #[error("segment {segment}, byte {at}: {error}")]
    Entry { segment: u64, at: u64, error: EntryError },
}

impl SegmentError {
    /// The disk did not answer, which says nothing about what is written there.
    pub fn is_of_disk(&self) -> bool {
        matches!(self, SegmentError::Read { .. })
    }
}
