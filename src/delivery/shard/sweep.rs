//! What time alone brings about: heartbeats, pings, write deadlines, the end of those who do not leave.
//!
//! There is no timer per session. Every tick looks at a tenth of them, so each is looked at once in ten ticks.

use crate::bus::feed_state::FeedState;
use crate::delivery::catch_up::path::Compression;
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::{Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::encoding::Format;
use crate::wire::frame::{Opcode, put_frame};
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Ticks in which every session is looked at once.
const SWEEP_TICKS: usize = 10;

impl<S: Socket> Shard<S> {
    /// To be called about ten times a second: deadlines are kept to a second.
    pub fn tick(&mut self, now: Stamp) {
        self.tell_sayings(now);
        self.heartbeat(now);
        self.stale_ticks = if self.is_stale() { self.stale_ticks.saturating_add(1) } else { 0 };
        let seats = self.sessions.capacity();
        self.sweep_tick = (self.sweep_tick + 1) % SWEEP_TICKS;
        for seat in seats * self.sweep_tick / SWEEP_TICKS..seats * (self.sweep_tick + 1) / SWEEP_TICKS {
            self.look_after(SessionId(seat), now);
        }
        self.close_windows();
        self.sorted.drop_unused(now.mono_ns);
        self.meters.sessions.set(self.sessions.len() as f64);
        self.meters.behind.set(self.behind as f64);
        self.meters.lanes.set(self.lanes.len() as f64);
        self.meters.wildcards.set(self.index.wildcards() as f64);
        self.lane_places = self.lanes.iter().map(|(_, lane)| lane.topics.list.len()).sum();
        self.meters.lane_bytes.set(self.lane_bytes() as f64);
        self.meters.inbound_bytes.set(self.inbound_bytes as f64);
        self.meters.unsent_bytes.set(self.unsent.bytes() as f64);
        self.meters.made(&mut self.encoder);
    }

    fn look_after(&mut self, id: SessionId, now: Stamp) {
        let misleads_raw = self.misleads_raw();
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        session.asking.take_if(|asking| asking.pass_second());
        if session.pass_second(&self.settings) {
            self.enqueue(id);
        }
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let dawdles = session.dawdles(&self.settings, now);
        let passed = |since_ns: u64, limit: std::time::Duration| {
            since_ns > 0 && u128::from(now.mono_ns.saturating_sub(since_ns)) > limit.as_nanos()
        };
        if let SyncState::Leaving(leaving) = &session.standing {
            if now.mono_ns >= leaving.deadline_ns {
                let goodbye = leaving.goodbye;
                self.end(id, goodbye);
            }
        } else if passed(session.blocked_ns, self.settings.slow.write_deadline) {
            self.dismiss(id, Goodbye::WriteTimeout, Goodbye::WriteTimeout.sentence(), now);
        } else if !session.takes_commands() {
            // It is being written to: the write deadline watches over it, and its pong may wait unread. The time for
            // that one begins anew when all is sent: before, the ping may have lain among what the client had not read.
            session.pinged_ns = if session.pinged_ns > 0 { now.mono_ns } else { 0 };
        } else if dawdles {
            self.dismiss(id, Goodbye::MessageTimeout, Goodbye::MessageTimeout.sentence(), now);
        } else if misleads_raw && session.format == Format::Raw {
            // It gets no notice, and old prices would look current. Whoever is behind first gets what there is.
            self.dismiss(id, Goodbye::FeedStale, Goodbye::FeedStale.sentence(), now);
        } else if passed(session.pinged_ns, self.settings.ping.timeout) {
            self.dismiss(id, Goodbye::PingTimeout, Goodbye::PingTimeout.sentence(), now);
        } else if session.pinged_ns == 0 && passed(session.heard_ns, self.settings.ping.interval) {
            self.ping(id, now);
        }
    }

    /// Raw sessions would take for current what is not. Before the first frame there is nothing to mistake; and the feed
    /// is live a moment later than its first frame is there, so that one tick proves nothing.
    fn misleads_raw(&self) -> bool {
        self.settings.raw.on_stale.closes() && self.stale_ticks > 1
    }

    /// The feed is stale and all its frames have been taken: no better news is on its way.
    fn is_stale(&self) -> bool {
        let (version, head) = (self.reader.feed_version(), self.reader.head());
        let is_told = self.feed_version == version && self.cursor == head && head > Offset::START;
        is_told && matches!(*self.feed, FeedState::Stale { .. })
    }

    fn ping(&mut self, id: SessionId, now: Stamp) {
        let mut ping = Vec::new();
        put_frame(&mut ping, Opcode::Ping, b"");
        let session = &mut self.sessions[id.0];
        session.pinged_ns = now.mono_ns;
        (session.unsent, session.unsent_form) = (ping.into(), Compression::Plain);
        if !self.flush(id, now) && self.sessions.contains(id.0) {
            self.fall_behind(id);
        }
    }
}
