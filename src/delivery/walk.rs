//! The one catch-up path: *bring this session from cursor c to its lane's position.*
//!
//! Joining, resuming, falling behind and changing a subscription are the same operation with other numbers. It has two
//! parts: a walk over the newest frames of the lane's topics in the order of their offsets (what was skipped is not
//! sent one by one), then a replay from the ring (nothing is skipped). Both give slices of bounded size made of shared
//! encodings, so a session that catches up holds one slice and a few numbers.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::bus::frame::Frame;
use crate::bus::reader::Reader;
use crate::delivery::index::{Index, LaneId};
use crate::delivery::lane::{Lane, LaneKey};
use crate::wire::encode::{Encoded, Encoder};
use crate::words::ids::{Offset, TopicId};
use crate::words::topic::Pattern;

/// 64 KiB: what a socket's buffer takes at once; a larger frame is a slice of its own, shared and not copied.
pub const SLICE_BYTES: usize = 64 * 1024;
/// Frames of the ring looked at for one slice: 4096 at about 50 ns keep a turn below a millisecond.
const SCAN_FRAMES: usize = 4096;
/// Frames of one slice of a walk at most; more would be sorted for nothing.
const WALK_FRAMES: usize = 1024;

/// Where a session stands that is not in step, and how it gets there.
pub struct Behind {
    /// Everything up to here has been sent, or will have been once the walk is done.
    pub cursor: Offset,
    pub walk: Option<Walk>,
    /// The client asked for a replay with `since`: skip only what the ring no longer holds.
    pub resuming: bool,
}

/// A way over the kept frames (of most topics the newest alone) with offsets in `reached+1 ..= until`, by offset.
pub struct Walk {
    pub reached: Offset,
    pub until: Offset,
    /// Topics that the session was on before, and up to where it has been sent them.
    pub known: Option<(Arc<[Pattern]>, Offset)>,
}

/// How frames are compressed, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Stateless,
    Window,
}

/// Complete WireFrames, ready for a socket.
pub struct Chunk {
    pub bytes: Bytes,
    /// How many of them are frames of topics; notices do not count.
    pub frames: u64,
    /// How many bytes more they would have uncompressed.
    pub saved_bytes: usize,
    pub form: Form,
}

impl Chunk {
    /// Notices, which are never compressed.
    pub fn notice(bytes: Bytes) -> Chunk {
        Chunk { bytes, frames: 0, saved_bytes: 0, form: Form::Plain }
    }
}

/// Outcome of a look into the ring.
pub enum Replay {
    /// There is something to send.
    Chunk(Chunk),
    /// Nothing in the part looked at was for this lane; the cursor has moved.
    Nothing,
    /// The ring no longer holds the frame after the cursor.
    Lost,
}

impl Behind {
    /// A session that has been sent everything up to `cursor`.
    pub fn at(cursor: Offset) -> Behind {
        Behind { cursor, walk: None, resuming: false }
    }
}

impl Walk {
    fn wants(&self, frame: &Frame) -> bool {
        let offset = frame.offset;
        let is_new = |(patterns, sent): &(Arc<[Pattern]>, Offset)| {
            offset > *sent || !patterns.iter().any(|pattern| pattern.matches(&frame.topic.name))
        };
        offset > self.reached && offset <= self.until && self.known.as_ref().is_none_or(is_new)
    }
}

/// The next slice of a walk, or none if there is nothing left. `scratch` is emptied first.
pub fn walk_slice(
    walk: &mut Walk,
    lane: &Lane,
    index: &Index,
    encoder: &mut Encoder,
    scratch: &mut Vec<(Offset, TopicId)>,
) -> Option<Chunk> {
    scratch.clear();
    let kept = lane.topics.iter().filter_map(|topic| index.entry(*topic)).flat_map(|entry| entry.kept());
    scratch.extend(kept.filter(|frame| walk.wants(frame)).map(|frame| (frame.offset, frame.topic.id)));
    if scratch.len() > WALK_FRAMES {
        scratch.select_nth_unstable(WALK_FRAMES - 1);
        scratch.truncate(WALK_FRAMES);
    }
    scratch.sort_unstable();
    let mut slice = Slice::default();
    for (offset, topic) in scratch.iter() {
        let frame = index.entry(*topic)?.find(*offset)?;
        if !slice.take(lane.key.encoded(frame, encoder)) {
            break;
        }
        walk.reached = *offset;
    }
    (slice.frames > 0).then(|| slice.finish(lane.key.form()))
}

/// The next slice of the ring after `cursor`, which moves along, up to `until`.
pub fn replay_slice(
    cursor: &mut Offset,
    until: Offset,
    (lane_id, key): (LaneId, &LaneKey),
    index: &Index,
    from: (&Reader, &mut Encoder),
) -> Replay {
    let (reader, encoder) = from;
    let mut slice = Slice::default();
    for _ in 0..SCAN_FRAMES {
        if *cursor >= until {
            break;
        }
        let next = cursor.next();
        let Some(frame) = reader.frame(next) else {
            if slice.frames == 0 {
                return Replay::Lost;
            }
            break;
        };
        if index.is_on(lane_id, frame.topic.id) && !slice.take(key.encoded(&frame, encoder)) {
            break;
        }
        *cursor = next;
    }
    if slice.frames == 0 { Replay::Nothing } else { Replay::Chunk(slice.finish(key.form())) }
}

/// Gathers encodings up to the size of a slice. A single one is shared instead of copied.
#[derive(Default)]
pub struct Slice {
    first: Bytes,
    rest: BytesMut,
    plain_bytes: usize,
    pub frames: u64,
}

impl Slice {
    /// Takes the frame, unless the slice is full.
    pub fn take(&mut self, encoded: &Encoded) -> bool {
        if self.frames > 0 && self.bytes() + encoded.bytes.len() > SLICE_BYTES {
            return false;
        }
        self.push(encoded);
        true
    }

    /// Takes the frame, full or not.
    pub fn push(&mut self, encoded: &Encoded) {
        match self.frames {
            0 => self.first = encoded.bytes.clone(),
            1 => {
                self.rest.extend_from_slice(&self.first);
                self.rest.extend_from_slice(&encoded.bytes);
            }
            _ => self.rest.extend_from_slice(&encoded.bytes),
        }
        self.plain_bytes += encoded.plain_bytes;
        self.frames += 1;
    }

    pub fn finish(self, form: Form) -> Chunk {
        let bytes = if self.frames == 1 { self.first } else { self.rest.freeze() };
        Chunk { saved_bytes: self.plain_bytes.saturating_sub(bytes.len()), bytes, frames: self.frames, form }
    }

    fn bytes(&self) -> usize {
        if self.frames == 1 { self.first.len() } else { self.rest.len() }
    }
}
