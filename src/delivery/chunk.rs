//! Bytes for a socket: a chunk, and how one is gathered from encodings.

use bytes::{Bytes, BytesMut};

use crate::bus::frame::Frame;
use crate::protocol::encoding::Encoded;

/// 64 KiB: what a socket's buffer takes at once; a larger frame is a slice of its own, shared and not copied.
pub const SLICE_BYTES: usize = 64 * 1024;

/// How frames are compressed, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Stateless,
    Window,
    Tokens,
}

/// Whole encodings and messages, ready for a socket.
pub struct Chunk {
    pub bytes: Bytes,
    /// How many frames of topics it holds; messages of the server and topic statuses do not count.
    pub frames: u64,
    /// How many bytes more it would have uncompressed.
    pub saved_bytes: usize,
    pub compression: Compression,
}

impl Chunk {
    /// Messages of the server, which are never compressed.
    pub fn messages(bytes: impl Into<Bytes>) -> Chunk {
        Chunk { bytes: bytes.into(), frames: 0, saved_bytes: 0, compression: Compression::Plain }
    }
}

/// Gathers encodings up to the size of a slice. A single one is shared instead of copied.
pub struct Slice {
    bytes_max: usize,
    first: Bytes,
    rest: BytesMut,
    plain_bytes: usize,
    /// How many encodings it holds, and how many of them are frames of topics.
    items: u64,
    frames: u64,
}

impl Slice {
    pub fn of(bytes_max: usize) -> Slice {
        Slice { bytes_max, first: Bytes::new(), rest: BytesMut::new(), plain_bytes: 0, items: 0, frames: 0 }
    }

    /// Takes the frame, unless the slice is full.
    pub fn take(&mut self, frame: &Frame, encoded: &Encoded) -> bool {
        if self.items > 0 && self.bytes() + encoded.bytes.len() > self.bytes_max {
            return false;
        }
        self.push(frame, encoded);
        true
    }

    /// Takes the frame, full or not. A topic status is empty in the raw format, and not counted.
    pub fn push(&mut self, frame: &Frame, encoded: &Encoded) {
        if encoded.bytes.is_empty() {
            return;
        }
        match self.items {
            0 => self.first = encoded.bytes.clone(),
            1 => {
                self.rest.extend_from_slice(&self.first);
                self.rest.extend_from_slice(&encoded.bytes);
            }
            _ => self.rest.extend_from_slice(&encoded.bytes),
        }
        self.plain_bytes += encoded.plain_bytes;
        self.items += 1;
        self.frames += u64::from(!frame.is_status());
    }

    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub fn finish(self, compression: Compression) -> Chunk {
        let bytes = if self.items == 1 { self.first } else { self.rest.freeze() };
        Chunk { saved_bytes: self.plain_bytes.saturating_sub(bytes.len()), bytes, frames: self.frames, compression }
    }

    fn bytes(&self) -> usize {
        if self.items == 1 { self.first.len() } else { self.rest.len() }
    }
}
