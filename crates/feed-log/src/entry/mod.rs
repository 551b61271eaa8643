//! Entries: encoded to bytes whose hash is the chain after them, and decoded as slices of these bytes.
//!
//! Decoding is bounded by its input, a deflated body by [`INFLATED_BYTES_MAX`]. Whoever writes keeps a batch within
//! [`BATCH_ITEMS_MAX`] and [`BATCH_BYTES_MAX`], or cuts it into parts.

pub mod error;
mod fields;
pub mod header;
pub mod item;
pub mod part;
pub mod term;

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

pub use crate::entry::fields::LoggedText;

use crate::chain::Chain;
use crate::entry::error::EntryError;
use crate::entry::fields::Fields;
use crate::entry::header::{EntryHeader, EntryKind, HEADER_BYTES};
use crate::entry::item::{ItemReader, ItemWriter, LoggedItem};
use crate::entry::part::EntryPart;
use crate::entry::term::Term;

/// Numbered items of one batch.
pub const BATCH_ITEMS_MAX: usize = 256;
/// Bytes of one batch, where one item alone is not larger.
pub const BATCH_BYTES_MAX: usize = 512 << 10;
/// A deflated body is not larger once it is inflated.
pub const INFLATED_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub header: EntryHeader,
    pub body: EntryBody,
    /// After this entry.
    pub chain: Chain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    Term(Term),
    Batch(Vec<LoggedItem>),
    Part(EntryPart),
    /// Items with their offsets. Where they are too many for one entry, others follow, and the last says so.
    Retained {
        items: Vec<(u64, LoggedItem)>,
        is_last: bool,
    },
}

/// Where an entry stands: all of a header that its body does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPlace {
    pub term: u64,
    pub node: u64,
    pub epoch: u64,
    pub first: u64,
    pub chain_before: Chain,
    pub sent_ms: u64,
}

impl LogEntry {
    /// # Errors
    /// The bytes are not one whole entry.
    pub fn decode(bytes: Bytes) -> Result<LogEntry, EntryError> {
        let chain = Chain::after(&bytes);
        LogEntry::decode_hashed(bytes, chain)
    }

    /// The same, where the chain after the bytes is known.
    ///
    /// # Errors
    /// The bytes are not one whole entry.
    pub fn decode_hashed(bytes: Bytes, chain: Chain) -> Result<LogEntry, EntryError> {
        let header = EntryHeader::decode(&bytes)?;
        let body = bytes.slice(HEADER_BYTES..);
        let body = if header.deflated { inflated(&body)? } else { body };
        let body = EntryBody::decode(&header, body)?;
        Ok(LogEntry { header, body, chain })
    }
}

impl EntryBody {
    /// The body of an entry with this header, inflated. For a batch in parts it is what the parts hold together, with
    /// the header of the last.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(header: &EntryHeader, bytes: Bytes) -> Result<EntryBody, EntryError> {
        let mut fields = Fields::of(bytes);
        Ok(match header.kind {
            EntryKind::Term => {
                let term = Term::read(&mut fields)?;
                fields.end()?;
                EntryBody::Term(term)
            }
            EntryKind::Batch => EntryBody::Batch(EntryBody::items(header, fields)?),
            EntryKind::Part => EntryBody::Part(EntryPart::read(fields)?),
            EntryKind::Retained => {
                let is_last = match fields.u8()? {
                    0 => false,
                    1 => true,
                    found => return Err(fields.unknown("flag", found)),
                };
                let (mut reader, mut items) = (ItemReader::default(), Vec::new());
                while fields.left() > 0 {
                    let offset = fields.u64()?;
                    items.push((offset, reader.next(&mut fields)?));
                }
                EntryBody::Retained { items, is_last }
            }
        })
    }

    /// The items of a batch in parts, from the bytes that the parts hold together and the header of the last.
    ///
    /// # Errors
    /// The bytes are no batch of so many.
    pub fn decode_parts(last: &EntryHeader, bytes: Bytes) -> Result<Vec<LoggedItem>, EntryError> {
        EntryBody::items(last, Fields::of(bytes))
    }

    fn items(header: &EntryHeader, mut fields: Fields) -> Result<Vec<LoggedItem>, EntryError> {
        let (mut reader, mut items) = (ItemReader::default(), Vec::new());
        while fields.left() > 0 {
            items.push(reader.next(&mut fields)?);
        }
        let found = items.iter().filter(|item| item.is_numbered()).count();
        if found != usize::from(header.count) {
            return Err(EntryError::Count { expected: header.count, found });
        }
        Ok(items)
    }

    fn kind(&self) -> EntryKind {
        match self {
            EntryBody::Term(_) => EntryKind::Term,
            EntryBody::Batch(_) => EntryKind::Batch,
            EntryBody::Part(_) => EntryKind::Part,
            EntryBody::Retained { .. } => EntryKind::Retained,
        }
    }

    /// The bytes of the body, neither deflated nor cut.
    ///
    /// # Errors
    /// A name or a list is too long.
    pub fn encode(&self) -> Result<Bytes, EntryError> {
        let mut out = BytesMut::new();
        self.put(&mut out)?;
        Ok(out.freeze())
    }

    fn put(&self, out: &mut BytesMut) -> Result<(), EntryError> {
        let mut writer = ItemWriter::default();
        match self {
            EntryBody::Term(term) => term.put(out),
            EntryBody::Batch(items) => items.iter().try_for_each(|item| writer.put(item, out)),
            EntryBody::Part(part) => {
                part.put(out);
                Ok(())
            }
            EntryBody::Retained { items, is_last } => {
                out.put_u8(u8::from(*is_last));
                items.iter().try_for_each(|(offset, item)| {
                    out.put_u64_le(*offset);
                    writer.put(item, out)
                })
            }
        }
    }
}

impl EntryPlace {
    /// The entry's bytes and the chain after it. `count` is that of a batch in parts, with its last part; the count of
    /// a batch is known.
    ///
    /// # Errors
    /// A name or a list is too long, or the items are too many.
    pub fn encode(&self, body: &EntryBody, deflate: Deflate, parts: PartCount) -> Result<(Bytes, Chain), EntryError> {
        let count = match body {
            EntryBody::Batch(items) => items.iter().filter(|item| item.is_numbered()).count(),
            EntryBody::Part(_) => usize::from(parts.0),
            EntryBody::Term(_) | EntryBody::Retained { .. } => 0,
        };
        let count = u16::try_from(count).map_err(|_| EntryError::TooLong { what: "batch", bytes: count })?;
        let deflated = deflate == Deflate::Yes;
        let EntryPlace { term, node, epoch, first, chain_before, sent_ms } = *self;
        let kind = body.kind();
        let mut out = BytesMut::new();
        EntryHeader { kind, term, node, epoch, first, count, chain_before, sent_ms, deflated }.put(&mut out);
        if deflated {
            out.put_slice(&self::deflated(&body.encode()?)?);
        } else {
            body.put(&mut out)?;
        }
        let bytes = out.freeze();
        let chain = Chain::after(&bytes);
        Ok((bytes, chain))
    }
}

/// Whether a body is deflated: worth it for all but small ones that are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deflate {
    No,
    Yes,
}

/// Numbered items of a batch in parts, which its last part counts; none for anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartCount(pub u16);

fn deflated(body: &[u8]) -> Result<Vec<u8>, EntryError> {
    if body.len() > INFLATED_BYTES_MAX {
        return Err(EntryError::Deflated { max: INFLATED_BYTES_MAX });
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    Ok(written.expect("memory takes all"))
}

fn inflated(body: &[u8]) -> Result<Bytes, EntryError> {
    let damaged = EntryError::Deflated { max: INFLATED_BYTES_MAX };
    let mut out = Vec::new();
    let mut decoder = DeflateDecoder::new(body);
    let read = decoder.by_ref().take(INFLATED_BYTES_MAX as u64 + 1).read_to_end(&mut out);
    let is_whole = read.is_ok() && out.len() <= INFLATED_BYTES_MAX && decoder.total_in() == body.len() as u64;
    if is_whole { Ok(out.into()) } else { Err(damaged) }
}
