//! The frames of a server (RFC 6455 section 5.2) in a stream that is cut anywhere, for a client that counts all frames
//! and reads few.
//!
//! A [`FrameScanner`] holds at most one header and the start of one payload between two reads, never a payload.

use crate::frame::Opcode;

/// Bytes of a payload that are shown with its header: enough to tell kinds of messages apart by how they begin.
pub const START_BYTES: usize = 16;
/// Longest header of an unmasked frame.
const HEADER_BYTES_MAX: usize = 10;

/// The header of an unmasked frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The first byte: FIN, the reserved bits and the opcode.
    pub first: u8,
    /// Length of the header itself, 2 to 10.
    pub header_bytes: usize,
    /// Length of the payload, as it is sent.
    pub payload_bytes: u64,
}

/// The stream is not that of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an unmasked frame from a server (RFC 6455 section 5.1), found a masked one")]
pub struct Masked;

impl FrameHeader {
    /// The header that `bytes` begin with; none if it is not whole.
    ///
    /// # Errors
    /// The frame is masked.
    pub fn read(bytes: &[u8]) -> Result<Option<FrameHeader>, Masked> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(Masked);
        }
        let length_bytes = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = bytes.get(2..2 + length_bytes) else { return Ok(None) };
        let payload_bytes = match length_bytes {
            0 => u64::from(second),
            _ => length.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        Ok(Some(FrameHeader { first, header_bytes: 2 + length_bytes, payload_bytes }))
    }

    /// None if it is a reserved one.
    pub fn opcode(&self) -> Option<Opcode> {
        Opcode::of(self.first)
    }

    /// Whether the frame starts a compressed message (RSV1, RFC 7692 section 6).
    pub fn is_compressed(&self) -> bool {
        self.first & 0x40 != 0
    }
}

/// Where a stream stands between two reads.
#[derive(Debug, Default)]
pub struct FrameScanner {
    /// The beginning of a frame whose header or start a read has cut.
    held: [u8; HEADER_BYTES_MAX + START_BYTES],
    held_bytes: usize,
    /// Bytes of the current frame that are still to come.
    skip: u64,
}

impl FrameScanner {
    /// Takes received bytes and shows each header that is whole now, with the first bytes of its payload:
    /// [`START_BYTES`], or all of a shorter one.
    ///
    /// # Errors
    /// A frame is masked. The scanner must not be used again.
    pub fn scan(&mut self, mut bytes: &[u8], mut show: impl FnMut(&FrameHeader, &[u8])) -> Result<(), Masked> {
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            if self.held_bytes == 0
                && let Some((head, start)) = glance(bytes)?
            {
                show(&head, start);
                self.skip = head.payload_bytes.saturating_add(head.header_bytes as u64);
                continue;
            }
            // Only where a read has cut a header or a start: byte by byte until both are whole.
            self.held[self.held_bytes] = bytes[0];
            self.held_bytes += 1;
            bytes = &bytes[1..];
            if let Some((head, start)) = glance(&self.held[..self.held_bytes])? {
                show(&head, start);
                self.skip = head.payload_bytes - start.len() as u64;
                self.held_bytes = 0;
            }
        }
    }
}

/// Header and start of the payload, once both are there.
fn glance(bytes: &[u8]) -> Result<Option<(FrameHeader, &[u8])>, Masked> {
    let Some(head) = FrameHeader::read(bytes)? else { return Ok(None) };
    let start_bytes = usize::try_from(head.payload_bytes).map_or(START_BYTES, |bytes| bytes.min(START_BYTES));
    Ok(bytes.get(head.header_bytes..head.header_bytes + start_bytes).map(|start| (head, start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::put_frame;

    /// What a scan shows of a stream that comes in pieces of so many bytes.
    fn shown(stream: &[u8], piece_bytes: usize) -> Vec<(Option<Opcode>, u64, Vec<u8>)> {
        let mut scanner = FrameScanner::default();
        let mut shown = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            let show =
                |head: &FrameHeader, start: &[u8]| shown.push((head.opcode(), head.payload_bytes, start.to_vec()));
            scanner.scan(piece, show).expect("unmasked");
        }
        assert_eq!((scanner.skip, scanner.held_bytes), (0, 0), "the stream ends with a whole frame");
        shown
    }

    #[test]
    fn every_header_is_shown_once_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        let lengths = [0, 1, 15, 16, 17, 125, 126, 1000, 65_535, 65_536, 70_000, 3, 0, 0, 40];
        for length in lengths {
            put_frame(&mut stream, Opcode::Text, &[b'x'; 70_000][..length]);
            put_frame(&mut stream, Opcode::Ping, b"");
        }
        let expected: Vec<_> = lengths
            .iter()
            .flat_map(|&length| {
                let text = (Some(Opcode::Text), length as u64, vec![b'x'; length.min(START_BYTES)]);
                [text, (Some(Opcode::Ping), 0, Vec::new())]
            })
            .collect();
        for piece_bytes in [1, 2, 3, 7, 18, 19, 26, 27, 64, 1000, 65_537, stream.len()] {
            assert_eq!(shown(&stream, piece_bytes), expected, "pieces of {piece_bytes} bytes");
        }
    }

    #[test]
    fn a_masked_frame_is_refused_and_an_endless_one_is_no_panic() {
        assert_eq!(FrameScanner::default().scan(&[0x81, 0x80], |_, _| {}), Err(Masked));
        let mut scanner = FrameScanner::default();
        let mut endless = vec![0x82, 127];
        endless.extend_from_slice(&[0xFF; 100]);
        for _ in 0..3 {
            assert_eq!(scanner.scan(&endless, |head, _| assert_eq!(head.payload_bytes, u64::MAX)), Ok(()));
        }
    }
}
