//! Frames for sessions that keep what they have inflated: as tokens, which refer to the messages of the topic before.
//!
//! What a session has inflated depends on its topics, so references of two lanes differ. But they differ only in how far
//! back they reach: the tokens of a frame are made once for all lanes, and each lane fills in its distances
//! (`shared_deflate::token`). Invariants:
//!  - every message that sessions in step of such a lane are sent is compressed and counted in the lane's stream, and
//!    nothing else that they are sent is compressed;
//!  - what a session was sent before it came in step is not referred to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

use crate::bus::frame::Frame;
use crate::bus::reader::Reader;
use crate::delivery::chunk::{Chunk, Compression};
use crate::delivery::lanes::lane_key::LaneKey;
use crate::protocol::encoding::{Encoder, Format, References};
use crate::words::ids::Offset;
use shared_deflate::frame::{parts, put_stored};
use shared_deflate::token::{Horizon, Lookback, Tokens, put_tokens_frame};

/// A frame that is due on a lane.
pub struct Due<'f> {
    pub frame: &'f Frame,
    /// Where sessions in step find what it may refer to.
    pub lookback: Lookback,
    /// Where its text begins in the lane's stream.
    pub position: u64,
    pub reference: Reference,
}

/// What the frame may refer to.
#[derive(Clone, Copy, Debug)]
pub enum Reference {
    /// The messages of its topic before it.
    Topic,
    /// The message of its topic that the lane sent last, with this offset.
    Sent(Offset),
}

impl<'f> Due<'f> {
    /// A frame that refers to nothing.
    pub fn alone(frame: &'f Frame, position: u64) -> Due<'f> {
        Due { frame, lookback: Lookback::default(), position, reference: Reference::Topic }
    }
}

/// Tokens of frames against what paced lanes sent last, kept while lanes of one pace are served.
#[derive(Default)]
pub struct PacedTokens(HashMap<(Offset, Offset, Format), Option<Tokens>>);

impl PacedTokens {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn get(&mut self, due: &Due<'_>, sent: Offset, sources: &mut Sources<'_>) -> Option<&Tokens> {
        let key = (due.frame.offset, sent, sources.key.format);
        match self.0.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(sources.tokens_after(due.frame, sent)),
        }
        .as_ref()
    }
}

/// What a chunk of tokens is made from.
pub struct Sources<'s> {
    pub key: &'s LaneKey,
    pub reader: &'s Reader,
    pub encoder: &'s mut Encoder,
}

impl Sources<'_> {
    /// The frames as one chunk for sessions that have a window of this size, and the lane's stream since this position.
    pub fn chunk(&mut self, due: &[Due<'_>], (window_bits, since): (u8, u64), paced: &mut PacedTokens) -> Chunk {
        let mut out = Vec::with_capacity(128 * due.len());
        let (mut plain_bytes, mut frames) = (0, 0);
        for due in due {
            let plain = &due.frame.encoded(self.key.plain(), self.encoder).bytes;
            plain_bytes += plain.len();
            if due.frame.is_status() {
                // Like all messages of the server it is not compressed; it is empty in the raw format.
                out.extend_from_slice(plain);
                continue;
            }
            frames += 1;
            if self.put_tokens(due, Horizon::new(window_bits, since, due.position), paced, &mut out) {
                continue;
            }
            let (opcode, text) = parts(plain).expect("an encoding is a whole frame");
            match self.key.deflated(due.frame, self.encoder) {
                // What does not shrink is not compressed in the encoding that all share.
                Some(deflated) if deflated.is_compressed() => out.extend_from_slice(&deflated.bytes),
                _ => put_stored(&mut out, opcode, text),
            }
        }
        let saved_bytes = plain_bytes.saturating_sub(out.len());
        Chunk { saved_bytes, bytes: Bytes::from(out), frames, compression: Compression::Tokens }
    }

    /// False, and nothing is put, if what the frame may refer to is out of reach.
    fn put_tokens(&mut self, due: &Due<'_>, horizon: Horizon, paced: &mut PacedTokens, out: &mut Vec<u8>) -> bool {
        if !due.lookback.reaches_newest(horizon) {
            return false;
        }
        let opcode = due.frame.payload.opcode(self.key.format);
        let mut put = |tokens: Option<&Tokens>| {
            tokens.is_some_and(|tokens| put_tokens_frame(out, opcode, tokens, &due.lookback, horizon))
        };
        match due.reference {
            Reference::Sent(offset) => put(paced.get(due, offset, self)),
            Reference::Topic => [References::All, References::Newest].into_iter().any(|references| {
                let look_up = |offset| self.reader.frame(offset).hot();
                put(due.frame.tokens(self.key.plain(), references, look_up, self.encoder))
            }),
        }
    }

    /// The tokens of a frame against another one of its topic.
    fn tokens_after(&mut self, frame: &Frame, sent: Offset) -> Option<Tokens> {
        let (plain, reference) = (self.key.plain(), self.reader.frame(sent).hot()?);
        let reference = reference.whole().encoded(plain, self.encoder).text();
        let text = frame.encoded(plain, self.encoder).text();
        self.encoder.tokens(text, &[reference])
    }
}
