//! The one catch-up path: *bring this session from cursor c to its lane's position.*
//!
//! Joining, resuming, falling behind and changing a subscription are the same operation with other numbers. It has two
//! parts: a walk over what is kept of the lane's topics in the order of offsets (what was skipped is not sent one by
//! one), then a replay from the ring (nothing is skipped). Both give slices of bounded size made of shared encodings, so
//! a session that catches up holds one slice and a few numbers. A walk costs in proportion to what it sends: lanes of
//! many topics are walked by a sorted list that all who join share (`sorted`), and then by the ring.
//!
//! A topic of changes may start over while a session walks, or is away in the middle of a walk: then the session lacks
//! some changes before the topic's new base. So what is before a base is never replayed to a session that has walked or
//! resumes, and the base comes in its whole form. Then this holds at any cursor: of each topic the session has
//! everything kept up to there, or the topic's base is still to come.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use crate::bus::frame::{Frame, FrameKind};
use crate::bus::reader::Reader;
use crate::bus::retained::Retained;
use crate::bus::topic_status::TopicStatusKind;
use crate::delivery::catch_up::by_offset::{List, TopicsByOffset};
use crate::delivery::lanes::lane::{Lane, LaneKey};
use crate::delivery::lanes::topic_index::{LaneId, TopicEntry, TopicIndex};
use crate::protocol::encoding::{Encoded, Encoder, Format};
use crate::words::ids::{Offset, TopicId};

/// 64 KiB: what a socket's buffer takes at once; a larger frame is a slice of its own, shared and not copied.
pub const SLICE_BYTES: usize = 64 * 1024;
/// Frames of the ring looked at for one slice: 4096 at about 50 ns keep a turn below a millisecond.
const SCAN_FRAMES: usize = 4096;
/// Frames of one slice of a walk at most; more would be sorted for nothing.
const WALK_FRAMES: usize = 1024;
/// Lanes of up to so many topics are walked by looking at all of them for each slice: four slices where one frame of each
/// is kept.
pub const SCAN_TOPICS_MAX: usize = 4 * WALK_FRAMES;

/// Where a session stands that is not in step, and how it gets there.
pub struct CatchUp {
    /// Everything up to here has been sent, or will have been once the walk is done.
    pub cursor: Offset,
    pub walk: Option<SnapshotScan>,
    pub cause: CatchUpCause,
    /// Nothing before the cursor is missing: the session was in step there.
    pub complete: bool,
    /// Work done for it that has not been counted as a message yet (`catch_up`).
    pub steps: usize,
}

/// Why a session is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUpCause {
    /// It joined, or its client does not read fast enough.
    Slow,
    /// The client asked for a replay with `since`: skip only what the ring no longer holds.
    Resume,
    /// It was in step with a shard that was overrun by the whole ring.
    Overrun,
}

/// A way over the kept frames (of most topics the newest alone) with offsets in `reached+1 ..= until`, by offset.
pub struct SnapshotScan {
    pub reached: Offset,
    pub until: Offset,
    /// The lane that the session was on before, and up to where it has been sent that one's topics. It is held, so that
    /// it stays on its topics, until the walk is over.
    pub known: Option<(LaneId, Offset)>,
}

/// Where a walk finds what it passes.
pub struct ScanSources<'s> {
    pub index: &'s TopicIndex,
    pub sorted: &'s TopicsByOffset,
    pub reader: &'s Reader,
    /// Lanes of more topics are walked by the sorted list and the ring.
    pub scan_topics_max: usize,
    /// How large a slice may be; a single frame may be larger.
    pub slice_bytes: usize,
}

impl ScanSources<'_> {
    /// Whether looking at all topics of a lane for each slice is cheaper than going over all topics of the shard once.
    fn scans(&self, topics: usize) -> bool {
        let few = self.scan_topics_max;
        topics <= few || 4 * topics.div_ceil(few.max(1)) * topics <= self.index.slots()
    }
}

/// Outcome of a part of a walk.
pub enum ScanProgress {
    Chunk(Chunk),
    /// Nothing in the part looked at was for this session; it has moved.
    Nothing,
    /// There is no list that leads from here to the end: one must be made.
    Unsorted,
    Done,
}

/// How frames are compressed, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Stateless,
    Window,
}

/// Complete WireFrames, ready for a socket.
pub struct Chunk {
    pub bytes: Bytes,
    /// How many of them are frames of topics; notices and notes do not count.
    pub frames: u64,
    /// How many bytes more they would have uncompressed.
    pub saved_bytes: usize,
    pub form: Compression,
}

impl Chunk {
    /// Notices, which are never compressed.
    pub fn notice(bytes: Bytes) -> Chunk {
        Chunk { bytes, frames: 0, saved_bytes: 0, form: Compression::Plain }
    }
}

/// Outcome of a look into the ring.
pub enum RingReplay {
    /// There is something to send.
    Chunk(Chunk),
    /// Nothing in the part looked at was for this lane; the cursor has moved.
    Nothing,
    /// The ring no longer holds the frame after the cursor.
    Lost,
}

impl CatchUp {
    /// A session that has been sent everything up to `cursor`.
    pub fn at(cursor: Offset) -> CatchUp {
        CatchUp { cursor, walk: None, cause: CatchUpCause::Slow, complete: true, steps: 0 }
    }

    /// A session that will have been sent everything up to `cursor` once the walk is done.
    pub fn walking(cursor: Offset, walk: SnapshotScan) -> CatchUp {
        CatchUp { walk: Some(walk), complete: false, ..CatchUp::at(cursor) }
    }

    /// A session whose client says that it has everything up to `cursor`; perhaps it was in the middle of a walk.
    pub fn resuming(cursor: Offset) -> CatchUp {
        CatchUp { cause: CatchUpCause::Resume, complete: false, ..CatchUp::at(cursor) }
    }
}

impl SnapshotScan {
    /// Up to where the session has been sent this topic.
    fn sent(&self, entry: &TopicEntry) -> Offset {
        match self.known {
            Some((lane, sent)) if entry.is_on(lane) => self.reached.max(sent),
            _ => self.reached,
        }
    }
}

/// The next part of a walk, and the work that it took, in topics and frames looked at. `scratch` is emptied first.
pub fn walk_slice(
    walk: &mut SnapshotScan,
    (lane_id, lane): (LaneId, &Lane),
    sources: &ScanSources,
    encoder: &mut Encoder,
    scratch: &mut Vec<(Offset, TopicId)>,
) -> (ScanProgress, usize) {
    if walk.reached >= walk.until {
        return (ScanProgress::Done, 0);
    }
    let topics = lane.topics.list.len();
    if sources.scans(topics) {
        return scan_slice(walk, lane, sources, encoder, scratch);
    }
    let mut slice = ScanSlice {
        walk,
        lane_id,
        key: &lane.key,
        index: sources.index,
        slice: Slice::of(sources.slice_bytes),
        looked: 0,
    };
    let done = slice.take_sorted(sources, encoder);
    let ScanSlice { slice, looked, .. } = slice;
    let stride = match done {
        _ if !slice.is_empty() => ScanProgress::Chunk(slice.finish(lane.key.form())),
        true => ScanProgress::Nothing,
        false => ScanProgress::Unsorted,
    };
    (stride, looked)
}

/// Looks at all topics of the lane, for lanes that have few.
fn scan_slice(
    walk: &mut SnapshotScan,
    lane: &Lane,
    sources: &ScanSources<'_>,
    encoder: &mut Encoder,
    scratch: &mut Vec<(Offset, TopicId)>,
) -> (ScanProgress, usize) {
    let index = sources.index;
    scratch.clear();
    let takes_notes = lane.key.format == Format::Envelope;
    let (mut until, mut looked) = (walk.until, lane.topics.list.len());
    for topic in &lane.topics.list {
        let Some(entry) = index.entry(*topic).filter(|entry| entry.story.newest().offset > walk.reached) else {
            continue;
        };
        let kept = entry.story.kept_after(walk.sent(entry)).take_while(|frame| frame.offset <= until);
        let kept = kept.filter(|frame| takes_notes || !frame.is_status()).take(WALK_FRAMES);
        scratch.extend(kept.map(|frame| (frame.offset, *topic)));
        // Topics may keep thousands of changes each: what is too far away is not gathered.
        if scratch.len() > 4 * WALK_FRAMES {
            looked += scratch.len();
            let (_, (farthest, _), _) = scratch.select_nth_unstable(WALK_FRAMES - 1);
            until = *farthest;
            scratch.truncate(WALK_FRAMES);
        }
    }
    looked += scratch.len();
    if scratch.len() > WALK_FRAMES {
        scratch.select_nth_unstable(WALK_FRAMES - 1);
        scratch.truncate(WALK_FRAMES);
    }
    scratch.sort_unstable();
    let mut slice = Slice::of(sources.slice_bytes);
    for (offset, topic) in scratch.iter() {
        let Some(frame) = index.entry(*topic).and_then(|entry| entry.story.find(*offset)) else { continue };
        if !slice.take(frame.whole(), lane.key.encoded(frame.whole(), encoder)) {
            break;
        }
        walk.reached = *offset;
    }
    if slice.is_empty() {
        walk.reached = walk.until;
        return (ScanProgress::Done, looked);
    }
    (ScanProgress::Chunk(slice.finish(lane.key.form())), looked)
}

/// A slice of a walk that is being filled.
struct ScanSlice<'w> {
    walk: &'w mut SnapshotScan,
    lane_id: LaneId,
    key: &'w LaneKey,
    index: &'w TopicIndex,
    slice: Slice,
    looked: usize,
}

impl ScanSlice<'_> {
    /// Takes the frames that the sorted list and, after it, the ring lead to. False if they do not lead to the end.
    fn take_sorted(&mut self, sources: &ScanSources, encoder: &mut Encoder) -> bool {
        let list = sources.sorted.list();
        let as_of = list.map_or(Offset::START, |list| list.as_of);
        let from = self.walk.reached.max(as_of);
        let by_ring = self.walk.until.0.saturating_sub(from.0);
        let by_ring_max = SCAN_FRAMES.max(sources.index.slots() / 2) as u64;
        if by_ring > 0 && (by_ring > by_ring_max || sources.reader.tail() > from.next()) {
            return false;
        }
        if let Some(list) = list.filter(|_| self.walk.reached < as_of) {
            self.take_list(list, encoder);
            return true;
        }
        self.take_ring(sources.reader, encoder)
    }

    fn take_list(&mut self, list: &List, encoder: &mut Encoder) {
        let until = self.walk.until.min(list.as_of);
        let mut ahead = list.after(self.walk.reached).take_while(|(offset, _)| *offset <= until);
        for _ in 0..SCAN_FRAMES {
            let Some((offset, topic)) = ahead.next() else {
                self.walk.reached = until;
                return;
            };
            if !self.take(offset, topic, encoder) {
                return;
            }
            self.walk.reached = offset;
        }
    }

    /// False if the ring no longer holds what is next.
    fn take_ring(&mut self, reader: &Reader, encoder: &mut Encoder) -> bool {
        for _ in 0..SCAN_FRAMES {
            if self.walk.reached >= self.walk.until {
                break;
            }
            let next = self.walk.reached.next();
            let Some(frame) = reader.frame(next).hot() else { return false };
            if !self.take(next, frame.topic.id, encoder) {
                break;
            }
            self.walk.reached = next;
        }
        true
    }

    /// Takes the frame at this offset, if it is kept and for this session. False if the slice is full.
    fn take(&mut self, offset: Offset, topic: TopicId, encoder: &mut Encoder) -> bool {
        self.looked += 1;
        let Some(entry) = self.index.entry_on(self.lane_id, topic) else { return true };
        let kept = entry.story.find(offset).filter(|_| offset > self.walk.sent(entry));
        kept.is_none_or(|frame| self.slice.take(frame.whole(), self.key.encoded(frame.whole(), encoder)))
    }
}

/// The next slice of the ring after the session's cursor, which moves along, up to `until`; of so many bytes at most, or
/// of one frame.
pub fn replay_slice(
    behind: &mut CatchUp,
    until: Offset,
    (lane_id, key): (LaneId, &LaneKey),
    index: &TopicIndex,
    from: (&Reader, &mut Encoder, usize),
) -> RingReplay {
    let (reader, encoder, slice_bytes) = from;
    let mut slice = Slice::of(slice_bytes);
    for _ in 0..SCAN_FRAMES {
        if behind.cursor >= until {
            break;
        }
        let next = behind.cursor.next();
        let Some(frame) = reader.frame(next).hot() else {
            if slice.is_empty() {
                return RingReplay::Lost;
            }
            break;
        };
        let is_expiry = matches!(frame.kind, FrameKind::Expired(_));
        if let Some(entry) = index.entry_on(lane_id, frame.topic.id).filter(|_| !is_expiry) {
            let due = if behind.complete { Some(&*frame) } else { replayed(&frame, &entry.story) };
            if due.is_some_and(|due| !slice.take(due, key.encoded(due, encoder))) {
                break;
            }
        }
        behind.cursor = next;
    }
    if slice.is_empty() { RingReplay::Nothing } else { RingReplay::Chunk(slice.finish(key.form())) }
}

/// The frame as it is replayed to a session that may lack some before the base of the story; none if it is superseded.
fn replayed<'f>(frame: &'f Frame, story: &'f Retained) -> Option<&'f Frame> {
    let Some(base) = story.base() else { return Some(frame) };
    let is_part =
        matches!(frame.kind, FrameKind::Snapshot | FrameKind::Delta { .. } | FrameKind::Status(TopicStatusKind::Gap));
    match frame.offset.cmp(&base.offset) {
        Ordering::Less if is_part => None,
        Ordering::Equal => Some(base.whole()),
        Ordering::Less | Ordering::Greater => Some(frame),
    }
}

/// Gathers encodings up to the size of a slice. A single one is shared instead of copied.
pub struct Slice {
    bytes_max: usize,
    first: Bytes,
    rest: BytesMut,
    plain_bytes: usize,
    /// How many encodings it holds, and how many of them are frames of topics.
    items: u64,
    frames: u64,
}

impl Slice {
    pub fn of(bytes_max: usize) -> Slice {
        Slice { bytes_max, first: Bytes::new(), rest: BytesMut::new(), plain_bytes: 0, items: 0, frames: 0 }
    }

    /// Takes the frame, unless the slice is full.
    pub fn take(&mut self, frame: &Frame, encoded: &Encoded) -> bool {
        if self.items > 0 && self.bytes() + encoded.bytes.len() > self.bytes_max {
            return false;
        }
        self.push(frame, encoded);
        true
    }

    /// Takes the frame, full or not. Of a note there is nothing to take for raw sessions.
    pub fn push(&mut self, frame: &Frame, encoded: &Encoded) {
        if encoded.bytes.is_empty() {
            return;
        }
        match self.items {
            0 => self.first = encoded.bytes.clone(),
            1 => {
                self.rest.extend_from_slice(&self.first);
                self.rest.extend_from_slice(&encoded.bytes);
            }
            _ => self.rest.extend_from_slice(&encoded.bytes),
        }
        self.plain_bytes += encoded.plain_bytes;
        self.items += 1;
        self.frames += u64::from(!frame.is_status());
    }

    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    pub fn finish(self, form: Compression) -> Chunk {
        let bytes = if self.items == 1 { self.first } else { self.rest.freeze() };
        Chunk { saved_bytes: self.plain_bytes.saturating_sub(bytes.len()), bytes, frames: self.frames, form }
    }

    fn bytes(&self) -> usize {
        if self.items == 1 { self.first.len() } else { self.rest.len() }
    }
}
