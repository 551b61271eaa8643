//! The search for matches (LZ77, lazy): in the text itself, and in the texts before it on the same topic.

use super::codes::MATCH_BYTES_MAX;
use super::pack::{Packer, Tokens};

/// Up to this many texts that a text may refer to.
pub const REFERENCES_MAX: usize = 4;

/// Longest text that is tokenized, and longest reference that is searched, in bytes: the widest window.
pub const TEXT_BYTES_MAX: usize = 1 << 15;

const HASH_BITS: u32 = 12;

/// Candidates that are compared at a place at most. On recorded market data 12 make payloads up to 2 % larger, and
/// spare a tenth of the time.
const CANDIDATES_MAX: usize = 24;
/// A match of so many bytes is good enough: no better one is looked for.
const GOOD_BYTES: usize = 48;

/// What the distance to a reference is taken to cost, in bits: a symbol of 5, and a distance of 1 to 2 KiB.
const REFERENCE_BITS: i32 = 5 + 10;

/// What the search takes to be worth its bits.
#[derive(Clone, Copy, Debug)]
struct Worth {
    /// Shortest match that is found.
    match_bytes_min: usize,
    /// What a literal costs.
    literal_bits: i32,
}

impl Worth {
    /// A long text gets a code of its own, in which literals are cheap. Measured on recorded market data: matches of 3
    /// bytes make short texts up to 2 % smaller, and long ones up to 3 % larger.
    fn of(text_bytes: usize) -> Worth {
        match text_bytes {
            0..=500 => Worth { match_bytes_min: 3, literal_bits: 8 },
            _ => Worth { match_bytes_min: 4, literal_bits: 5 },
        }
    }

    /// Bits that a match saves against literals.
    fn gain(self, bytes: usize, distance_bits: i32) -> i32 {
        let length_bits = match bytes {
            0..=10 => 7,
            11..=18 => 8,
            19..=34 => 9,
            35..=66 => 10,
            67..=114 => 11,
            _ => 13,
        };
        self.literal_bits * bytes as i32 - length_bits - distance_bits
    }
}

/// Literals, and a match that follows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LzSequence {
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
    /// Where in `bytes` the text begins, and after it each reference, the newest first.
    starts: [usize; REFERENCES_MAX + 1],
    /// How many of `starts` there are.
    segments: usize,
    worth: Worth,
    sequences: Vec<LzSequence>,
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
    /// A tokenizer; it grows with the texts, to 1.5 MB at most.
    pub fn new() -> Tokenizer {
        Tokenizer {
            bytes: Vec::new(),
            heads: vec![0; 1 << HASH_BITS].into(),
            before: Vec::new(),
            base: 1,
            starts: [0; REFERENCES_MAX + 1],
            segments: 0,
            worth: Worth::of(0),
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
        self.worth = Worth::of(text.len());
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
            for place in self.starts[at]..(end + 1).saturating_sub(self.worth.match_bytes_min) {
                self.insert(place);
            }
        }
    }

    /// Makes the sequences of the text.
    fn parse(&mut self, text_bytes: usize) {
        self.sequences.clear();
        let start = self.starts[0];
        let end = start + text_bytes;
        let (mut at, mut literals_start) = (start, start);
        while at + self.worth.match_bytes_min <= end {
            let Some(mut found) = self.find(at, end, 0) else {
                self.insert(at);
                at += 1;
                continue;
            };
            self.insert(at);
            let mut inserted_end = at + 1;
            // Lazily: a better match one byte later is worth a literal.
            while found.bytes < GOOD_BYTES && at + 1 + self.worth.match_bytes_min <= end {
                let Some(better) = self.find(at + 1, end, found.gain) else { break };
                found = better;
                at += 1;
                self.insert(at);
                inserted_end = at + 1;
            }
            let segment = self.segment_of(found.at);
            self.sequences.push(LzSequence {
                literals: (at - literals_start) as u32,
                bytes: found.bytes as u16,
                reference: segment.checked_sub(1).map(|reference| reference as u8),
                delta: (at - start) as i32 - (found.at - self.starts[segment]) as i32,
            });
            for place in inserted_end..(at + found.bytes).min(end + 1 - self.worth.match_bytes_min) {
                self.insert(place);
            }
            at += found.bytes;
            literals_start = at;
        }
        self.sequences.push(LzSequence {
            literals: (end - literals_start) as u32,
            bytes: 0,
            reference: None,
            delta: 0,
        });
    }

    /// The best match at a place, if it gains more than `gain_min` bits. The text ends at `end`.
    fn find(&self, at: usize, end: usize, gain_min: i32) -> Option<Found> {
        let mut best = Found { bytes: self.worth.match_bytes_min - 1, at: 0, gain: gain_min };
        let mut candidate = self.heads[self.hash(at)];
        for _ in 0..CANDIDATES_MAX {
            if best.bytes >= GOOD_BYTES.min(end - at) {
                break;
            }
            // Positions from before `base`, and the 0 at the end of a chain, are of no text that is here.
            let Some(place) = candidate.checked_sub(self.base).map(|place| place as usize) else { break };
            candidate = self.before[place];
            if self.bytes[place + best.bytes] == self.bytes[at + best.bytes] {
                self.compare(place, at, end, &mut best);
            }
        }
        (best.gain > gain_min).then_some(best)
    }

    /// Takes the match with `place` if it is longer and gains more.
    fn compare(&self, place: usize, at: usize, end: usize, best: &mut Found) {
        let segment = self.segment_of(place);
        let mut bytes_max = MATCH_BYTES_MAX.min(end - at);
        let mut distance_bits = REFERENCE_BITS;
        if segment == 0 {
            distance_bits = own_bits(at - place);
        } else {
            // What follows a reference is different for each recipient.
            bytes_max = bytes_max.min(self.starts[segment - 1] - place);
        }
        let bytes = self.common(place, at, bytes_max);
        if bytes > best.bytes {
            let gain = self.worth.gain(bytes, distance_bits);
            if gain > best.gain {
                *best = Found { bytes, at: place, gain };
            }
        }
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

    /// From now on the place is found by what stands there.
    fn insert(&mut self, place: usize) {
        let hash = self.hash(place);
        self.before[place] = self.heads[hash];
        self.heads[hash] = self.base + place as u32;
    }

    fn hash(&self, place: usize) -> usize {
        let bytes = (word(&self.bytes, place) as u32) << (8 * (4 - self.worth.match_bytes_min));
        (bytes.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
    }
}

/// Eight bytes, of which the first is lowest.
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the text is followed by zeros"))
}

/// Bits of a distance within the text.
fn own_bits(distance: usize) -> i32 {
    5 + (distance as u32).ilog2().saturating_sub(1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sequences of a text stand for.
    fn rebuilt(sequences: &[LzSequence], text: &[u8], references: &[&[u8]]) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for sequence in sequences {
            out.extend_from_slice(&text[out.len()..][..sequence.literals as usize]);
            let from = (out.len() as i32 - sequence.delta) as usize;
            for at in from..from + usize::from(sequence.bytes) {
                let byte =
                    sequence.reference.map_or_else(|| out[at], |reference| references[usize::from(reference)][at]);
                out.push(byte);
            }
        }
        out
    }

    #[test]
    fn a_match_ends_where_its_reference_ends() {
        // The newest reference and the text go on alike in the memory of the search, but for no recipient.
        let references: [&[u8]; 3] = [b"abcdefgh", b"", b"ijklmnopqrstuvwxyz"];
        let text = b"uvwxyzabcdefghuvwxyzabcdefgh ijklmnop";
        let mut tokenizer = Tokenizer::new();
        assert!(tokenizer.tokens(text, &references).is_some());
        assert_eq!(rebuilt(&tokenizer.sequences, text, &references), text);
        let used: Vec<Option<u8>> = tokenizer.sequences.iter().map(|sequence| sequence.reference).collect();
        assert_eq!(used, [Some(2), Some(0), None, Some(2), None], "{:?}", tokenizer.sequences);
    }

    #[test]
    fn nothing_is_found_in_texts_of_earlier_calls() {
        let mut tokenizer = Tokenizer::new();
        // Positions of earlier texts are smaller than `base`, until it starts anew.
        for base in [1, 1000, u32::MAX / 2 - 300, u32::MAX / 2 - 10, 7] {
            tokenizer.base = base.max(tokenizer.base);
            for text in [&b"once and never again"[..], b"a text of different words"] {
                assert!(tokenizer.tokens(text, &[]).is_some());
                assert_eq!(rebuilt(&tokenizer.sequences, text, &[]), text);
                assert!(tokenizer.sequences.iter().all(|sequence| sequence.bytes == 0), "{:?}", tokenizer.sequences);
            }
        }
        assert!(tokenizer.base < 1000, "it started anew");
    }

    #[test]
    fn a_text_that_is_too_long_has_no_tokens_and_a_reference_that_is_too_long_is_not_used() {
        let mut tokenizer = Tokenizer::new();
        let long = vec![b'x'; TEXT_BYTES_MAX + 1];
        assert!(tokenizer.tokens(&long, &[]).is_none());
        let text = b"an unusual sentence";
        let references: [&[u8]; 5] = [&[text, &long[..]].concat(), b"", b"", b"", text];
        let tokens = tokenizer.tokens(text, &references).expect("a short text");
        assert_eq!(tokens.references_used(), 0, "one is too long, the other one too many");
        let longest = tokenizer.tokens(&long[1..], &[text]).expect("the longest text there may be");
        assert_eq!(longest.text_bytes(), TEXT_BYTES_MAX);
        let tokens = tokenizer.tokens(text, &[&long[1..], b"", b"", text]).expect("a short text");
        assert_eq!(tokens.references_used(), 4);
    }
}
