//! A replay from the ring: every frame after the session's cursor.

use std::cmp::Ordering;

use crate::bus::frame::{Frame, FrameKind};
use crate::bus::reader::{FrameLookup, Reader};
use crate::bus::retained::Retained;
use crate::bus::topic_status::TopicStatusKind;
use crate::delivery::catch_up::CatchUp;
use crate::delivery::catch_up::scan::SCAN_FRAMES;
use crate::delivery::chunk::{Chunk, Slice};
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::topic_index::{LaneId, TopicIndex};
use crate::protocol::encoding::Encoder;
use crate::words::ids::Offset;

/// Outcome of a look into the ring.
pub enum RingReplay {
    /// There is something to send.
    Chunk(Chunk),
    /// Nothing in the part looked at was for this lane; the cursor has moved.
    Nothing,
    /// The ring no longer holds the frame after the cursor.
    Lost,
}

/// The next slice of the ring after the session's cursor, which moves along, up to `until`. It has at most
/// `slice_bytes`, or one frame.
pub fn replay_slice(
    catch_up: &mut CatchUp,
    until: Offset,
    (lane_id, key): (LaneId, &LaneKey),
    index: &TopicIndex,
    from: (&Reader, &mut Encoder, usize),
) -> RingReplay {
    let (reader, encoder, slice_bytes) = from;
    let mut slice = Slice::of(slice_bytes);
    for _ in 0..SCAN_FRAMES {
        if catch_up.cursor >= until {
            break;
        }
        let next = catch_up.cursor.next();
        let FrameLookup::Hot(frame) = reader.frame(next) else {
            if slice.is_empty() {
                return RingReplay::Lost;
            }
            break;
        };
        let is_expiry = matches!(frame.kind, FrameKind::Expired(_));
        if let Some(entry) = index.entry_on(lane_id, frame.topic.id).filter(|_| !is_expiry) {
            let due = if catch_up.complete { Some(&*frame) } else { replayed(&frame, &entry.retained) };
            if due.is_some_and(|due| !slice.take(due, key.encoded(due, encoder))) {
                break;
            }
        }
        catch_up.cursor = next;
    }
    if slice.is_empty() { RingReplay::Nothing } else { RingReplay::Chunk(slice.finish(key.stateless())) }
}

/// The frame as it is replayed to a session that may lack some before the base of the topic; none if it is superseded.
fn replayed<'f>(frame: &'f Frame, retained: &'f Retained) -> Option<&'f Frame> {
    let Some(base) = retained.base() else { return Some(frame) };
    let is_part = match frame.kind {
        FrameKind::Snapshot | FrameKind::Delta { .. } => true,
        // A snapshot fills it; a value fills nothing.
        FrameKind::Status(TopicStatusKind::Gap) => !matches!(base.kind, FrameKind::Value { .. }),
        _ => false,
    };
    match frame.offset.cmp(&base.offset) {
        Ordering::Less if is_part => None,
        Ordering::Equal => Some(base.whole()),
        Ordering::Less | Ordering::Greater => Some(frame),
    }
}
