//! From the ring to the lanes: new frames become one contiguous chunk per lane and round, sent once to each in step.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;

use crate::bus::feed_state::FeedState;
use crate::bus::frame::{Frame, FrameKind, Topic};
use crate::bus::log::snapshot::TopicChoice;
use crate::delivery::catch_up::path::{CatchUpCause, Chunk, SLICE_BYTES, Slice};
use crate::delivery::lanes::lane::{CompressionMode, Lane, SessionId};
use crate::delivery::lanes::topic_index::{IndexUpdate, LaneId};
use crate::delivery::lanes::window;
use crate::delivery::sessions::session::{Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::{Offset, TopicId};
use crate::words::stamp::Stamp;

/// 64 KiB of payload: some 400 ticks of 160 bytes a send; larger rounds save no more calls, but hold up commands.
const ROUND_BYTES: usize = 64 * 1024;

/// Whom a chunk is for.
#[derive(Clone, Copy)]
enum Recipients {
    /// `Lane::in_step`
    InStep,
    /// `SharedWindow::members`
    Boarded,
}

impl<S: Socket> Shard<S> {
    /// Takes new frames from the ring and sends them to everyone in step. One round is bounded; `has_work` tells
    /// whether another one is due.
    pub fn round(&mut self, now: Stamp) {
        // Version, state, head, in this order: a change of state is told after the frames that were published before it.
        let version = self.reader.feed_version();
        let feed = (version != self.feed_version).then(|| self.reader.feed());
        let head = self.reader.head();
        self.take_frames(head);
        let mut round = std::mem::take(&mut self.round);
        for lane in std::mem::take(&mut self.dirty) {
            self.deliver_fresh(lane, &round, now);
        }
        round.clear();
        self.round = round;
        if self.paced_due_ns <= now.mono_ns {
            self.flush_paced(now);
        }
        if let Some(feed) = feed.filter(|_| self.cursor >= head) {
            self.feed_version = version;
            self.feed = feed;
            self.tell_feed(now);
        }
    }

    /// Takes all frames up to now from the ring, for a shard that was not rung for them.
    pub fn follow(&mut self, now: Stamp) {
        let head = self.reader.head();
        loop {
            let before = self.cursor;
            self.round(now);
            // Without a step forward the publisher is a whole ring ahead again; the rounds that follow try on.
            if self.cursor >= head || self.cursor == before {
                return;
            }
        }
    }

    fn take_frames(&mut self, head: Offset) {
        let (mut bytes, mut steps) = (0, 0);
        // A new topic is matched where its first frame stands: what is behind waits, so that nothing changes its place.
        while self.cursor < head && bytes < ROUND_BYTES && steps < self.matches_per_turn {
            let Some(frame) = self.reader.frame(self.cursor.next()).hot() else {
                if self.round.is_empty() {
                    self.overrun();
                }
                return;
            };
            self.cursor = frame.offset;
            if let FrameKind::Expired(topics) = &frame.kind {
                steps += topics.iter().map(|topic| self.forget_topic(topic)).sum::<usize>();
                continue;
            }
            bytes += frame.payload.bytes.len();
            steps += self.note(frame.clone(), true);
            self.round.push(frame);
        }
    }

    /// Moves the index forward; a live frame also becomes fresh on its lanes. Gives the work of matching.
    fn note(&mut self, frame: Arc<Frame>, live: bool) -> usize {
        let (topic, offset) = (frame.topic.id, frame.offset);
        let noted = self.index.note(frame);
        self.mark_lanes((topic, offset), &noted, live);
        noted.steps
    }

    fn mark_lanes(&mut self, (topic, newest): (TopicId, Offset), noted: &IndexUpdate, live: bool) {
        let Some(entry) = self.index.entry_mut(topic) else { return };
        for seat in &mut entry.lanes {
            let lane_id = seat.lane;
            let lane = &mut self.lanes[lane_id.0 as usize];
            if noted.new_topic {
                seat.at = lane.topics.list.len() as u32;
                lane.topics.list.push(topic);
            }
            lane.topics.newest = newest;
            match &mut lane.pace {
                Some(pace) if noted.before <= pace.position => {
                    pace.dirty.push(topic);
                    self.paced_due_ns = self.paced_due_ns.min(pace.due_ns);
                }
                None if live => {
                    if lane.fresh.is_empty() {
                        self.dirty.push(lane_id);
                    }
                    lane.fresh.push(self.round.len() as u32);
                }
                _ => {}
            }
        }
    }

    /// Takes a topic off the index and its lanes; gives the work.
    fn forget_topic(&mut self, topic: &Arc<Topic>) -> usize {
        let Some(entry) = self.index.forget(topic) else { return 1 };
        for seat in &entry.lanes {
            let list = &mut self.lanes[seat.lane.0 as usize].topics.list;
            list.swap_remove(seat.at as usize);
            if let Some(moved) = list.get(seat.at as usize) {
                self.index.reseat(*moved, seat.lane, seat.at);
            }
        }
        entry.lanes.len() + 1
    }

    /// Forgets what is not living any more, or has come back as another topic.
    fn forget_all_but(&mut self, mut living: Vec<Arc<Topic>>) {
        living.sort_unstable_by_key(|topic| topic.id);
        let mut living = living.into_iter().peekable();
        for slot in 0..self.index.slots() {
            let Some(topic) = self.index.topic(slot) else { continue };
            while living.next_if(|other| other.id < topic.id).is_some() {}
            if living.peek().is_none_or(|living| !Arc::ptr_eq(living, topic)) {
                let topic = topic.clone();
                self.forget_topic(&topic);
            }
        }
    }

    /// The publisher was a whole ring ahead: everyone falls behind, and the index starts over from the kept stories.
    fn overrun(&mut self) {
        let unpaced = self.lanes.iter().filter(|(_, lane)| lane.pace.is_none());
        let everyone: Vec<SessionId> = unpaced.flat_map(|(_, lane)| lane.everyone_in_step()).collect();
        for id in everyone {
            self.fall_behind(id);
            if let SyncState::Behind(behind) = &mut self.sessions[id.0].standing {
                behind.cause = CatchUpCause::Overrun;
            }
        }
        self.start_over();
    }

    /// Moves the index to a snapshot, and the cursor to its offset. If the publisher is a whole ring ahead again, nothing
    /// moves, and the next round tries again.
    pub(in crate::delivery) fn start_over(&mut self) {
        let since = self.cursor;
        let mut snapshot = self.reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
        // An offset that is not in the ring yet would be a cursor that is refused elsewhere.
        if snapshot.overrun || snapshot.offset > self.reader.head() {
            return;
        }
        self.forget_all_but(snapshot.topics.iter().map(|current| current.retained.newest().topic.clone()).collect());
        // A lane's newest offset is that of the topic that it was marked for last.
        snapshot.topics.sort_unstable_by_key(|current| current.retained.newest().offset);
        for retained in snapshot.topics.into_iter().map(|current| current.retained) {
            let newest = (retained.newest().topic.id, retained.newest().offset);
            if newest.1 > since {
                let noted = self.index.adopt(retained);
                self.mark_lanes(newest, &noted, false);
            }
        }
        self.cursor = snapshot.offset;
    }

    fn deliver_fresh(&mut self, lane_id: LaneId, round: &[Arc<Frame>], now: Stamp) {
        let lane = &mut self.lanes[lane_id.0 as usize];
        let mut fresh = std::mem::take(&mut lane.fresh);
        if lane.audience() > 0 {
            let frames: Vec<&Frame> = fresh.iter().map(|seat| &*round[*seat as usize]).collect();
            self.written.push(frames[0].received);
            self.deliver_frames(lane_id, &frames, now);
        }
        // The lane is gone if its last member ended just now; else the allocation serves the next round.
        if let Some(lane) = self.lanes.get_mut(lane_id.0 as usize) {
            fresh.clear();
            lane.fresh = fresh;
        }
    }

    /// Sends frames to everyone in step: one chunk to those on board of the lane's window, one to all others.
    pub(in crate::delivery) fn deliver_frames(&mut self, lane_id: LaneId, frames: &[&Frame], now: Stamp) {
        self.board(lane_id, frames.iter().filter(|frame| !frame.is_status()).count());
        let lane = &mut self.lanes[lane_id.0 as usize];
        if let Some(window) = lane.window.as_mut().filter(|window| !window.members().is_empty()) {
            let chunk = window::chunk(window, frames, &lane.key, &mut self.encoder);
            self.deliver(lane_id, Recipients::Boarded, &chunk, now);
        }
        let Some(lane) = self.lanes.get(lane_id.0 as usize).filter(|lane| !lane.in_step.is_empty()) else { return };
        let mut slice = Slice::of(SLICE_BYTES);
        for frame in frames {
            slice.push(frame, lane.key.encoded(frame, &mut self.encoder));
        }
        let chunk = slice.finish(lane.key.form());
        self.deliver(lane_id, Recipients::InStep, &chunk, now);
    }

    /// Before so many frames: gives the lane a window if it pays, and cuts it if that pays; then everyone in step boards.
    fn board(&mut self, lane_id: LaneId, frames: usize) {
        let settings = &self.settings.window();
        let lane = &mut self.lanes[lane_id.0 as usize];
        let waiting = lane.in_step.len();
        if lane.key.scheme != CompressionMode::Window || waiting == 0 {
            return;
        }
        if lane.window.is_none() && waiting >= settings.members_min && self.windows < settings.windows_max {
            lane.window = Some(window::open(self.settings.compression.level, settings));
            self.windows += 1;
        }
        let Some(mut cut) = lane.window.as_mut().and_then(|window| window.cut_for(waiting, frames)) else { return };
        self.meters.cuts.increment(1);
        for id in lane.in_step.drain(..) {
            self.sessions[id.0].standing = SyncState::Boarded { seat: cut.board(id) as u32 };
        }
    }

    /// Takes the windows from lanes where they no longer pay; those on board are in step without one.
    pub(in crate::delivery) fn close_windows(&mut self) {
        let members_min = self.settings.window().members_min;
        let mut boarded = 0;
        for (_, lane) in &mut self.lanes {
            let pays = lane.members as usize * 2 >= members_min;
            if let Some(window) = lane.window.take_if(|_| !pays) {
                self.windows -= 1;
                for id in window.into_members() {
                    self.sessions[id.0].standing = SyncState::InStep { seat: lane.in_step.len() as u32 };
                    lane.in_step.push(id);
                }
            }
            boarded += lane.window.as_ref().map_or(0, |window| window.members().len());
        }
        self.meters.boarded.set(boarded as f64);
        self.meters.windows.set(self.windows as f64);
    }

    /// Sends a notice to everyone in step.
    pub(in crate::delivery) fn deliver_notice(&mut self, lane_id: LaneId, bytes: Bytes, now: Stamp) {
        let chunk = Chunk::notice(bytes);
        for seats in [Recipients::Boarded, Recipients::InStep] {
            if self.lanes.contains(lane_id.0 as usize) {
                self.deliver(lane_id, seats, &chunk, now);
            }
        }
    }

    /// Sends one chunk to everyone who sits there. Who does not take all of it leaves the step with the rest.
    fn deliver(&mut self, lane_id: LaneId, seats: Recipients, chunk: &Chunk, now: Stamp) {
        if chunk.bytes.is_empty() {
            // Nothing but notes, on a raw lane.
            return;
        }
        let lane = &mut self.lanes[lane_id.0 as usize];
        lane.spoke_ns = now.mono_ns;
        let seated: &[SessionId] = match (seats, &lane.window) {
            (Recipients::InStep, _) => &lane.in_step,
            (Recipients::Boarded, Some(window)) => window.members(),
            (Recipients::Boarded, None) => return,
        };
        let mut stragglers: Vec<(SessionId, io::Result<usize>)> = Vec::new();
        for id in seated {
            match self.sessions[id.0].socket.write(&chunk.bytes) {
                Ok(bytes) if bytes == chunk.bytes.len() => {}
                other => stragglers.push((*id, other)),
            }
        }
        let whole = seated.len() - stragglers.len();
        self.meters.delivered(chunk, seated.len());
        self.meters.sent(lane.key.format, chunk.form, chunk.bytes.len() * whole);
        for (id, outcome) in stragglers {
            self.fall_out(id, outcome, chunk, now);
        }
    }

    /// A session took only a part of a chunk: it keeps the rest, and comes back by catch-up.
    fn fall_out(&mut self, id: SessionId, outcome: io::Result<usize>, chunk: &Chunk, now: Stamp) {
        let taken = match outcome {
            Ok(bytes) if bytes > 0 => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            _ => return self.end(id, Goodbye::ConnectionLost),
        };
        let session = &mut self.sessions[id.0];
        (session.unsent, session.unsent_form) = (chunk.bytes.slice(taken..), chunk.form);
        session.blocked_ns = now.mono_ns;
        self.meters.sent(session.format, chunk.form, taken);
        self.hold(id, chunk.bytes.len(), now);
        self.fall_behind(id);
    }

    /// Tells everyone in step what the feed's state is now.
    fn tell_feed(&mut self, now: Stamp) {
        let Some(bytes) = self.feed_notice(now) else { return };
        let lanes: Vec<LaneId> = self.lanes.iter().map(|(id, _)| LaneId(id as u32)).collect();
        for lane_id in lanes {
            let Some(lane) = self.lanes.get(lane_id.0 as usize) else { continue };
            for id in lane.everyone_in_step() {
                self.sessions[id.0].feed_told = self.feed_version;
            }
            if lane.key.format == Format::Envelope {
                self.deliver_notice(lane_id, bytes.clone(), now);
            }
        }
    }

    /// The feed's state as a notice; none before the first data.
    pub(in crate::delivery) fn feed_notice(&self, now: Stamp) -> Option<Bytes> {
        let (topics, ts) = ([">"], now.wall_ms);
        let mut out = Vec::new();
        // Who comes later is told what is wrong now, if that is still the same state; else it follows soon.
        let newest = self.reader.feed();
        let feed = if newest.label() == self.feed.label() { &newest } else { &self.feed };
        match &**feed {
            FeedState::Connecting | FeedState::Idle { .. } => return None,
            FeedState::Live => ServerMessage::Live { topics, offset: None, ts }.put(&mut out),
            FeedState::Stale { reason, since_ms, message } => {
                let (reason, since_ms) = (reason.label(), *since_ms);
                ServerMessage::Stale { topics, reason, message, since_ms, offset: None, ts }.put(&mut out);
            }
        }
        Some(out.into())
    }

    /// Heartbeats to lanes that were quiet for the interval; raw lanes have only pings.
    pub(in crate::delivery) fn heartbeat(&mut self, now: Stamp) {
        let interval_ns = self.settings.heartbeat.interval.as_nanos() as u64;
        let quiet = |lane: &Lane| {
            lane.key.format == Format::Envelope
                && lane.audience() > 0
                && now.mono_ns.saturating_sub(lane.spoke_ns) >= interval_ns
        };
        let quiet: Vec<LaneId> =
            self.lanes.iter().filter(|(_, lane)| quiet(lane)).map(|(id, _)| LaneId(id as u32)).collect();
        for lane_id in quiet {
            let mut out = Vec::new();
            ServerMessage::Heartbeat { offset: self.position(lane_id), ts: now.wall_ms }.put(&mut out);
            self.deliver_notice(lane_id, out.into(), now);
        }
    }
}
