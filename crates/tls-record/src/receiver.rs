//! Receives records and gives their data away.
//!
//! | bound | at the bound |
//! |---|---|
//! | a record | 16 KiB and 256 bytes; a larger one ends the connection before it is read |
//! | records opened by one call | 64; the rest waits for the next call |
//! | records without data in a row | 32; a further one ends the connection |
//! | KeyUpdates in the time between two calls of `renew_key_updates` | 32; a further one ends the connection |

use std::io;

use crate::ContentType;
use crate::alert::{self, Alert};
use crate::keys::{KEY_UPDATE, KeySchedule, TlsVersion, TrafficKey};
use crate::opening::{Opener, RecordError, record_bytes};

/// Records without data in a row: warnings and empty records, each of which costs its reader more than its sender.
const EMPTY_MAX: u8 = 32;

/// A record with one byte of data costs as much to open as one with a hundred.
const RECORDS_PER_READ: usize = 64;

/// KeyUpdates before `renew_key_updates`. Peers of their own accord send one in 2^23 records or more.
const KEY_UPDATES_MAX: u8 = 32;

/// Size of a KeyUpdate message (RFC 8446 section 4.6.3): type, length, one byte.
const KEY_UPDATE_BYTES: usize = 5;

/// What a call of [`RecordReceiver::read`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Bytes of data in the caller's buffer.
    pub data: usize,
    /// The peer has sent its last record, or its last byte.
    pub ended: bool,
    /// The peer has begun a new key this many times.
    pub key_updates: u8,
    /// The peer asks for a new key of ours.
    pub wants_key: bool,
}

/// Why nothing could be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// What the socket says, such as `WouldBlock`.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The receiving half of a connection.
pub struct RecordReceiver {
    opener: Opener,
    /// Received and not opened; no allocation if empty.
    sealed: Vec<u8>,
    /// Opened, and beyond the caller's buffer; no allocation if empty.
    data: Vec<u8>,
    /// The begin of a KeyUpdate.
    handshake: [u8; KEY_UPDATE_BYTES],
    handshake_bytes: u8,
    empty: u8,
    key_updates: u8,
    ended: bool,
}

impl RecordReceiver {
    /// `sequence` is the number of the next record, and `sealed` what was received already.
    pub fn new(key: TrafficKey, sequence: u64, mut sealed: Vec<u8>) -> RecordReceiver {
        // The buffer of a handshake may be larger than what is left in it.
        sealed.shrink_to_fit();
        RecordReceiver {
            opener: Opener::new(key, sequence),
            sealed,
            data: Vec::new(),
            handshake: [0; KEY_UPDATE_BYTES],
            handshake_bytes: 0,
            empty: 0,
            key_updates: 0,
            ended: false,
        }
    }

    /// Memory that it takes beyond its own size: what waits to be complete, or to be read.
    pub fn held_bytes(&self) -> usize {
        self.sealed.capacity() + self.data.capacity()
    }

    /// Forgets what was received and not read. Nothing more can be read.
    pub fn clear(&mut self) {
        (self.sealed, self.data, self.ended) = (Vec::new(), Vec::new(), true);
    }

    /// Some time has passed, in which a peer may begin new keys again.
    pub fn renew_key_updates(&mut self) {
        self.key_updates = 0;
    }

    /// Reads data into `buffer`: from what was received before, else by `receive`, which is called once if nothing is
    /// complete. `scratch` must hold [`crate::RECORD_MAX`] bytes. If nothing but other records arrived, `data` is 0.
    ///
    /// # Errors
    /// What `receive` returns; or the peer has broken a rule, and nothing more can be read.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        scratch: &mut [u8],
        keys: &mut impl KeySchedule,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<Incoming, ReceiveError> {
        let mut incoming = Incoming::default();
        if !self.data.is_empty() {
            incoming.data = self.data.len().min(buffer.len());
            buffer[..incoming.data].copy_from_slice(&self.data[..incoming.data]);
            self.data.drain(..incoming.data);
            if self.data.is_empty() {
                self.data = Vec::new();
            }
            return Ok(incoming);
        }
        if self.ended {
            incoming.ended = true;
            return Ok(incoming);
        }
        self.read_records(buffer, scratch, keys, receive).inspect_err(|error| {
            if matches!(error, ReceiveError::Record(_)) {
                self.clear();
            }
        })
    }

    fn read_records(
        &mut self,
        buffer: &mut [u8],
        scratch: &mut [u8],
        keys: &mut impl KeySchedule,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<Incoming, ReceiveError> {
        let mut incoming = Incoming::default();
        // More than one record if it was received before the connection came here.
        let held = std::mem::take(&mut self.sealed);
        if record_bytes(&held)?.is_some_and(|bytes| bytes <= held.len()) {
            let mut held = held;
            self.open_records(&mut held, buffer, keys, &mut incoming)?;
            return Ok(incoming);
        }
        scratch[..held.len()].copy_from_slice(&held);
        let received = match receive(&mut scratch[held.len()..]) {
            Ok(received) => received,
            Err(error) => {
                self.sealed = held;
                return Err(error.into());
            }
        };
        if received == 0 {
            (self.ended, incoming.ended) = (true, true);
            return Ok(incoming);
        }
        let end = held.len() + received;
        drop(held);
        self.open_records(&mut scratch[..end], buffer, keys, &mut incoming)?;
        Ok(incoming)
    }

    /// Opens the records that are whole, and keeps the rest.
    fn open_records(
        &mut self,
        received: &mut [u8],
        buffer: &mut [u8],
        keys: &mut impl KeySchedule,
        incoming: &mut Incoming,
    ) -> Result<(), RecordError> {
        let (mut at, mut expanded) = (0, None);
        for _ in 0..RECORDS_PER_READ {
            // What does not fit into the buffer is kept for the next call, one record at most.
            if self.ended || !self.data.is_empty() {
                break;
            }
            let Some(bytes) = record_bytes(&received[at..])?.filter(|bytes| at + bytes <= received.len()) else {
                break;
            };
            let key = expanded.get_or_insert_with(|| self.opener.expanded());
            let (content, plaintext) = self.opener.open(key, &mut received[at..at + bytes])?;
            at += bytes;
            // A message must not be interrupted by another one (RFC 8446 section 5.1).
            if self.handshake_bytes > 0 && content != ContentType::Handshake {
                return Err(RecordError::Unexpected);
            }
            if content == ContentType::Data && !plaintext.is_empty() {
                self.empty = 0;
                let fits = plaintext.len().min(buffer.len() - incoming.data);
                buffer[incoming.data..incoming.data + fits].copy_from_slice(&plaintext[..fits]);
                incoming.data += fits;
                self.data = plaintext[fits..].to_vec();
                continue;
            }
            self.empty += 1;
            if self.empty > EMPTY_MAX {
                return Err(RecordError::TooManyEmpty);
            }
            let has_warnings = self.opener.version() == TlsVersion::Tls12;
            match content {
                ContentType::Data => {}
                ContentType::Alert => match alert::read(plaintext, has_warnings) {
                    Alert::Closed => (self.ended, incoming.ended) = (true, true),
                    Alert::Warning => {}
                    Alert::Fatal(description) => return Err(RecordError::Alert(description)),
                    Alert::Malformed => return Err(RecordError::Malformed),
                },
                ContentType::Handshake => {
                    if self.is_key_update(plaintext, incoming)? {
                        let key = keys.next_opening().ok_or(RecordError::Unexpected)?;
                        (self.opener, expanded, self.empty) = (Opener::new(key, 0), None, 0);
                    }
                }
            }
        }
        self.sealed = received[at..].to_vec();
        Ok(())
    }

    /// Takes a part of a handshake message; true if it is the end of a KeyUpdate. Nothing else may be sent after the
    /// handshake: renegotiation is none of TLS 1.3, and refused in TLS 1.2.
    fn is_key_update(&mut self, part: &[u8], incoming: &mut Incoming) -> Result<bool, RecordError> {
        let begun = usize::from(self.handshake_bytes);
        let end = begun + part.len();
        // A KeyUpdate is the last of its record, because the next one has another key.
        if part.is_empty() || end > KEY_UPDATE_BYTES || self.opener.version() != TlsVersion::Tls13 {
            return Err(RecordError::Unexpected);
        }
        self.handshake[begun..end].copy_from_slice(part);
        let is_whole = end == KEY_UPDATE_BYTES;
        self.handshake_bytes = if is_whole { 0 } else { end as u8 };
        let expected = [KEY_UPDATE, 0, 0, 1];
        if self.handshake[..end.min(4)] != expected[..end.min(4)] {
            return Err(RecordError::Unexpected);
        }
        if !is_whole {
            return Ok(false);
        }
        incoming.wants_key |= match self.handshake[4] {
            0 => false,
            1 => true,
            _ => return Err(RecordError::Malformed),
        };
        incoming.key_updates += 1;
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX { Err(RecordError::TooManyKeyUpdates) } else { Ok(true) }
    }
}
