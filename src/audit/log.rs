//! The handle through which all rooms record events, and the queue between them and the thread that writes.
//!
//! `record` never waits for the disk. The queue is bounded in bytes: beyond `QUEUE_BYTES_MAX`, and while nothing can be
//! written, events are dropped and counted, and the log says how many as soon as it can. Whoever must not serve what is not
//! recorded sets `audit.on_full = "refuse_sessions"`: then nobody is admitted from `REFUSE_BYTES` on, which leaves room for
//! what the present sessions still cause. Clients without an identity have a part of their own in the queue and on the disk
//! (`unidentified.rs`), so that they keep nobody else out.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};

use crate::access::grant::Grant;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::audit::queries::{GatheredQueries, ShownPatterns};
use crate::audit::unidentified::UnidentifiedBudget;
use crate::audit::writer::{AuditWriter, LOCKED_CLOSING, OpenError};
use crate::settings::table::{Audit as AuditSettings, OnAuditFull};
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// About 40,000 events of a session.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Half: a session that was admitted still causes a few events.
const REFUSE_BYTES: usize = QUEUE_BYTES_MAX / 2;
/// A quarter: what clients without an identity cause waits in no more.
const UNIDENTIFIED_BYTES_MAX: usize = QUEUE_BYTES_MAX / 4;
/// Time for the last lines at the stop of the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Records events; clones share the log. Without `audit.dir` it does nothing.
#[derive(Clone, Default)]
pub struct AuditLog {
    queue: Option<Arc<AuditQueue>>,
}

/// Events on their way to the disk.
pub(super) struct AuditQueue {
    /// Held for moments, never while writing.
    state: Mutex<WaitingEvents>,
    /// Wakes the writer.
    news: Condvar,
    /// Wakes those that wait for the writer.
    settled: Condvar,
    on_full: OnAuditFull,
    meters: AuditMeters,
}

struct WaitingEvents {
    events: VecDeque<(u64, AuditEvent)>,
    bytes: usize,
    queries: GatheredQueries,
    unidentified: UnidentifiedBudget,
    /// Not yet reported in the log.
    dropped: u64,
    /// The writer cannot write, or is gone.
    failing: bool,
    /// Another process still writes: this one waits for its end.
    locked: bool,
    closing: bool,
    /// The writer has written everything and ended.
    ended: bool,
}

impl WaitingEvents {
    fn new(now: Instant) -> WaitingEvents {
        WaitingEvents {
            events: VecDeque::new(),
            bytes: 0,
            queries: GatheredQueries::default(),
            unidentified: UnidentifiedBudget::new(now),
            dropped: 0,
            failing: false,
            locked: false,
            closing: false,
            ended: false,
        }
    }
}

/// Some events in their order, with the time of each in milliseconds since the Unix epoch.
pub(super) struct AuditBatch {
    pub events: VecDeque<(u64, AuditEvent)>,
    /// No further events follow.
    pub last: bool,
}

struct AuditMeters {
    events: Counter,
    dropped: Counter,
    omitted: Counter,
    waiting: Gauge,
    failing: Gauge,
}

impl AuditMeters {
    fn new(meters: &Meters) -> AuditMeters {
        AuditMeters {
            events: meters.counter(&names::AUDIT_EVENTS, &[]),
            dropped: meters.counter(&names::AUDIT_DROPPED, &[]),
            omitted: meters.counter(&names::AUDIT_OMITTED, &[]),
            waiting: meters.gauge(&names::AUDIT_WAITING_BYTES, &[]),
            failing: meters.gauge(&names::AUDIT_FAILING, &[]),
        }
    }
}

impl AuditLog {
    /// Opens the log in `audit.dir` and records the start. `config_digest` is that of the configuration in force.
    ///
    /// # Errors
    /// The directory or its newest file cannot be written, another process writes there, or its last line is no line of a
    /// log.
    pub fn open(settings: &AuditSettings, config_digest: &str, meters: &Meters) -> Result<AuditLog, OpenError> {
        let Some(dir) = &settings.dir else { return Ok(AuditLog::unused(meters)) };
        let (writer, torn_bytes) = AuditWriter::open(Path::new(dir))?;
        AuditLog::start(settings, (config_digest, torn_bytes), meters, move |_| Some(writer))
    }

    /// As [`AuditLog::open`], after another process that still writes there: events wait in the queue until it has ended.
    ///
    /// # Errors
    /// The thread that writes cannot be started. A directory that cannot be used is told in the log.
    pub fn open_after(settings: &AuditSettings, config_digest: &str, meters: &Meters) -> Result<AuditLog, OpenError> {
        let Some(dir) = settings.dir.clone() else { return Ok(AuditLog::unused(meters)) };
        let open = move |queue: &WriterPresence| {
            let (writer, torn_bytes) = AuditWriter::open_after(Path::new(&dir), queue)?;
            if let Some(bytes) = torn_bytes {
                queue.push(recovered(&dir, bytes));
            }
            Some(writer)
        };
        AuditLog::start(settings, (config_digest, None), meters, open)
    }

    /// Nothing is recorded; the meters say so.
    fn unused(meters: &Meters) -> AuditLog {
        AuditMeters::new(meters);
        AuditLog::default()
    }

    /// `open` is called by the thread that writes.
    fn start(
        settings: &AuditSettings,
        (config_digest, torn_bytes): (&str, Option<u64>),
        meters: &Meters,
        open: impl FnOnce(&WriterPresence) -> Option<AuditWriter> + Send + 'static,
    ) -> Result<AuditLog, OpenError> {
        let meters = AuditMeters::new(meters);
        let queue = Arc::new(AuditQueue {
            state: Mutex::new(WaitingEvents::new(Instant::now())),
            news: Condvar::new(),
            settled: Condvar::new(),
            on_full: settings.on_full,
            meters,
        });
        let log = AuditLog { queue: Some(queue.clone()) };
        if let (Some(bytes), Some(dir)) = (torn_bytes, &settings.dir) {
            log.record(recovered(dir, bytes));
        }
        log.record(AuditEvent::new(AuditKind::Start).version(env!("CARGO_PKG_VERSION"), config_digest));
        let write = move || {
            let queue = WriterPresence(queue);
            if let Some(writer) = open(&queue) {
                writer.run(&queue);
            }
        };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(write);
        thread.map_err(|error| OpenError::Thread { error })?;
        Ok(log)
    }

    /// Whether events are recorded at all, for callers that would gather them at a cost.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Records an event with the present time. Returns at once: false if the event is missing in the log.
    pub fn record(&self, event: AuditEvent) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.push(event))
    }

    /// Records a single HTTP request for data. Those of a minute may be one line.
    pub fn record_query(&self, grant: &Grant, address: Option<IpAddr>, shown: &ShownPatterns<'_>) {
        let Some(queue) = &self.queue else { return };
        let due = queue.state().queries.add(grant, address, shown, Instant::now());
        for event in due {
            queue.push(event);
        }
    }

    /// Whether a further session may be admitted. If not, the edge answers 503 `audit_full`.
    pub fn accepts_sessions(&self) -> bool {
        let Some(queue) = &self.queue else { return true };
        if queue.on_full == OnAuditFull::Drop {
            return true;
        }
        let state = queue.state();
        !state.failing && state.bytes < REFUSE_BYTES
    }

    /// Records the stop and waits until everything is on disk, for a limited time. Later events are dropped.
    pub fn close(&self) {
        let Some(queue) = &self.queue else { return };
        let gathered = queue.state().queries.take_all();
        for event in gathered {
            queue.push(event);
        }
        queue.push(AuditEvent::new(AuditKind::Stop));
        let mut state = queue.state();
        state.closing = true;
        queue.news.notify_one();
        let timeout = CLOSE_TIMEOUT + if state.locked { LOCKED_CLOSING } else { Duration::ZERO };
        let (state, _) = queue
            .settled
            .wait_timeout_while(state, timeout, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            tracing::error!(events = state.events.len(), "the audit log could not be completed in time");
        }
    }
}

impl AuditQueue {
    fn push(&self, event: AuditEvent) -> bool {
        let weight = event.weight();
        let mut state = self.state();
        if event.is_of_unidentified() {
            // The opening of a session pays for its end.
            let costs = if event.kind == AuditKind::SessionOpen { 2 * weight } else { weight };
            let has_room = state.bytes + weight <= UNIDENTIFIED_BYTES_MAX;
            if !has_room || !state.unidentified.admits(event.client_address(), costs, Instant::now()) {
                state.unidentified.omit();
                self.meters.omitted.increment(1);
                return false;
            }
        }
        if state.ended || state.closing || state.bytes + weight > QUEUE_BYTES_MAX {
            state.dropped += 1;
            self.meters.dropped.increment(1);
            return false;
        }
        // Under the lock, so that lines are in the order of their times.
        state.events.push_back((now_ms(), event));
        state.bytes += weight;
        self.meters.waiting.set(state.bytes as f64);
        drop(state);
        self.news.notify_one();
        true
    }

    /// Waits for events, at most for `patience`. The last of them say how many are missing.
    pub(super) fn take(&self, patience: Duration) -> AuditBatch {
        let gathered = self.state().queries.take_due(Instant::now());
        for event in gathered {
            self.push(event);
        }
        let idle = |state: &mut WaitingEvents| state.events.is_empty() && !state.closing;
        let (mut state, _) =
            self.news.wait_timeout_while(self.state(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        let mut events = std::mem::take(&mut state.events);
        state.bytes = 0;
        self.meters.waiting.set(0.0);
        let dropped = std::mem::take(&mut state.dropped);
        let last = state.closing;
        let omitted = state.unidentified.take_omitted(last, Instant::now());
        drop(state);
        if dropped > 0 {
            let told = AuditEvent::new(AuditKind::Dropped).sent(dropped, 0).reason("queue_full");
            // They were dropped after what waited.
            events.push_back((now_ms(), told));
        }
        if let Some(omitted) = omitted {
            let told = AuditEvent::new(AuditKind::Omitted).sent(omitted, 0).reason("no_identity");
            events.push_back((now_ms(), told));
        }
        AuditBatch { events, last }
    }

    pub(super) fn written(&self, events: usize) {
        self.meters.events.increment(events as u64);
        self.set_failing(false);
    }

    /// Whether the server is stopping, so that a writer that cannot write gives up.
    pub(super) fn is_closing(&self) -> bool {
        self.state().closing
    }

    pub(super) fn set_locked(&self, locked: bool) {
        self.state().locked = locked;
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.state().failing = failing;
        self.meters.failing.set(f64::from(u8::from(failing)));
    }

    fn state(&self) -> MutexGuard<'_, WaitingEvents> {
        // Each change is complete before anything can panic, so a poisoned lock is still valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end of the queue: when it is dropped, even by a panic, nothing is recorded any more, and that is known.
pub(super) struct WriterPresence(Arc<AuditQueue>);

impl std::ops::Deref for WriterPresence {
    type Target = AuditQueue;

    fn deref(&self) -> &AuditQueue {
        &self.0
    }
}

impl Drop for WriterPresence {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let lost = state.events.len() as u64;
        state.events.clear();
        (state.ended, state.failing, state.bytes) = (true, true, 0);
        drop(state);
        self.0.meters.dropped.increment(lost);
        self.0.meters.failing.set(1.0);
        self.0.settled.notify_all();
    }
}

/// Tells of a line that was not complete.
fn recovered(dir: &str, bytes: u64) -> AuditEvent {
    tracing::warn!(dir, bytes, "the last line of the audit log was not complete; its bytes were moved aside");
    AuditEvent::new(AuditKind::Recovered).sent(0, bytes).reason("torn_line")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
