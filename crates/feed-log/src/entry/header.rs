//! What each entry opens with: who wrote it, where it stands, and what stands before it.
//!
//! ```text
//!  0  format, 1       18  epoch              60  flags: 1 the body is deflated
//!  1  kind            26  first offset       61  body
//!  2  term            34  count
//! 10  node            36  chain before
//!                     52  sent, ms since the Unix epoch
//! ```

use bytes::{BufMut, BytesMut};

use crate::chain::Chain;
use crate::entry::error::EntryError;
use crate::entry::fields::Fields;

pub const FORMAT: u8 = 1;
pub const HEADER_BYTES: usize = 61;

const DEFLATED: u8 = 1;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Who numbers from now on.
    Term,
    /// Frames and what else there is to tell, in order; perhaps nothing.
    Batch,
    /// A part of an entry that would be too large.
    Part,
    /// What is retained of topics at one offset, so that a reader can begin here.
    Retained,
}

impl EntryKind {
    pub const ALL: [EntryKind; 4] = [EntryKind::Term, EntryKind::Batch, EntryKind::Part, EntryKind::Retained];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    pub kind: EntryKind,
    /// Number of the reign.
    pub term: u64,
    /// The process that wrote it; random.
    pub node: u64,
    pub epoch: u64,
    /// The offset of its first numbered item; of an entry without any, the offset that is next.
    pub first: u64,
    /// Numbered items: they have `first` and the offsets after it.
    pub count: u16,
    pub chain_before: Chain,
    pub sent_ms: u64,
    pub deflated: bool,
}

impl EntryHeader {
    /// Reads the header of an entry, whose body may be missing.
    ///
    /// # Errors
    /// The bytes are too few, or of no entry.
    pub fn decode(bytes: &[u8]) -> Result<EntryHeader, EntryError> {
        let head = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
        let mut fields = Fields::of(bytes::Bytes::copy_from_slice(head));
        let found = fields.u8()?;
        if found != FORMAT {
            return Err(EntryError::Format { expected: FORMAT, found });
        }
        let kind = fields.u8()?;
        let known = EntryKind::ALL.into_iter().find(|known| *known as u8 == kind);
        let kind = known.ok_or_else(|| fields.unknown("kind of entry", kind))?;
        let (term, node, epoch, first) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (count, chain_before, sent_ms) = (fields.u16()?, Chain(fields.hash()?), fields.u64()?);
        let flags = fields.u8()?;
        if flags & !DEFLATED != 0 {
            return Err(fields.unknown("flags", flags));
        }
        let deflated = flags == DEFLATED;
        Ok(EntryHeader { kind, term, node, epoch, first, count, chain_before, sent_ms, deflated })
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u8(FORMAT);
        out.put_u8(self.kind as u8);
        for number in [self.term, self.node, self.epoch, self.first] {
            out.put_u64_le(number);
        }
        out.put_u16_le(self.count);
        out.put_slice(&self.chain_before.0);
        out.put_u64_le(self.sent_ms);
        out.put_u8(if self.deflated { DEFLATED } else { 0 });
    }

    /// The offset after the last numbered item.
    pub fn next_offset(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}
