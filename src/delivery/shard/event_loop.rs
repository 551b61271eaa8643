//! The event loop around a shard: mio's poll, the mailbox, the doorbells, the clock. One thread, no task, no future.

use std::any::Any;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use rand::RngExt;

use crate::access::selector::SessionOrder;
use crate::bus::clock::Clock;
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::signal::pulse::Pulse;
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::handoff::Handoff;
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::mail::Mailbox;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::delivery::shard::directory::ShardDirectory;
use crate::delivery::shard::mailbox::{ShardMessage, ShardSender};
use crate::delivery::shard::placement::ShardLoad;
use crate::delivery::shard::view_change::Transfer;
use crate::delivery::transport::client_socket::ClientSocket;
use crate::delivery::transport::socket::Socket;
use crate::delivery::transport::tls_socket::{TlsScratch, TlsSocket};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

/// Deadlines are kept to a second (`sweep`), heartbeats to a tenth.
const TICK: Duration = Duration::from_millis(100);
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
const WAKER: Token = Token(usize::MAX);

/// What a shard's thread is started with.
pub struct ShardParts {
    pub number: usize,
    pub settings: Settings,
    pub bus: BusHandles,
    pub clock: Clock,
    /// What others may see of it: how much it has to do, and that it is at work.
    pub vitals: (Arc<ShardLoad>, Pulse),
}

/// A client's socket, and what is dropped with it.
pub struct AdoptedSocket {
    socket: ClientSocket,
    /// The shard's.
    scratch: Arc<TlsScratch>,
    _permit: Option<Box<dyn Any + Send>>,
}

/// The name of a shard's thread.
pub fn name(number: usize) -> String {
    format!("shard-{number}")
}

/// What a shard waits with, before it is started: others can send to it already.
pub struct ShardPost {
    poll: Poll,
    mail: Receiver<ShardMessage>,
    sender: ShardSender,
    frames_doorbell: Arc<Doorbell>,
    mail_doorbell: Arc<Doorbell>,
}

impl ShardPost {
    pub fn open() -> io::Result<ShardPost> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let doorbell = |waker: Arc<Waker>| {
            Arc::new(Doorbell::new(move || {
                // It fails only if the poll is gone, and then there is no shard to wake.
                let _ = waker.wake();
            }))
        };
        let (frames_doorbell, mail_doorbell) = (doorbell(waker.clone()), doorbell(waker));
        let (sender, mail) = ShardSender::new(mail_doorbell.clone());
        Ok(ShardPost { poll, mail, sender, frames_doorbell, mail_doorbell })
    }

    pub fn sender(&self) -> ShardSender {
        self.sender.clone()
    }
}

/// Starts the thread of one shard. It ends by `ShardMessage::Stop`, and otherwise only with an error or a panic.
pub fn start(
    parts: ShardParts,
    post: ShardPost,
    shards: ShardDirectory,
    meters: &Meters,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (load, pulse) = parts.vitals;
    let ShardPost { poll, mail, sender, frames_doorbell, mail_doorbell } = post;
    parts.bus.reader.add_doorbell(frames_doorbell.clone());
    let meters = ShardMeters::new(meters, parts.number);
    let mailbox: Mailbox = Arc::new(move |mail| {
        // Without a shard there is no session left to be answered.
        sender.send(ShardMessage::About(mail));
    });
    let shard = Shard::new(parts.settings, parts.bus, mailbox, load.clone(), meters);
    let event_loop = EventLoop {
        shard,
        shards,
        poll,
        mail,
        frames_doorbell,
        mail_doorbell,
        clock: parts.clock,
        load,
        pulse,
        waited_ns: 0,
        busy: 0.0,
        batch_until_ns: 0,
        scratch: Arc::default(),
        stopped: false,
    };
    std::thread::Builder::new().name(name(parts.number)).spawn(move || event_loop.run())
}

struct EventLoop {
    shard: Shard<AdoptedSocket>,
    /// All shards, for sessions that change their view.
    shards: ShardDirectory,
    poll: Poll,
    mail: Receiver<ShardMessage>,
    /// Rung for each frame, unless the shard has no sessions: then it follows only when the next one joins.
    frames_doorbell: Arc<Doorbell>,
    mail_doorbell: Arc<Doorbell>,
    clock: Clock,
    load: Arc<ShardLoad>,
    /// Beats once a turn, and so at least once a `TICK`.
    pulse: Pulse,
    /// Time spent waiting since the last tick.
    waited_ns: u64,
    /// Part of the last second in which it did not wait.
    busy: f64,
    /// Until when it waits after a round, on the monotonic clock.
    batch_until_ns: u64,
    /// For the sockets with TLS.
    scratch: Arc<TlsScratch>,
    stopped: bool,
}

/// Marks the shard as ended; dropped before its sessions, also by a panic.
struct EndGuard(Arc<ShardLoad>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl EventLoop {
    /// # Errors
    /// The kernel no longer reports what happens on the sockets; no session can be served without it.
    fn run(mut self) -> io::Result<()> {
        let _end = EndGuard(self.load.clone());
        let mut events = Events::with_capacity(EVENTS);
        let mut ticked = self.clock.now();
        while !self.stopped {
            self.mail_doorbell.arm();
            self.read_mail();
            let before = self.clock.now();
            // Until the next batch is due nobody need ring: the poll ends by then.
            if !self.shard.is_empty() && before.mono_ns >= self.batch_until_ns {
                self.frames_doorbell.arm();
            }
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout(ticked, before)))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            self.frames_doorbell.disarm();
            self.mail_doorbell.disarm();
            let now = self.clock.now();
            self.pulse.beat(now);
            self.waited_ns += now.ns_since(before);
            for event in &events {
                if event.token() != WAKER {
                    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.shard.ready(SessionId(event.token().0), readable, now);
                }
            }
            let is_due = now.mono_ns >= self.batch_until_ns.min(self.shard.paced_due_ns());
            if !self.shard.is_empty() && is_due {
                if self.shard.has_news() {
                    self.batch_until_ns = now.mono_ns + self.shard.settings.shards.batch_delay.as_nanos() as u64;
                }
                self.shard.round(now);
            }
            self.shard.run_queue(now);
            self.send_transfers();
            self.shard.report_written(self.clock.now());
            if now.ns_since(ticked) >= TICK.as_nanos() as u64 {
                self.shard.tick(now);
                self.report_busy(now.ns_since(ticked));
                // Without drift, so that a second of the sweep is one: limits are set in messages a second.
                let late = now.ns_since(ticked) >= 2 * TICK.as_nanos() as u64;
                ticked.mono_ns = if late { now.mono_ns } else { ticked.mono_ns + TICK.as_nanos() as u64 };
            }
        }
        Ok(())
    }

    /// How long the poll may sleep: not at all if there is work, else until the next tick.
    fn timeout(&self, ticked: Stamp, now: Stamp) -> Duration {
        let until_batch = self.batch_until_ns.saturating_sub(now.mono_ns);
        if self.stopped
            || self.shard.has_transfers()
            || self.shard.has_other_work()
            || (until_batch == 0 && self.shard.has_news())
        {
            return Duration::ZERO;
        }
        let until_tick = (TICK.as_nanos() as u64).saturating_sub(now.ns_since(ticked));
        let until_due = self.shard.paced_due_ns().saturating_sub(now.mono_ns);
        let until_news = if until_batch > 0 { until_batch } else { u64::MAX };
        Duration::from_nanos(until_tick.min(until_due).min(until_news))
    }

    /// Reports the part of the time since the last tick in which the shard did not wait.
    fn report_busy(&mut self, elapsed_ns: u64) {
        let waited_ns = std::mem::take(&mut self.waited_ns).min(elapsed_ns);
        let busy = 1.0 - waited_ns as f64 / elapsed_ns as f64;
        // Smoothed over about ten ticks.
        self.busy += (busy - self.busy) / 10.0;
        self.load.set_busy(self.busy);
        self.shard.report_busy(self.busy);
    }

    fn read_mail(&mut self) {
        while let Ok(message) = self.mail.try_recv() {
            match message {
                ShardMessage::Adopt(handoff) => self.adopt(*handoff),
                ShardMessage::Transfer(transfer) => self.take_over(*transfer),
                ShardMessage::Epoch(reader) => {
                    reader.add_doorbell(self.frames_doorbell.clone());
                    self.shard.begin_epoch(reader, self.clock.now());
                }
                ShardMessage::About(mail) => self.shard.read_mail(mail, self.clock.now()),
                ShardMessage::Order(order, reached) => {
                    let spread = match &order.order {
                        SessionOrder::End { spread, .. } => *spread,
                        SessionOrder::Reassess => Duration::ZERO,
                    };
                    let now = self.clock.now();
                    self.shard.order(order, Box::new(move || reconnect_ms(spread)), reached, now);
                }
                ShardMessage::List { query, reply } => self.shard.list(query, reply),
                ShardMessage::Settings(settings) => self.shard.change_settings(*settings),
                ShardMessage::Drain { spread, in_waves: false } => {
                    self.shard.drain(move || reconnect_ms(spread));
                }
                ShardMessage::Drain { spread, in_waves: true } => {
                    self.shard.drain_in_waves(spread, || reconnect_ms(TICK));
                }
                ShardMessage::Stop => self.stopped = true,
            }
        }
    }

    fn adopt(&mut self, handoff: Handoff) {
        let now = self.clock.now();
        if self.shard.is_empty() {
            self.shard.follow(now);
        }
        let Handoff { socket, unread, options, permit } = handoff;
        if let Err(error) = socket.limit_unsent(self.shard.settings.slow.unsent_bytes_max) {
            tracing::debug!(%error, "could not set TCP_NOTSENT_LOWAT for a session");
        }
        if options.stream.is_some()
            && let Err(error) = socket.limit_silence(self.shard.settings.slow.write_deadline)
        {
            // Such a client is not pinged.
            tracing::debug!(%error, "could not set TCP_USER_TIMEOUT for a stream");
        }
        let mut client = AdoptedSocket { socket, scratch: self.scratch.clone(), _permit: permit };
        if self.watch(&mut client) {
            self.shard.adopt(client, &unread, options, now);
        } else if !options.is_canary {
            self.load.leave();
        }
    }

    /// Watches the socket of the session that is about to be adopted. False if the kernel refuses.
    fn watch(&self, client: &mut AdoptedSocket) -> bool {
        let token = Token(self.shard.vacant().0);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let watched = self.poll.registry().register(&mut client.socket, token, interest);
        if let Err(error) = &watched {
            tracing::warn!(%error, "dropping a client whose socket cannot be watched");
        }
        watched.is_ok()
    }

    /// Takes over a session of another view.
    fn take_over(&mut self, mut transfer: Transfer<AdoptedSocket>) {
        let now = self.clock.now();
        if self.shard.is_empty() {
            self.shard.follow(now);
        }
        // That of its former shard is in use by another thread.
        transfer.socket_mut().scratch = self.scratch.clone();
        if self.watch(transfer.socket_mut()) {
            self.shard.take_over(transfer, now);
        } else {
            self.load.leave();
            self.shard.lose(transfer);
        }
    }

    /// Sends sessions whose grant names another view to a shard of that view.
    fn send_transfers(&mut self) {
        for mut transfer in self.shard.take_transfers() {
            if let Err(error) = self.poll.registry().deregister(&mut transfer.socket_mut().socket) {
                tracing::warn!(%error, "dropping a client whose socket cannot be handed over");
                self.shard.lose(transfer);
                continue;
            }
            // Without a shard of this view there is nothing that the client may see: its socket is closed.
            if let Some(shard) = self.shards.place(transfer.view()) {
                shard.load.join();
                shard.sender.send(ShardMessage::Transfer(Box::new(transfer)));
            } else {
                self.shard.lose(transfer);
            }
        }
    }
}

impl Read for AdoptedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.receive(buffer, &self.scratch)
    }
}

impl Write for AdoptedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(bytes, &self.scratch)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.tls_mut().map_or(Ok(()), TlsSocket::flush)
    }
}

impl Socket for AdoptedSocket {
    fn has_unsent(&self) -> bool {
        self.socket.tls().is_some_and(TlsSocket::has_unsent)
    }

    fn pending_bytes(&self) -> usize {
        self.socket.tls().map_or(0, TlsSocket::pending_bytes)
    }

    fn forget_inbound(&mut self) {
        self.socket.tls_mut().into_iter().for_each(TlsSocket::forget_inbound);
    }

    fn is_worn_out(&self) -> bool {
        self.socket.tls().is_some_and(TlsSocket::is_worn_out)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }
}

fn reconnect_ms(spread: Duration) -> u64 {
    rand::rng().random_range(0..=spread.as_millis() as u64)
}
