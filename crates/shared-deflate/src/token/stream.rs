//! Streams of text, as recipients have inflated them, and where in them the texts of a topic began.

use super::codes::distance;
use super::pack::{Reach, SLOTS, Tokens};
use super::parse::REFERENCES_MAX;
use crate::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::frame::{Opcode, put_header};

/// Longest distance there is, 2^15, less the lookahead of zlib's deflater, which never goes beyond this. Smaller
/// windows are used to their end: an inflater must hold what was agreed on (RFC 7692 section 7.1.2.1).
const DISTANCE_MAX: u32 = (1 << WINDOW_BITS_MAX) - 262;

/// Stands for a text that is out of reach, for the distance to its successor does not fit.
const OUT_OF_REACH: u16 = u16::MAX;

/// Where the newest texts of one topic began in one [`Stream`]; 12 bytes. A new one knows of no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Position of the newest, 48 bits, lowest first.
    newest: [u16; 3],
    /// How far before its successor each older one began.
    back: [u16; REFERENCES_MAX - 1],
}

impl Mark {
    /// The newest text of the topic did not enter the window: it was sent uncompressed, or not at all. So neither it nor
    /// any text before it is referred to.
    pub fn forget(&mut self) {
        *self = Mark::default();
    }

    /// Where the newest texts began, newest first; 0 for what is out of reach.
    fn positions(&self) -> [u64; REFERENCES_MAX] {
        let [low, middle, high] = self.newest.map(u64::from);
        let mut position = high << 32 | middle << 16 | low;
        let mut all = [position; REFERENCES_MAX];
        for (place, &back) in all[1..].iter_mut().zip(&self.back) {
            position = if back == OUT_OF_REACH { 0 } else { position.saturating_sub(u64::from(back)) };
            *place = position;
        }
        all
    }

    /// A text begins at `position`. Of one beyond 48 bits something is remembered that no window reaches.
    fn push(&mut self, position: u64) {
        let [before, ..] = self.positions();
        self.back.rotate_right(1);
        self.back[0] = position.checked_sub(before).and_then(|back| back.try_into().ok()).unwrap_or(OUT_OF_REACH);
        self.newest = [position as u16, (position >> 16) as u16, (position >> 32) as u16];
    }
}

/// What one recipient has inflated, or several that have received the same: how many bytes of text, not the text.
///
/// Marks hold positions of 48 bits. No text after the first 2^48 bytes (256 TiB) of a stream is referred to.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Bytes of text so far, and one: no position is 0, so that a new mark is before anything.
    position: u64,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream { position: 1 }
    }
}

impl Stream {
    /// Where the next text begins. A recipient that arrives now can refer to what follows, and to nothing before. What it
    /// has inflated elsewhere does not matter, for that stands before all that follows.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// A text of `text_bytes` bytes is sent to all recipients, compressed, in whatever encoding. The mark is that of its
    /// topic. Gives where the texts of the topic before it are found from this one.
    pub fn pass(&mut self, mark: &mut Mark, text_bytes: usize) -> Lookback {
        let lookback = Lookback::from(mark, self.position);
        mark.push(self.position);
        self.position += text_bytes as u64;
        lookback
    }
}

/// How far before a text the texts of its topic before it began; 8 bytes. The default knows of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookback {
    /// Newest first; 0 for what is farther away than any window.
    distances: [u16; REFERENCES_MAX],
}

impl Lookback {
    fn from(mark: &Mark, position: u64) -> Lookback {
        // A mark of another stream, or beyond 48 bits, may be of a text to come.
        let distance = |before: u64| position.checked_sub(before).filter(|_| before > 0);
        let near = |before: u64| distance(before).and_then(|distance| distance.try_into().ok());
        Lookback { distances: mark.positions().map(|before| near(before).unwrap_or(0)) }
    }

    /// Whether the newest text of the topic is at hand.
    pub fn reaches_newest(&self, horizon: Horizon) -> bool {
        (1..=horizon.window.min(horizon.known)).contains(&self.distances[0].into())
    }

    /// How far before this text each reference began; none if one that is used is not at hand.
    fn distances(&self, tokens: &Tokens, horizon: Horizon) -> Option<[u32; SLOTS]> {
        let mut distances = [0; SLOTS];
        for ((place, distance), reach) in distances.iter_mut().zip(self.distances).zip(tokens.reaches()) {
            if reach.bytes > 0 && !is_at_hand(distance, reach, horizon) {
                return None;
            }
            *place = distance.into();
        }
        Some(distances)
    }
}

/// Whether a reference that began so far before the text is one that the recipient has. A text that ends after this one
/// begins is not the one that the tokens refer to.
fn is_at_hand(distance: u16, reach: &Reach, horizon: Horizon) -> bool {
    let furthest = i64::from(distance) + i64::from(reach.delta_max.max(0));
    distance >= reach.bytes && u32::from(distance) <= horizon.known && furthest <= horizon.window.into()
}

/// How far back a text may refer for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The agreed window.
    window: u32,
    /// How far before the text the first one that the recipient has began.
    known: u32,
}

impl Horizon {
    /// Of a text at this position, for a recipient that has agreed on a window of `window_bits` bits (RFC 7692 section
    /// 7.1.2.1) and arrived at the position `since`.
    ///
    /// # Panics
    /// `window_bits` is not from 9 to 15.
    pub fn new(window_bits: u8, since: u64, position: u64) -> Horizon {
        let range = WINDOW_BITS_MIN..=WINDOW_BITS_MAX;
        assert!(range.contains(&window_bits), "expected a window of 9 to 15 bits, found {window_bits}");
        let window = (1 << window_bits).min(DISTANCE_MAX);
        Horizon { window, known: u32::try_from(position.saturating_sub(since)).unwrap_or(u32::MAX) }
    }
}

/// Appends the payload of the message (RFC 7692 section 7.2.1) to `out`, if each text that the tokens refer to is at hand
/// for the recipient. Else `out` stays as it was, and the message must be sent in another encoding.
#[must_use = "false means that nothing was put"]
pub fn put_tokens(out: &mut Vec<u8>, tokens: &Tokens, lookback: &Lookback, horizon: Horizon) -> bool {
    if tokens.own_distance_max() > horizon.window {
        return false;
    }
    let Some(distances) = lookback.distances(tokens, horizon) else { return false };
    let start = out.len();
    // Whole words are stored, the last of them partly beyond the payload.
    out.resize(start + tokens.payload_bytes_max() + 8, 0);
    let bytes = fill_in(tokens, &distances, &mut out[start..]);
    out.truncate(start + bytes);
    true
}

/// As [`put_tokens`], with the header of an unfragmented frame before the payload.
#[must_use = "false means that nothing was put"]
pub fn put_tokens_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    tokens: &Tokens,
    lookback: &Lookback,
    horizon: Horizon,
) -> bool {
    let start = out.len();
    put_header(out, opcode, true, 0);
    let header_end = out.len();
    if !put_tokens(out, tokens, lookback, horizon) {
        out.truncate(start);
        return false;
    }
    // The length is known only now. Nearly always it fits into the header that is there.
    let bytes = out.len() - header_end;
    match u8::try_from(bytes) {
        Ok(short @ 0..=125) => out[header_end - 1] = short,
        _ => {
            let mut header = Vec::with_capacity(10);
            put_header(&mut header, opcode, true, bytes);
            out.splice(start..header_end, header);
        }
    }
    true
}

/// Writes the runs with their distances. Gives the number of bytes; `out` has 8 more.
fn fill_in(tokens: &Tokens, distances: &[u32; SLOTS], out: &mut [u8]) -> usize {
    let words = tokens.distance_words();
    let (mut pending, mut count, mut at) = (0u64, 0u32, 0);
    let mut flush = |pending: &mut u64, count: &mut u32| {
        out[at..at + 8].copy_from_slice(&pending.to_le_bytes());
        at += *count as usize / 8;
        // Fewer than 64 bits are pending.
        *pending >>= *count / 8 * 8;
        *count %= 8;
        at
    };
    for run in tokens.runs() {
        pending |= run.bits() << count;
        count += run.count();
        flush(&mut pending, &mut count);
        let Some(slot) = run.slot() else { continue };
        let coded = distance(distances[slot].wrapping_add_signed(run.delta()));
        let word = words[usize::from(coded.symbol)];
        pending |= (u64::from(word.bits) | u64::from(coded.extra) << word.count) << count;
        count += u32::from(word.count) + u32::from(coded.extra_count);
    }
    // The rest of the last byte is zeros, and so is the length of the empty block that is not sent.
    count = count.next_multiple_of(8);
    flush(&mut pending, &mut count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::{Deflater, Inflater};
    use crate::token::Tokenizer;

    const TEXT: &[u8] = br#"{"symbol":"AAPL","bid":227.63,"ask":227.64}"#;

    fn tokens(text: &[u8], references: &[&[u8]]) -> Tokens {
        Tokenizer::new().tokens(text, references).expect("a short text")
    }

    /// A recipient, and the stream that it reads.
    struct Recipient {
        stream: Stream,
        window_bits: u8,
        arrived: u64,
    }

    impl Recipient {
        fn new(window_bits: u8) -> Recipient {
            let stream = Stream::default();
            Recipient { window_bits, arrived: stream.position(), stream }
        }

        fn arrive(&mut self) {
            self.arrived = self.stream.position();
        }

        fn advance(&mut self, mark: &mut Mark, text_bytes: usize) {
            self.stream.pass(mark, text_bytes);
        }

        fn sight(&self, mark: &Mark) -> (Lookback, Horizon) {
            let position = self.stream.position();
            (Lookback::from(mark, position), Horizon::new(self.window_bits, self.arrived, position))
        }

        fn put_tokens(&self, mark: &Mark, tokens: &Tokens, out: &mut Vec<u8>) -> bool {
            let (lookback, horizon) = self.sight(mark);
            put_tokens(out, tokens, &lookback, horizon)
        }
    }

    fn is_put(recipient: &Recipient, mark: &Mark, tokens: &Tokens) -> bool {
        recipient.put_tokens(mark, tokens, &mut Vec::new())
    }

    #[test]
    fn a_text_is_referred_to_as_far_as_the_window_goes_and_no_further() {
        let (first, second) = (tokens(TEXT, &[]), tokens(TEXT, &[TEXT]));
        assert_eq!((first.references_used(), second.references_used()), (0, 1));
        for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            let window = if window_bits == 15 { 32_506 } else { 1 << window_bits };
            for between in [window - TEXT.len(), window - TEXT.len() + 1] {
                let (mut recipient, mut mark) = (Recipient::new(window_bits), Mark::default());
                let mut payload = Vec::new();
                assert!(recipient.put_tokens(&mark, &first, &mut payload));
                recipient.advance(&mut mark, TEXT.len());
                // Other text, in literals alone.
                let other: Vec<u8> = (0..between).map(|at| (at % 251) as u8).collect();
                let mut deflater = Deflater::new(1, window_bits);
                payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
                deflater.deflate(&other, &mut payload);
                payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
                recipient.advance(&mut Mark::default(), between);
                let fits = recipient.put_tokens(&mark, &second, &mut payload);
                assert_eq!(fits, between + TEXT.len() <= window, "{between} bytes between, {window_bits} bits");
                if fits {
                    let text = Inflater::new().inflate(&payload, 100_000).expect("DEFLATE data");
                    assert!(text == [TEXT, &other, TEXT].concat(), "{window_bits} bits");
                }
            }
        }
    }

    #[test]
    fn a_match_within_the_text_stays_in_the_window_too() {
        let text = [TEXT, &(0..=255).collect::<Vec<u8>>(), &[7; 300], TEXT].concat();
        let tokens = tokens(&text, &[]);
        assert_eq!(tokens.own_distance_max(), 556 + TEXT.len() as u32);
        assert!(!is_put(&Recipient::new(9), &Mark::default(), &tokens));
        assert!(is_put(&Recipient::new(10), &Mark::default(), &tokens));
    }

    #[test]
    fn the_furthest_of_all_matches_decides() {
        // The second half of the text is found further back than the first.
        let (reference, text) = (b"abcdefghijklmnop ABCDEFGHIJKLMNOP", b"ABCDEFGHIJKLMNOPabcdefghijklmnop");
        let tokens = tokens(text, &[reference]);
        assert_eq!(tokens.references_used(), 1);
        for (between, expected) in [(512 - 33 - 16, true), (512 - 33 - 15, false)] {
            let (mut recipient, mut mark) = (Recipient::new(9), Mark::default());
            recipient.advance(&mut mark, reference.len());
            recipient.advance(&mut Mark::default(), between);
            assert_eq!(is_put(&recipient, &mark, &tokens), expected, "{between} bytes between");
        }
    }

    #[test]
    fn nothing_is_referred_to_that_a_recipient_may_lack() {
        let (mut recipient, mut mark) = (Recipient::new(15), Mark::default());
        let [one, two] = [tokens(TEXT, &[TEXT]), tokens(TEXT, &[b"", TEXT])];
        assert!(!is_put(&recipient, &mark, &one), "nothing was received");
        recipient.advance(&mut mark, TEXT.len());
        assert!(is_put(&recipient, &mark, &one));
        assert!(!is_put(&recipient, &mark, &two), "there was no text before the first");
        recipient.advance(&mut mark, 0);
        assert!(!is_put(&recipient, &mark, &one), "the newest text is shorter than the reference");
        assert!(is_put(&recipient, &mark, &two));
        recipient.arrive();
        assert!(!is_put(&recipient, &mark, &two), "the newest recipient lacks it");
        recipient.advance(&mut mark, 1);
        assert!(!is_put(&recipient, &mark, &tokens(TEXT, &[b"1", b"", TEXT])), "and still does");
        recipient.advance(&mut mark, TEXT.len());
        assert!(is_put(&recipient, &mark, &one), "all have received it");
        mark.forget();
        assert!(!is_put(&recipient, &mark, &one), "it was forgotten");
    }

    #[test]
    fn marks_hold_the_newest_positions_and_saturate() {
        assert_eq!(size_of::<Mark>(), 12);
        let mut mark = Mark::default();
        for position in [1, 65_535, 65_536, 131_071, 1 << 40] {
            mark.push(position);
        }
        assert_eq!(mark.positions(), [1 << 40, 0, 0, 0]);
        for position in [(1 << 48) - 3, (1 << 48) - 3, (1 << 48) - 1] {
            mark.push(position);
        }
        assert_eq!(mark.positions(), [(1 << 48) - 1, (1 << 48) - 3, (1 << 48) - 3, 0]);
        // 65,534 is the longest way back that fits.
        let mut mark = Mark::default();
        [1, 65_535, 131_070].into_iter().for_each(|position| mark.push(position));
        assert_eq!(mark.positions()[..2], [131_070, 0]);
        mark.push(131_070 + 65_534);
        assert_eq!(mark.positions(), [131_070 + 65_534, 131_070, 0, 0]);
    }

    #[test]
    fn a_stream_beyond_the_positions_of_marks_refers_to_nothing() {
        let (mut recipient, mut mark) = (Recipient::new(15), Mark::default());
        recipient.stream.position = (1 << 48) - 1;
        recipient.advance(&mut mark, TEXT.len());
        assert!(is_put(&recipient, &mark, &tokens(TEXT, &[TEXT])));
        recipient.advance(&mut mark, TEXT.len());
        assert!(!is_put(&recipient, &mark, &tokens(TEXT, &[TEXT])));
        assert!(is_put(&recipient, &mark, &tokens(TEXT, &[])));
    }

    #[test]
    fn a_frame_has_the_length_of_its_payload() {
        let noise =
            |bytes: u32| -> Vec<u8> { (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect() };
        let mut headers = Vec::new();
        for bytes in [0, 1, 50, 100, 110, 115, 120, 130, 5000, 32_768] {
            let (recipient, tokens) = (Recipient::new(15), tokens(&noise(bytes), &[]));
            let (mut payload, mut frame) = (Vec::new(), b"before".to_vec());
            assert!(recipient.put_tokens(&Mark::default(), &tokens, &mut payload));
            let (lookback, horizon) = recipient.sight(&Mark::default());
            assert!(put_tokens_frame(&mut frame, Opcode::Binary, &tokens, &lookback, horizon));
            let mut expected = b"before".to_vec();
            put_header(&mut expected, Opcode::Binary, true, payload.len());
            headers.push(expected.len() - 6);
            // RFC 7692 section 7.2.3.6.
            assert_eq!(payload == [0], bytes == 0);
            expected.extend_from_slice(&payload);
            assert!(frame == expected, "{bytes} bytes");
        }
        assert_eq!((headers[0], headers.last()), (2, Some(&4)));
    }
}
