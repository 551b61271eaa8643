//! Topics appear, change and are forgotten: the index and the lanes move along with the shard's cursor.

use std::sync::Arc;

use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::retained::Retained;
use crate::bus::topic_status::TopicStatusKind;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::Fresh;
use crate::delivery::lanes::topic_index::{IndexUpdate, LaneId};
use crate::protocol::encoding::{Encoder, Encoding, Format};
use crate::words::ids::{Offset, TopicId};
use shared_deflate::token::Lookback;

/// How long the text of a frame is in each format, measured where a lane needs it.
struct TextSize<'f, 'e> {
    frame: &'f Frame,
    encoder: &'e mut Encoder,
    /// By `Format::index`.
    bytes: [Option<usize>; Format::COUNT],
}

impl TextSize<'_, '_> {
    fn of<'f, 'e>(frame: &'f Frame, encoder: &'e mut Encoder) -> TextSize<'f, 'e> {
        TextSize { frame, encoder, bytes: [None; Format::COUNT] }
    }

    fn bytes(&mut self, plain: Encoding) -> usize {
        let bytes = &mut self.bytes[plain.format.index()];
        *bytes.get_or_insert_with(|| self.frame.encoded(plain, self.encoder).text().len())
    }
}

impl Lanes {
    /// Moves the index forward by a frame, which becomes fresh on its lanes; gives the work of matching. `place` is the
    /// frame's in the current round.
    pub fn take_frame(&mut self, frame: &Arc<Frame>, place: u32, encoder: &mut Encoder) -> usize {
        let update = self.index.take_frame(frame.clone());
        if matches!(frame.kind, FrameKind::Status(TopicStatusKind::Gap)) {
            self.mark_gap(frame);
        }
        self.mark((frame.topic.id, frame.offset), &update, Some((place, TextSize::of(frame, encoder))));
        update.steps
    }

    /// Messages of a topic are missing, which concerns those that need each of them.
    fn mark_gap(&mut self, gap: &Frame) {
        let entry = self.index.entry(gap.topic.id).map(|entry| &entry.retained);
        if !entry.is_some_and(|retained| retained.is_of_events() || retained.holds_deltas()) {
            return;
        }
        for subscriber in self.index.subscribers_mut(gap.topic.id) {
            self.lanes[subscriber.lane.0 as usize].gap = gap.offset;
        }
    }

    /// The lane has topics of events with messages after this offset.
    pub fn misses_events(&self, lane: LaneId, from: Offset) -> bool {
        let topics = self.index.topics_of(lane).map(|(_, entry)| &entry.retained);
        topics.into_iter().any(|retained| retained.newest().offset > from && retained.is_of_events())
    }

    /// A client that joins the lane lacks something of a topic.
    pub fn holds_gap(&self, lane: LaneId) -> bool {
        self.index.topics_of(lane).any(|(_, entry)| entry.retained.holds_gap())
    }

    /// Takes a retained value from elsewhere, because frames in between were missed.
    pub fn adopt(&mut self, retained: Retained) {
        let newest = retained.newest();
        let newest = (newest.topic.id, newest.offset);
        let update = self.index.adopt(retained);
        self.mark(newest, &update, None);
    }

    /// A topic has news: each lane that gets it is visited. `fresh`: the frame's place in the round, and its text.
    fn mark(
        &mut self,
        (topic, newest): (TopicId, Offset),
        update: &IndexUpdate,
        mut fresh: Option<(u32, TextSize<'_, '_>)>,
    ) {
        for subscriber in self.index.subscribers_mut(topic) {
            let lane_id = subscriber.lane;
            let lane = &mut self.lanes[lane_id.0 as usize];
            // Retained values are adopted in no order.
            lane.newest = lane.newest.max(newest);
            match (&mut lane.pace, &mut fresh) {
                (Some(pace), _) if update.before <= pace.position => {
                    pace.changed.push(topic);
                    self.paced_due_ns = Some(self.paced_due_ns.map_or(pace.due_ns, |due_ns| due_ns.min(pace.due_ns)));
                }
                (None, Some((place, text))) => {
                    if lane.fresh.is_empty() {
                        self.with_fresh.push(lane_id);
                    }
                    let (mut lookback, mut position) = (Lookback::default(), 0);
                    let refers = lane.key.compression.refers_by_topic();
                    if let Some(stream) = lane.stream.as_mut().filter(|_| refers) {
                        position = stream.position();
                        if !text.frame.is_status() {
                            lookback = stream.pass(&mut subscriber.mark, text.bytes(lane.key.plain()));
                        }
                    }
                    lane.fresh.push(Fresh { place: *place, lookback, position });
                }
                _ => {}
            }
        }
    }

    /// Takes a topic off the index and its lanes; gives the work.
    pub fn forget(&mut self, topic: &Arc<Topic>) -> usize {
        self.index.forget(topic)
    }

    /// Forgets what is not living any more, or has come back as another topic.
    pub fn forget_all_but(&mut self, mut living: Vec<Arc<Topic>>) {
        living.sort_unstable_by_key(|topic| topic.id);
        let mut living = living.into_iter().peekable();
        for slot in 0..self.index.slots() {
            let Some(topic) = self.index.topic(slot) else { continue };
            while living.next_if(|other| other.id < topic.id).is_some() {}
            if living.peek().is_none_or(|living| !Arc::ptr_eq(living, topic)) {
                let topic = topic.clone();
                self.forget(&topic);
            }
        }
    }
}
