//! Frames and messages (RFC 6455 section 5): writes those of a server, reads those of a client.
//!
//! The [`Decoder`] takes bytes as they arrive and gives whole messages. It holds at most one frame and one message,
//! each bounded by the message limit, and nothing between messages. It sends nothing: the caller owns the socket.

use crate::deflate::{Deflater, InflateError, Inflater, store};

/// Longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const OPCODE: u8 = 0x0F;
const MASK: u8 = 0x80;

/// What a frame is (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 0x1,
    /// A message of any bytes, or its first fragment.
    Binary = 0x2,
    /// The end of the connection in one direction.
    Close = 0x8,
    /// A question whether the peer is there.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode in the first byte of a frame; none if it is a reserved one.
    pub fn of(first_byte: u8) -> Option<Opcode> {
        match first_byte & OPCODE {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xA => Some(Opcode::Pong),
            _ => None,
        }
    }

    /// Whether it is the opcode of a control frame (RFC 6455 section 5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Appends the header of an unfragmented, unmasked frame (RFC 6455 section 5.2) with a payload of `bytes` bytes.
///
/// `compressed` sets RSV1: the payload is that of a compressed message (RFC 7692 section 6).
pub fn put_header(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, bytes: usize) {
    out.push(FIN | if compressed { RSV1 } else { 0 } | opcode as u8);
    match bytes {
        0..=125 => out.push(bytes as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
}

/// Appends an unfragmented, unmasked, uncompressed frame.
pub fn put_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    put_header(out, opcode, false, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a compressed message in one frame (RFC 7692 section 7.2.1). The deflater takes its window over from the
/// message before, unless it was cut since.
pub fn put_deflated(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], deflater: &mut Deflater) {
    let mut deflated = Vec::new();
    deflater.deflate(payload, &mut deflated);
    put_header(out, opcode, true, deflated.len());
    out.extend_from_slice(&deflated);
}

/// Appends a compressed message in one frame of stored blocks ([`store`]).
pub fn put_stored(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let mut stored = Vec::with_capacity(payload.len() + 16);
    store(payload, &mut stored);
    put_header(out, opcode, true, stored.len());
    out.extend_from_slice(&stored);
}

/// Appends a close frame (RFC 6455 section 5.5.1). A reason of more than 123 bytes is cut.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
    put_header(out, Opcode::Close, false, 2 + end);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Opcode and payload of `frame`, which is one whole, unmasked frame; none if its header is not whole, or its opcode a
/// reserved one.
pub fn parts(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let [first, second, ..] = *frame else { return None };
    let header_bytes = match second {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    Some((Opcode::of(first)?, frame.get(header_bytes..)?))
}

/// A whole message from a client, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Valid UTF-8 (RFC 6455 section 8.1).
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
    /// The payload is to be sent back in a pong (RFC 6455 section 5.5.3).
    Ping(Vec<u8>),
    /// Its payload is dropped.
    Pong,
    /// The status code, if the close frame had one (RFC 6455 section 7.4).
    Close(Option<u16>),
}

impl Message {
    /// Bytes of its payload, inflated; 0 for a pong and for a close frame.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Text(text) => text.len(),
            Message::Binary(data) | Message::Ping(data) => data.len(),
            Message::Pong | Message::Close(_) => 0,
        }
    }
}

/// How a client broke the protocol. The connection must be failed (RFC 6455 section 7.1.7): with status code 1007 for
/// `NotUtf8` and `BadDeflate`, 1009 for `TooBig`, 1002 for all others.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A client must mask its frames.
    #[error("expected a masked frame from a client (RFC 6455 section 5.1), found an unmasked one")]
    Unmasked,
    /// RSV2 or RSV3 is set; or RSV1 without permessage-deflate, or on a frame that starts no message.
    #[error("expected reserved bits 0 (RFC 6455 section 5.2), found {bits:#05b}")]
    ReservedBits {
        /// RSV1, RSV2 and RSV3, the first of them as the highest of three bits.
        bits: u8,
    },
    /// The opcode is not one of [`Opcode`].
    #[error("expected an opcode of RFC 6455 section 5.2, found {opcode:#x}")]
    ReservedOpcode {
        /// The four bits found.
        opcode: u8,
    },
    /// The length of the payload is written with more bytes than it needs.
    #[error("expected a length in its shortest form (RFC 6455 section 5.2), found a longer one")]
    LongLength,
    /// A control frame is fragmented or too long.
    #[error("expected a control frame in one piece of at most {CONTROL_BYTES_MAX} bytes (RFC 6455 section 5.5)")]
    BadControl,
    /// A continuation follows no fragment.
    #[error("expected a continuation only inside a fragmented message (RFC 6455 section 5.4)")]
    StrayContinuation,
    /// A message starts before the fragmented one has ended.
    #[error("expected a continuation of the fragmented message (RFC 6455 section 5.4), found a new message")]
    InterruptedMessage,
    /// The payload of a close frame is one byte, or its status code must not be sent.
    #[error("expected a close frame with a valid status code (RFC 6455 section 7.4)")]
    BadClose,
    /// A text message, or the reason of a close frame, is not UTF-8.
    #[error("expected UTF-8 text (RFC 6455 section 8.1)")]
    NotUtf8,
    /// A message is larger than the decoder takes, as it arrives or inflated.
    #[error("expected a message of at most {max} bytes, found a larger one")]
    TooBig {
        /// Limit of the decoder, in bytes.
        max: usize,
    },
    /// A compressed message cannot be inflated; what is wrong with it.
    #[error("expected DEFLATE data (RFC 7692 section 7.2.2): {0}")]
    BadDeflate(String),
}

/// Reads the frames of one client.
///
/// With permessage-deflate, the client must have been asked for `client_no_context_takeover`, as
/// [`Agreement::response`](crate::negotiate::Agreement::response) does: each of its messages is inflated by itself.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: u32,
    /// The first byte of `pending` that is not consumed.
    start: u32,
    /// permessage-deflate was agreed on, so RSV1 may be set.
    deflate: bool,
    /// Received, not yet decoded.
    pending: Vec<u8>,
    partial: Option<Box<Partial>>,
}

/// The fragments of a message so far.
#[derive(Debug)]
struct Partial {
    opcode: Opcode,
    compressed: bool,
    data: Vec<u8>,
}

/// The header of a client's frame.
struct ClientHeader {
    fin: bool,
    compressed: bool,
    opcode: Opcode,
    mask: [u8; 4],
    header_bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// `message_bytes_max` bounds a message, as it arrives and inflated; it is 2 GiB at most. `deflate` says whether
    /// permessage-deflate was agreed on.
    pub fn new(message_bytes_max: usize, deflate: bool) -> Decoder {
        let message_bytes_max = u32::try_from(message_bytes_max).unwrap_or(u32::MAX).min(1 << 31);
        Decoder { message_bytes_max, deflate, pending: Vec::new(), start: 0, partial: None }
    }

    /// Takes received bytes. Call [`next`](Decoder::next) until it gives none before the next call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Bytes taken and not yet decoded.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - self.start as usize
    }

    /// Whether a fragmented message has begun and not ended.
    pub fn is_amid_message(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether it holds nothing: no part of a message, and no message that [`next`](Decoder::next) has not given yet.
    pub fn is_empty(&self) -> bool {
        self.pending_bytes() == 0 && self.partial.is_none()
    }

    /// Memory that it takes besides its own size, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.pending.capacity() + self.partial.as_ref().map_or(0, |partial| partial.data.capacity())
    }

    /// Forgets what it holds. It must not be used again.
    pub fn clear(&mut self) {
        (self.pending, self.start, self.partial) = (Vec::new(), 0, None);
    }

    /// The next whole message, if there is one. The inflater may be shared by all clients.
    ///
    /// # Errors
    /// The client broke the protocol. The decoder must not be used again.
    pub fn next(&mut self, inflater: &mut Inflater) -> Result<Option<Message>, DecodeError> {
        loop {
            let Some(header) = self.header()? else {
                self.compact();
                return Ok(None);
            };
            let first = self.start as usize + header.header_bytes;
            let end = first + header.payload_bytes;
            if self.pending.len() < end {
                self.compact();
                return Ok(None);
            }
            unmask(&mut self.pending[first..end], header.mask);
            // At most a message, its header, and what came along with it.
            self.start = end as u32;
            if let Some(message) = self.take(&header, first..end, inflater)? {
                if self.pending_bytes() == 0 {
                    self.compact();
                }
                return Ok(Some(message));
            }
        }
    }

    fn header(&self) -> Result<Option<ClientHeader>, DecodeError> {
        let bytes = &self.pending[self.start as usize..];
        let [first, second, ..] = *bytes else { return Ok(None) };
        let opcode = Opcode::of(first).ok_or(DecodeError::ReservedOpcode { opcode: first & OPCODE })?;
        let fin = first & FIN != 0;
        let compressed = first & RSV1 != 0;
        let starts_data = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & 0x30 != 0 || (compressed && !(self.deflate && starts_data)) {
            return Err(DecodeError::ReservedBits { bits: first >> 4 & 0b111 });
        }
        if second & MASK == 0 {
            return Err(DecodeError::Unmasked);
        }
        let short = second & !MASK;
        if opcode.is_control() && (!fin || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(DecodeError::BadControl);
        }
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let header_bytes = 2 + length_bytes + 4;
        if bytes.len() < header_bytes {
            return Ok(None);
        }
        let length = bytes[2..2 + length_bytes].iter().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
        let (length, shortest) = match length_bytes {
            2 => (length, 126),
            8 => (length, 0x1_0000),
            _ => (u64::from(short), 0),
        };
        if length < shortest {
            return Err(DecodeError::LongLength);
        }
        let held = self.partial.as_ref().filter(|_| !opcode.is_control()).map_or(0, |partial| partial.data.len());
        // A message limit below that of a control frame holds for messages only.
        let max = self.message_bytes_max as usize;
        let bytes_max = if opcode.is_control() { CONTROL_BYTES_MAX } else { max };
        let payload_bytes = usize::try_from(length)
            .ok()
            .filter(|length| held.checked_add(*length).is_some_and(|total| total <= bytes_max))
            .ok_or(DecodeError::TooBig { max })?;
        let mask = &bytes[header_bytes - 4..header_bytes];
        Ok(Some(ClientHeader {
            fin,
            compressed,
            opcode,
            mask: [mask[0], mask[1], mask[2], mask[3]],
            header_bytes,
            payload_bytes,
        }))
    }

    fn take(
        &mut self,
        header: &ClientHeader,
        payload: std::ops::Range<usize>,
        inflater: &mut Inflater,
    ) -> Result<Option<Message>, DecodeError> {
        let payload = &self.pending[payload];
        match header.opcode {
            Opcode::Ping => return Ok(Some(Message::Ping(payload.to_vec()))),
            Opcode::Pong => return Ok(Some(Message::Pong)),
            Opcode::Close => return close(payload).map(Some),
            Opcode::Continuation => {
                let partial = self.partial.as_mut().ok_or(DecodeError::StrayContinuation)?;
                partial.data.extend_from_slice(payload);
            }
            opcode if self.partial.is_none() => {
                let data = payload.to_vec();
                self.partial = Some(Box::new(Partial { opcode, compressed: header.compressed, data }));
            }
            _ => return Err(DecodeError::InterruptedMessage),
        }
        if !header.fin {
            return Ok(None);
        }
        let Some(whole) = self.partial.take() else { return Ok(None) };
        let data = if whole.compressed {
            inflater.inflate(&whole.data, self.message_bytes_max as usize).map_err(|error| match error {
                InflateError::TooBig { max } => DecodeError::TooBig { max },
                InflateError::Broken(reason) => DecodeError::BadDeflate(reason),
            })?
        } else {
            whole.data
        };
        Ok(Some(match whole.opcode {
            Opcode::Text => Message::Text(String::from_utf8(data).map_err(|_| DecodeError::NotUtf8)?),
            _ => Message::Binary(data),
        }))
    }

    /// Forgets what was consumed, and gives the memory back once nothing is left.
    fn compact(&mut self) {
        if self.pending_bytes() == 0 {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..self.start as usize);
        }
        self.start = 0;
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

fn close(payload: &[u8]) -> Result<Message, DecodeError> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(Message::Close(None)) } else { Err(DecodeError::BadClose) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    // 1004 to 1006 and 1015 are never sent; 1016 to 2999 are for later versions of the protocol.
    let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !sendable {
        return Err(DecodeError::BadClose);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(DecodeError::NotUtf8);
    }
    Ok(Message::Close(Some(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// A client's frame: first byte as given, payload masked.
    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, Opcode::Text, false, payload.len());
        out[0] = first;
        out[1] |= 0x80;
        out.extend_from_slice(&KEY);
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        out
    }

    /// Feeds `bytes` in pieces of `step` and gives what came out, errors as the last element.
    fn decode(bytes: &[u8], step: usize, max: usize, deflate: bool) -> Vec<Result<Message, DecodeError>> {
        let mut decoder = Decoder::new(max, deflate);
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece);
            loop {
                match decoder.next(&mut inflater) {
                    Ok(Some(message)) => out.push(Ok(message)),
                    Ok(None) => break,
                    Err(error) => {
                        out.push(Err(error));
                        return out;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_are_cut() {
        let mut bytes = client_frame(0x81, b"hello");
        bytes.extend(client_frame(0x01, b"fr"));
        bytes.extend(client_frame(0x89, b"ping"));
        bytes.extend(client_frame(0x00, b"ag"));
        bytes.extend(client_frame(0x80, b"mented"));
        bytes.extend(client_frame(0x82, &[7; 70_000]));
        bytes.extend(client_frame(0x8A, b""));
        bytes.extend(client_frame(0x88, &[0x03, 0xE8]));
        for step in [1, 2, 7, 1000, bytes.len()] {
            let expected = vec![
                Ok(Message::Text("hello".into())),
                Ok(Message::Ping(b"ping".to_vec())),
                Ok(Message::Text("fragmented".into())),
                Ok(Message::Binary(vec![7; 70_000])),
                Ok(Message::Pong),
                Ok(Message::Close(Some(1000))),
            ];
            assert!(decode(&bytes, step, 1 << 20, false) == expected, "in steps of {step}");
        }
    }

    #[test]
    fn broken_frames_are_refused_with_the_rule_they_break() {
        let mut unmasked = Vec::new();
        put_frame(&mut unmasked, Opcode::Text, b"x");
        let long_length = [0x81, 0x80 | 126, 0, 5, 1, 2, 3, 4, 0, 0, 0, 0, 0];
        let huge = [0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        let interrupted = [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat();
        let grows = [client_frame(0x01, &[b'a'; 60]), client_frame(0x80, &[b'a'; 70])].concat();
        for (bytes, expected) in [
            (unmasked, DecodeError::Unmasked),
            (client_frame(0xC1, b"x"), DecodeError::ReservedBits { bits: 0b100 }),
            (client_frame(0x91, b"x"), DecodeError::ReservedBits { bits: 0b001 }),
            (client_frame(0x83, b"x"), DecodeError::ReservedOpcode { opcode: 3 }),
            (client_frame(0x09, b"x"), DecodeError::BadControl),
            (client_frame(0x89, &[0; 126]), DecodeError::BadControl),
            (client_frame(0x80, b"x"), DecodeError::StrayContinuation),
            (client_frame(0x88, &[3]), DecodeError::BadClose),
            (client_frame(0x88, &[3, 0xED]), DecodeError::BadClose),
            (client_frame(0x88, &[3, 0xE8, 0xFF]), DecodeError::NotUtf8),
            (client_frame(0x81, &[0xFF]), DecodeError::NotUtf8),
            (client_frame(0x82, &[0; 129]), DecodeError::TooBig { max: 128 }),
            (long_length.to_vec(), DecodeError::LongLength),
            (huge.to_vec(), DecodeError::TooBig { max: 128 }),
            (interrupted, DecodeError::InterruptedMessage),
            (grows, DecodeError::TooBig { max: 128 }),
        ] {
            let expected = Some(Err(expected));
            assert_eq!(decode(&bytes, 1, 128, false).pop(), expected);
            assert_eq!(decode(&bytes, bytes.len(), 128, false).pop(), expected);
        }
    }

    #[test]
    fn parts_are_what_a_frame_was_made_of() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut frame = Vec::new();
            put_frame(&mut frame, Opcode::Binary, &payload);
            assert!(parts(&frame) == Some((Opcode::Binary, &payload[..])), "{length} bytes");
        }
        for broken in [&b""[..], b"\x81", b"\x81\x7E\x01", b"\x83\x00"] {
            assert_eq!(parts(broken), None);
        }
    }

    #[test]
    fn an_idle_decoder_holds_no_memory() {
        let mut decoder = Decoder::new(1 << 20, false);
        decoder.push(&client_frame(0x82, &[0; 50_000]));
        let mut inflater = Inflater::new();
        while decoder.next(&mut inflater) != Ok(None) {}
        assert!(decoder.is_empty());
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn what_is_held_of_a_message_is_known() {
        let mut decoder = Decoder::new(1 << 20, false);
        let mut inflater = Inflater::new();
        for (bytes, amid) in [
            (client_frame(0x01, &[b'a'; 5000]), true),
            (client_frame(0x89, b"ping"), true),
            (client_frame(0x00, &[b'a'; 5000]), true),
            (vec![0x80], true),
            (client_frame(0x80, b"")[1..].to_vec(), false),
            (vec![0x8A], false),
        ] {
            decoder.push(&bytes);
            while decoder.next(&mut inflater).expect("good bytes").is_some() {}
            assert_eq!(decoder.is_amid_message(), amid);
            assert_eq!(decoder.held_bytes() >= 5000, amid);
            assert_eq!(decoder.is_empty(), decoder.held_bytes() == 0);
        }
        decoder.clear();
        assert!(decoder.is_empty() && decoder.held_bytes() == 0);
    }
}
