//! Shared tokens: recipients with lists and windows of their own join, miss texts and catch up, and read every text.

use shared_deflate::deflate::Deflater;
use shared_deflate::frame::{Opcode, parts};
use shared_deflate::token::{
    Horizon, Lookback, Mark, REFERENCES_MAX, Stream, TEXT_BYTES_MAX, Tokenizer, Tokens, put_tokens, put_tokens_frame,
};

use super::bits::Input;
use super::receiver::Receiver;

const TOPICS: usize = 6;
const WINDOWS: [u8; 7] = [9, 9, 10, 12, 14, 15, 15];
const MEMBERS_MAX: usize = 3;

/// What has happened, so that a test can tell that everything has.
#[derive(Debug, Default)]
pub struct Happened {
    /// Messages by tokens, by the number of references that they need.
    pub by_tokens: [usize; REFERENCES_MAX + 1],
    /// Tokens that were not for a recipient, for it lacked a reference or its window is too small.
    pub refused: usize,
    /// Texts that were too long for tokens.
    pub too_long: usize,
    /// Messages that stood alone, by choice or for want of tokens.
    pub stateless: usize,
    /// Texts that did not enter the window.
    pub plain: usize,
    /// Recipients that joined a stream.
    pub joined: usize,
}

/// Recipients that receive the same.
struct Group {
    stream: Stream,
    marks: [Mark; TOPICS],
    subscribed: [bool; TOPICS],
    members: Vec<Member>,
    window_bits: u8,
    alone: Deflater,
}

struct Member {
    receiver: Receiver,
    /// Where in the stream it arrived.
    arrived: u64,
}

impl Group {
    fn new(window_bits: u8, list: u8) -> Group {
        let (stream, receiver) = (Stream::default(), Receiver::new(window_bits));
        Group {
            members: vec![Member { receiver, arrived: stream.position() }],
            stream,
            marks: [Mark::default(); TOPICS],
            subscribed: std::array::from_fn(|topic| list >> topic & 1 != 0),
            window_bits,
            alone: Deflater::new(1, window_bits),
        }
    }

    /// A recipient joins that has received nothing. The one that is here longest may have to go.
    fn join(&mut self) {
        if self.members.len() == MEMBERS_MAX {
            self.members.remove(0);
        }
        let receiver = Receiver::new(self.window_bits);
        self.members.push(Member { receiver, arrived: self.stream.position() });
    }

    /// The newest member is sent a text that is not counted.
    fn catch_up(&mut self, text: &[u8]) {
        let payload = self.stateless(text);
        let member = self.members.last_mut().expect("a group has members");
        assert!(member.receiver.read(&payload, text.len()) == text);
        member.arrived = self.stream.position();
    }

    fn stateless(&mut self, text: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        self.alone.cut();
        self.alone.deflate(text, &mut payload);
        payload
    }

    /// The payload for one member, by the first tokens that are for it.
    fn by_tokens(
        (lookback, horizon): (&Lookback, Horizon),
        variants: &[Option<Tokens>],
        happened: &mut Happened,
    ) -> Option<Vec<u8>> {
        for tokens in variants {
            let Some(tokens) = tokens else {
                happened.too_long += 1;
                continue;
            };
            let mut out = b"kept".to_vec();
            let is_put = put_tokens(&mut out, tokens, lookback, horizon);
            let payload = out.strip_prefix(b"kept").expect("what was there before stays");
            let mut frame = b"kept".to_vec();
            assert_eq!(put_tokens_frame(&mut frame, Opcode::Text, tokens, lookback, horizon), is_put);
            let frame = frame.strip_prefix(b"kept").expect("what was there before stays");
            if is_put {
                assert_eq!(parts(frame), Some((Opcode::Text, payload)));
                assert_eq!(frame[0], 0xC1, "a whole compressed message");
                happened.by_tokens[tokens.references_used()] += 1;
                return Some(payload.to_vec());
            }
            assert!(payload.is_empty() && frame.is_empty(), "tokens that are refused leave nothing");
            happened.refused += 1;
        }
        None
    }
}

/// Every recipient reads every text, whatever its list and its window are, and whatever it was sent before.
pub fn tokens(input: &[u8]) {
    happened_with(input);
}

/// As [`tokens`]; tells what has happened.
pub fn happened_with(input: &[u8]) -> Happened {
    let mut input = Input(input);
    let mut happened = Happened::default();
    let mut tokenizer = Tokenizer::new();
    let mut groups: Vec<Group> = WINDOWS.iter().map(|bits| Group::new(*bits, input.byte())).collect();
    // The newest text of each topic is the first.
    let mut texts: [Vec<Vec<u8>>; TOPICS] = Default::default();
    while !input.is_empty() {
        let step = input.byte();
        let place = usize::from(input.byte());
        let (group, topic) = (&mut groups[place % WINDOWS.len()], place / WINDOWS.len() % TOPICS);
        match step {
            0..8 => {
                group.join();
                happened.joined += 1;
            }
            8..12 => {
                group.subscribed[topic] ^= true;
                group.marks[topic].forget();
            }
            12..16 => {
                let text = text(&mut input, &[]);
                group.catch_up(&text);
            }
            _ => {
                // Old values come back: mostly the newest text is the model of the next, but not always.
                let model = usize::from(step >> 4 & 0b111).saturating_sub(4);
                let before = texts[topic].get(model).map_or(&b""[..], |text| text);
                let text = text(&mut input, before);
                // A topic may offer fewer references than it has.
                let offered = if step & 0b111 == 0 { usize::from(step >> 6) } else { REFERENCES_MAX + 1 };
                let references: Vec<&[u8]> = texts[topic].iter().take(offered).map(Vec::as_slice).collect();
                let newest = &references[..references.len().min(1)];
                let variants = [tokenizer.tokens(&text, &references), tokenizer.tokens(&text, newest)];
                assert_eq!(variants[0].is_some(), text.len() <= TEXT_BYTES_MAX);
                for group in groups.iter_mut().filter(|group| group.subscribed[topic]) {
                    send(group, topic, &text, &variants, input.byte(), &mut happened);
                }
                texts[topic].insert(0, text);
                texts[topic].truncate(REFERENCES_MAX + 1);
            }
        }
    }
    happened
}

/// One group receives one text, in an encoding of this choice.
fn send(
    group: &mut Group,
    topic: usize,
    text: &[u8],
    variants: &[Option<Tokens>],
    choice: u8,
    happened: &mut Happened,
) {
    if choice < 16 {
        group.marks[topic].forget();
        happened.plain += 1;
        return;
    }
    let (alone, position) = (group.stateless(text), group.stream.position());
    let lookback = group.stream.pass(&mut group.marks[topic], text.len());
    for member in &mut group.members {
        let horizon = Horizon::new(group.window_bits, member.arrived, position);
        let tokens = if choice < 32 { None } else { Group::by_tokens((&lookback, horizon), variants, happened) };
        let payload = tokens.as_ref().unwrap_or(&alone);
        happened.stateless += usize::from(tokens.is_none());
        let read = member.receiver.read(payload, text.len());
        assert!(read == text, "{} bits, another text", group.window_bits);
    }
}

/// A text that is mostly as one before it.
fn text(input: &mut Input<'_>, before: &[u8]) -> Vec<u8> {
    let (style, seed) = (input.byte(), input.byte());
    let noise = |bytes: usize| -> Vec<u8> {
        let mut state = u32::from(seed) << 8 | u32::from(style) | 1 << 30;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        (0..bytes).map(|_| next()).collect()
    };
    match style {
        0..4 => Vec::new(),
        4..12 => noise(usize::from(seed) * 3),
        // Around the longest that is tokenized, and far beyond.
        12 => noise(TEXT_BYTES_MAX - 1 + usize::from(seed % 3)),
        13 => noise(80_000),
        14 => b"0123456789".repeat(TEXT_BYTES_MAX / 10 + usize::from(seed % 2)),
        // As long as a small window.
        15..20 => noise(128).repeat(3 + usize::from(seed % 8)),
        20..40 => {
            let digits: Vec<String> =
                noise(usize::from(seed)).iter().map(|byte| format!("[{byte},0.{byte}]")).collect();
            format!(r#"{{"bids":[{}]}}"#, digits.join(",")).into_bytes()
        }
        40..48 => input.take(seed.into()).to_vec(),
        _ if before.is_empty() => {
            format!(r#"{{"topic":"ticker.{style}","price":"{seed}.25","size":40,"venue":"X"}}"#).into_bytes()
        }
        _ => {
            let mut text = before[..before.len().min(600)].to_vec();
            for change in input.take(usize::from(style % 8)) {
                let at = usize::from(*change) * text.len() / 256;
                text[at] = b'0' + change % 10;
            }
            match seed {
                0..16 => text.truncate(usize::from(seed)),
                16..32 => text.extend_from_slice(&noise(usize::from(seed))),
                _ => {}
            }
            text
        }
    }
}
