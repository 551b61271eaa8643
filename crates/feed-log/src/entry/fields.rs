//! Fields of an entry: read as slices of its bytes, and written. All numbers are little-endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::entry::error::EntryError;

/// What is left of the bytes of an entry.
pub(super) struct Fields {
    bytes: Bytes,
    length: usize,
}

impl Fields {
    pub fn of(bytes: Bytes) -> Fields {
        Fields { length: bytes.len(), bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next field begins.
    fn at(&self) -> usize {
        self.length - self.bytes.len()
    }

    pub fn take(&mut self, count: usize) -> Result<Bytes, EntryError> {
        if count > self.bytes.len() {
            return Err(EntryError::Truncated { at: self.at(), needed: count, found: self.bytes.len() });
        }
        Ok(self.bytes.split_to(count))
    }

    pub fn rest(self) -> Bytes {
        self.bytes
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, EntryError> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, EntryError> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, EntryError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, EntryError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn hash<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        self.array()
    }

    /// As [`put_blob`] writes it.
    pub fn blob(&mut self) -> Result<Bytes, EntryError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// As [`put_text`] writes it.
    pub fn text(&mut self) -> Result<LoggedText, EntryError> {
        let length = usize::from(self.u16()?);
        let at = self.at();
        LoggedText::new(self.take(length)?).ok_or(EntryError::NotText { at })
    }

    /// The end of what was to be read.
    pub fn end(self) -> Result<(), EntryError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(EntryError::Trailing { at: self.at(), bytes: self.bytes.len() })
        }
    }

    /// A field that names one of a few values holds none of them.
    pub fn unknown(&self, what: &'static str, found: u8) -> EntryError {
        EntryError::Unknown { what, at: self.at().saturating_sub(1), found }
    }
}

/// A slice of an entry that is UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoggedText(Bytes);

impl LoggedText {
    /// None if the bytes are not UTF-8.
    pub fn new(bytes: Bytes) -> Option<LoggedText> {
        std::str::from_utf8(&bytes).is_ok().then_some(LoggedText(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was checked when it was made")
    }
}

impl From<&str> for LoggedText {
    fn from(text: &str) -> LoggedText {
        LoggedText(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl std::fmt::Debug for LoggedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

pub(super) fn put_blob(blob: &[u8], out: &mut BytesMut) -> Result<(), EntryError> {
    let length = u32::try_from(blob.len()).map_err(|_| EntryError::TooLong { what: "payload", bytes: blob.len() })?;
    out.put_u32_le(length);
    out.put_slice(blob);
    Ok(())
}

pub(super) fn put_text(what: &'static str, text: &LoggedText, out: &mut BytesMut) -> Result<(), EntryError> {
    let length = u16::try_from(text.0.len()).map_err(|_| EntryError::TooLong { what, bytes: text.0.len() })?;
    out.put_u16_le(length);
    out.put_slice(&text.0);
    Ok(())
}
