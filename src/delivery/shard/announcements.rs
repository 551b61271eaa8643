//! Messages of the server to everyone in step: the feed's state, the status of topics that are awaited, heartbeats.
//!
//! A shard looks for new statuses ten times a second, so that nothing of this is in the way of frames. Sessions in step
//! receive them at once, one that is behind when it has caught up; nothing is queued for it, what holds then is looked
//! up.

use std::collections::HashMap;

use bytes::Bytes;

use crate::bus::feed_state::FeedState;
use crate::delivery::demand::put_status;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::encoding::{Encoding, Format};
use crate::protocol::server_message::ServerMessage;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

impl<S: Socket> Shard<S> {
    /// The feed's state has changed.
    pub(super) fn announce_feed(&mut self, now: Stamp) {
        if self.feed_has_no_message() {
            return;
        }
        let mut messages: HashMap<Encoding, Bytes> = HashMap::new();
        let lanes: Vec<LaneId> = self.lanes.iter().map(|(id, _)| id).collect();
        for id in lanes {
            let Some(lane) = self.lanes.get(id) else { continue };
            for session in lane.everyone_in_step() {
                self.sessions[session].feed_version = self.log.feed_version();
            }
            let encoding = lane.key().plain();
            let message = messages.entry(encoding).or_insert_with(|| {
                let mut out = Vec::new();
                self.put_feed(encoding, now, &mut out);
                out.into()
            });
            let message = message.clone();
            self.deliver_messages(id, message, now);
        }
    }

    fn feed_has_no_message(&self) -> bool {
        matches!(*self.log.current_feed(), FeedState::Connecting | FeedState::Idle { .. })
    }

    /// Appends the feed's state; nothing before the first data.
    pub(super) fn put_feed(&self, encoding: Encoding, now: Stamp, out: &mut Vec<u8>) {
        let (topics, ts) = ([">"], now.wall_ms);
        match &*self.log.current_feed() {
            FeedState::Connecting | FeedState::Idle { .. } => {}
            FeedState::Live => ServerMessage::Live { topics, offset: None, ts }.put(encoding, out),
            FeedState::Stale { reason, since_ms, message } => {
                let (reason, since_ms) = (reason.label(), *since_ms);
                ServerMessage::Stale { topics, reason, message, since_ms, offset: None, ts }.put(encoding, out);
            }
        }
    }

    /// Statuses of topics that are new since the last call.
    pub(super) fn announce_statuses(&mut self, now: Stamp) {
        let mut by_lane: HashMap<LaneId, Vec<u8>> = HashMap::new();
        for (topic, status) in self.demand.take_news() {
            for lane in self.lanes.index().lanes_naming(&topic) {
                let key = self.lanes[lane].key();
                if key.format == Format::Envelope {
                    put_status(&topic, &status, (key.plain(), now), by_lane.entry(lane).or_default());
                }
            }
        }
        if by_lane.is_empty() {
            return;
        }
        for session in self.sessions.iter_mut() {
            let waits = matches!(session.state(), SyncState::Behind(_) | SyncState::Ahead { .. });
            session.owed_status |= waits && by_lane.contains_key(&session.lane());
        }
        for (lane, messages) in by_lane {
            if self.lanes.get(lane).is_some() {
                self.deliver_messages(lane, messages, now);
            }
        }
    }

    /// The statuses that a session which has caught up is owed.
    pub(super) fn owed_statuses(&mut self, id: SessionId, now: Stamp) -> Vec<u8> {
        let session = &mut self.sessions[id];
        let mut out = Vec::new();
        if std::mem::take(&mut session.owed_status) {
            let (named, encoding) = (self.lanes.named(session.lane()), session.encoding());
            self.demand.put_statuses(named, self.log.reader(), (encoding, now), &mut out);
        }
        out
    }

    /// Heartbeats to lanes that were quiet for the interval that clients were promised; raw sessions have only pings.
    pub(super) fn announce_heartbeats(&mut self, now: Stamp) {
        let quiet = self.lanes.iter().filter(|(_, lane)| {
            lane.key().format == Format::Envelope
                && lane.audience() > 0
                && now.mono_ns.saturating_sub(lane.sent_ns()) >= self.heartbeat_ns
        });
        let quiet: Vec<LaneId> = quiet.map(|(id, _)| id).collect();
        let admits_anyone = self.gatekeeper.anonymous().is_some();
        for lane in quiet {
            let is_known = admits_anyone || !self.lanes[lane].key().patterns.is_empty();
            let position = self.lanes.position(lane, self.log.offset());
            // As in `welcome`: nothing is missing for a client without a subscription.
            let (mut out, offset) = (Vec::new(), if is_known { position } else { Offset::START });
            ServerMessage::Heartbeat { offset, ts: now.wall_ms }.put(self.lanes[lane].key().plain(), &mut out);
            self.deliver_messages(lane, out, now);
        }
    }
}
