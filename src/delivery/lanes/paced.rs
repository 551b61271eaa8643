//! Paced lanes: the news of each topic that changed, from time to time, computed once per lane.

use std::sync::Arc;

use crate::bus::frame::Frame;
use crate::delivery::catch_up::path::{CatchUp, SLICE_BYTES};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::session::{Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Frames that paced lanes are given in one round: 16,384 at some 200 ns are 3 ms; the rest comes with the next one.
const FLUSH_FRAMES: usize = 16 * 1024;

impl<S: Socket> Shard<S> {
    /// Sends what is due on paced lanes: the news of each topic that changed, computed once per lane. What is too much
    /// for one round waits for the next, those that have waited longest first.
    pub(in crate::delivery) fn flush_paced(&mut self, now: Stamp) {
        self.paced_due_ns = u64::MAX;
        let mut due: Vec<(u64, LaneId)> = Vec::new();
        for (id, lane) in &self.lanes {
            let Some(pace) = lane.pace.as_ref().filter(|pace| !pace.is_idle()) else { continue };
            if pace.due_ns <= now.mono_ns {
                due.push((pace.due_ns, LaneId(id as u32)));
            } else {
                self.paced_due_ns = self.paced_due_ns.min(pace.due_ns);
            }
        }
        due.sort_unstable();
        let mut frames_left = FLUSH_FRAMES;
        for (_, lane_id) in due {
            let whole = frames_left > 0 && self.flush_lane(lane_id, &mut frames_left, now);
            let Some(pace) = self.lanes.get_mut(lane_id.0 as usize).and_then(|lane| lane.pace.as_mut()) else {
                continue;
            };
            if whole {
                pace.due_ns = now.mono_ns + pace.every_ns;
            }
            if !pace.is_idle() {
                self.paced_due_ns = self.paced_due_ns.min(pace.due_ns);
            }
        }
    }

    /// False if there was more than so many frames; the rest is still dirty.
    fn flush_lane(&mut self, lane_id: LaneId, frames_left: &mut usize, now: Stamp) -> bool {
        let mut news: Vec<(Offset, Arc<Frame>)> = Vec::new();
        let Some(pace) = self.lanes[lane_id.0 as usize].pace.as_mut() else { return true };
        for entry in pace.dirty.iter().filter_map(|topic| self.index.entry(*topic)) {
            news.extend(entry.story.news_after(pace.position).map(|frame| (frame.offset, frame.clone())));
        }
        let whole = news.len() <= *frames_left;
        if whole {
            pace.dirty.clear();
        } else {
            let (_, (last, _), _) = news.select_nth_unstable_by_key(*frames_left - 1, |(offset, _)| *offset);
            let last = *last;
            news.truncate(*frames_left);
            // Also those of which there is no news: once a topic is dirty, it is not marked again.
            let index = &self.index;
            pace.dirty.retain(|topic| index.entry(*topic).is_some_and(|entry| entry.story.newest().offset > last));
        }
        *frames_left = frames_left.saturating_sub(news.len().max(1));
        news.sort_unstable_by_key(|(offset, _)| *offset);
        // A topic is dirty twice that has the number of one that was forgotten while it was.
        news.dedup_by_key(|(offset, _)| *offset);
        let mut rest = news.as_slice();
        while let Some((until, part)) = take_part(&mut rest) {
            // Members may end, and with the last one the lane, while a part is delivered.
            let Some(pace) = self.lanes.get_mut(lane_id.0 as usize).and_then(|lane| lane.pace.as_mut()) else {
                return true;
            };
            pace.position = until;
            self.deliver_frames(lane_id, &part, now);
        }
        if whole {
            self.finish_flush(lane_id);
        }
        whole
    }

    /// The lane has reached the shard's cursor; whoever was ahead of it is now behind, and catches up.
    fn finish_flush(&mut self, lane_id: LaneId) {
        let cursor = self.cursor;
        let Some(pace) = self.lanes.get_mut(lane_id.0 as usize).and_then(|lane| lane.pace.as_mut()) else { return };
        pace.position = cursor;
        for id in std::mem::take(&mut pace.ahead) {
            if let SyncState::Ahead { cursor, .. } = self.sessions[id.0].standing {
                self.stand(id, SyncState::Behind(Box::new(CatchUp::at(cursor))));
                self.enqueue(id);
            }
        }
    }
}

/// Takes the frames of one chunk off the front, as those get them who have not got the frames before, and the offset of
/// the last of them.
fn take_part<'f>(rest: &mut &'f [(Offset, Arc<Frame>)]) -> Option<(Offset, Vec<&'f Frame>)> {
    let mut bytes = 0;
    let fits = |(_, frame): &&(Offset, Arc<Frame>)| {
        let room = bytes < SLICE_BYTES;
        bytes += frame.whole().payload.bytes.len();
        room
    };
    let count = rest.iter().take_while(fits).count();
    let (part, later) = rest.split_at(count);
    *rest = later;
    let (until, _) = part.last()?;
    Some((*until, part.iter().map(|(_, frame)| frame.whole()).collect()))
}
