//! The one door into delivery: starts the shards, hands clients that join to them, ends them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::access::gatekeeper::{Gatekeeper, Open};
use crate::access::rights::ViewId;
use crate::access::selector::{ReachedSessions, SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};
use crate::bus::clock::Clock;
use crate::bus::reader::Reader;
use crate::bus::signal::pulse::Pulse;
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::handoff::Handoff;
use crate::delivery::settings::Settings;
use crate::delivery::shard::directory::{ShardDirectory, ShardHandle};
use crate::delivery::shard::event_loop;
use crate::delivery::shard::event_loop::ShardPost;
use crate::delivery::shard::mailbox::ShardMessage;
use crate::delivery::shard::orders::NumberedOrder;
use crate::delivery::shard::placement::ShardLoad;
use crate::delivery::shard::walks::ListQuery;
use crate::words::metrics::Meters;

/// How long a list waits for the shards; each does its part in some turns.
const LIST_WAIT_MAX: Duration = Duration::from_secs(2);

/// All shards. Share it by `Arc`.
pub struct Delivery {
    shards: ShardDirectory,
    gatekeeper: Arc<dyn Gatekeeper>,
    /// Orders that were given. Only told apart by it, so no other memory hangs on it.
    orders: AtomicU64,
}

/// The shards' threads, to wait for their end.
pub struct ShardThreads(Vec<JoinHandle<io::Result<()>>>);

impl Delivery {
    /// Starts `settings.shards.count` threads that read the bus and own sessions.
    pub fn start(
        settings: Settings,
        bus: &BusHandles,
        clock: Clock,
        meters: &Meters,
    ) -> io::Result<(Delivery, ShardThreads)> {
        let bus = vec![bus.clone(); settings.shards.count];
        Delivery::start_views(settings, bus, clock, meters)
    }

    /// Starts a thread for each of these handles, which may be of several views. A shard reads one view and no other, so
    /// that it cannot give its clients anything else.
    pub fn start_views(
        settings: Settings,
        shards: Vec<BusHandles>,
        clock: Clock,
        meters: &Meters,
    ) -> io::Result<(Delivery, ShardThreads)> {
        let gatekeeper: Arc<dyn Gatekeeper> =
            shards.first().map_or_else(|| Arc::new(Open) as Arc<dyn Gatekeeper>, |bus| bus.gatekeeper.clone());
        let (mut posts, mut handles) = (Vec::new(), Vec::new());
        for bus in &shards {
            let (post, load) = (ShardPost::open()?, Arc::<ShardLoad>::default());
            handles.push(ShardHandle { view: bus.view, sender: post.sender(), load, pulse: Pulse::default() });
            posts.push(post);
        }
        let directory = ShardDirectory::new(handles, settings.shards.spread_after);
        let mut threads = Vec::new();
        for (number, ((bus, post), handle)) in shards.into_iter().zip(posts).zip(directory.iter()).enumerate() {
            let vitals = (handle.load.clone(), handle.pulse.clone());
            let parts = event_loop::ShardParts { number, settings, bus, clock, vitals };
            threads.push(event_loop::start(parts, post, directory.clone(), meters)?);
        }
        Ok((Delivery { shards: directory, gatekeeper, orders: AtomicU64::new(0) }, ShardThreads(threads)))
    }

    /// Gives the client to a shard, which greets it and owns it from then on: of the view that clients see which have
    /// shown nothing. Another one takes it over if its credential says so.
    pub fn adopt(&self, handoff: Handoff) {
        let is_canary = handoff.options.is_canary;
        let anonymous = self.gatekeeper.anonymous().filter(|_| !is_canary);
        let view = anonymous.map_or(ViewId::LIVE, |grant| grant.rights.view);
        // Without a shard the process is about to end: the socket is closed by dropping it.
        let Some(shard) = self.shards.place(view) else { return };
        if !is_canary {
            shard.load.join();
        }
        // The same if the shard has ended meanwhile; its load does not count any more then.
        shard.sender.send(ShardMessage::Adopt(Box::new(handoff)));
    }

    /// The log of this view has begun another epoch: its sessions start anew in that.
    pub fn begin_epoch(&self, view: ViewId, reader: &Reader) {
        for shard in self.shards.iter().filter(|shard| shard.view == view) {
            shard.sender.send(ShardMessage::Epoch(reader.clone()));
        }
    }

    /// The sign of life of each shard, with the shard's name.
    pub fn pulses(&self) -> Vec<(String, Pulse)> {
        let pulses = self.shards.iter().map(|shard| shard.pulse.clone());
        pulses.enumerate().map(|(number, pulse)| (event_loop::name(number), pulse)).collect()
    }

    /// Sessions adopted and not ended.
    pub fn sessions(&self) -> usize {
        self.shards.iter().map(|shard| shard.load.sessions()).sum()
    }

    /// Has all sessions that are selected do this, within about a second; those that join meanwhile are given what they may
    /// do anyway.
    pub fn order(&self, selector: &SessionSelector, order: &SessionOrder) -> ReachedSessions {
        let number = self.orders.fetch_add(1, Ordering::Relaxed);
        let (reached, sessions) = ReachedSessions::parts();
        for shard in self.shards.iter() {
            let (selector, order, reached) = (selector.clone(), order.clone(), reached.clone());
            shard.sender.send(ShardMessage::Order(NumberedOrder { number, selector, order }, reached));
        }
        sessions
    }

    /// Has all shards use these settings from now on. How many shards there are, how hard they compress and when clients
    /// come to another shard stays as it was at the start.
    pub fn change_settings(&self, settings: &Settings) {
        for shard in self.shards.iter() {
            shard.sender.send(ShardMessage::Settings(Box::new(*settings)));
        }
    }

    /// Sessions by their number: the first `limit` that the filter admits and that come after `after`. Waits for the shards,
    /// for 2 s at most; one that gives no sign of life is left out.
    pub fn list(&self, filter: SessionFilter, limit: usize, after: u64) -> Vec<SessionRow> {
        let query = Arc::new(ListQuery { filter, after, limit });
        let (reply, replies) = channel();
        for shard in self.shards.iter() {
            shard.sender.send(ShardMessage::List { query: query.clone(), reply: reply.clone() });
        }
        drop(reply);
        let deadline = Instant::now() + LIST_WAIT_MAX;
        let mut rows: Vec<SessionRow> = Vec::new();
        while let Ok(found) = replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            rows.extend(found);
        }
        rows.sort_unstable_by_key(|row| row.number);
        rows.truncate(limit);
        rows
    }

    /// Ends every session with a goodbye, each with a random reconnect delay up to `spread`; clients that join receive
    /// it at once.
    pub fn drain(&self, spread: Duration) {
        for shard in self.shards.iter() {
            // A shard that has ended has no sessions left.
            shard.sender.send(ShardMessage::Drain { spread, in_waves: false });
        }
    }

    /// Ends every session with a goodbye, in waves over `spread`, so that each client has the stream until it may come back
    /// elsewhere, within a tenth of a second; clients that join receive it at once.
    pub fn drain_in_waves(&self, spread: Duration) {
        for shard in self.shards.iter() {
            shard.sender.send(ShardMessage::Drain { spread, in_waves: true });
        }
    }

    /// Ends the shards, and the sessions that are still there.
    pub fn stop(&self) {
        for shard in self.shards.iter() {
            shard.sender.send(ShardMessage::Stop);
        }
    }
}

impl ShardThreads {
    /// One for each shard, in the order of [`Delivery::pulses`]. A thread that ends before [`Delivery::stop`], by a panic
    /// or an error, leaves the server without this shard and its sessions: the process must end.
    pub fn into_handles(self) -> Vec<JoinHandle<io::Result<()>>> {
        self.0
    }

    /// Waits until every shard has ended, and panics if one did so otherwise than by [`Delivery::stop`].
    pub fn join(self) {
        for thread in self.0 {
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.expect("a shard serves its sessions until it is stopped");
        }
    }
}
