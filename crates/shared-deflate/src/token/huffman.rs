//! Blocks with a Huffman code of their own (RFC 1951 section 3.2.7), for texts with many literals.
//!
//! Distances differ from recipient to recipient, so no code fits them: all symbols have nearly the same length.

use super::codes::{CodeWord, DISTANCES, END_OF_BLOCK, FIXED_LITERALS, LITERALS, length, words};
use super::parse::LzSequence;

/// Fewest symbols for which a header can pay: it takes 200 bits at least, and saves 3 a symbol at most.
const SYMBOLS_MIN: usize = 64;

/// Lengths of the code words of distances: a complete code, as inflaters demand. Short distances are rare.
const FLAT_LENGTHS: [u8; DISTANCES] = flat_lengths();

/// Code words of distances in a dynamic block.
pub(super) static FLAT_DISTANCES: [CodeWord; DISTANCES] = words(&FLAT_LENGTHS);

const fn flat_lengths() -> [u8; DISTANCES] {
    let mut lengths = [5; DISTANCES];
    lengths[DISTANCES - 1] = 4;
    lengths[DISTANCES - 2] = 4;
    lengths
}

/// Longest code words of literals, and of the code lengths in the header.
const LITERAL_BITS_MAX: usize = 15;
const LENGTH_BITS_MAX: usize = 7;

/// Symbols of the code lengths, and the order in which the header has them.
const CODE_LENGTHS: usize = 19;
const HEADER_ORDER: [usize; CODE_LENGTHS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The code of one block, and its header.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) literals: [CodeWord; LITERALS],
    /// Literals up to the last that is used.
    literals_end: usize,
    /// The code lengths, run-length encoded: symbol, extra bits, and how many.
    encoded: Vec<(u8, u8, u8)>,
    length_words: [CodeWord; CODE_LENGTHS],
    /// How many lengths of the code lengths are in the header.
    lengths_end: usize,
}

impl Block {
    /// A dynamic block for the sequences, if it is smaller than one with the fixed code.
    pub(super) fn smallest_of(text: &[u8], sequences: &[LzSequence]) -> Option<Block> {
        let symbols: usize = sequences.iter().map(|sequence| sequence.literals as usize + 1).sum();
        if symbols < SYMBOLS_MIN {
            return None;
        }
        let mut frequencies = [0u32; LITERALS];
        let mut rest = text;
        for sequence in sequences {
            let (literals, after) = rest.split_at(sequence.literals as usize);
            literals.iter().for_each(|&byte| frequencies[usize::from(byte)] += 1);
            rest = &after[usize::from(sequence.bytes)..];
            if sequence.bytes > 0 {
                frequencies[usize::from(length(sequence.bytes.into()).symbol)] += 1;
            }
        }
        frequencies[END_OF_BLOCK] = 1;
        let block = Block::new(&frequencies);
        let bits = |words: &[CodeWord; LITERALS]| -> u32 {
            frequencies.iter().zip(words).map(|(frequency, word)| frequency * u32::from(word.count)).sum()
        };
        let mut header_bits = 0;
        block.put_header(|_, count| header_bits += count);
        (header_bits + bits(&block.literals) < 3 + bits(&FIXED_LITERALS)).then_some(block)
    }

    fn new(frequencies: &[u32; LITERALS]) -> Block {
        let lengths: [u8; LITERALS] = code_lengths(frequencies, LITERAL_BITS_MAX);
        let literals_end = lengths.iter().rposition(|&length| length > 0).map_or(0, |last| last + 1);
        let encoded = run_lengths(lengths[..literals_end].iter().chain(&FLAT_LENGTHS).copied());
        let mut length_frequencies = [0; CODE_LENGTHS];
        encoded.iter().for_each(|(symbol, ..)| length_frequencies[usize::from(*symbol)] += 1);
        let length_words = words(&code_lengths(&length_frequencies, LENGTH_BITS_MAX));
        let lengths_end = HEADER_ORDER.iter().rposition(|&symbol| length_words[symbol].count > 0);
        Block {
            literals: words(&lengths),
            literals_end,
            encoded,
            length_words,
            lengths_end: lengths_end.map_or(0, |last| last + 1),
        }
    }

    /// Gives the header to `put`: bits, first bit lowest, and how many.
    pub(super) fn put_header(&self, mut put: impl FnMut(u64, u32)) {
        // Not the final block, dynamic codes (RFC 1951 section 3.2.3).
        put(0b100, 3);
        put((self.literals_end - 257) as u64, 5);
        put((DISTANCES - 1) as u64, 5);
        put((self.lengths_end - 4) as u64, 4);
        for &symbol in &HEADER_ORDER[..self.lengths_end] {
            put(self.length_words[symbol].count.into(), 3);
        }
        for &(symbol, extra, extra_count) in &self.encoded {
            let word = self.length_words[usize::from(symbol)];
            put(word.bits.into(), word.count.into());
            put(extra.into(), extra_count.into());
        }
    }
}

/// Code lengths with their repetitions (RFC 1951 section 3.2.7): symbol, extra bits, and how many.
fn run_lengths(lengths: impl Iterator<Item = u8>) -> Vec<(u8, u8, u8)> {
    let mut encoded = Vec::with_capacity(64);
    let mut lengths = lengths.peekable();
    while let Some(length) = lengths.next() {
        let mut repeats = 1;
        while lengths.next_if_eq(&length).is_some() {
            repeats += 1;
        }
        if length > 0 {
            encoded.push((length, 0, 0));
            repeats -= 1;
        }
        while repeats > 0 {
            let (count, symbol) = match (length, repeats) {
                (_, 1..=2) => (1, (length, 0, 0)),
                (0, 3..=10) => (repeats, (17, repeats as u8 - 3, 3)),
                (0, _) => (repeats.min(138), (18, (repeats.min(138) - 11) as u8, 7)),
                _ => (repeats.min(6), (16, (repeats.min(6) - 3) as u8, 2)),
            };
            encoded.push(symbol);
            repeats -= count;
        }
    }
    encoded
}

/// Lengths of the code words of a Huffman code, none longer than `limit`. At least two symbols have a frequency.
fn code_lengths<const N: usize>(frequencies: &[u32; N], limit: usize) -> [u8; N] {
    let mut symbols: Vec<(u32, u16)> =
        (0..).zip(frequencies).filter(|(_, frequency)| **frequency > 0).map(|(symbol, f)| (*f, symbol)).collect();
    symbols.sort_unstable();
    // The tree: leaves, rarest first, then inner nodes in the order in which they are made.
    let leaves = symbols.len();
    let mut weights: Vec<u32> = symbols.iter().map(|(frequency, _)| *frequency).collect();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    while weights.len() < parents.len() {
        let node = weights.len();
        let mut lightest = || {
            let takes_leaf = leaf < leaves && (inner == node || weights[leaf] <= weights[inner]);
            let taken = if takes_leaf { &mut leaf } else { &mut inner };
            let child = *taken;
            *taken += 1;
            parents[child] = node;
            weights[child]
        };
        let weight = lightest() + lightest();
        weights.push(weight);
    }
    let mut depths = vec![0; parents.len()];
    for node in (0..parents.len() - 1).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    // How many words there are of each length; those that are too long are shortened, others lengthened for them.
    let mut of_length = vec![0usize; limit + 1];
    depths[..leaves].iter().for_each(|&depth| of_length[depth.min(limit)] += 1);
    let mut taken: usize = (1..=limit).map(|length| of_length[length] << (limit - length)).sum();
    while taken > 1 << limit {
        let shorter = (1..limit).rev().find(|&length| of_length[length] > 0).expect("a code of so many words fits");
        of_length[limit] -= 1;
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        taken -= 1;
    }
    let mut lengths = [0; N];
    let longest_first = (1..=limit).rev().flat_map(|length| std::iter::repeat_n(length as u8, of_length[length]));
    for ((_, symbol), length) in symbols.iter().zip(longest_first) {
        lengths[usize::from(*symbol)] = length;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kraft(lengths: &[u8], limit: usize) -> usize {
        lengths.iter().filter(|length| **length > 0).map(|&length| 1 << (limit - usize::from(length))).sum()
    }

    #[test]
    fn codes_are_complete_and_within_the_limit() {
        let mut fibonacci = [0u32; LITERALS];
        let (mut last, mut next) = (1, 1);
        for frequency in &mut fibonacci[..30] {
            *frequency = last;
            (last, next) = (next, last + next);
        }
        let mut rare = [1; LITERALS];
        rare[7] = 100_000;
        let mut two = [0; LITERALS];
        (two[3], two[256]) = (1, 900);
        for frequencies in [fibonacci, rare, two, [5; LITERALS]] {
            for limit in [9, LITERAL_BITS_MAX] {
                let lengths = code_lengths(&frequencies, limit);
                assert_eq!(kraft(&lengths, limit), 1 << limit, "complete: {lengths:?}");
                for (frequency, length) in frequencies.iter().zip(lengths) {
                    assert_eq!(*frequency > 0, length > 0);
                    assert!(usize::from(length) <= limit);
                }
            }
        }
        assert_eq!(kraft(&FLAT_LENGTHS, 15), 1 << 15);
        // The header has 3 bits for the length of each word of its own code.
        let fibonacci: [u32; CODE_LENGTHS] = std::array::from_fn(|symbol| fibonacci[symbol]);
        let lengths = code_lengths(&fibonacci, LENGTH_BITS_MAX);
        assert_eq!(lengths.iter().max(), Some(&0b111), "{lengths:?}");
    }

    #[test]
    fn run_lengths_stand_for_what_they_were_made_of() {
        for lengths in
            [vec![5; 30], [vec![0; 300], vec![1, 1, 2, 2, 2], vec![0; 11], vec![7; 8]].concat(), vec![0, 0, 3]]
        {
            let mut decoded: Vec<u8> = Vec::new();
            for (symbol, extra, _) in run_lengths(lengths.iter().copied()) {
                let (length, repeats) = match symbol {
                    16 => (decoded[decoded.len() - 1], 3 + extra),
                    17 => (0, 3 + extra),
                    18 => (0, 11 + extra),
                    length => (length, 1),
                };
                decoded.extend(std::iter::repeat_n(length, repeats.into()));
            }
            assert_eq!(decoded, lengths);
        }
    }
}
