//! The form of frames on disk: a block is one record after another, each a header and a body with checksums.
//!
//! A body that is damaged costs its frame: a gap of its topic stands in its place. A header that is damaged costs the
//! block, since the records behind it cannot be found. Topics are numbers in a table that stays in memory.
//!
//! ```text
//!  0  CRC-32 of the header from here on    16  topic               32  received, wall_ms
//!  4  CRC-32 of the body                   20  values to keep      40  received, mono_ns
//!  8  bytes of the payload                 22  content             48  payload, whole value
//! 12  bytes of the whole value             23  kinds of payloads
//!                                          24  offset
//! ```
//! All numbers are little-endian.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Crc;

use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::frame::Topic;
use crate::bus::publisher::republish::FrameContent;
use crate::bus::retention::Retention;
use crate::bus::topic_status::TopicStatusKind;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

const HEADER_BYTES: usize = 48;

const VALUE: u8 = 0;
const SNAPSHOT: u8 = 1;
const DELTA: u8 = 2;
const DELTA_WITH_WHOLE: u8 = 3;
const TRANSIENT: u8 = 4;
const CONFLATED: u8 = 5;
/// And the place in `TopicStatusKind::ALL`.
const STATUS: u8 = 6;

/// The topics of a block, by their numbers in its records.
pub(in crate::bus::delay) type BlockTopics = Box<[Arc<Topic>]>;

/// What a block was decoded to.
#[derive(Debug)]
pub(super) struct DecodedBlock {
    pub frames: Vec<WaitingFrame>,
    /// Frames in whose place there is a gap.
    pub damaged: usize,
}

/// The header of a block or the order of its records is damaged.
#[derive(Debug)]
pub(super) struct DamagedBlock;

/// Whether a frame has a form on disk. One that forgets topics has none: if it were lost, they would stay for ever.
pub(in crate::bus::delay) fn has_form(frame: &WaitingFrame) -> bool {
    !matches!(frame.content, FrameContent::Expired(_))
}

/// Appends the frames, each of which has a form, to `out`.
pub(super) fn encode_block(frames: &[WaitingFrame], out: &mut Vec<u8>) -> BlockTopics {
    let mut topics: Vec<Arc<Topic>> = Vec::new();
    let mut numbers: HashMap<*const Topic, u32> = HashMap::new();
    for frame in frames {
        let topic = *numbers.entry(Arc::as_ptr(&frame.topic)).or_insert_with(|| {
            topics.push(frame.topic.clone());
            topics.len() as u32 - 1
        });
        encode(frame, topic, out);
    }
    topics.into()
}

fn encode(frame: &WaitingFrame, topic: u32, out: &mut Vec<u8>) {
    let (content, keep, kinds, payload, whole) = parts(&frame.content);
    let mut crc = Crc::new();
    crc.update(payload);
    crc.update(whole);
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&crc.sum().to_le_bytes());
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&(whole.len() as u32).to_le_bytes());
    header[16..20].copy_from_slice(&topic.to_le_bytes());
    header[20..22].copy_from_slice(&keep.to_le_bytes());
    header[22] = content;
    header[23] = kinds;
    header[24..32].copy_from_slice(&frame.offset.0.to_le_bytes());
    header[32..40].copy_from_slice(&frame.received.wall_ms.to_le_bytes());
    header[40..48].copy_from_slice(&frame.received.mono_ns.to_le_bytes());
    let sum = checksum(&header[4..]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out.extend_from_slice(whole);
}

/// Content, values to keep, kinds of the payloads, payload, whole value.
fn parts(content: &FrameContent) -> (u8, u16, u8, &[u8], &[u8]) {
    let kind = |payload: &Payload| payload.kind as u8;
    match content {
        FrameContent::Message { payload, retention } => {
            let bytes = &*payload.bytes;
            match retention {
                Retention::Value { keep } => {
                    (VALUE, u16::try_from(*keep).unwrap_or(u16::MAX), kind(payload), bytes, &[])
                }
                Retention::Snapshot => (SNAPSHOT, 0, kind(payload), bytes, &[]),
                Retention::Delta { whole: None } => (DELTA, 0, kind(payload), bytes, &[]),
                Retention::Delta { whole: Some(whole) } => {
                    (DELTA_WITH_WHOLE, 0, kind(payload) | kind(whole) << 4, bytes, &whole.bytes)
                }
                Retention::Transient => (TRANSIENT, 0, kind(payload), bytes, &[]),
            }
        }
        FrameContent::Status { kind, text } => (STATUS + *kind as u8, 0, 0, text, &[]),
        FrameContent::Conflated | FrameContent::Expired(_) => (CONFLATED, 0, 0, &[], &[]),
    }
}

/// The frames of a block of so many frames up to this offset.
pub(super) fn decode_block(
    mut bytes: &[u8],
    topics: &[Arc<Topic>],
    (count, until): (usize, Offset),
) -> Result<DecodedBlock, DamagedBlock> {
    let mut decoded = DecodedBlock { frames: Vec::with_capacity(count), damaged: 0 };
    let mut newest = Offset::START;
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        if u32_at(header, 0) != checksum(&header[4..]) {
            return Err(DamagedBlock);
        }
        let (payload_bytes, whole_bytes) = (u32_at(header, 8) as usize, u32_at(header, 12) as usize);
        let (payload, rest) = rest.split_at_checked(payload_bytes).ok_or(DamagedBlock)?;
        let (whole, rest) = rest.split_at_checked(whole_bytes).ok_or(DamagedBlock)?;
        bytes = rest;
        let offset = Offset(u64_at(header, 24));
        let topic = topics.get(u32_at(header, 16) as usize).ok_or(DamagedBlock)?;
        if offset <= newest || offset > until {
            return Err(DamagedBlock);
        }
        newest = offset;
        let mut crc = Crc::new();
        crc.update(payload);
        crc.update(whole);
        let is_whole = crc.sum() == u32_at(header, 4);
        decoded.damaged += usize::from(!is_whole);
        let content = if is_whole {
            let keep = u16::from_le_bytes([header[20], header[21]]);
            content(header[22], keep, header[23], (payload, whole))?
        } else {
            FrameContent::Conflated
        };
        let received = Stamp { wall_ms: u64_at(header, 32), mono_ns: u64_at(header, 40) };
        decoded.frames.push(WaitingFrame { offset, topic: topic.clone(), received, content });
    }
    if bytes.is_empty() && decoded.frames.len() == count && newest == until { Ok(decoded) } else { Err(DamagedBlock) }
}

fn content(content: u8, keep: u16, kinds: u8, (first, second): (&[u8], &[u8])) -> Result<FrameContent, DamagedBlock> {
    let payload = |bytes: &[u8], kind| {
        let kind = payload_kind(kind)?;
        Ok(Payload { bytes: Bytes::copy_from_slice(bytes), kind })
    };
    let retention = match content {
        VALUE => Retention::Value { keep: usize::from(keep) },
        SNAPSHOT => Retention::Snapshot,
        DELTA => Retention::Delta { whole: None },
        DELTA_WITH_WHOLE => Retention::Delta { whole: Some(payload(second, kinds >> 4)?) },
        TRANSIENT => Retention::Transient,
        CONFLATED => return Ok(FrameContent::Conflated),
        status => {
            let kind = TopicStatusKind::ALL.get(usize::from(status - STATUS)).ok_or(DamagedBlock)?;
            return Ok(FrameContent::Status { kind: *kind, text: Bytes::copy_from_slice(first) });
        }
    };
    Ok(FrameContent::Message { payload: payload(first, kinds & 0xf)?, retention })
}

fn payload_kind(kind: u8) -> Result<PayloadKind, DamagedBlock> {
    let kinds = [PayloadKind::Json, PayloadKind::Text, PayloadKind::Binary];
    kinds.into_iter().find(|known| *known as u8 == kind).ok_or(DamagedBlock)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|place| header[at + place]))
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|place| header[at + place]))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::words::ids::TopicId;

    fn payload(text: &'static str, kind: PayloadKind) -> Payload {
        Payload { bytes: Bytes::from_static(text.as_bytes()), kind }
    }

    /// One frame of each kind.
    fn frames() -> Vec<WaitingFrame> {
        let message =
            |retention| FrameContent::Message { payload: payload(r#"{"a":1}"#, PayloadKind::Json), retention };
        let whole = Some(payload("whole", PayloadKind::Text));
        let empty = FrameContent::Message { payload: payload("", PayloadKind::Binary), retention: Retention::NEWEST };
        let mut contents = vec![
            message(Retention::Value { keep: 1000 }),
            message(Retention::Snapshot),
            message(Retention::Delta { whole: None }),
            message(Retention::Delta { whole }),
            message(Retention::Transient),
            empty,
            FrameContent::Conflated,
        ];
        let status = |kind| FrameContent::Status { kind, text: Bytes::from_static(br#"{"op":"gap"}"#) };
        contents.extend(TopicStatusKind::ALL.map(status));
        let topics = ["a", "b"].map(|name| Arc::new(Topic { id: TopicId(0), name: name.into(), keep: None }));
        let frame = |(number, content): (usize, FrameContent)| WaitingFrame {
            offset: Offset(100 + 2 * number as u64),
            topic: topics[number % 2].clone(),
            received: Stamp { wall_ms: 1 << 41, mono_ns: u64::MAX - number as u64 },
            content,
        };
        contents.into_iter().enumerate().map(frame).collect()
    }

    fn shown(frame: &WaitingFrame) -> String {
        format!("{frame:?}")
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let (frames, mut bytes) = (frames(), Vec::new());
        let topics = encode_block(&frames, &mut bytes);
        assert_eq!(topics.len(), 2);
        let until = frames.last().expect("there are some").offset;
        let decoded = decode_block(&bytes, &topics, (frames.len(), until)).expect("nothing is damaged");
        assert_eq!(decoded.damaged, 0);
        let texts = |frames: &[WaitingFrame]| frames.iter().map(shown).collect::<Vec<_>>();
        assert_eq!(texts(&decoded.frames), texts(&frames));
        for (count, until) in [(frames.len() - 1, until), (frames.len(), until.next()), (frames.len(), Offset(100))] {
            decode_block(&bytes, &topics, (count, until)).expect_err("another block");
        }
    }

    #[test]
    fn a_bit_that_changed_costs_a_frame_or_the_block_and_nothing_else_is_served() {
        let (frames, mut bytes) = (frames(), Vec::new());
        let topics = encode_block(&frames, &mut bytes);
        let until = frames.last().expect("there are some").offset;
        let (mut gaps, mut blocks) = (0, 0);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match decode_block(&bytes, &topics, (frames.len(), until)) {
                Err(DamagedBlock) => blocks += 1,
                Ok(decoded) => {
                    assert_eq!((decoded.damaged, decoded.frames.len()), (1, frames.len()), "bit {bit}");
                    let changed = decoded.frames.iter().zip(&frames).filter(|(one, other)| shown(one) != shown(other));
                    let changed: Vec<_> = changed.map(|(frame, _)| &frame.content).collect();
                    assert!(matches!(changed[..], [FrameContent::Conflated]), "bit {bit}: {changed:?}");
                    gaps += 1;
                }
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!((blocks, gaps), (frames.len() * HEADER_BYTES * 8, (bytes.len() - frames.len() * HEADER_BYTES) * 8));
    }

    #[test]
    fn bytes_that_are_no_block_are_refused() {
        let topics = encode_block(&frames(), &mut Vec::new());
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            decode_block(&bytes, &topics, (1, Offset(1))).expect_err("nobody wrote it");
        }
        decode_block(&[0; 96], &topics, (2, Offset(2))).expect_err("a hole of a file");
    }
}
