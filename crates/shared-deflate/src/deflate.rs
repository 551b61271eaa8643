//! Payloads of permessage-deflate (RFC 7692 section 7.2): a deflater that is cut, and a bounded inflater.
//!
//! A [`Deflater`] keeps its window from message to message until it is cut ("context takeover", RFC 7692 section
//! 7.1.1). What it makes after a cut refers to nothing from before. Cut before each message, it is stateless, and each
//! of its messages can be read by anyone at any moment.
//!
//! An [`Inflater`] reads messages that stand alone, from any number of senders, or all messages of one sender. A small
//! message cannot become a large one.

use flate2::{Decompress, FlushDecompress, Status};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

/// The end of a deflated message, which is not sent (RFC 7692 section 7.2.1). With it, messages are parts of one deflate
/// stream, as gzip has it.
pub const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Widest window there is: 2^15 bytes (RFC 7692 section 7.1.2).
pub const WINDOW_BITS_MAX: u8 = 15;
/// Narrowest window that zlib can deflate with: 2^9 bytes. RFC 7692 knows one of 2^8 too.
pub const WINDOW_BITS_MIN: u8 = 9;

/// 2^(6 + 6) literals and matches of a block at most. zlib's default of 8 makes a buffer of 48 KiB, which zlib-rs
/// clears with each flush: a tenth of the CPU of a short message. With 6 no recorded market-data feed takes more bytes.
const MEM_LEVEL: i32 = 6;

/// Deflates messages, each with the window of those since the last cut. It takes some 300 KiB of memory with 15 bits.
pub struct Deflater {
    deflate: Deflate,
}

impl Deflater {
    /// `level` is zlib's, 1 (fast) to 9 (small); `window_bits` is from [`WINDOW_BITS_MIN`] to [`WINDOW_BITS_MAX`].
    ///
    /// # Panics
    /// One of the two is out of its range.
    pub fn new(level: u32, window_bits: u8) -> Deflater {
        assert!((1..=9).contains(&level), "expected a level from 1 to 9, found {level}");
        let range = WINDOW_BITS_MIN..=WINDOW_BITS_MAX;
        assert!(range.contains(&window_bits), "expected a window of 9 to 15 bits, found {window_bits}");
        // A negative size stands for a stream without zlib's header.
        let (level, window_bits) = (level as i32, -i32::from(window_bits));
        let config = DeflateConfig { level, window_bits, mem_level: MEM_LEVEL, ..DeflateConfig::default() };
        Deflater { deflate: Deflate::new_with_config(config) }
    }

    /// Forgets the window: what follows can be inflated without anything from before. The receiver need not know of it.
    pub fn cut(&mut self) {
        self.deflate.reset();
    }

    /// Appends the deflated payload of a message to `out` (RFC 7692 section 7.2.1).
    pub fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() {
            // RFC 7692 section 7.2.3.6; a flush of nothing would give no block at all.
            out.push(0x00);
            return;
        }
        let (mut rest, mut written) = (payload, out.len());
        loop {
            // Enough for incompressible data but for the odd case; the loop covers the rest.
            out.resize(written + rest.len() + rest.len() / 1024 + 64, 0);
            let before = (self.deflate.total_in(), self.deflate.total_out());
            self.deflate
                .compress(rest, &mut out[written..], DeflateFlush::SyncFlush)
                .expect("deflate fails on a wrong stream state only, and nothing ends this stream");
            rest = &rest[(self.deflate.total_in() - before.0) as usize..];
            written += (self.deflate.total_out() - before.1) as usize;
            // Spare room in `out` after a sync flush means that everything was flushed.
            if rest.is_empty() && written < out.len() {
                break;
            }
        }
        out.truncate(written);
        assert!(out.ends_with(&TAIL), "a sync flush ends in an empty stored block");
        out.truncate(written - TAIL.len());
    }
}

/// Appends the payload of a message in stored blocks (RFC 1951 section 3.2.4, RFC 7692 section 7.2.3.3) to `out`. It is
/// five bytes longer for each 64 KiB, refers to nothing, and enters the recipient's window: for what does not shrink, and
/// for what is longer than the window.
pub fn store(payload: &[u8], out: &mut Vec<u8>) {
    for block in payload.chunks(u16::MAX.into()) {
        let bytes = block.len() as u16;
        out.push(0x00);
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(&(!bytes).to_le_bytes());
        out.extend_from_slice(block);
    }
    // The header of the empty block whose length is not sent.
    out.push(0x00);
}

/// Why a message could not be inflated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The inflated message is larger than allowed.
    #[error("expected a message of at most {max} bytes, found a larger one")]
    TooBig {
        /// Limit of the inflated message, in bytes.
        max: usize,
    },
    /// The data are not DEFLATE; what is wrong with them.
    #[error("expected DEFLATE data (RFC 7692 section 7.2.2): {0}")]
    Broken(String),
}

/// Inflates messages (RFC 7692 section 7.2.2), each by itself or each with the window of those before it.
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
    /// An inflater with the widest window, which fits whatever window the sender deflates with.
    pub fn new() -> Inflater {
        Inflater { decompress: Decompress::new(false) }
    }

    /// The inflated payload, at most `bytes_max` long, of a message that stands alone. Whatever the inflater has read
    /// before, it is fit for the next such message.
    ///
    /// # Errors
    /// The payload is larger than that, or no DEFLATE data.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
        self.decompress.reset(false);
        self.inflate_with_context(payload, bytes_max)
    }

    /// As [`inflate`](Inflater::inflate), but with the window of the messages before ("context takeover", RFC 7692
    /// section 7.1.1): for one sender, and all of its compressed messages in their order.
    ///
    /// # Errors
    /// As [`inflate`](Inflater::inflate); then no later message of this sender can be read.
    pub fn inflate_with_context(&mut self, payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
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
                return Err(InflateError::TooBig { max: bytes_max });
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
        let mut deflater = Deflater::new(6, 15);
        let mut inflater = Inflater::new();
        let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for payload in [&b""[..], b"a", br#"{"price":"61837.63000000"}"#, &[b'x'; 100_000], &noise] {
            let mut out = b"before".to_vec();
            deflater.cut();
            deflater.deflate(payload, &mut out);
            assert!(out.starts_with(b"before"));
            let inflated = inflater.inflate(&out[6..], payload.len()).expect("own output");
            assert!(inflated == payload, "{} bytes", payload.len());
            let mut stored = Vec::new();
            store(payload, &mut stored);
            assert!(inflater.inflate(&stored, payload.len()).as_deref() == Ok(payload), "{} bytes", payload.len());
        }
    }

    #[test]
    fn a_window_is_kept_until_it_is_cut() {
        for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            let mut deflater = Deflater::new(6, window_bits);
            let mut sizes = Vec::new();
            let mut stock = Decompress::new_with_window_bits(false, window_bits);
            for cut in [true, false, false, true] {
                if cut {
                    deflater.cut();
                    // A recipient that boards at a cut has seen nothing from before.
                    stock.reset(false);
                }
                let mut out = Vec::new();
                deflater.deflate(br#"{"topic":"quote.AAPL","bid":227.63,"ask":227.64}"#, &mut out);
                sizes.push(out.len());
                out.extend_from_slice(&TAIL);
                let mut text = Vec::with_capacity(100);
                stock.decompress_vec(&out, &mut text, FlushDecompress::Sync).expect("own output");
                assert_eq!(text, br#"{"topic":"quote.AAPL","bid":227.63,"ask":227.64}"#);
            }
            assert!(sizes[1] * 3 < sizes[0], "{window_bits} bits: a repeat is small: {sizes:?}");
            assert_eq!(sizes[0], sizes[3]);
        }
    }

    #[test]
    fn a_small_message_cannot_become_a_large_one() {
        let mut bomb = Vec::new();
        Deflater::new(9, 15).deflate(&vec![0; 10_000_000], &mut bomb);
        assert!(bomb.len() < 20_000);
        assert_eq!(Inflater::new().inflate(&bomb, 65_536), Err(InflateError::TooBig { max: 65_536 }));
    }

    #[test]
    fn garbage_is_refused_and_the_next_message_is_read() {
        let mut inflater = Inflater::new();
        assert!(matches!(inflater.inflate(&[0xFF; 40], 1000), Err(InflateError::Broken(_))));
        let mut good = Vec::new();
        Deflater::new(1, 15).deflate(b"good", &mut good);
        assert_eq!(inflater.inflate(&good, 1000).as_deref(), Ok(&b"good"[..]));
    }
}
