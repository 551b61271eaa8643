//! Opening of single records.

use ring::aead::{Aad, LessSafeKey, Nonce};

use crate::alert::AlertDescription;
use crate::keys::{TlsVersion, TrafficKey, nonce, tls12_additional};
use crate::{ContentType, HEADER_BYTES, PLAINTEXT_MAX, RECORD_MAX, RECORD_VERSION};

/// The peer has broken the rules of TLS; the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("expected a record of at most 16384 bytes of plaintext, found a larger one")]
    TooLarge,
    #[error("expected a record sealed with the connection's key, found another one")]
    BadMac,
    #[error("expected data, an alert or KeyUpdate, found something else")]
    Unexpected,
    #[error("expected a record of TLS 1.2 or 1.3, found a malformed one")]
    Malformed,
    #[error("expected data, found too many records without any")]
    TooManyEmpty,
    #[error("expected a KeyUpdate once in a while, found too many")]
    TooManyKeyUpdates,
    #[error("the peer has ended the connection with alert {0}")]
    Alert(u8),
}

impl RecordError {
    /// What the peer is told; nothing if it has ended the connection itself.
    pub fn alert(self) -> Option<AlertDescription> {
        match self {
            RecordError::TooLarge => Some(AlertDescription::RecordOverflow),
            RecordError::BadMac => Some(AlertDescription::BadRecordMac),
            RecordError::Malformed => Some(AlertDescription::DecodeError),
            RecordError::Unexpected | RecordError::TooManyEmpty | RecordError::TooManyKeyUpdates => {
                Some(AlertDescription::UnexpectedMessage)
            }
            RecordError::Alert(_) => None,
        }
    }
}

/// Size of the first record in these bytes, with its header; none if the header is not whole. Whatever it claims, it is
/// bounded before any byte of it is waited for.
pub fn record_bytes(received: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(header) = received.get(..HEADER_BYTES) else { return Ok(None) };
    let bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
    if bytes > RECORD_MAX { Err(RecordError::TooLarge) } else { Ok(Some(bytes)) }
}

/// The opening half of one key: not expanded, because clients of a broadcast say little.
pub struct Opener {
    key: TrafficKey,
    sequence: u64,
}

impl Opener {
    /// `sequence` is the number of the next record.
    pub fn new(key: TrafficKey, sequence: u64) -> Opener {
        Opener { key, sequence }
    }

    pub fn version(&self) -> TlsVersion {
        self.key.version
    }

    /// The key for [`Opener::open`]. It may be kept for all records that are opened at a time.
    pub fn expanded(&self) -> LessSafeKey {
        self.key.expanded()
    }

    /// Opens one whole record in place.
    pub fn open<'a>(
        &mut self,
        key: &LessSafeKey,
        record: &'a mut [u8],
    ) -> Result<(ContentType, &'a [u8]), RecordError> {
        let (header, body) = record.split_at_mut_checked(HEADER_BYTES).ok_or(RecordError::Malformed)?;
        let opened = match self.key.version {
            TlsVersion::Tls13 => self.open_tls13(key, header, body)?,
            TlsVersion::Tls12 => self.open_tls12(key, header, body)?,
        };
        if opened.1.len() > PLAINTEXT_MAX {
            return Err(RecordError::TooLarge);
        }
        self.sequence += 1;
        Ok(opened)
    }

    fn open_tls13<'a>(
        &self,
        key: &LessSafeKey,
        header: &[u8],
        body: &'a mut [u8],
    ) -> Result<(ContentType, &'a [u8]), RecordError> {
        if header[0] != ContentType::Data.byte() {
            return Err(RecordError::Unexpected);
        }
        let nonce = Nonce::assume_unique_for_key(nonce(&self.key.iv, self.sequence));
        let inner: &[u8] = key.open_in_place(nonce, Aad::from(header), body).map_err(|_| RecordError::BadMac)?;
        // The content type follows the content, and zeros may follow it (RFC 8446 section 5.4).
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(RecordError::Unexpected)?;
        let content = ContentType::of(inner[end]).ok_or(RecordError::Unexpected)?;
        Ok((content, &inner[..end]))
    }

    fn open_tls12<'a>(
        &self,
        key: &LessSafeKey,
        header: &[u8],
        body: &'a mut [u8],
    ) -> Result<(ContentType, &'a [u8]), RecordError> {
        let content = ContentType::of(header[0]).ok_or(RecordError::Unexpected)?;
        if header[1..3] != RECORD_VERSION {
            return Err(RecordError::Malformed);
        }
        let mut nonce = nonce(&self.key.iv, self.sequence);
        let explicit = self.key.cipher.explicit_nonce_bytes(self.key.version);
        let (sent, sealed) = body.split_at_mut_checked(explicit).ok_or(RecordError::BadMac)?;
        if explicit > 0 {
            nonce[4..].copy_from_slice(sent);
        }
        let plaintext = sealed.len().checked_sub(key.algorithm().tag_len()).ok_or(RecordError::BadMac)?;
        let additional = tls12_additional(self.sequence, header[0], plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key.open_in_place(nonce, Aad::from(additional), sealed).map_err(|_| RecordError::BadMac)?;
        Ok((content, opened))
    }
}
