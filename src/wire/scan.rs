//! A server's WireFrames (RFC 6455 section 5.2) in a stream that is cut anywhere, for who counts them and reads few.
//!
//! A scanner holds a head of at most 19 bytes between two reads, never a payload.

/// Bytes of a payload that are shown with its head: enough to tell a notice from a frame, and which notice it is.
pub const START_BYTES: usize = 9;
const HEADER_BYTES_MAX: usize = 10;

/// What the first bytes of a WireFrame tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub header_bytes: usize,
    pub payload_bytes: u64,
}

/// The stream is not a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an unmasked frame from a server (RFC 6455 section 5.1), found a masked one")]
pub struct Masked;

impl FrameHead {
    /// The head that `bytes` begin with; none if it is not whole.
    pub fn read(bytes: &[u8]) -> Result<Option<FrameHead>, Masked> {
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
        Ok(Some(FrameHead { first, header_bytes: 2 + length_bytes, payload_bytes }))
    }

    /// The low four bits of the first byte, as in `Opcode`.
    pub fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    /// Whether the payload is deflated (RSV1, RFC 7692 section 6).
    pub fn is_deflated(&self) -> bool {
        self.first & 0x40 != 0
    }
}

/// Where a stream stands between two reads.
#[derive(Debug, Default)]
pub struct FrameScanner {
    /// The beginning of a WireFrame whose head a read has cut.
    held: [u8; HEADER_BYTES_MAX + START_BYTES],
    held_bytes: usize,
    /// Bytes of the current WireFrame that are still to come.
    skip: u64,
}

impl FrameScanner {
    /// Takes received bytes and shows each head that is whole now, with the first bytes of its payload: `START_BYTES`,
    /// or all of a shorter one.
    pub fn scan(&mut self, mut bytes: &[u8], mut show: impl FnMut(&FrameHead, &[u8])) -> Result<(), Masked> {
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
            // Only where a read has cut a head: byte by byte until it is whole.
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

/// FrameHead and start of the payload, once both are there.
fn glance(bytes: &[u8]) -> Result<Option<(FrameHead, &[u8])>, Masked> {
    let Some(head) = FrameHead::read(bytes)? else { return Ok(None) };
    let start_bytes = usize::try_from(head.payload_bytes).map_or(START_BYTES, |bytes| bytes.min(START_BYTES));
    Ok(bytes.get(head.header_bytes..head.header_bytes + start_bytes).map(|start| (head, start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Opcode, put_frame};

    /// What a scan shows of a stream that comes in pieces of so many bytes.
    fn shown(stream: &[u8], piece_bytes: usize) -> Vec<(u8, u64, Vec<u8>)> {
        let mut scanner = FrameScanner::default();
        let mut shown = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            let show = |head: &FrameHead, start: &[u8]| shown.push((head.opcode(), head.payload_bytes, start.to_vec()));
            scanner.scan(piece, show).expect("unmasked");
        }
        assert_eq!((scanner.skip, scanner.held_bytes), (0, 0), "the stream ends with a whole frame");
        shown
    }

    #[test]
    fn every_head_is_shown_once_wherever_the_stream_is_cut() {
        let mut stream = Vec::new();
        let lengths = [0, 1, 8, 9, 10, 125, 126, 1000, 65_535, 65_536, 70_000, 3, 0, 0, 40];
        for length in lengths {
            put_frame(&mut stream, Opcode::Text, &[b'x'; 70_000][..length]);
            put_frame(&mut stream, Opcode::Ping, b"");
        }
        let expected: Vec<_> = lengths
            .iter()
            .flat_map(|length| [(1, *length as u64, vec![b'x'; (*length).min(START_BYTES)]), (9, 0, Vec::new())])
            .collect();
        for piece_bytes in [1, 2, 3, 7, 11, 12, 19, 20, 64, 1000, 65_537, stream.len()] {
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
