//! The record layer of TLS 1.3 (RFC 8446) and TLS 1.2 (RFC 5246) after the handshake, the server's side.
//!
//! [`sender::RecordSender`] seals and sends, [`receiver::RecordReceiver`] receives and opens. Neither holds a buffer
//! while the connection is idle. The handshake is another library's, and so is the derivation of further keys
//! ([`keys::KeySchedule`]).

pub mod alert;
pub mod keys;
pub mod opening;
pub mod receiver;
pub mod sealing;
pub mod sender;

/// Bytes of a record's header: content type, version, length.
pub const HEADER_BYTES: usize = 5;

/// Plaintext of a record that a peer may send (RFC 8446 section 5.1).
pub const PLAINTEXT_MAX: usize = 1 << 14;

/// A received record with its header. RFC 8446 section 5.2 allows 256 bytes beside the plaintext; TLS 1.2 needs 24.
pub const RECORD_MAX: usize = HEADER_BYTES + PLAINTEXT_MAX + 256;

/// What a record contains (RFC 8446 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    Alert,
    Handshake,
    Data,
}

impl ContentType {
    pub(crate) fn of(byte: u8) -> Option<ContentType> {
        match byte {
            21 => Some(ContentType::Alert),
            22 => Some(ContentType::Handshake),
            23 => Some(ContentType::Data),
            _ => None,
        }
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            ContentType::Alert => 21,
            ContentType::Handshake => 22,
            ContentType::Data => 23,
        }
    }
}

/// The version field of every record: that of TLS 1.2 (RFC 8446 section 5.2).
pub(crate) const RECORD_VERSION: [u8; 2] = [3, 3];
