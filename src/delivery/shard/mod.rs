//! The core of a shard: the sessions, lanes and log cursor of one thread, without a thread, a clock or a poll.
//!
//! Every step is a function of (time, events, frames), so that a simulation can drive it without sockets; the event loop
//! feeds it. A turn is: sockets that are ready (`ready`), new frames (`round`), what waits (`run_queue`), and ten times a
//! second what time alone brings about (`tick`). What the owners below hold, they alone change.

mod adoption;
mod announcements;
mod audit_events;
mod authentication;
mod awaited_cursor;
mod catch_up;
mod client_requests;
mod commands;
mod conversation;
mod departure;
pub(crate) mod directory;
mod draining;
mod ends;
mod epoch_change;
pub(crate) mod event_loop;
mod listening;
mod log_cursor;
pub(crate) mod mailbox;
pub(crate) mod orders;
mod paced;
pub(crate) mod placement;
mod rounds;
mod settings_change;
mod subscriptions;
mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod view_change;
pub(crate) mod walks;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::access::end_journal::EndJournal;
use crate::access::gatekeeper::Gatekeeper;
use crate::access::rights::ViewId;
use crate::access::session_numbers::SessionNumbers;
use crate::audit::log::AuditLog;
use crate::bus::frame::Frame;
use crate::delivery::budget::TurnBudgets;
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::catch_up::scan::Scanner;
use crate::delivery::demand::TopicDemand;
use crate::delivery::lanes::Lanes;
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::Sessions;
use crate::delivery::sessions::mail::{Mail, Mailbox};
use crate::delivery::sessions::pending_requests::PendingRequests;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::settings::Settings;
use crate::delivery::shard::draining::Draining;
use crate::delivery::shard::log_cursor::LogCursor;
use crate::delivery::shard::orders::RecentOrders;
use crate::delivery::shard::placement::ShardLoad;
use crate::delivery::shard::view_change::Transfer;
use crate::delivery::shard::walks::Walk;
use crate::delivery::transport::InboundReader;
use crate::delivery::transport::socket::Socket;
use crate::profile::downstream::Dialect;
use crate::protocol::encoding::Encoder;
use crate::words::stamp::Stamp;
use shared_deflate::deflate::Inflater;

/// Sessions of the queue that have a turn before frames are looked for again: more than that live long enough to wait.
const QUEUE_PART: usize = 1024;

pub struct Shard<S> {
    pub(in crate::delivery) settings: Settings,
    pub(in crate::delivery) sessions: Sessions<S>,
    pub(in crate::delivery) lanes: Lanes,
    pub(in crate::delivery) log: LogCursor,
    pub(in crate::delivery) requests: PendingRequests,
    pub(in crate::delivery) demand: TopicDemand,
    pub(in crate::delivery) scanner: Scanner,
    pub(in crate::delivery) budgets: TurnBudgets,
    /// Frames of the current round; empty between rounds.
    round: Vec<Arc<Frame>>,
    /// Arrival of the oldest frame of each chunk written since the last report.
    written: Vec<Stamp>,
    encoder: Encoder,
    inbound: InboundReader,
    read_buffer: Box<[u8]>,
    view: ViewId,
    pub(in crate::delivery) dialect: Option<Arc<Dialect>>,
    /// The shortest interval of heartbeats that a client was promised.
    heartbeat_ns: u64,
    /// When the next heartbeat of the dialect is due, on the monotonic clock.
    heartbeat_due_ns: u64,
    /// Heartbeats of the dialect so far.
    heartbeats_sent: u64,
    /// Sessions that have left for another view, and are not sent to it yet.
    transfers: Vec<Transfer<S>>,
    /// Every session is to end.
    draining: Option<Draining>,
    sweep_tick: usize,
    /// Orders to sessions and lists of them, the first of which is being done.
    walks: VecDeque<Walk>,
    recent_orders: RecentOrders,
    pub(in crate::delivery) gatekeeper: Arc<dyn Gatekeeper>,
    pub(in crate::delivery) audit: AuditLog,
    mailbox: Mailbox,
    /// Of the last credential; counts up.
    verifications: u64,
    numbers: SessionNumbers,
    pub(in crate::delivery) journal: EndJournal,
    /// When sessions end at the latest, on the monotonic clock.
    ends: BTreeSet<(u64, SessionId)>,
    /// Sessions whose `subscribe` waits for its cursor, and perhaps some that are gone.
    awaiting_cursors: Vec<SessionId>,
    load: Arc<ShardLoad>,
    pub(in crate::delivery) meters: ShardMeters,
}

impl<S: Socket> Shard<S> {
    /// `mailbox` takes what others answer about sessions; it returns by `read_mail`.
    pub fn new(
        settings: Settings,
        bus: BusHandles,
        mailbox: Mailbox,
        load: Arc<ShardLoad>,
        meters: ShardMeters,
    ) -> Self {
        let mut lanes = Lanes::default();
        Shard {
            settings,
            sessions: Sessions::new(),
            log: LogCursor::new(bus.reader, &mut lanes),
            lanes,
            requests: PendingRequests::new(bus.requests, mailbox.clone()),
            demand: TopicDemand::new(bus.interest),
            scanner: Scanner::default(),
            budgets: TurnBudgets::default(),
            round: Vec::new(),
            written: Vec::new(),
            encoder: Encoder::with_forms(settings.compression.level, bus.dialect.as_ref().map(Dialect::forms)),
            inbound: InboundReader { inflater: Inflater::new(), patterns_max: settings.limits.patterns_max },
            read_buffer: vec![0; 16 * 1024].into(),
            view: bus.view,
            dialect: bus.dialect,
            heartbeat_ns: settings.heartbeat.interval.as_nanos() as u64,
            heartbeat_due_ns: 0,
            heartbeats_sent: 0,
            transfers: Vec::new(),
            draining: None,
            sweep_tick: 0,
            walks: VecDeque::new(),
            recent_orders: RecentOrders::default(),
            gatekeeper: bus.gatekeeper,
            audit: bus.audit,
            mailbox,
            verifications: 0,
            numbers: bus.numbers,
            journal: bus.journal,
            ends: BTreeSet::new(),
            awaiting_cursors: Vec::new(),
            load,
            meters,
        }
    }

    /// Where what others answer goes.
    #[cfg(test)]
    pub fn set_mailbox(&mut self, mailbox: Mailbox) {
        self.mailbox = mailbox;
    }

    /// Orders or lists are being done.
    #[cfg(test)]
    pub fn is_walking(&self) -> bool {
        !self.walks.is_empty()
    }

    /// Takes what others answer about a session.
    pub fn read_mail(&mut self, mail: Mail, now: Stamp) {
        self.expire(now);
        match mail {
            Mail::Answer(reply) => self.answered(reply, now),
            Mail::Verdict(verdict) => self.verified(verdict, now),
        }
    }

    /// The socket can be read from, or written to again.
    pub fn ready(&mut self, id: SessionId, readable: bool, now: Stamp) {
        self.expire(now);
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.readable |= readable;
        if readable && session.is_throttled(&self.settings) {
            self.count_throttled(id);
        }
        // Many sockets may take more at the same moment: those that catch up have the work of a turn between them.
        if self.budgets.catch_up.is_spent() && matches!(self.sessions[id].state(), SyncState::Behind(_)) {
            return self.sessions.enqueue(id);
        }
        self.run(id, now);
    }

    /// Begins the next turn: what is over is cleared, then the sessions that have waited longest have their part. Once
    /// they have made work for a turn, the others wait for the next.
    pub fn run_queue(&mut self, now: Stamp) {
        self.expire(now);
        self.budgets.refill();
        self.lanes.clear(&mut self.budgets.matches);
        self.shed_inbound(now);
        self.shed_unsent();
        self.drain_part(now);
        self.walk_on(now);
        for _ in 0..self.sessions.awaiting_hearing() {
            let Some(id) = self.next_to_hear() else { break };
            self.run(id, now);
        }
        for _ in 0..self.sessions.queued().min(QUEUE_PART) {
            let Some(id) = self.next_queued() else { break };
            self.run(id, now);
        }
    }

    fn next_to_hear(&mut self) -> Option<SessionId> {
        if self.budgets.messages.is_spent() { None } else { self.sessions.pop_awaiting_hearing() }
    }

    fn next_queued(&mut self) -> Option<SessionId> {
        if self.budgets.catch_up.is_spent() { None } else { self.sessions.pop_queued() }
    }

    /// One turn of one session: leave, catch up, or listen.
    fn run(&mut self, id: SessionId, now: Stamp) {
        let Some(session) = self.sessions.get(id) else { return };
        match session.state() {
            SyncState::Leaving(_) => self.leave(id, now),
            SyncState::Behind(_) => self.catch_up(id, now),
            SyncState::InStep { .. } | SyncState::Boarded { .. } | SyncState::Ahead { .. } => {}
        }
        self.listen(id, now);
        self.sessions.count_inbound(id, now);
    }

    /// Whether there is something to do now, without waiting for an event.
    #[cfg(test)]
    pub fn has_work(&self) -> bool {
        self.has_news() || self.has_other_work()
    }

    /// There is something to send to those in step. An empty shard waits for no frames.
    pub fn has_news(&self) -> bool {
        !self.is_empty() && self.log.has_news()
    }

    /// Whether there is something to do besides new frames.
    pub fn has_other_work(&self) -> bool {
        self.sessions.has_work() || self.lanes.has_closing() || self.has_to_drain() || !self.walks.is_empty()
    }

    /// The earliest moment at which a paced lane may have something to send, on the monotonic clock.
    pub fn paced_due_ns(&self) -> u64 {
        self.lanes.paced_due_ns().unwrap_or(u64::MAX)
    }

    /// The id that the next session to be adopted will have.
    pub fn vacant(&self) -> SessionId {
        self.sessions.vacant()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Part of the last second in which its thread did not wait.
    pub fn report_busy(&self, part: f64) {
        self.meters.busy.set(part);
    }

    /// Reports how long what was written since the last call has taken; `now` is read after the last write.
    pub fn report_written(&mut self, now: Stamp) {
        for received in self.written.drain(..) {
            self.meters.publish_to_write.record(now.ns_since(received) as f64 / 1e9);
        }
    }
}
