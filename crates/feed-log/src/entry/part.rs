//! Parts of an entry that is larger than one message may be: each is an entry, and together they are the whole.

use bytes::{BufMut, Bytes, BytesMut};

use crate::entry::error::EntryError;
use crate::entry::fields::Fields;

/// Bytes of a whole entry that is put together of parts.
pub const WHOLE_BYTES_MAX: usize = 128 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPart {
    /// From 0.
    pub index: u16,
    pub parts: u16,
    /// A piece of the body of the batch.
    pub bytes: Bytes,
}

impl EntryPart {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u16_le(self.index);
        out.put_u16_le(self.parts);
        out.put_slice(&self.bytes);
    }

    pub(super) fn read(mut fields: Fields) -> Result<EntryPart, EntryError> {
        let (index, parts) = (fields.u16()?, fields.u16()?);
        if index >= parts {
            return Err(EntryError::Part { expected: parts.saturating_sub(1), found: index, parts });
        }
        Ok(EntryPart { index, parts, bytes: fields.rest() })
    }

    /// Cuts the body of a batch into parts of at most so many bytes.
    ///
    /// # Errors
    /// They would be too many.
    pub fn cut(body: &Bytes, bytes_max: usize) -> Result<Vec<EntryPart>, EntryError> {
        let step = bytes_max.max(1);
        let too_long = |_| EntryError::TooLong { what: "batch", bytes: body.len() };
        let parts = u16::try_from(body.len().div_ceil(step).max(1)).map_err(too_long)?;
        let part = |index: u16| {
            let at = usize::from(index) * step;
            EntryPart { index, parts, bytes: body.slice(at..(at + step).min(body.len())) }
        };
        Ok((0..parts).map(part).collect())
    }
}

/// Puts parts together that follow each other.
#[derive(Debug, Default)]
pub struct PartAssembly {
    held: BytesMut,
    next: u16,
}

impl PartAssembly {
    /// Whether further parts must follow.
    pub fn is_within(&self) -> bool {
        self.next > 0
    }

    /// Takes the next part; gives the body of the batch with the last.
    ///
    /// # Errors
    /// It is not the next one, or the whole is too large. What was held is dropped then.
    pub fn take(&mut self, part: &EntryPart) -> Result<Option<Bytes>, EntryError> {
        let expected = self.next;
        if part.index != expected {
            *self = PartAssembly::default();
            return Err(EntryError::Part { expected, found: part.index, parts: part.parts });
        }
        if self.held.len() + part.bytes.len() > WHOLE_BYTES_MAX {
            *self = PartAssembly::default();
            return Err(EntryError::Parts { max: WHOLE_BYTES_MAX });
        }
        self.held.extend_from_slice(&part.bytes);
        self.next += 1;
        if self.next < part.parts {
            return Ok(None);
        }
        Ok(Some(std::mem::take(self).held.freeze()))
    }
}
