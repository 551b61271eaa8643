//! Paced lanes: when one is due, and the news of each topic that changed, gathered once per lane.

use std::sync::Arc;

use crate::bus::frame::Frame;
use crate::delivery::chunk::SLICE_BYTES;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::{Lane, LanePace, next_due_ns};
use crate::delivery::lanes::stream::{Due, Reference};
use crate::delivery::lanes::topic_index::LaneId;
use crate::protocol::encoding::Encoder;
use crate::words::ids::Offset;

/// Marks of topics that a paced lane no longer gets, beyond as many as it gets.
const SPARE_MARKS: usize = 64;

/// The news of a paced lane, by offset.
pub struct News {
    frames: Vec<(Offset, Arc<Frame>)>,
    /// Frames that were not taken yet begin here.
    at: usize,
    /// No frames are left.
    pub whole: bool,
}

impl Lanes {
    /// The earliest moment at which a paced lane may have something to send, on the monotonic clock.
    pub fn paced_due_ns(&self) -> Option<u64> {
        self.paced_due_ns
    }

    /// The paced lanes that have something to send now, those that have waited longest first.
    pub fn take_due(&mut self, now_ns: u64) -> Vec<LaneId> {
        let busy =
            self.lanes.iter().filter_map(|(id, lane)| Some((id, lane.pace.as_ref().filter(|it| !it.is_idle())?)));
        let (mut due, mut later) = (Vec::new(), None::<u64>);
        for (id, pace) in busy {
            if pace.due_ns <= now_ns {
                due.push((pace.due_ns, LaneId(id as u32)));
            } else {
                later = Some(later.map_or(pace.due_ns, |due_ns| due_ns.min(pace.due_ns)));
            }
        }
        self.paced_due_ns = later;
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// The lane has been served, wholly or in part: it is due again after its pace, or at once.
    pub fn schedule(&mut self, id: LaneId, whole: bool, now_ns: u64) {
        // With its last member the lane is gone.
        let Some(pace) = self.pace_mut(id) else { return };
        if whole {
            pace.due_ns = next_due_ns(now_ns, pace.every_ns);
        }
        if !pace.is_idle() {
            self.await_pace(id);
        }
    }

    /// The newest frames of the lane's topics that changed, at most `frames_max`; the rest waits for the next call.
    pub fn take_news(&mut self, id: LaneId, frames_max: usize) -> Option<News> {
        let Lanes { lanes, index, .. } = self;
        let pace = lanes.get_mut(id.0 as usize)?.pace.as_mut()?;
        let mut frames: Vec<(Offset, Arc<Frame>)> = Vec::new();
        for entry in pace.changed.iter().filter_map(|topic| index.entry(*topic)) {
            frames.extend(entry.retained.news_after(pace.position).map(|frame| (frame.offset, frame.clone())));
        }
        let whole = frames.len() <= frames_max;
        if whole {
            pace.changed.clear();
        } else {
            let (_, (last, _), _) = frames.select_nth_unstable_by_key(frames_max - 1, |(offset, _)| *offset);
            let last = *last;
            frames.truncate(frames_max);
            // Also those without news: a topic that is on the list is not marked again.
            pace.changed.retain(|topic| index.entry(*topic).is_some_and(|it| it.retained.newest().offset > last));
        }
        frames.sort_unstable_by_key(|(offset, _)| *offset);
        // A topic that took the number of a forgotten one may be listed twice.
        frames.dedup_by_key(|(offset, _)| *offset);
        Some(News { frames, at: 0, whole })
    }

    /// Frames that are sent to all in step of a paced lane, in this order.
    pub fn due_of<'f>(&mut self, id: LaneId, frames: Vec<&'f Frame>, encoder: &mut Encoder) -> Vec<Due<'f>> {
        let Lane { key, stream, pace, .. } = &mut self.lanes[id.0 as usize];
        // Topics that were forgotten, or come back with another number, leave marks behind.
        if let Some(pace) = pace.as_mut().filter(|pace| pace.sent.len() > 2 * self.index.count_of(id) + SPARE_MARKS) {
            pace.sent.retain(|topic, _| self.index.entry_on(id, *topic).is_some());
        }
        let due = frames.into_iter().map(|frame| {
            let refers = key.compression.refers_by_topic();
            let (Some(stream), Some(pace)) = (stream.as_mut().filter(|_| refers), pace.as_mut()) else {
                return Due::alone(frame, 0);
            };
            let position = stream.position();
            if frame.is_status() {
                return Due::alone(frame, position);
            }
            let sent = pace.sent.entry(frame.topic.id).or_default();
            let before = std::mem::replace(&mut sent.offset, frame.offset);
            let lookback = stream.pass(&mut sent.mark, frame.encoded(key.plain(), encoder).text().len());
            Due { frame, lookback, position, reference: Reference::Sent(before) }
        });
        due.collect()
    }

    /// Everything up to the offset is sent. False if the lane is gone with its last member.
    pub fn advance(&mut self, id: LaneId, position: Offset) -> bool {
        let Some(pace) = self.pace_mut(id) else { return false };
        pace.position = position;
        true
    }

    /// A paced lane has something to send when it is due.
    pub(super) fn await_pace(&mut self, id: LaneId) {
        let Some(due_ns) = self.pace_mut(id).map(|pace| pace.due_ns) else { return };
        self.paced_due_ns = Some(self.paced_due_ns.map_or(due_ns, |earliest| earliest.min(due_ns)));
    }

    fn pace_mut(&mut self, id: LaneId) -> Option<&mut LanePace> {
        self.lanes.get_mut(id.0 as usize)?.pace.as_mut()
    }
}

impl News {
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// The frames of the next chunk, each as the whole value where there is one, and the offset of the last of them.
    pub fn next_part(&mut self) -> Option<(Offset, Vec<&Frame>)> {
        let mut bytes = 0;
        let fits = |(_, frame): &&(Offset, Arc<Frame>)| {
            let room = bytes < SLICE_BYTES;
            bytes += frame.whole().payload.bytes.len();
            room
        };
        let rest = &self.frames[self.at..];
        let part = &rest[..rest.iter().take_while(fits).count()];
        self.at += part.len();
        let (until, _) = part.last()?;
        Some((*until, part.iter().map(|(_, frame)| frame.whole()).collect()))
    }
}
