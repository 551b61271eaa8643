//! The event loop around a shard: mio's poll, the mailbox, the bell, the clock. One thread, no task, no future.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rand::RngExt;

use crate::bus::bell::Bell;
use crate::bus::clock::Clock;
use crate::delivery::asking::{Mailbox, Reply};
use crate::delivery::door::Ends;
use crate::delivery::lane::SessionId;
use crate::delivery::meters::ShardMeters;
use crate::delivery::newcomer::Newcomer;
use crate::delivery::session::Socket;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

/// Deadlines are kept to a second (`sweep`), heartbeats to a tenth.
const TICK: Duration = Duration::from_millis(100);
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
const WAKER: Token = Token(usize::MAX);

/// What others ask of a shard.
pub enum Mail {
    Adopt(Box<Newcomer>),
    /// At most as many as clients may have asks open.
    Answer(Reply),
    Drain {
        spread: Duration,
    },
    Stop,
}

/// What a shard's thread is started with.
pub struct Seat {
    pub number: usize,
    pub settings: Settings,
    pub ends: Ends,
    pub clock: Clock,
    pub population: Arc<AtomicUsize>,
}

/// A client's socket, and what is dropped with it.
struct Client {
    stream: TcpStream,
    _permit: Option<Box<dyn Any + Send>>,
}

/// Starts the thread of one shard.
pub fn start(seat: Seat, meters: &Meters) -> io::Result<(Sender<Mail>, Arc<Bell>, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let bell = Arc::new(Bell::new(move || {
        // It fails only if the poll is gone, and then there is nobody to wake.
        let _ = waker.wake();
    }));
    let (sender, mail) = channel();
    let meters = ShardMeters::new(meters, seat.number);
    let (answers, answers_bell) = (sender.clone(), bell.clone());
    let mailbox: Mailbox = Arc::new(move |reply| {
        // It fails only if the shard has ended, and its sessions with it.
        let _ = answers.send(Mail::Answer(reply));
        answers_bell.ring();
    });
    let shard = Shard::new(seat.settings, (seat.ends, mailbox), seat.population.clone(), meters);
    let event_loop = EventLoop {
        shard,
        poll,
        mail,
        bell: bell.clone(),
        clock: seat.clock,
        population: seat.population,
        unsent_bytes_max: seat.settings.unsent_bytes_max,
        draining: None,
        stopped: false,
    };
    let name = format!("shard-{}", seat.number);
    let thread = std::thread::Builder::new().name(name).spawn(move || event_loop.run())?;
    Ok((sender, bell, thread))
}

struct EventLoop {
    shard: Shard<Client>,
    poll: Poll,
    mail: Receiver<Mail>,
    bell: Arc<Bell>,
    clock: Clock,
    population: Arc<AtomicUsize>,
    unsent_bytes_max: u32,
    /// Set by `Drain`: newcomers are told goodbye at once, with a delay up to this.
    draining: Option<Duration>,
    stopped: bool,
}

impl EventLoop {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut ticked = self.clock.now();
        while !self.stopped {
            self.bell.doze();
            self.read_mail();
            let timeout = self.timeout(ticked);
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                panic!("epoll_wait failed, and no session of this shard can be served without it: {error}");
            }
            self.bell.rouse();
            let now = self.clock.now();
            for event in &events {
                if event.token() != WAKER {
                    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.shard.ready(SessionId(event.token().0), readable, now);
                }
            }
            self.shard.round(now);
            self.shard.run_queue(now);
            self.shard.report_written(self.clock.now());
            if now.ns_since(ticked) >= TICK.as_nanos() as u64 {
                ticked = now;
                self.shard.tick(now);
            }
        }
    }

    /// How long the poll may sleep: not at all if there is work, until the next tick if there is anyone to look after.
    fn timeout(&self, ticked: Stamp) -> Option<Duration> {
        if self.stopped || self.shard.has_work() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let until_tick = (TICK.as_nanos() as u64).saturating_sub(now.ns_since(ticked));
        let until_due = self.shard.paced_due_ns().saturating_sub(now.mono_ns);
        Some(Duration::from_nanos(until_tick.min(until_due)))
    }

    fn read_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            match mail {
                Mail::Adopt(newcomer) => self.adopt(*newcomer),
                Mail::Answer(reply) => self.shard.answered(reply, self.clock.now()),
                Mail::Drain { spread } => {
                    self.draining = Some(spread);
                    let now = self.clock.now();
                    self.shard.drain(|| reconnect_ms(spread), now);
                }
                Mail::Stop => self.stopped = true,
            }
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) {
        let now = self.clock.now();
        let Newcomer { socket, unread, terms, permit } = newcomer;
        if let Err(error) = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(self.unsent_bytes_max) {
            tracing::debug!(%error, "a session goes without TCP_NOTSENT_LOWAT");
        }
        let mut stream = TcpStream::from_std(socket);
        let token = Token(self.shard.vacant().0);
        if let Err(error) = self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "a client is dropped because its socket cannot be watched");
            self.population.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.shard.adopt(Client { stream, _permit: permit }, &unread, terms, now);
        if let Some(spread) = self.draining {
            self.shard.drain(|| reconnect_ms(spread), now);
        }
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Client {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

fn reconnect_ms(spread: Duration) -> u64 {
    rand::rng().random_range(0..=spread.as_millis() as u64)
}
