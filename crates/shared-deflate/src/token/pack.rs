//! Tokens as they are kept: runs of finished bits, each of which ends where the distance of a match is missing.

use super::codes::{CodeWord, DISTANCES, END_OF_BLOCK, FIXED_DISTANCES, FIXED_LITERALS, LITERALS, distance, length};
use super::huffman::{Block, FLAT_DISTANCES};
use super::parse::{LzSequence, REFERENCES_MAX};

/// Most bits of a run. With those of the distance before it (18) and of a byte begun (7), they are fewer than 64.
const RUN_BITS_MAX: u32 = 38;
/// Most bits of a distance: its code word, and those after it.
const DISTANCE_BITS_MAX: u32 = 5 + 13;

/// The header of an empty stored block: three zeros, and zeros to the end of the byte (RFC 7692 section 7.2.1).
const EMPTY_STORED_BITS: u32 = 3;

/// Bits, and what the distance after them is counted from; 8 bytes. From the lowest bit: [`RUN_BITS_MAX`] bits, how many
/// of them there are (6), the reference (3), and place in the text less place in the reference (16, signed).
#[derive(Clone, Copy, Debug)]
pub(super) struct Run(u64);

/// References that a run can name, the newest is 0. The last stands for none: no distance is missing at its end.
pub(super) const SLOTS: usize = 8;
const NO_SLOT: u8 = SLOTS as u8 - 1;
const _: () = assert!(REFERENCES_MAX < SLOTS);

const COUNT_AT: u32 = RUN_BITS_MAX;
const SLOT_AT: u32 = COUNT_AT + 6;
const DELTA_AT: u32 = 48;

impl Run {
    fn new(bits: u64, count: u32, slot: u8, delta: i16) -> Run {
        Run(bits | u64::from(count) << COUNT_AT | u64::from(slot) << SLOT_AT | (delta as u64) << DELTA_AT)
    }

    /// First bit lowest.
    pub(super) fn bits(self) -> u64 {
        self.0 & ((1 << RUN_BITS_MAX) - 1)
    }

    pub(super) fn count(self) -> u32 {
        (self.0 >> COUNT_AT) as u32 % 64
    }

    /// The reference to which a distance is missing.
    pub(super) fn slot(self) -> Option<usize> {
        let slot = (self.0 >> SLOT_AT) as usize % SLOTS;
        (slot != usize::from(NO_SLOT)).then_some(slot)
    }

    pub(super) fn delta(self) -> i32 {
        (self.0 as i64 >> DELTA_AT) as i32
    }
}

/// How a text refers to one of its references.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Length of the reference; 0 if it is not used.
    pub(super) bytes: u16,
    /// Greatest of the deltas.
    pub(super) delta_max: i16,
}

/// A text as DEFLATE tokens whose distances are missing; about 120 bytes for a text of 200 bytes like those before
/// it.
///
/// [`put_tokens`](super::put_tokens) fills the distances in.
#[derive(Clone, Debug)]
pub struct Tokens {
    runs: Box<[Run]>,
    text_bytes: u32,
    payload_bytes_max: u32,
    /// Longest distance of a match within the text.
    own_distance_max: u32,
    reaches: [Reach; REFERENCES_MAX],
    /// The distances have the code of a dynamic block.
    is_dynamic: bool,
}

impl Tokens {
    /// Length of the text.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes as usize
    }

    /// How many of the newest references the recipient must have: 0 if the tokens refer to the text alone.
    pub fn references_used(&self) -> usize {
        self.reaches.iter().rposition(|reach| reach.bytes > 0).map_or(0, |oldest| oldest + 1)
    }

    /// Memory that it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Tokens>() + size_of_val(&*self.runs)
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max as usize
    }

    pub(super) fn own_distance_max(&self) -> u32 {
        self.own_distance_max
    }

    pub(super) fn reaches(&self) -> &[Reach; REFERENCES_MAX] {
        &self.reaches
    }

    pub(super) fn distance_words(&self) -> &'static [CodeWord; DISTANCES] {
        if self.is_dynamic { &FLAT_DISTANCES } else { &FIXED_DISTANCES }
    }
}

/// Packs sequences into tokens. Holds the runs of one text while they are made.
#[derive(Debug, Default)]
pub(super) struct Packer {
    runs: Vec<Run>,
    bits: u64,
    count: u32,
}

impl Packer {
    /// The tokens of a text that `sequences` make up. `references` are those that they refer to.
    pub(super) fn pack(&mut self, text: &[u8], sequences: &[LzSequence], references: &[&[u8]]) -> Tokens {
        self.runs.clear();
        let mut tokens = Tokens {
            runs: Box::default(),
            text_bytes: text.len() as u32,
            payload_bytes_max: 0,
            own_distance_max: 0,
            reaches: [Reach::default(); REFERENCES_MAX],
            is_dynamic: false,
        };
        if text.is_empty() {
            // RFC 7692 section 7.2.3.6.
            self.put(0, 8);
        } else {
            let block = Block::smallest_of(text, sequences);
            tokens.is_dynamic = block.is_some();
            let literals = match &block {
                Some(block) => {
                    block.put_header(|bits, count| self.put(bits, count));
                    &block.literals
                }
                // Not the final block, fixed codes (RFC 1951 section 3.2.3).
                None => {
                    self.put(0b010, 3);
                    &FIXED_LITERALS
                }
            };
            self.put_sequences(text, sequences, references, literals, &mut tokens);
        }
        self.end_run(NO_SLOT, 0);
        let run_bits = |run: &Run| run.count() + if run.slot().is_some() { DISTANCE_BITS_MAX } else { 0 };
        let bits: u32 = self.runs.iter().map(run_bits).sum();
        tokens.payload_bytes_max = bits.div_ceil(8);
        tokens.runs = Box::from(&self.runs[..]);
        tokens
    }

    fn put_sequences(
        &mut self,
        text: &[u8],
        sequences: &[LzSequence],
        references: &[&[u8]],
        literals: &[CodeWord; LITERALS],
        tokens: &mut Tokens,
    ) {
        let distances = tokens.distance_words();
        let mut rest = text;
        for sequence in sequences {
            let (copied, after) = rest.split_at(sequence.literals as usize);
            for &byte in copied {
                self.put_word(literals[usize::from(byte)]);
            }
            rest = &after[usize::from(sequence.bytes)..];
            if sequence.bytes == 0 {
                continue;
            }
            let coded = length(sequence.bytes.into());
            self.put_word(literals[usize::from(coded.symbol)]);
            self.put(coded.extra.into(), coded.extra_count.into());
            if let Some(reference) = sequence.reference {
                let reach = &mut tokens.reaches[usize::from(reference)];
                // Both fit, for neither text nor reference is longer than 2^15.
                let (bytes, delta) = (references[usize::from(reference)].len() as u16, sequence.delta as i16);
                let delta_max = if reach.bytes == 0 { delta } else { delta.max(reach.delta_max) };
                *reach = Reach { bytes, delta_max };
                self.end_run(reference, delta);
            } else {
                let bytes = sequence.delta.unsigned_abs();
                tokens.own_distance_max = tokens.own_distance_max.max(bytes);
                let coded = distance(bytes);
                self.put_word(distances[usize::from(coded.symbol)]);
                self.put(coded.extra.into(), coded.extra_count.into());
            }
        }
        self.put_word(literals[END_OF_BLOCK]);
        self.put(0, EMPTY_STORED_BITS);
    }

    fn put_word(&mut self, word: CodeWord) {
        self.put(word.bits.into(), word.count.into());
    }

    fn put(&mut self, bits: u64, count: u32) {
        if self.count + count > RUN_BITS_MAX {
            self.end_run(NO_SLOT, 0);
        }
        self.bits |= bits << self.count;
        self.count += count;
    }

    fn end_run(&mut self, slot: u8, delta: i16) {
        self.runs.push(Run::new(self.bits, self.count, slot, delta));
        (self.bits, self.count) = (0, 0);
    }
}
