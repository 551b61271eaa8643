//! Rounds of paced lanes: the news of each topic that changed, sent once per lane.

use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::words::stamp::Stamp;

/// Frames for paced lanes in one round: 16,384 at about 200 ns are 3 ms; the rest follows in the next one.
const FLUSH_FRAMES: usize = 16 * 1024;
/// A lane counts like as many frames at least: its sessions cost a `write` each, and many lanes are due at once.
const LANE_FRAMES: usize = 16;

impl<S: Socket> Shard<S> {
    /// Sends what is due on paced lanes. What is too much for one round waits for the next, the longest waiting first.
    pub(super) fn flush_paced(&mut self, now: Stamp) {
        let mut frames_left = FLUSH_FRAMES;
        for lane in self.lanes.take_due(now.mono_ns) {
            let whole = frames_left > 0 && self.flush_lane(lane, &mut frames_left, now);
            self.lanes.schedule(lane, whole, now.mono_ns);
        }
        self.lanes.drop_paced_tokens();
    }

    /// False if frames are left.
    fn flush_lane(&mut self, lane: LaneId, frames_left: &mut usize, now: Stamp) -> bool {
        let Some(mut news) = self.lanes.take_news(lane, *frames_left) else { return true };
        *frames_left = frames_left.saturating_sub(news.count().max(LANE_FRAMES));
        while let Some((until, frames)) = news.next_part() {
            // Members may end, and with the last one the lane, while a part is delivered.
            if !self.lanes.advance(lane, until) {
                return true;
            }
            let due = self.lanes.due_of(lane, frames, &mut self.encoder);
            self.deliver_frames(lane, &due, now);
        }
        if news.whole && self.lanes.advance(lane, self.log.offset()) {
            self.sessions.end_lead(lane, &mut self.lanes, self.log.offset());
        }
        news.whole
    }
}
