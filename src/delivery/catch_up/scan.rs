//! A snapshot scan: what is kept of the lane's topics, in the order of offsets.
//!
//! It costs in proportion to what it sends: lanes of few topics are looked at as a whole for each slice, lanes of many
//! are scanned by a sorted list that all sessions that join share (`by_offset`), and then by the ring.

use crate::bus::reader::{FrameLookup, Reader};
use crate::delivery::catch_up::by_offset::{List, TopicsByOffset};
use crate::delivery::chunk::{Chunk, Slice};
use crate::delivery::lanes::lane::Lane;
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::topic_entry::TopicEntry;
use crate::delivery::lanes::topic_index::{LaneId, TopicIndex};
use crate::protocol::encoding::{Encoder, Format};
use crate::words::ids::{Offset, TopicId};

/// Frames of the ring looked at for one slice: 4096 at about 50 ns keep a turn below a millisecond.
pub(super) const SCAN_FRAMES: usize = 4096;
/// Frames of one slice of a scan at most; more would be sorted for nothing.
const SLICE_FRAMES: usize = 1024;
/// Lanes of up to this many topics are scanned by looking at all of them for each slice: four slices where one frame of
/// each is kept.
const SCAN_TOPICS_MAX: usize = 4 * SLICE_FRAMES;

/// A way over the kept frames (of most topics the newest alone) with offsets in `reached+1 ..= until`, by offset.
pub struct SnapshotScan {
    pub reached: Offset,
    pub until: Offset,
    /// The lanes that the session was on before, and up to where it has been sent their topics, the last one last. They are
    /// held, so that they stay on their topics, until the scan is over. Several, if rights changed during a scan.
    pub known: Vec<(LaneId, Offset)>,
}

impl SnapshotScan {
    /// Up to where the session has been sent this topic.
    fn sent(&self, entry: &TopicEntry, index: &TopicIndex) -> Offset {
        // A topic that the session has been off in between starts over.
        let known = self.known.iter().rev().take_while(|(lane, _)| index.is_on(*lane, entry));
        known.fold(self.reached, |reached, (_, sent)| reached.max(*sent))
    }
}

/// Outcome of a part of a scan.
pub enum ScanProgress {
    Chunk(Chunk),
    /// Nothing in the part looked at was for this session; it has moved.
    Nothing,
    /// There is no list that leads from here to the end: one must be made.
    Unsorted,
    Done,
}

/// What the scans of a shard share.
pub struct Scanner {
    sorted: TopicsByOffset,
    /// Lanes of more topics are scanned by the sorted list and the ring.
    topics_max: usize,
    /// Empty between two slices.
    scratch: Vec<(Offset, TopicId)>,
}

/// Where a scan finds what it passes.
#[derive(Clone, Copy)]
pub struct ScanSources<'s> {
    pub index: &'s TopicIndex,
    pub reader: &'s Reader,
    /// How large a slice may be; a single frame may be larger.
    pub slice_bytes: usize,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::with_topics_max(SCAN_TOPICS_MAX)
    }
}

impl Scanner {
    /// A scanner that looks at all topics of lanes of up to `topics_max`.
    pub fn with_topics_max(topics_max: usize) -> Scanner {
        Scanner { sorted: TopicsByOffset::default(), topics_max, scratch: Vec::new() }
    }

    /// The next part of a scan, and the work that it took, in topics and frames looked at.
    pub fn next_slice(
        &mut self,
        scan: &mut SnapshotScan,
        (lane_id, lane): (LaneId, &Lane),
        sources: ScanSources<'_>,
        encoder: &mut Encoder,
    ) -> (ScanProgress, usize) {
        if scan.reached >= scan.until {
            return (ScanProgress::Done, 0);
        }
        if self.looks_at_all(sources.index.count_of(lane_id), sources.index) {
            return self.scan_all(scan, (lane_id, lane.key()), sources, encoder);
        }
        let slice = Slice::of(sources.slice_bytes);
        let mut scan = SortedScan { scan, lane_id, key: lane.key(), index: sources.index, slice, looked: 0 };
        let leads_on = scan.take(&self.sorted, sources.reader, encoder);
        let SortedScan { slice, looked, .. } = scan;
        let progress = match leads_on {
            _ if !slice.is_empty() => ScanProgress::Chunk(slice.finish(lane.key().stateless())),
            true => ScanProgress::Nothing,
            false => ScanProgress::Unsorted,
        };
        (progress, looked)
    }

    /// Makes a further part of the sorted list of what is kept up to `cursor`, where the index stands. Looks at about
    /// `topics_max` topics, and returns how many.
    pub fn sort(&mut self, index: &TopicIndex, cursor: Offset, topics_max: usize) -> usize {
        self.sorted.make(index, cursor, topics_max)
    }

    /// The log is another one.
    pub fn begin_anew(&mut self) {
        self.sorted = TopicsByOffset::default();
    }

    /// The sorted list is still needed.
    pub fn mark_used(&mut self, now_ns: u64) {
        self.sorted.mark_used(now_ns);
    }

    /// Gives the memory of the sorted list back once it is not needed any more.
    pub fn drop_unused(&mut self, now_ns: u64) {
        self.sorted.drop_unused(now_ns);
    }

    /// Whether looking at all topics of a lane for each slice is cheaper than going over all topics of the shard once.
    fn looks_at_all(&self, topics: usize, index: &TopicIndex) -> bool {
        topics <= self.topics_max || 4 * topics.div_ceil(self.topics_max.max(1)) * topics <= index.slots()
    }

    /// Looks at all topics of the lane.
    fn scan_all(
        &mut self,
        scan: &mut SnapshotScan,
        (lane_id, key): (LaneId, &LaneKey),
        sources: ScanSources<'_>,
        encoder: &mut Encoder,
    ) -> (ScanProgress, usize) {
        let (index, scratch) = (sources.index, &mut self.scratch);
        scratch.clear();
        let takes_statuses = key.format == Format::Envelope;
        let (mut until, mut looked) = (scan.until, index.count_of(lane_id));
        for (topic, entry) in index.topics_of(lane_id) {
            if entry.retained.newest().offset <= scan.reached {
                continue;
            }
            let kept = entry.kept_after(scan.sent(entry, index), key.format).take_while(|frame| frame.offset <= until);
            let kept = kept.filter(|frame| takes_statuses || !frame.is_status()).take(SLICE_FRAMES);
            scratch.extend(kept.map(|frame| (frame.offset, topic)));
            // Topics may keep thousands of deltas each: what is too far away is not gathered.
            if scratch.len() > 4 * SLICE_FRAMES {
                looked += scratch.len();
                let (_, (farthest, _), _) = scratch.select_nth_unstable(SLICE_FRAMES - 1);
                until = *farthest;
                scratch.truncate(SLICE_FRAMES);
            }
        }
        looked += scratch.len();
        if scratch.len() > SLICE_FRAMES {
            scratch.select_nth_unstable(SLICE_FRAMES - 1);
            scratch.truncate(SLICE_FRAMES);
        }
        scratch.sort_unstable();
        let mut slice = Slice::of(sources.slice_bytes);
        for (offset, topic) in scratch.iter() {
            let Some(frame) = index.entry(*topic).and_then(|entry| entry.retained.find(*offset)) else { continue };
            if !slice.take(frame.whole(), key.encoded(frame.whole(), encoder)) {
                break;
            }
            scan.reached = *offset;
        }
        if slice.is_empty() {
            scan.reached = scan.until;
            return (ScanProgress::Done, looked);
        }
        (ScanProgress::Chunk(slice.finish(key.stateless())), looked)
    }
}

/// A slice of a scan by the sorted list and the ring that is being filled.
struct SortedScan<'w> {
    scan: &'w mut SnapshotScan,
    lane_id: LaneId,
    key: &'w LaneKey,
    index: &'w TopicIndex,
    slice: Slice,
    looked: usize,
}

impl SortedScan<'_> {
    /// Takes the frames that the sorted list and, after it, the ring lead to. False if they do not lead to the end.
    fn take(&mut self, sorted: &TopicsByOffset, reader: &Reader, encoder: &mut Encoder) -> bool {
        let list = sorted.list();
        let as_of = list.map_or(Offset::START, |list| list.as_of);
        let from = self.scan.reached.max(as_of);
        let by_ring = self.scan.until.0.saturating_sub(from.0);
        let by_ring_max = SCAN_FRAMES.max(self.index.slots() / 2) as u64;
        if by_ring > 0 && (by_ring > by_ring_max || reader.tail() > from.next()) {
            return false;
        }
        if let Some(list) = list.filter(|_| self.scan.reached < as_of) {
            self.take_list(list, encoder);
            return true;
        }
        self.take_ring(reader, encoder)
    }

    fn take_list(&mut self, list: &List, encoder: &mut Encoder) {
        let until = self.scan.until.min(list.as_of);
        let mut ahead = list.after(self.scan.reached).take_while(|(offset, _)| *offset <= until);
        for _ in 0..SCAN_FRAMES {
            let Some((offset, topic)) = ahead.next() else {
                self.scan.reached = until;
                return;
            };
            if !self.take_kept(offset, topic, encoder) {
                return;
            }
            self.scan.reached = offset;
        }
    }

    /// False if the ring no longer holds what is next.
    fn take_ring(&mut self, reader: &Reader, encoder: &mut Encoder) -> bool {
        for _ in 0..SCAN_FRAMES {
            if self.scan.reached >= self.scan.until {
                break;
            }
            let next = self.scan.reached.next();
            let FrameLookup::Hot(frame) = reader.frame(next) else { return false };
            if !self.take_kept(next, frame.topic.id, encoder) {
                break;
            }
            self.scan.reached = next;
        }
        true
    }

    /// Takes the frame at this offset, if it is kept and for this session. False if the slice is full.
    fn take_kept(&mut self, offset: Offset, topic: TopicId, encoder: &mut Encoder) -> bool {
        self.looked += 1;
        let Some(entry) = self.index.entry_on(self.lane_id, topic) else { return true };
        let kept = entry.find(offset, self.key.format).filter(|_| offset > self.scan.sent(entry, self.index));
        kept.is_none_or(|frame| self.slice.take(frame.whole(), self.key.encoded(frame.whole(), encoder)))
    }
}
