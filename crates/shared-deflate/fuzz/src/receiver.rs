//! A recipient of deflated messages that keeps context: a stock inflater, and beside it one that is strict.
//!
//! Inflaters may hold more than the agreed window, and the stock one does: it keeps 32 KiB whatever was agreed on. The
//! strict one refuses each distance that an inflater with exactly the agreed window could not follow.

use flate2::{Decompress, FlushDecompress};

/// The end of a deflated message, which is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// First value and extra bits of the symbols of lengths and distances (RFC 1951 section 3.2.5).
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(usize, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// One recipient.
pub struct Receiver {
    stock: Decompress,
    window_bits: u8,
    /// What is in the window.
    text: Vec<u8>,
}

impl Receiver {
    pub fn new(window_bits: u8) -> Receiver {
        let stock = Decompress::new_with_window_bits(false, window_bits);
        Receiver { stock, window_bits, text: Vec::new() }
    }

    /// It has received nothing.
    pub fn reset(&mut self) {
        *self = Receiver::new(self.window_bits);
    }

    /// The text of a message, which has this many bytes.
    pub fn read(&mut self, deflated: &[u8], bytes: usize) -> Vec<u8> {
        let whole = [deflated, &TAIL].concat();
        let mut out = Vec::with_capacity(bytes + 64);
        let before = self.stock.total_in();
        self.stock.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("a message is DEFLATE data");
        assert_eq!(self.stock.total_in() - before, whole.len() as u64, "everything is taken");
        self.check(&whole, &out);
        out
    }

    /// The strict inflater reads the same.
    fn check(&mut self, whole: &[u8], expected: &[u8]) {
        let window_bytes = 1 << self.window_bits;
        self.text.drain(..self.text.len().saturating_sub(window_bytes));
        let start = self.text.len();
        let mut bits = Bits { bytes: whole, at: 0 };
        while !bits.is_at_end() {
            assert_eq!(bits.take(1), 0, "no block of the message is the final one");
            match bits.take(2) {
                0 => self.text.extend_from_slice(bits.stored()),
                1 => {
                    let lengths = [[8; 144].as_slice(), &[9; 112], &[7; 24], &[8; 8]].concat();
                    self.block(&mut bits, &Code::new(&lengths), &Code::new(&[5; 30]), window_bytes);
                }
                2 => {
                    let (literals, distances) = dynamic_codes(&mut bits);
                    self.block(&mut bits, &literals, &distances, window_bytes);
                }
                kind => panic!("a block of kind {kind}"),
            }
        }
        assert!(self.text[start..] == *expected, "the strict inflater reads another text");
    }

    fn block(&mut self, bits: &mut Bits<'_>, literals: &Code, distances: &Code, window_bytes: usize) {
        loop {
            match literals.decode(bits) {
                literal @ 0..256 => self.text.push(literal as u8),
                256 => return,
                symbol => {
                    let (length, extra) = LENGTHS[symbol - 257];
                    let length = length + bits.take(extra);
                    let (distance, extra) = DISTANCES[distances.decode(bits)];
                    let distance = distance + bits.take(extra);
                    assert!(distance <= window_bytes, "distance {distance}, window {window_bytes}");
                    for _ in 0..length {
                        self.text.push(self.text[self.text.len() - distance]);
                    }
                }
            }
        }
    }
}

fn dynamic_codes(bits: &mut Bits<'_>) -> (Code, Code) {
    let (literals, distances, count) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut lengths = [0; 19];
    for &symbol in &LENGTH_ORDER[..count] {
        lengths[symbol] = bits.take(3) as u8;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, repeats) = match code.decode(bits) {
            16 => (lengths[lengths.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, repeats));
    }
    assert_eq!(lengths.len(), literals + distances);
    (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
}

/// A canonical code: how many words there are of each length, and the symbols in the order of their words.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Code {
        let mut counts = [0; 16];
        lengths.iter().for_each(|length| counts[usize::from(*length)] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Code { counts, symbols }
    }

    fn decode(&self, bits: &mut Bits<'_>) -> usize {
        let (mut word, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            word |= bits.take(1);
            if word < first + count {
                return self.symbols[index + word - first];
            }
            index += count;
            first = (first + count) << 1;
            word <<= 1;
        }
        panic!("a word of no symbol");
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len() * 8
    }

    fn take(&mut self, count: u32) -> usize {
        let mut value = 0;
        for place in 0..count {
            value |= usize::from(self.bytes[self.at / 8] >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        value
    }

    fn stored(&mut self) -> &'a [u8] {
        self.at = self.at.next_multiple_of(8);
        let (length, complement) = (self.take(16), self.take(16));
        assert_eq!(length ^ complement, 0xFFFF);
        let start = self.at / 8;
        self.at += 8 * length;
        &self.bytes[start..][..length]
    }
}
