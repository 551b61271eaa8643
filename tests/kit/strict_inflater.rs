//! An inflater that takes nothing from outside the window that was agreed on.
//!
//! Stock inflaters also look up in what they have put out since they were called. So this one asks zlib for one byte at a
//! time: a reference that reaches a single byte too far is an error.

use flate2::{Decompress, FlushDecompress, Status};

/// What a deflated message ends in and the wire leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Never reset: what a message refers to must be in the window.
pub struct StrictInflater(Decompress);

impl StrictInflater {
    pub fn new(window_bits: u8) -> StrictInflater {
        StrictInflater(Decompress::new_with_window_bits(false, window_bits))
    }

    /// The text of the payload of one message.
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        self.try_inflate(payload).unwrap_or_else(|error| panic!("expected a message for this window, found {error}"))
    }

    /// An error if the message refers to what is not in the window.
    pub fn try_inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, flate2::DecompressError> {
        let input = [payload, &TAIL].concat();
        let (mut out, mut used) = (Vec::with_capacity(payload.len() * 8), 0);
        loop {
            let (mut byte, before) = ([0], (self.0.total_in(), self.0.total_out()));
            let status = self.0.decompress(&input[used..], &mut byte, FlushDecompress::Sync)?;
            used += (self.0.total_in() - before.0) as usize;
            let put = self.0.total_out() > before.1;
            if put {
                out.push(byte[0]);
            }
            // A full buffer may hide that there is more.
            if !put && (used == input.len() || status == Status::BufError) {
                return Ok(out);
            }
        }
    }
}
