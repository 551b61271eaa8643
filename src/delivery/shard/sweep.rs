//! Deadlines and heartbeats: what happens to sessions by time alone.
//!
//! There is no timer per session. Every tick looks at a tenth of them, so each is looked at once in ten ticks.

use std::time::Duration;

use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::shard::Shard;
use crate::delivery::shard::departure::spread_by_number;
use crate::delivery::transport::socket::Socket;
use crate::protocol::encoding::Format;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Ticks in which every session is looked at once.
const SWEEP_TICKS: usize = 10;
/// In which clients come back whose keys were worn out.
const WORN_OUT_SPREAD_MS: u64 = 10_000;

/// Streams that have lasted for long enough are resumed within this time, each after another.
const RESUME_SPREAD_MS: u64 = 1_000;

impl<S: Socket> Shard<S> {
    /// To be called about ten times a second: deadlines are kept to a second.
    pub fn tick(&mut self, now: Stamp) {
        self.look_for_cursors(now);
        self.tick_draining(now);
        self.announce_statuses(now);
        self.announce_heartbeats(now);
        self.announce_dialect_heartbeat(now);
        self.log.tick();
        let end = self.sessions.capacity();
        self.sweep_tick = (self.sweep_tick + 1) % SWEEP_TICKS;
        for number in end * self.sweep_tick / SWEEP_TICKS..end * (self.sweep_tick + 1) / SWEEP_TICKS {
            self.look_after(SessionId(number), now);
        }
        for lane in self.lanes.with_poor_window(self.settings.window().members_min) {
            let first = self.lanes.close_window(lane);
            self.sessions.set_disembarked(&self.lanes[lane], first);
        }
        self.scanner.drop_unused(now.mono_ns);
        self.report();
    }

    fn report(&mut self) {
        let (sessions, lanes) = (&self.sessions, &self.lanes);
        self.meters.sessions.set(sessions.clients() as f64);
        self.meters.behind.set(sessions.behind() as f64);
        self.meters.inbound_bytes.set(sessions.inbound_bytes() as f64);
        self.meters.unsent_bytes.set(sessions.unsent_bytes() as f64);
        self.meters.lanes.set(lanes.count() as f64);
        self.meters.lane_bytes.set(lanes.bytes() as f64);
        self.meters.wildcards.set(lanes.index().wildcards() as f64);
        self.meters.windows.set(lanes.windows() as f64);
        self.meters.boarded.set(lanes.boarded() as f64);
        self.meters.made(&mut self.encoder);
    }

    fn look_after(&mut self, id: SessionId, now: Stamp) {
        if !self.look_after_access(id, now) {
            return;
        }
        let misleads_raw = self.settings.raw.on_stale.closes() && self.log.has_been_stale();
        let (is_lost, ping_interval) = self.dialect_terms(id);
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.requests.take_if(|requests| requests.pass_second());
        let may_go_on = session.pass_second(&self.settings);
        let is_late = session.is_late(&self.settings, now);
        let passed = |since_ns: u64, limit: Duration| {
            since_ns > 0 && u128::from(now.mono_ns.saturating_sub(since_ns)) > limit.as_nanos()
        };
        if let Some(end) = session.end_mut() {
            if now.mono_ns >= end.deadline_ns {
                let goodbye = end.goodbye;
                self.end(id, goodbye);
            }
        } else if passed(session.blocked_ns(), self.settings.slow.write_deadline) {
            self.dismiss(id, Goodbye::WriteTimeout, Goodbye::WriteTimeout.sentence(), now);
        } else if !session.takes_commands() {
            // It is being written to: the write deadline watches over it, and its pong may wait unread. The time for a
            // pong begins again when everything is sent, because until then the ping may lie among bytes that the
            // client has not read.
            session.pinged_ns = if session.pinged_ns > 0 { now.mono_ns } else { 0 };
        } else if is_late {
            self.dismiss(id, Goodbye::MessageTimeout, Goodbye::MessageTimeout.sentence(), now);
        } else if misleads_raw && session.format == Format::Raw {
            // Raw sessions receive no server message, and old prices would look current. A session that is behind first
            // receives what there is.
            self.dismiss(id, Goodbye::FeedStale, Goodbye::FeedStale.sentence(), now);
        } else if is_lost {
            self.dismiss(id, Goodbye::FeedLost, Goodbye::FeedLost.sentence(), now);
        } else if session.is_worn_out() {
            // Sessions that began together have worn out their keys together.
            let reconnect_ms = spread_by_number(session.number, WORN_OUT_SPREAD_MS);
            self.dismiss_for(id, Goodbye::WornOut, reconnect_ms, now);
        } else if session.is_mute()
            && passed(session.joined.mono_ns, age_max(session.number, self.settings.sse.age_max))
        {
            let reconnect_ms = spread_by_number(session.number, RESUME_SPREAD_MS);
            self.dismiss_for(id, Goodbye::MaxAge, reconnect_ms, now);
        } else if passed(session.pinged_ns, self.settings.ping.timeout) {
            self.dismiss(id, Goodbye::PingTimeout, Goodbye::PingTimeout.sentence(), now);
        } else if !session.is_mute() && session.pinged_ns == 0 && passed(session.heard_ns, ping_interval) {
            self.ping(id, now);
        }
        if may_go_on {
            self.sessions.enqueue(id);
        }
    }

    /// Whether the feed is down for longer than the session's dialect goes on, and when the client is pinged.
    fn dialect_terms(&self, id: SessionId) -> (bool, Duration) {
        let interval = self.settings.ping.interval;
        let speaks = self.sessions.get(id).is_some_and(Session::is_told_nothing);
        let Some(dialect) = self.dialect.as_ref().filter(|_| speaks) else { return (false, interval) };
        let stale_for = self.log.stale_for();
        let is_lost = dialect.stale_close.is_some_and(|close| self.log.has_been_stale() && stale_for >= close);
        (is_lost, dialect.ws_ping.unwrap_or(interval))
    }

    fn ping(&mut self, id: SessionId, now: Stamp) {
        let session = &mut self.sessions[id];
        session.pinged_ns = now.mono_ns;
        let mut ping = Vec::new();
        session.transport().put_ping(&mut ping);
        self.sessions.send(id, ping, Compression::Plain);
        if !self.flush(id, now) && self.sessions.contains(id) {
            self.fall_behind(id);
        }
    }
}

/// Of this session: a fifth less to a fifth more, so that streams which began together do not end together.
fn age_max(number: u64, mean: Duration) -> Duration {
    mean * (80 + spread_by_number(number, 40) as u32) / 100
}

#[cfg(test)]
mod tests;
