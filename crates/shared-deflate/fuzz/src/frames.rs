//! The decoder of clients' frames: on any bytes, and on what an encoder wrote.

use shared_deflate::deflate::{Deflater, Inflater};
use shared_deflate::frame::{CONTROL_BYTES_MAX, DecodeError, Decoder, Message, Opcode, parts, put_frame, put_header};

use super::bits::Input;

/// Longest header of a masked frame.
const HEADER_BYTES_MAX: usize = 14;

/// In the style of a message: it comes in two frames.
const SPLIT: u8 = 0x40;

/// Any bytes give the same messages and the same error however they are cut, and nothing exceeds the limits.
pub fn frames(input: &[u8]) {
    let mut input = Input(input);
    let settings = input.byte();
    let max = [16, 125, 1_000, 70_000][usize::from(settings >> 1 & 0b11)];
    let deflate = settings & 1 != 0;
    let step = usize::from(input.byte());
    let whole = decode(input.0, std::iter::repeat(input.0.len().max(1)), max, deflate);
    let steps = [1 + step % 7, 1 + step / 7, 1 + step % 3].into_iter().cycle();
    assert_eq!(decode(input.0, steps, max, deflate), whole, "cut in pieces");
    if input.0.len() <= 512 {
        assert_eq!(decode(input.0, std::iter::repeat(1), max, deflate), whole, "byte by byte");
    }
}

/// What a correct client sends arrives as it was meant, and what the server writes is understood by `parts`.
pub fn messages(input: &[u8]) {
    let mut input = Input(input);
    let max = 4096;
    let step = 1 + usize::from(input.byte());
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    let mut deflater = Deflater::new(6, 15);
    while !input.is_empty() && expected.len() < 64 {
        let kind = input.byte();
        let bytes = usize::from(input.byte()) * if kind & 0x10 != 0 { 16 } else { 1 };
        let text = String::from_utf8_lossy(input.take(bytes)).into_owned();
        match kind & 0b11 {
            0 => {
                let payload = &text.as_bytes()[..text.len().min(CONTROL_BYTES_MAX)];
                put_masked(&mut sent, 0x80 | Opcode::Ping as u8, payload, kind);
                expected.push(Ok(Message::Ping(payload.to_vec())));
            }
            1 if text.len() > max => continue,
            1 => {
                put_message(&mut sent, Opcode::Text, text.as_bytes(), kind, &mut deflater);
                expected.extend((kind & SPLIT != 0).then_some(Ok(Message::Pong)));
                expected.push(Ok(Message::Text(text)));
            }
            2 if text.len() > max => continue,
            2 => {
                put_message(&mut sent, Opcode::Binary, text.as_bytes(), kind, &mut deflater);
                expected.extend((kind & SPLIT != 0).then_some(Ok(Message::Pong)));
                expected.push(Ok(Message::Binary(text.into_bytes())));
            }
            _ => {
                put_masked(&mut sent, 0x80 | Opcode::Pong as u8, b"", kind);
                expected.push(Ok(Message::Pong));
            }
        }
        if let Some(Ok(Message::Binary(payload))) = expected.last() {
            let mut frame = Vec::new();
            put_frame(&mut frame, Opcode::Binary, payload);
            assert_eq!(parts(&frame), Some((Opcode::Binary, &payload[..])));
        }
    }
    assert_eq!(decode(&sent, std::iter::repeat(step), max + 64, true), expected);
}

/// A message in one frame or two with a pong between, deflated or not; the bits of `style` decide.
fn put_message(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], style: u8, deflater: &mut Deflater) {
    let mut deflated = Vec::new();
    let (payload, rsv1) = if style & 0x20 != 0 {
        deflater.cut();
        deflater.deflate(payload, &mut deflated);
        (&deflated[..], 0x40)
    } else {
        (payload, 0)
    };
    if style & SPLIT == 0 {
        return put_masked(out, 0x80 | rsv1 | opcode as u8, payload, style);
    }
    let (head, tail) = payload.split_at(payload.len() / 3);
    put_masked(out, rsv1 | opcode as u8, head, style);
    put_masked(out, 0x80 | Opcode::Pong as u8, b"between", style);
    put_masked(out, 0x80 | Opcode::Continuation as u8, tail, style);
}

/// A client's frame with its first byte as given.
fn put_masked(out: &mut Vec<u8>, first: u8, payload: &[u8], seed: u8) {
    let mask = [seed, seed.wrapping_mul(31), 0, !seed];
    let at = out.len();
    put_header(out, Opcode::Text, false, payload.len());
    out[at] = first;
    out[at + 1] |= 0x80;
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn decode(
    mut bytes: &[u8],
    mut steps: impl Iterator<Item = usize>,
    max: usize,
    deflate: bool,
) -> Vec<Result<Message, DecodeError>> {
    let mut decoder = Decoder::new(max, deflate);
    let mut inflater = Inflater::new();
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(steps.next().unwrap_or(1).min(bytes.len()));
        bytes = rest;
        decoder.push(piece);
        loop {
            match decoder.next(&mut inflater) {
                Ok(Some(message)) => {
                    check_size(&message, max);
                    out.push(Ok(message));
                }
                Ok(None) => break,
                Err(error) => {
                    out.push(Err(error));
                    return out;
                }
            }
        }
        let held_max = max.max(CONTROL_BYTES_MAX) + HEADER_BYTES_MAX;
        assert!(decoder.pending_bytes() < held_max, "{} bytes are held, limit {max}", decoder.pending_bytes());
    }
    out
}

fn check_size(message: &Message, max: usize) {
    let (bytes, max) = match message {
        Message::Text(text) => (text.len(), max),
        Message::Binary(payload) => (payload.len(), max),
        Message::Ping(payload) => (payload.len(), CONTROL_BYTES_MAX),
        Message::Pong | Message::Close(_) => return,
    };
    assert!(bytes <= max, "a message of {bytes} bytes, limit {max}");
}
