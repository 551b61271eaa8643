//! The bench's own feed: a WebSocket server for the fanline under test. It sends evenly at a rate, or as fast as clients
//! receive.
//!
//! The opening is one message of each topic, at once, so that what follows is a market in progress. Then it sends in spans,
//! so that each can be accounted for to the last message: `start`, then `pause`, which returns what was sent. Two threads:
//! one sends, the other accepts the server and answers its pings.
//!
//! | shared | written by | guarded by |
//! |---|---|---|
//! | `connection` | the accepting thread, for each new one; the writer, when it breaks | its mutex, held for one write |
//! | `command` | the owner | its mutex; `changed` wakes the writer |
//! | `sent` | the writer, after each batch | its mutex |
//! | `opened` | the thread that serves the server, once | itself; it guards nothing else |

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite;

use crate::bus::clock::Clock;
use shared_deflate::deflate::Inflater;
use shared_deflate::frame::{Decoder, Message, Opcode, put_frame};

use super::generator::Generator;
use super::options::RateOption;
use super::subscription_plan::{SubscriptionPlan, subscribers_mean};
use super::text_ledger::TextLedger;

/// Most messages of one write.
const BATCH_MESSAGES_MAX: u64 = 64;
/// Without a rate: messages that the feed may be ahead of the average client. Enough for full sends to 1000 clients; with
/// more, the messages under way take kernel memory that a virtual machine may first have to get from its host.
const AHEAD_MESSAGES: u64 = 500;
const POLL_INTERVAL: Duration = Duration::from_micros(200);
/// After a pause of the machine, the feed catches up with at most this, then continues from now.
const ARREARS_MAX: Duration = Duration::from_millis(500);
/// A server's messages to a feed are small.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait of a feed without messages.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The feed. It ends when it is dropped.
pub struct BenchFeed {
    address: SocketAddr,
    shared: Arc<FeedShared>,
    subscriptions: Arc<SubscriptionPlan>,
    writing: Option<JoinHandle<()>>,
}

/// What was sent since the last start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedTotals {
    pub messages: u64,
    /// Those whose topic a client subscribes to.
    pub wanted: u64,
    /// Their deliveries, over all clients.
    pub owed: u64,
    /// Number of clients.
    pub clients: usize,
    /// Messages by number of their topic.
    pub by_topic: Vec<u64>,
    /// Payload bytes of all messages.
    pub bytes: u64,
    /// Messages while no server was connected.
    pub unheard: u64,
}

#[derive(Default)]
struct FeedShared {
    connection: Mutex<Option<TcpStream>>,
    command: Mutex<FeedCommand>,
    changed: Condvar,
    sent: Mutex<FeedTotals>,
    /// Whether the server has read the opening.
    opened: AtomicBool,
}

#[derive(Clone, Debug, Default)]
enum FeedCommand {
    #[default]
    Pause,
    SendOpening,
    Send(FeedPace),
    End,
}

/// The pace of sending without a rate: the deliveries so far, and among how many clients.
#[derive(Clone, Debug)]
struct FeedPace {
    received: Arc<AtomicU64>,
    clients: usize,
    /// Number of clients of each topic.
    subscribers: Arc<[u64]>,
    /// Mean number of clients that a message is for.
    subscribers_mean: f64,
}

struct FeedWriter {
    shared: Arc<FeedShared>,
    generator: Generator,
    rate: RateOption,
    texts: Option<Arc<TextLedger>>,
    clock: Clock,
    batch: Vec<u8>,
}

impl BenchFeed {
    /// Listens on a free loopback port. Enters in `texts` what it sends.
    pub fn open(
        generator: Generator,
        subscriptions: Arc<SubscriptionPlan>,
        rate: RateOption,
        texts: Option<Arc<TextLedger>>,
        clock: Clock,
    ) -> io::Result<BenchFeed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::<FeedShared>::default();
        let writer = FeedWriter { shared: shared.clone(), generator, rate, texts, clock, batch: Vec::new() };
        let writing = std::thread::Builder::new().name("feed".into()).spawn(move || writer.run())?;
        let accepting = shared.clone();
        std::thread::Builder::new().name("feed-accept".into()).spawn(move || accept(&listener, &accepting))?;
        Ok(BenchFeed { address, shared, subscriptions, writing: Some(writing) })
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// Whether a server is connected.
    pub fn is_connected(&self) -> bool {
        lock(&self.shared.connection).is_some()
    }

    /// Sends the opening to the connected server.
    pub fn send_opening(&self) {
        self.command(FeedCommand::SendOpening);
    }

    /// Whether the server has read the opening.
    pub fn is_opened(&self) -> bool {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Sends from now on; `received` counts the deliveries to all of `clients`.
    pub fn start(&self, received: Arc<AtomicU64>, clients: usize) {
        *lock(&self.shared.sent) = FeedTotals::of(self.subscriptions.topics());
        let subscribers: Arc<[u64]> = self.subscriptions.subscribers(clients).into();
        let subscribers_mean = subscribers_mean(&subscribers);
        self.command(FeedCommand::Send(FeedPace { received, clients, subscribers, subscribers_mean }));
    }

    /// Deliveries owed to each client for what was sent.
    pub fn owed(&self, sent: &FeedTotals) -> Vec<u64> {
        self.subscriptions.owed(&sent.by_topic, sent.clients)
    }

    /// Totals so far.
    pub fn sent(&self) -> FeedTotals {
        lock(&self.shared.sent).clone()
    }

    /// Messages of each topic so far.
    pub fn sent_by_topic(&self) -> Vec<u64> {
        lock(&self.shared.sent).by_topic.clone()
    }

    /// Stops sending; a batch that is being written is completed and counted first.
    pub fn pause(&self) -> FeedTotals {
        self.command(FeedCommand::Pause);
        // The writer holds `sent` from before it reads the command until the batch is counted.
        self.sent()
    }

    fn command(&self, command: FeedCommand) {
        *lock(&self.shared.command) = command;
        self.shared.changed.notify_all();
    }
}

impl FeedTotals {
    /// Nothing yet, for this number of topics.
    fn of(topics: usize) -> FeedTotals {
        FeedTotals { by_topic: vec![0; topics], ..FeedTotals::default() }
    }
}

impl Drop for BenchFeed {
    fn drop(&mut self) {
        self.command(FeedCommand::End);
        // Wakes the accepting thread, so that it sees the end.
        drop(TcpStream::connect(self.address));
        if let Some(writing) = self.writing.take() {
            // A panic of the thread has been printed.
            let _ = writing.join();
        }
    }
}

impl FeedWriter {
    fn run(mut self) {
        loop {
            match self.wait() {
                FeedCommand::SendOpening => self.opening(),
                FeedCommand::Send(pace) => self.send_until_paused(&pace),
                FeedCommand::Pause | FeedCommand::End => return,
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> FeedCommand {
        let shared = &self.shared;
        let is_paused = |command: &mut FeedCommand| matches!(command, FeedCommand::Pause);
        let command =
            shared.changed.wait_while(lock(&shared.command), is_paused).unwrap_or_else(PoisonError::into_inner);
        command.clone()
    }

    /// One message of each topic, and a ping: its answer shows that the messages before it were read.
    fn opening(&mut self) {
        let topics = self.generator.topics();
        let (mut sent, nobody, mut left) = (FeedTotals::of(topics), vec![0; topics], topics as u64);
        while left > 0 && !matches!(&*lock(&self.shared.command), FeedCommand::End) {
            let messages = left.min(BATCH_MESSAGES_MAX);
            self.send(messages, &nobody, &mut sent);
            left -= messages;
        }
        self.batch.clear();
        put_frame(&mut self.batch, Opcode::Ping, b"");
        self.write();
        let mut command = lock(&self.shared.command);
        if let FeedCommand::SendOpening = &*command {
            *command = FeedCommand::Pause;
        }
    }

    fn send_until_paused(&mut self, pace: &FeedPace) {
        let shared = self.shared.clone();
        let (started, mut skipped) = (Instant::now(), 0);
        while let Some(pause) = self.step(pace, started, &mut skipped) {
            let command = lock(&shared.command);
            if matches!(&*command, FeedCommand::Send(_)) && !pause.is_zero() {
                // An early wake-up only makes the next step early.
                drop(shared.changed.wait_timeout(command, pause));
            }
        }
    }

    /// Sends what is due; returns how long to wait then, none after a pause.
    fn step(&mut self, pace: &FeedPace, started: Instant, skipped: &mut u64) -> Option<Duration> {
        let shared = self.shared.clone();
        let mut sent = lock(&shared.sent);
        if !matches!(&*lock(&shared.command), FeedCommand::Send(_)) {
            return None;
        }
        let due = match self.rate {
            RateOption::PerSecond(rate) => {
                let due = (started.elapsed().as_secs_f64() * rate) as u64;
                let arrears_max = (ARREARS_MAX.as_secs_f64() * rate) as u64 + 1;
                *skipped = (*skipped).max(due.saturating_sub(sent.messages + arrears_max));
                due.saturating_sub(sent.messages + *skipped)
            }
            RateOption::Max => {
                let under_way = sent.owed.saturating_sub(pace.received.load(Ordering::Relaxed)) as f64;
                (AHEAD_MESSAGES as f64 - under_way / pace.subscribers_mean.max(1.0)) as u64
            }
        };
        let messages = due.min(BATCH_MESSAGES_MAX);
        sent.clients = pace.clients;
        self.send(messages, &pace.subscribers, &mut sent);
        Some(match self.rate {
            _ if messages < due => Duration::ZERO,
            RateOption::PerSecond(rate) => {
                let next = (sent.messages + *skipped + 1) as f64 / rate;
                let next = Duration::try_from_secs_f64(next).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                next.saturating_sub(started.elapsed())
            }
            RateOption::Max => POLL_INTERVAL,
        })
    }

    fn send(&mut self, messages: u64, subscribers: &[u64], sent: &mut FeedTotals) {
        self.batch.clear();
        let mut texts = Vec::new();
        for _ in 0..messages {
            let message = self.generator.next(&self.clock);
            sent.bytes += message.text.len() as u64;
            let subscribers = subscribers[message.number];
            sent.wanted += u64::from(subscribers > 0);
            sent.owed += subscribers;
            sent.by_topic[message.number] += 1;
            put_frame(&mut self.batch, Opcode::Text, &message.text);
            if self.texts.is_some() {
                texts.push(message.text);
            }
        }
        if let Some(ledger) = &self.texts {
            ledger.enter(texts.iter().map(Vec::as_slice));
        }
        sent.messages += messages;
        if !self.write() {
            sent.unheard += messages;
        }
    }

    /// Whether a server was connected for the batch.
    fn write(&mut self) -> bool {
        let mut connection = lock(&self.shared.connection);
        let written = connection.as_mut().is_some_and(|connection| connection.write_all(&self.batch).is_ok());
        if !written {
            *connection = None;
        }
        written
    }
}

/// Accepts servers, one after the other; the newest receives the messages.
fn accept(listener: &TcpListener, shared: &Arc<FeedShared>) {
    for socket in listener.incoming() {
        if matches!(&*lock(&shared.command), FeedCommand::End) {
            return;
        }
        let shared = shared.clone();
        let server = std::thread::Builder::new().name("feed-server".into());
        // Without a thread the server is refused, and reconnects.
        drop(socket.and_then(|socket| server.spawn(move || serve(socket, &shared))));
    }
}

/// Accepts the handshake and answers pings until the server is gone.
fn serve(socket: TcpStream, shared: &FeedShared) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    socket.set_write_timeout(Some(WRITE_DEADLINE)).ok()?;
    let mut socket = tungstenite::accept(socket).ok()?.into_inner();
    *lock(&shared.connection) = Some(socket.try_clone().ok()?);
    let (mut decoder, mut inflater) = (Decoder::new(MESSAGE_BYTES_MAX, false), Inflater::new());
    let mut buffer = [0; 4096];
    loop {
        let bytes = socket.read(&mut buffer).ok().filter(|bytes| *bytes > 0)?;
        decoder.push(&buffer[..bytes]);
        while let Some(message) = decoder.next(&mut inflater).ok()? {
            if let Message::Pong = message {
                shared.opened.store(true, Ordering::Relaxed);
            }
            if let Message::Ping(payload) = message {
                let mut pong = Vec::new();
                put_frame(&mut pong, Opcode::Pong, &payload);
                // Not inside a batch.
                let _line = lock(&shared.connection);
                socket.write_all(&pong).ok()?;
            }
        }
    }
}

/// A thread that panicked leaves only valid numbers and sockets.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::MarketSettings;

    #[test]
    fn all_messages_are_received_and_counted() {
        let clock = Clock::start();
        let generator = Generator::new(MarketSettings::default(), 0).expect("a market");
        let subscriptions = Arc::new(SubscriptionPlan::overlap(MarketSettings::default(), 1).expect("a market"));
        let (clients, topics) = (3 * subscriptions.topics(), subscriptions.topics() as u64);
        let feed = BenchFeed::open(generator, subscriptions, RateOption::Max, None, clock).expect("a free port");
        let (mut server, _) = tungstenite::connect(feed.url()).expect("a handshake");
        while !feed.is_connected() {
            std::thread::yield_now();
        }
        feed.send_opening();
        (0..topics).for_each(|_| assert!(server.read().expect("a message").is_text()));
        assert!(server.read().expect("a message").is_ping() && !feed.is_opened());
        server.flush().expect("room for the pong");
        while !feed.is_opened() {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            feed.start(Arc::default(), clients);
            while feed.sent().messages < AHEAD_MESSAGES {
                server.read().map(|message| assert!(message.is_text() || message.is_pong())).expect("a message");
                if feed.sent().messages == AHEAD_MESSAGES {
                    break;
                }
            }
            let sent = feed.pause();
            assert_eq!((sent.messages, sent.wanted, sent.unheard), (AHEAD_MESSAGES, AHEAD_MESSAGES, 0));
            assert_eq!((sent.owed, sent.by_topic.iter().sum()), (3 * AHEAD_MESSAGES, AHEAD_MESSAGES));
            assert_eq!(feed.owed(&sent).iter().sum::<u64>(), sent.owed);
            assert_eq!(feed.pause(), sent, "a paused feed sends nothing");
        }
        server.send(tungstenite::Message::Ping("?".into())).expect("room");
        while !matches!(server.read().expect("a message"), tungstenite::Message::Pong(payload) if payload == "?") {}
    }
}
