//! The search for matches (LZ77, lazy): in the text itself, and in the texts before it on the same topic.

use super::codes::MATCH_BYTES_MAX;
use super::pack::{Packer, Tokens};

/// Up to this many texts that a text may refer to.
pub const REFERENCES_MAX: usize = 4;

/// Longest text that is tokenized, and longest reference that is searched, in bytes: the widest window.
pub const TEXT_BYTES_MAX: usize = 1 << 15;

const HASH_BITS: u32 = 12;

/// Candidates that are compared at a place at most.
const CANDIDATES_MAX: usize = 24;
/// A match of so many bytes is good enough: no better one is looked for.
const GOOD_BYTES: usize = 48;

/// What the distance to a reference is taken to cost, in bits; it differs from recipient to recipient.
const REFERENCE_BITS: i32 = 5 + 10;

/// Literals, and a match that follows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    /// Length of the match; 0 at the end of a text.
    pub(super) bytes: u16,
    /// What the match is a copy of: a reference, or the text itself.
    pub(super) reference: Option<u8>,
    /// Place in the text, less place in what it is a copy of.
    pub(super) delta: i32,
}

/// Makes tokens of texts. It holds the memory of the search; one will do for a thread and all its topics.
pub struct Tokenizer {
    /// References, oldest first, then the text, then zeros that comparisons may read.
    bytes: Vec<u8>,
    /// For each hash where it was seen last, counted from `base`; smaller numbers are from texts before.
    heads: Box<[u32]>,
    /// For each place in `bytes` where its hash was seen before.
    before: Vec<u32>,
    base: u32,
    /// Where each reference begins in `bytes`, the newest first; the text is before them all.
    starts: [usize; REFERENCES_MAX + 1],
    /// How many of `starts` there are.
    segments: usize,
    literal_bits: i32,
    match_bytes_min: usize,
    sequences: Vec<Sequence>,
    packer: Packer,
}

/// A match that was found.
#[derive(Clone, Copy)]
struct Found {
    bytes: usize,
    /// Where it begins in `bytes` of the tokenizer.
    at: usize,
    /// Bits saved against literals.
    gain: i32,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Tokenizer::new()
    }
}

impl Tokenizer {
    /// A tokenizer; it grows with the texts, to 1 MB at most.
    pub fn new() -> Tokenizer {
        Tokenizer {
            bytes: Vec::new(),
            heads: vec![0; 1 << HASH_BITS].into(),
            before: Vec::new(),
            base: 1,
            starts: [0; REFERENCES_MAX + 1],
            segments: 0,
            literal_bits: 8,
            match_bytes_min: 3,
            sequences: Vec::new(),
            packer: Packer::default(),
        }
    }

    /// The tokens of a text. `references` are the texts before it on its topic, newest first; those beyond
    /// [`REFERENCES_MAX`] are not searched, and neither is one of more than [`TEXT_BYTES_MAX`] bytes.
    ///
    /// None for a text of more than [`TEXT_BYTES_MAX`] bytes: it must be sent in another encoding.
    pub fn tokens(&mut self, text: &[u8], references: &[&[u8]]) -> Option<Tokens> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut searched: [&[u8]; REFERENCES_MAX] = [&[]; REFERENCES_MAX];
        for (place, reference) in searched.iter_mut().zip(references) {
            if reference.len() <= TEXT_BYTES_MAX {
                *place = reference;
            }
        }
        let searched = &searched[..references.len().min(REFERENCES_MAX)];
        self.load(text, searched);
        self.parse(text.len());
        Some(self.packer.pack(text, &self.sequences, searched))
    }

    /// Takes references and text into the memory of the search, and the references into the chains.
    fn load(&mut self, text: &[u8], references: &[&[u8]]) {
        self.base += self.bytes.len() as u32;
        if self.base > u32::MAX / 2 {
            self.heads.fill(0);
            self.base = 1;
        }
        (self.literal_bits, self.match_bytes_min) = if text.len() > 500 { (5, 4) } else { (8, 3) };
        self.bytes.clear();
        self.segments = references.len() + 1;
        for (at, reference) in references.iter().enumerate().rev() {
            self.starts[at + 1] = self.bytes.len();
            self.bytes.extend_from_slice(reference);
        }
        self.starts[0] = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(&[0; MATCH_BYTES_MAX + 8]);
        self.before.resize(self.bytes.len(), 0);
        for at in (1..self.segments).rev() {
            let end = self.starts[at - 1];
            for place in self.starts[at]..(end + 1).saturating_sub(self.match_bytes_min) {
                self.insert(place);
            }
        }
    }

    fn parse(&mut self, text_bytes: usize) {
        self.sequences.clear();
        let start = self.starts[0];
        let end = start + text_bytes;
        let (mut at, mut literals_start) = (start, start);
        while at + self.match_bytes_min <= end {
            let Some(mut found) = self.find(at, end, 0) else {
                self.insert(at);
                at += 1;
                continue;
            };
            self.insert(at);
            let mut inserted_end = at + 1;
            // Lazily: a better match one byte later is worth a literal.
            while found.bytes < GOOD_BYTES && at + 1 + self.match_bytes_min <= end {
                let Some(better) = self.find(at + 1, end, found.gain) else { break };
                found = better;
                at += 1;
                self.insert(at);
                inserted_end = at + 1;
            }
            let segment = self.segment_of(found.at);
            self.sequences.push(Sequence {
                literals: (at - literals_start) as u32,
                bytes: found.bytes as u16,
                reference: segment.checked_sub(1).map(|reference| reference as u8),
                delta: (at - start) as i32 - (found.at - self.starts[segment]) as i32,
            });
            for place in inserted_end..(at + found.bytes).min(end + 1 - self.match_bytes_min) {
                self.insert(place);
            }
            at += found.bytes;
            literals_start = at;
        }
        self.sequences.push(Sequence { literals: (end - literals_start) as u32, bytes: 0, reference: None, delta: 0 });
    }

    /// The best match at a place, if it gains more than `gain_min` bits. The text ends at `end`.
    fn find(&self, at: usize, end: usize, gain_min: i32) -> Option<Found> {
        let mut best = Found { bytes: self.match_bytes_min - 1, at: 0, gain: gain_min };
        let bytes_max = MATCH_BYTES_MAX.min(end - at);
        let mut candidate = self.heads[self.hash(at)];
        for _ in 0..CANDIDATES_MAX {
            // Positions from before `base`, and the 0 at the end of a chain, are of no text that is here.
            let Some(place) = candidate.checked_sub(self.base).map(|place| place as usize) else { break };
            candidate = self.before[place];
            if self.bytes[place + best.bytes] != self.bytes[at + best.bytes] {
                continue;
            }
            let segment = self.segment_of(place);
            // What follows a reference is different for each recipient.
            let bytes_max = if segment == 0 { bytes_max } else { bytes_max.min(self.starts[segment - 1] - place) };
            let bytes = self.common(place, at, bytes_max);
            if bytes <= best.bytes {
                continue;
            }
            let gain = gain(self.literal_bits, bytes, if segment == 0 { own_bits(at - place) } else { REFERENCE_BITS });
            if gain > best.gain {
                best = Found { bytes, at: place, gain };
                if bytes >= GOOD_BYTES || bytes == bytes_max {
                    break;
                }
            }
        }
        (best.gain > gain_min).then_some(best)
    }

    /// Bytes that are equal at two places, `bytes_max` at most.
    fn common(&self, one: usize, other: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        while bytes < bytes_max {
            let differing = word(&self.bytes, one + bytes) ^ word(&self.bytes, other + bytes);
            if differing != 0 {
                return (bytes + differing.trailing_zeros() as usize / 8).min(bytes_max);
            }
            bytes += 8;
        }
        bytes_max
    }

    /// In which reference a place is, the newest is 1; 0 if it is in the text.
    fn segment_of(&self, place: usize) -> usize {
        self.starts[..self.segments].iter().position(|start| *start <= place).expect("the oldest begins at 0")
    }

    fn insert(&mut self, place: usize) {
        let hash = self.hash(place);
        self.before[place] = self.heads[hash];
        self.heads[hash] = self.base + place as u32;
    }

    fn hash(&self, place: usize) -> usize {
        let bytes = (word(&self.bytes, place) as u32) << (8 * (4 - self.match_bytes_min));
        (bytes.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let Some(word) = bytes[at..].first_chunk() else { return 0 };
    u64::from_le_bytes(*word)
}

/// Bits that a match saves against fixed literals of 8 bits.
fn gain(literal_bits: i32, bytes: usize, distance_bits: i32) -> i32 {
    let length_bits = match bytes {
        0..=10 => 7,
        11..=18 => 8,
        19..=34 => 9,
        35..=66 => 10,
        67..=114 => 11,
        _ => 13,
    };
    literal_bits * bytes as i32 - length_bits - distance_bits
}

/// Bits of a distance within the text.
fn own_bits(distance: usize) -> i32 {
    5 + (distance as u32).ilog2().saturating_sub(1) as i32
}
