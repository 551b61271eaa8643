//! A shard's cursor in the log, and with it the index of its lanes: what has been taken from the ring, and how the shard
//! starts over when the ring has overrun it.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::feed_state::FeedState;
use crate::bus::frame::{Frame, FrameKind};
use crate::bus::log::snapshot::TopicChoice;
use crate::bus::reader::{FrameLookup, Reader};
use crate::delivery::lanes::Lanes;
use crate::protocol::encoding::Encoder;
use crate::words::ids::Offset;

/// About the time between two ticks.
const TICK: Duration = Duration::from_millis(100);

/// 64 KiB of payload: about 400 ticks of 160 bytes a send; larger rounds save no more calls, but hold up commands.
const ROUND_BYTES: usize = 64 * 1024;

pub struct LogCursor {
    reader: Reader,
    /// Everything up to here has been taken from the ring.
    offset: Offset,
    /// The feed's state as all in step have received it, and its version.
    feed: Arc<FeedState>,
    feed_version: u32,
    /// Ticks for which the feed has been stale.
    stale_ticks: u32,
    /// How often it was live and is stale, or was for a moment.
    losses: u32,
}

/// What there was to take when a round began.
pub struct RoundEnd {
    head: Offset,
    /// The feed's new state, and its version.
    feed: Option<(u32, Arc<FeedState>)>,
}

impl LogCursor {
    /// At the head of the log, with what is retained in the index of the lanes.
    pub fn new(reader: Reader, lanes: &mut Lanes) -> LogCursor {
        let feed_version = reader.feed_version();
        let feed = reader.feed();
        let mut cursor = LogCursor { reader, offset: Offset::START, feed, feed_version, stale_ticks: 0, losses: 0 };
        cursor.start_over(lanes);
        cursor
    }

    pub fn offset(&self) -> Offset {
        self.offset
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// There are frames or a state of the feed that have not been taken.
    pub fn has_news(&self) -> bool {
        self.reader.head() != self.offset || self.reader.feed_version() != self.feed_version
    }

    /// Version, state, head, in this order: a change of state is reported after the frames that were published before.
    pub fn round_end(&self) -> RoundEnd {
        let version = self.reader.feed_version();
        let feed = (version != self.feed_version).then(|| (version, self.reader.feed()));
        RoundEnd { head: self.reader.head(), feed }
    }

    /// Takes frames into the round, which is empty, until it is full or the steps of matching are used up. False if the
    /// ring has overrun the shard.
    pub fn take_frames(
        &mut self,
        lanes: &mut Lanes,
        round: &mut Vec<Arc<Frame>>,
        end: &RoundEnd,
        (steps_max, encoder): (usize, &mut Encoder),
    ) -> bool {
        let (mut bytes, mut steps) = (0, 0);
        // A new topic is matched where its first frame is: what is behind waits, so that nothing changes its place.
        while self.offset < end.head && bytes < ROUND_BYTES && steps < steps_max {
            let FrameLookup::Hot(frame) = self.reader.frame(self.offset.next()) else { return !round.is_empty() };
            self.offset = frame.offset;
            if let FrameKind::Expired(topics) = &frame.kind {
                steps += topics.iter().map(|topic| lanes.forget(topic)).sum::<usize>();
                continue;
            }
            bytes += frame.payload.bytes.len();
            steps += lanes.take_frame(&frame, round.len() as u32, encoder);
            round.push(frame);
        }
        true
    }

    /// Takes the feed's new state, if there is one and all frames before it have been taken. True if it was taken.
    pub fn take_feed(&mut self, end: RoundEnd) -> bool {
        let Some((version, feed)) = end.feed.filter(|_| self.offset >= end.head) else { return false };
        // Nothing is lost of a feed that was not there yet. One that is live again has been something else between.
        let is_lost = self.is_live() && matches!(*feed, FeedState::Stale { .. } | FeedState::Live);
        self.losses += u32::from(is_lost);
        (self.feed_version, self.feed) = (version, feed);
        true
    }

    /// Goes on at the head of another log; the lanes know nothing of the one before.
    pub fn begin(&mut self, reader: Reader, lanes: &mut Lanes) {
        self.feed_version = reader.feed_version();
        self.feed = reader.feed();
        (self.reader, self.offset) = (reader, Offset::START);
        self.start_over(lanes);
    }

    /// Moves the index to what is retained now, and the cursor to the offset as of which it is. If the publisher is a
    /// whole ring ahead again, nothing moves, and the next round tries again.
    pub fn start_over(&mut self, lanes: &mut Lanes) {
        let since = self.offset;
        let snapshot = self.reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
        // An offset that is not in the ring yet would be a cursor that is refused elsewhere.
        if snapshot.overrun || snapshot.offset > self.reader.head() {
            return;
        }
        lanes.forget_all_but(snapshot.topics.iter().map(|current| current.retained.newest().topic.clone()).collect());
        let changed = snapshot.topics.into_iter().map(|current| current.retained);
        changed.filter(|retained| retained.newest().offset > since).for_each(|retained| lanes.adopt(retained));
        self.offset = snapshot.offset;
    }

    /// The version of the feed's state that all in step have received.
    pub fn feed_version(&self) -> u32 {
        self.feed_version
    }

    /// The feed's state for a client that joins: the fault in force, if that is still the same state; otherwise the
    /// news follows soon.
    pub fn current_feed(&self) -> Arc<FeedState> {
        let newest = self.reader.feed();
        if newest.label() == self.feed.label() { newest } else { self.feed.clone() }
    }

    /// The version of the feed's state that a client that joins counts as received: while the feed is stale it is to
    /// receive that, too.
    pub fn feed_version_to_join(&self) -> u32 {
        match *self.feed {
            FeedState::Stale { .. } => self.feed_version.wrapping_sub(1),
            _ => self.feed_version,
        }
    }

    /// Counts the ticks for which the feed has been stale.
    pub fn tick(&mut self) {
        self.stale_ticks = if self.is_stale() { self.stale_ticks.saturating_add(1) } else { 0 };
    }

    /// The feed has been stale for longer than a tick. It is live a moment later than its first frame is there, so that
    /// one tick proves nothing; and before the first frame there is nothing to be out of date.
    pub fn has_been_stale(&self) -> bool {
        self.stale_ticks > 1
    }

    /// How long the feed has been stale, to a tick.
    pub fn stale_for(&self) -> Duration {
        TICK * self.stale_ticks
    }

    /// The feed delivers.
    pub fn is_live(&self) -> bool {
        matches!(*self.feed, FeedState::Live)
    }

    /// How often the feed was lost.
    pub fn losses(&self) -> u32 {
        self.losses
    }

    /// The feed is stale and all its frames have been taken: no better news is on its way.
    fn is_stale(&self) -> bool {
        let (version, head) = (self.reader.feed_version(), self.reader.head());
        let is_current = self.feed_version == version && self.offset == head && head > Offset::START;
        is_current && matches!(*self.feed, FeedState::Stale { .. })
    }
}
