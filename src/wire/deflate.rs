//! permessage-deflate payloads (RFC 7692 section 7.2) without a window kept between messages.
//!
//! Both directions are stateless: a deflated message can be read by anyone at any moment, and one inflater serves all
//! sessions of a shard. Inflating is bounded, so that a small message cannot become a large one.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a deflated message ends in and the wire leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Deflates messages, each on its own.
pub struct Deflater {
    compress: Compress,
}

impl Deflater {
    /// `level` is zlib's, 1 (fast) to 9 (small).
    pub fn new(level: u32) -> Deflater {
        Deflater { compress: Compress::new(Compression::new(level), false) }
    }

    /// Appends the deflated payload to `out`.
    pub fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.compress.reset();
        let first = out.len();
        loop {
            // zlib's bound for incompressible data is 5 bytes per 16 KiB and a few more; the loop covers the rest.
            out.reserve(payload.len() + payload.len() / 1024 + 64);
            let consumed = self.compress.total_in() as usize;
            self.compress
                .compress_vec(&payload[consumed..], out, FlushCompress::Sync)
                .expect("deflate fails on a wrong stream state only, and the stream was reset");
            // Spare room in `out` after a sync flush means that everything was flushed.
            if self.compress.total_in() as usize == payload.len() && out.len() < out.capacity() {
                break;
            }
        }
        assert!(out[first..].ends_with(&TAIL), "a sync flush ends in an empty stored block");
        out.truncate(out.len() - TAIL.len());
    }
}

/// Why a message could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub enum InflateError {
    TooBig,
    Broken(String),
}

/// Inflates messages of clients that agreed to `client_no_context_takeover`.
#[derive(Debug)]
pub struct Inflater {
    decompress: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

impl Inflater {
    pub fn new() -> Inflater {
        Inflater { decompress: Decompress::new(false) }
    }

    /// The inflated payload, at most `bytes_max` long.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
        self.decompress.reset(false);
        let mut out = Vec::new();
        self.feed(payload, &mut out, bytes_max)?;
        self.feed(&TAIL, &mut out, bytes_max)?;
        Ok(out)
    }

    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), InflateError> {
        loop {
            if out.len() == out.capacity() {
                // Doubling up to one byte over the limit: that byte tells that the limit is exceeded.
                let more = out.capacity().max(256).min(bytes_max + 1 - out.len());
                out.reserve_exact(more);
            }
            let (in_before, out_before) = (self.decompress.total_in(), out.len());
            let status = self
                .decompress
                .decompress_vec(input, out, FlushDecompress::Sync)
                .map_err(|error| InflateError::Broken(error.to_string()))?;
            input = &input[(self.decompress.total_in() - in_before) as usize..];
            if out.len() > bytes_max {
                return Err(InflateError::TooBig);
            }
            match status {
                // A final block is allowed (RFC 7692 section 7.2.3.5); what follows it is not part of the message.
                Status::StreamEnd => {
                    self.decompress.reset(false);
                    return Ok(());
                }
                _ if input.is_empty() && out.len() < out.capacity() => return Ok(()),
                _ if out.len() == out.capacity() => {}
                _ if out.len() == out_before => {
                    return Err(InflateError::Broken("the data ends inside a block".into()));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deflated_inflates_to_itself() {
        let mut deflater = Deflater::new(6);
        let mut inflater = Inflater::new();
        let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for payload in [&b""[..], b"a", br#"{"price":"61837.63000000"}"#, &[b'x'; 100_000], &noise] {
            let mut out = b"before".to_vec();
            deflater.deflate(payload, &mut out);
            assert!(out.starts_with(b"before"));
            let inflated = inflater.inflate(&out[6..], payload.len()).expect("own output");
            assert!(inflated == payload, "{} bytes", payload.len());
        }
    }

    #[test]
    fn a_small_message_cannot_become_a_large_one() {
        let mut bomb = Vec::new();
        Deflater::new(9).deflate(&vec![0; 10_000_000], &mut bomb);
        assert!(bomb.len() < 20_000);
        assert_eq!(Inflater::new().inflate(&bomb, 65_536), Err(InflateError::TooBig));
    }

    #[test]
    fn garbage_is_refused_and_the_next_message_is_read() {
        let mut inflater = Inflater::new();
        assert!(matches!(inflater.inflate(&[0xFF; 40], 1000), Err(InflateError::Broken(_))));
        let mut good = Vec::new();
        Deflater::new(1).deflate(b"good", &mut good);
        assert_eq!(inflater.inflate(&good, 1000).as_deref(), Ok(&b"good"[..]));
    }
}
