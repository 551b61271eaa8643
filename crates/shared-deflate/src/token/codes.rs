//! The alphabets of DEFLATE (RFC 1951 section 3.2.5): symbols of lengths and distances, and codes for them.

/// Symbol that ends a block.
pub(super) const END_OF_BLOCK: usize = 256;
/// Literals, the end of a block, and lengths.
pub(super) const LITERALS: usize = 286;
/// Symbols of distances.
pub(super) const DISTANCES: usize = 30;
/// Shortest and longest match.
pub(super) const MATCH_BYTES_MIN: usize = 3;
pub(super) const MATCH_BYTES_MAX: usize = 258;

/// A code word, first bit lowest, as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodeWord {
    pub(super) bits: u16,
    pub(super) count: u8,
}

/// A symbol, and the bits that follow its code word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) symbol: u16,
    pub(super) extra: u16,
    pub(super) extra_count: u8,
}

/// Code words of the fixed Huffman code (RFC 1951 section 3.2.6).
pub(super) static FIXED_LITERALS: [CodeWord; LITERALS] = fixed_literals();

/// Code words of distances, by the kind of block.
pub(super) static FIXED_DISTANCES: [CodeWord; DISTANCES] = fixed_distances();

/// The symbol of a match of `bytes` bytes, 3 to 258.
pub(super) fn length(bytes: usize) -> Coded {
    LENGTHS[bytes - MATCH_BYTES_MIN]
}

/// The symbol of a distance, 1 to 32768.
#[inline(always)]
pub(super) fn distance(bytes: u32) -> Coded {
    let from_one = bytes - 1;
    if from_one < 4 {
        return Coded { symbol: from_one as u16, extra: 0, extra_count: 0 };
    }
    let extra_count = 30 - from_one.leading_zeros();
    let symbol = 2 * extra_count + (from_one >> extra_count);
    Coded { symbol: symbol as u16, extra: (from_one & ((1 << extra_count) - 1)) as u16, extra_count: extra_count as u8 }
}

/// The code words that code lengths stand for (RFC 1951 section 3.2.2).
pub(super) const fn words<const N: usize>(counts: &[u8; N]) -> [CodeWord; N] {
    let mut of_length = [0u16; 16];
    let mut at = 0;
    while at < N {
        of_length[counts[at] as usize] += 1;
        at += 1;
    }
    of_length[0] = 0;
    let mut next = [0u16; 16];
    let mut length = 1;
    while length < 16 {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
        length += 1;
    }
    let mut words = [CodeWord { bits: 0, count: 0 }; N];
    at = 0;
    while at < N {
        let count = counts[at];
        if count > 0 {
            words[at] = CodeWord { bits: next[count as usize].reverse_bits() >> (16 - count), count };
            next[count as usize] += 1;
        }
        at += 1;
    }
    words
}

const fn fixed_literals() -> [CodeWord; LITERALS] {
    // The code has two more words, which stand for nothing.
    let mut counts = [8u8; LITERALS + 2];
    let mut at = 144;
    while at < 280 {
        counts[at] = if at < 256 { 9 } else { 7 };
        at += 1;
    }
    let all = words(&counts);
    let mut used = [CodeWord { bits: 0, count: 0 }; LITERALS];
    at = 0;
    while at < LITERALS {
        used[at] = all[at];
        at += 1;
    }
    used
}

const fn fixed_distances() -> [CodeWord; DISTANCES] {
    let mut words = [CodeWord { bits: 0, count: 5 }; DISTANCES];
    let mut symbol = 0;
    while symbol < DISTANCES {
        words[symbol].bits = (symbol as u16).reverse_bits() >> 11;
        symbol += 1;
    }
    words
}

const LENGTHS: [Coded; MATCH_BYTES_MAX - MATCH_BYTES_MIN + 1] = lengths();

const fn lengths() -> [Coded; MATCH_BYTES_MAX - MATCH_BYTES_MIN + 1] {
    let mut all = [Coded { symbol: 0, extra: 0, extra_count: 0 }; MATCH_BYTES_MAX - MATCH_BYTES_MIN + 1];
    let (mut at, mut symbol) = (0, 257);
    while symbol < LITERALS {
        // Four symbols for each number of extra bits, but eight without any.
        let extra_count = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
        let mut extra = 0;
        while extra < 1 << extra_count && at < all.len() {
            all[at] = Coded { symbol: symbol as u16, extra, extra_count: extra_count as u8 };
            extra += 1;
            at += 1;
        }
        symbol += 1;
    }
    // The longest match has a symbol of its own, without extra bits.
    all[MATCH_BYTES_MAX - MATCH_BYTES_MIN] = Coded { symbol: 285, extra: 0, extra_count: 0 };
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_distances_are_those_of_the_specification() {
        // RFC 1951 section 3.2.5: symbol, extra bits, first and last value.
        for (symbol, extra_count, first, last) in [
            (257, 0, 3, 3),
            (264, 0, 10, 10),
            (265, 1, 11, 12),
            (268, 1, 17, 18),
            (269, 2, 19, 22),
            (273, 3, 35, 42),
            (280, 4, 115, 130),
            (281, 5, 131, 162),
            (284, 5, 227, 257),
            (285, 0, 258, 258),
        ] {
            for bytes in first..=last {
                let extra = (bytes - first) as u16;
                assert_eq!(length(bytes), Coded { symbol, extra, extra_count }, "length {bytes}");
            }
        }
        for (symbol, extra_count, first, last) in [
            (0, 0, 1, 1),
            (3, 0, 4, 4),
            (4, 1, 5, 6),
            (5, 1, 7, 8),
            (6, 2, 9, 12),
            (15, 6, 193, 256),
            (16, 7, 257, 384),
            (28, 13, 16_385, 24_576),
            (29, 13, 24_577, 32_768),
        ] {
            for bytes in first..=last {
                let extra = (bytes - first) as u16;
                assert_eq!(distance(bytes), Coded { symbol, extra, extra_count }, "distance {bytes}");
            }
        }
    }

    #[test]
    fn fixed_codes_are_those_of_the_specification() {
        // RFC 1951 section 3.2.6, first bit highest.
        for (symbol, count, bits) in [
            (0, 8, 0b0011_0000),
            (143, 8, 0b1011_1111),
            (144, 9, 0b1_1001_0000),
            (255, 9, 0b1_1111_1111),
            (256, 7, 0),
            (279, 7, 0b001_0111),
            (280, 8, 0b1100_0000),
            (285, 8, 0b1100_0101),
        ] {
            let word = FIXED_LITERALS[symbol];
            assert_eq!((word.count, word.bits.reverse_bits() >> (16 - count)), (count, bits), "symbol {symbol}");
        }
    }
}
