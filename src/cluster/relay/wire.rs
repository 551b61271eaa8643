//! Messages of `/v1/log`: binary, the first byte says which; numbers are little-endian.
//!
//! | from a relay | first byte | then |
//! |---|---|---|
//! | where the log begins and ends; entries follow from there | 1 | call |
//! | entries of a range, or of its beginning | 2 | call, from, to |
//! | a snapshot, as servers of a cluster ask for it | 3 | call, request |
//!
//! | from a parent | first byte | then |
//! |---|---|---|
//! | greeting | 1 | JSON |
//! | beat | 2 | |
//! | an entry, as it was appended | 3 | sequence, entry |
//! | the bounds | 4 | call, first, last |
//! | an entry that was read | 5 | call, sequence, entry |
//! | all that was read | 6 | call, up to which sequence |
//! | of a snapshot | 7 | call, answer |

use backbone::log::{CallId, LogBounds, LogRange, LogSequence, StoredBytes};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Of a message from a relay, with the request for a piece of a snapshot: two numbers in words.
pub const REQUEST_BYTES_MAX: usize = 128;
/// Of a message from a parent: an entry of the cluster's log, or a piece of a snapshot.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Of a snapshot in one message: a beat must not wait long behind it.
pub const PIECE_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayRequest {
    Tail { call: CallId },
    Read { call: CallId, range: LogRange },
    Snapshot { call: u64, request: Bytes },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentMessage {
    Greeting(Bytes),
    Beat,
    Tailed(StoredBytes),
    Bounds { call: CallId, bounds: LogBounds },
    Entry { call: CallId, stored: StoredBytes },
    ReadTo { call: CallId, read_to: LogSequence },
    Snapshot { call: u64, answer: Bytes },
}

impl RelayRequest {
    pub fn write(&self) -> Bytes {
        match self {
            RelayRequest::Tail { call } => message(1, &[call.0], &[]),
            RelayRequest::Read { call, range } => message(2, &[call.0, range.from.0, range.to.0], &[]),
            RelayRequest::Snapshot { call, request } => message(3, &[*call], request),
        }
    }

    /// None if it is no such message.
    pub fn read(mut bytes: Bytes) -> Option<RelayRequest> {
        let kind = bytes.try_get_u8().ok()?;
        let call = bytes.try_get_u64_le().ok()?;
        Some(match kind {
            1 if bytes.is_empty() => RelayRequest::Tail { call: CallId(call) },
            2 if bytes.len() == 16 => {
                let (from, to) = (sequence(&mut bytes)?, sequence(&mut bytes)?);
                RelayRequest::Read { call: CallId(call), range: LogRange { from, to } }
            }
            3 => RelayRequest::Snapshot { call, request: bytes },
            _ => return None,
        })
    }
}

impl ParentMessage {
    pub fn write(&self) -> Bytes {
        match self {
            ParentMessage::Greeting(json) => message(1, &[], json),
            ParentMessage::Beat => message(2, &[], &[]),
            ParentMessage::Tailed(stored) => message(3, &[stored.sequence.0], &stored.bytes),
            ParentMessage::Bounds { call, bounds } => message(4, &[call.0, bounds.first.0, bounds.last.0], &[]),
            ParentMessage::Entry { call, stored } => message(5, &[call.0, stored.sequence.0], &stored.bytes),
            ParentMessage::ReadTo { call, read_to } => message(6, &[call.0, read_to.0], &[]),
            ParentMessage::Snapshot { call, answer } => message(7, &[*call], answer),
        }
    }

    /// None if it is no such message.
    pub fn read(mut bytes: Bytes) -> Option<ParentMessage> {
        Some(match bytes.try_get_u8().ok()? {
            1 => ParentMessage::Greeting(bytes),
            2 if bytes.is_empty() => ParentMessage::Beat,
            3 => ParentMessage::Tailed(StoredBytes { sequence: sequence(&mut bytes)?, bytes }),
            4 if bytes.len() == 24 => {
                let call = CallId(bytes.get_u64_le());
                let bounds = LogBounds { first: sequence(&mut bytes)?, last: sequence(&mut bytes)? };
                ParentMessage::Bounds { call, bounds }
            }
            5 => {
                let call = CallId(bytes.try_get_u64_le().ok()?);
                ParentMessage::Entry { call, stored: StoredBytes { sequence: sequence(&mut bytes)?, bytes } }
            }
            6 if bytes.len() == 16 => {
                ParentMessage::ReadTo { call: CallId(bytes.get_u64_le()), read_to: sequence(&mut bytes)? }
            }
            7 => ParentMessage::Snapshot { call: bytes.try_get_u64_le().ok()?, answer: bytes },
            _ => return None,
        })
    }
}

fn sequence(bytes: &mut Bytes) -> Option<LogSequence> {
    bytes.try_get_u64_le().ok().map(LogSequence)
}

fn message(kind: u8, numbers: &[u64], rest: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 8 * numbers.len() + rest.len());
    out.put_u8(kind);
    numbers.iter().for_each(|number| out.put_u64_le(*number));
    out.put_slice(rest);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_noise_is_not() {
        let (call, sequence) = (CallId(7), LogSequence(u64::MAX));
        let stored = StoredBytes { sequence, bytes: Bytes::from_static(b"entry") };
        let range = LogRange { from: LogSequence(1), to: sequence };
        for request in [
            RelayRequest::Tail { call },
            RelayRequest::Read { call, range },
            RelayRequest::Snapshot { call: 3, request: Bytes::from_static(b"5 77") },
            RelayRequest::Snapshot { call: 3, request: Bytes::new() },
        ] {
            assert_eq!(RelayRequest::read(request.write()), Some(request));
        }
        for told in [
            ParentMessage::Greeting(Bytes::from_static(b"{}")),
            ParentMessage::Beat,
            ParentMessage::Tailed(stored.clone()),
            ParentMessage::Bounds { call, bounds: LogBounds { first: LogSequence(4), last: LogSequence(3) } },
            ParentMessage::Entry { call, stored },
            ParentMessage::ReadTo { call, read_to: sequence },
            ParentMessage::Snapshot { call: 9, answer: Bytes::from_static(b"piece") },
        ] {
            let written = told.write();
            for cut in 0..written.len() {
                // Whatever it is read as, it is not read beyond its end.
                let _ = ParentMessage::read(written.slice(..cut));
            }
            assert_eq!(ParentMessage::read(written), Some(told));
        }
        for noise in [&b""[..], b"\x00", b"\x09", b"\x01", b"\x02\x01\x02", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(RelayRequest::read(Bytes::from_static(noise)), None, "{noise:?}");
        }
        for noise in [&b""[..], b"\x00", b"\x02\x00", b"\x03abc", b"\x04", b"\x05\x01", b"\x06", b"\x07", b"\x08"] {
            assert_eq!(ParentMessage::read(Bytes::from_static(noise)), None, "{noise:?}");
        }
    }
}
