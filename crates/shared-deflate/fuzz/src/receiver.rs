//! A recipient of deflated messages that keeps context: a stock inflater, and beside it one that is strict.
//!
//! Inflaters may hold more than the agreed window, and the stock one does: it keeps 32 KiB whatever was agreed on. The
//! strict one refuses each distance that an inflater with exactly the agreed window could not follow.

use flate2::{Decompress, FlushDecompress};

use super::strict_inflater::{StrictInflater, TAIL};

/// One recipient.
pub struct Receiver {
    stock: Decompress,
    strict: StrictInflater,
    window_bits: u8,
}

impl Receiver {
    pub fn new(window_bits: u8) -> Receiver {
        let stock = Decompress::new_with_window_bits(false, window_bits);
        Receiver { stock, strict: StrictInflater::new(window_bits), window_bits }
    }

    /// It has received nothing.
    pub fn reset(&mut self) {
        *self = Receiver::new(self.window_bits);
    }

    /// The text of a message, which has about so many bytes.
    pub fn read(&mut self, deflated: &[u8], bytes: usize) -> Vec<u8> {
        let whole = [deflated, &TAIL].concat();
        let mut out = Vec::with_capacity(bytes + 64);
        let before = self.stock.total_in();
        self.stock.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("a message is DEFLATE data");
        assert_eq!(self.stock.total_in() - before, whole.len() as u64, "everything is taken");
        assert!(self.strict.inflate(deflated) == out, "the strict inflater reads another text");
        out
    }
}
