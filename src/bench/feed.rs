//! Our own feed: a WebSocket server for the fanline under test, which speaks evenly at a rate, or as fast as clients take it.
//!
//! First it opens the market: one message of each topic, at once, so that what follows is a market that is under way. Then it
//! speaks in stretches, so that each can be accounted for to the last message: `speak`, then `hush`, which answers what
//! was said. Two threads: one that speaks, and one that lets the server in and answers its pings.
//!
//! | shared | written by | guarded by |
//! |---|---|---|
//! | `line` | the door, for each new connection; the speaker, when it breaks | its mutex, held for one write |
//! | `order` | the owner | its mutex, rung by `told` |
//! | `said` | the speaker, after each batch | its mutex |
//! | `opened` | whoever listens to the server, once | itself; it guards nothing else |

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

use super::options::RateOption;
use super::speech::Generator;
use super::wants::SubscriptionPlan;

/// Messages of one write at most.
const BATCH_MESSAGES_MAX: u64 = 64;
/// Without a rate: messages that the feed may be ahead of the average client. Enough for full sends to 1000 clients; with
/// more, what is under way takes kernel memory that a virtual machine may have to get from its host first.
const AHEAD_MESSAGES: u64 = 500;
const GLANCE: Duration = Duration::from_micros(200);
/// After a pause of the whole machine the feed goes on from now instead of catching up with more than this.
const ARREARS_MAX: Duration = Duration::from_millis(500);
/// A server's own messages to a feed are small.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// A feed that has nothing to say looks up after this time.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// The feed. It ends when it is dropped.
pub struct BenchFeed {
    address: SocketAddr,
    shared: Arc<FeedShared>,
    wants: Arc<SubscriptionPlan>,
    speaking: Option<JoinHandle<()>>,
}

/// What was said since the feed was last told to speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedTotals {
    pub messages: u64,
    /// Those whose topic a client wants.
    pub wanted: u64,
    /// Deliveries of these, over all clients.
    pub owed: u64,
    /// How many clients there were.
    pub clients: usize,
    /// Messages by number of their topic.
    pub by_topic: Vec<u64>,
    /// Payload bytes of all messages.
    pub bytes: u64,
    /// Messages that no server was there for.
    pub unheard: u64,
}

#[derive(Default)]
struct FeedShared {
    line: Mutex<Option<TcpStream>>,
    order: Mutex<FeedCommand>,
    told: Condvar,
    said: Mutex<FeedTotals>,
    /// Whether the server has read the opening.
    opened: AtomicBool,
}

#[derive(Clone, Debug, Default)]
enum FeedCommand {
    #[default]
    Hush,
    Open,
    Speak(FeedPace),
    End,
}

/// What a stretch without a rate is paced by: the deliveries so far, and among how many clients.
#[derive(Clone, Debug)]
struct FeedPace {
    received: Arc<AtomicU64>,
    clients: usize,
    /// How many of them a message is for, on average.
    takers: f64,
}

struct Speaker {
    shared: Arc<FeedShared>,
    speech: Generator,
    wants: Arc<SubscriptionPlan>,
    rate: RateOption,
    clock: Clock,
    batch: Vec<u8>,
}

impl BenchFeed {
    /// Listens on a free loopback port.
    pub fn open(
        speech: Generator,
        wants: Arc<SubscriptionPlan>,
        rate: RateOption,
        clock: Clock,
    ) -> io::Result<BenchFeed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::<FeedShared>::default();
        let speaker = Speaker { shared: shared.clone(), speech, wants: wants.clone(), rate, clock, batch: Vec::new() };
        let speaking = std::thread::Builder::new().name("feed".into()).spawn(move || speaker.run())?;
        let accepting = shared.clone();
        std::thread::Builder::new().name("feed-accept".into()).spawn(move || let_in(&listener, &accepting))?;
        Ok(BenchFeed { address, shared, wants, speaking: Some(speaking) })
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// Whether a server is connected.
    pub fn is_heard(&self) -> bool {
        lock(&self.shared.line).is_some()
    }

    /// Says the opening to the server that is connected.
    pub fn open_market(&self) {
        self.tell(FeedCommand::Open);
    }

    /// Whether the server has read the opening.
    pub fn is_opened(&self) -> bool {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Speaks from now on; `received` counts the deliveries to all of `clients`.
    pub fn speak(&self, received: Arc<AtomicU64>, clients: usize) {
        *lock(&self.shared.said) = FeedTotals::of(self.wants.topics());
        self.tell(FeedCommand::Speak(FeedPace { received, clients, takers: self.wants.takers_mean(clients) }));
    }

    /// Deliveries that are owed to each client when so much was said.
    pub fn owed(&self, said: &FeedTotals) -> Vec<u64> {
        self.wants.owed(&said.by_topic, said.clients)
    }

    /// What was said so far.
    pub fn said(&self) -> FeedTotals {
        lock(&self.shared.said).clone()
    }

    /// Says nothing more; a batch that is being written is finished and counted before.
    pub fn hush(&self) -> FeedTotals {
        self.tell(FeedCommand::Hush);
        // The speaker holds `said` from before it looks at the order until the batch is counted.
        self.said()
    }

    fn tell(&self, order: FeedCommand) {
        *lock(&self.shared.order) = order;
        self.shared.told.notify_all();
    }
}

impl FeedTotals {
    /// Nothing, of so many topics.
    fn of(topics: usize) -> FeedTotals {
        FeedTotals { by_topic: vec![0; topics], ..FeedTotals::default() }
    }
}

impl Drop for BenchFeed {
    fn drop(&mut self) {
        self.tell(FeedCommand::End);
        // Opens the door once more, so that it sees the end.
        drop(TcpStream::connect(self.address));
        if let Some(speaking) = self.speaking.take() {
            // A panic of the thread has been printed.
            let _ = speaking.join();
        }
    }
}

impl Speaker {
    fn run(mut self) {
        loop {
            match self.wait() {
                FeedCommand::Open => self.open(),
                FeedCommand::Speak(pace) => self.stretch(&pace),
                FeedCommand::Hush | FeedCommand::End => return,
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> FeedCommand {
        let shared = &self.shared;
        let hushed = |order: &mut FeedCommand| matches!(order, FeedCommand::Hush);
        let order = shared.told.wait_while(lock(&shared.order), hushed).unwrap_or_else(PoisonError::into_inner);
        order.clone()
    }

    /// One message of each topic, and a ping: who answers it has read what was before.
    fn open(&mut self) {
        let mut said = FeedTotals::of(self.wants.topics());
        let mut left = self.speech.topics() as u64;
        while left > 0 && !matches!(&*lock(&self.shared.order), FeedCommand::End) {
            let messages = left.min(BATCH_MESSAGES_MAX);
            self.say(messages, 0, &mut said);
            left -= messages;
        }
        self.batch.clear();
        put_frame(&mut self.batch, Opcode::Ping, b"");
        self.write();
        let mut order = lock(&self.shared.order);
        if let FeedCommand::Open = &*order {
            *order = FeedCommand::Hush;
        }
    }

    fn stretch(&mut self, pace: &FeedPace) {
        let shared = self.shared.clone();
        let (started, mut skipped) = (Instant::now(), 0);
        while let Some(pause) = self.step(pace, started, &mut skipped) {
            let order = lock(&shared.order);
            if matches!(&*order, FeedCommand::Speak(_)) && !pause.is_zero() {
                // A word in between, or none at all, only makes the next step an early one.
                drop(shared.told.wait_timeout(order, pause));
            }
        }
    }

    /// Says what is due; answers how long to wait then, none when it is told to hush.
    fn step(&mut self, pace: &FeedPace, started: Instant, skipped: &mut u64) -> Option<Duration> {
        let shared = self.shared.clone();
        let mut said = lock(&shared.said);
        if !matches!(&*lock(&shared.order), FeedCommand::Speak(_)) {
            return None;
        }
        let due = match self.rate {
            RateOption::PerSecond(rate) => {
                let due = (started.elapsed().as_secs_f64() * rate) as u64;
                let arrears_max = (ARREARS_MAX.as_secs_f64() * rate) as u64 + 1;
                *skipped = (*skipped).max(due.saturating_sub(said.messages + arrears_max));
                due.saturating_sub(said.messages + *skipped)
            }
            RateOption::Max => {
                let under_way = said.owed.saturating_sub(pace.received.load(Ordering::Relaxed)) as f64;
                (AHEAD_MESSAGES as f64 - under_way / pace.takers.max(1.0)) as u64
            }
        };
        let messages = due.min(BATCH_MESSAGES_MAX);
        said.clients = pace.clients;
        self.say(messages, pace.clients, &mut said);
        Some(match self.rate {
            _ if messages < due => Duration::ZERO,
            RateOption::PerSecond(rate) => {
                let next = (said.messages + *skipped + 1) as f64 / rate;
                let next = Duration::try_from_secs_f64(next).unwrap_or(SILENCE_MAX).min(SILENCE_MAX);
                next.saturating_sub(started.elapsed())
            }
            RateOption::Max => GLANCE,
        })
    }

    fn say(&mut self, messages: u64, clients: usize, said: &mut FeedTotals) {
        self.batch.clear();
        for _ in 0..messages {
            let message = self.speech.next(&self.clock);
            said.bytes += message.text.len() as u64;
            let takers = self.wants.takers(message.number, clients);
            said.wanted += u64::from(takers > 0);
            said.owed += takers;
            said.by_topic[message.number] += 1;
            put_frame(&mut self.batch, Opcode::Text, &message.text);
        }
        said.messages += messages;
        if !self.write() {
            said.unheard += messages;
        }
    }

    /// Whether a server was there for the batch.
    fn write(&mut self) -> bool {
        let mut line = lock(&self.shared.line);
        let written = line.as_mut().is_some_and(|line| line.write_all(&self.batch).is_ok());
        if !written {
            *line = None;
        }
        written
    }
}

/// Lets servers in, one after the other; the newest is spoken to.
fn let_in(listener: &TcpListener, shared: &Arc<FeedShared>) {
    for socket in listener.incoming() {
        if matches!(&*lock(&shared.order), FeedCommand::End) {
            return;
        }
        let shared = shared.clone();
        let guest = std::thread::Builder::new().name("feed-guest".into());
        // Without a thread the server is turned away, and comes again.
        drop(socket.and_then(|socket| guest.spawn(move || listen(socket, &shared))));
    }
}

/// Shakes hands and answers pings until the server is gone.
fn listen(socket: TcpStream, shared: &FeedShared) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    socket.set_write_timeout(Some(WRITE_DEADLINE)).ok()?;
    let mut socket = tungstenite::accept(socket).ok()?.into_inner();
    *lock(&shared.line) = Some(socket.try_clone().ok()?);
    let (mut decoder, mut inflater) = (Decoder::new(MESSAGE_BYTES_MAX, false), Inflater::new());
    let mut piece = [0; 4096];
    loop {
        let bytes = socket.read(&mut piece).ok().filter(|bytes| *bytes > 0)?;
        decoder.push(&piece[..bytes]);
        while let Some(message) = decoder.next(&mut inflater).ok()? {
            if let Message::Pong = message {
                shared.opened.store(true, Ordering::Relaxed);
            }
            if let Message::Ping(payload) = message {
                let mut pong = Vec::new();
                put_frame(&mut pong, Opcode::Pong, &payload);
                // Not between the parts of a batch.
                let _line = lock(&shared.line);
                socket.write_all(&pong).ok()?;
            }
        }
    }
}

/// What a thread that panicked has left is numbers and sockets, as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::MarketSettings;

    #[test]
    fn all_that_is_said_is_heard_and_counted() {
        let clock = Clock::start();
        let speech = Generator::new(MarketSettings::default(), 0).expect("a market");
        let wants = Arc::new(SubscriptionPlan::each(MarketSettings::default(), 1).expect("a market"));
        let (clients, topics) = (3 * wants.topics(), wants.topics() as u64);
        let feed = BenchFeed::open(speech, wants, RateOption::Max, clock).expect("a free port");
        let (mut guest, _) = tungstenite::connect(feed.url()).expect("a handshake");
        while !feed.is_heard() {
            std::thread::yield_now();
        }
        feed.open_market();
        (0..topics).for_each(|_| assert!(guest.read().expect("a message").is_text()));
        assert!(guest.read().expect("a message").is_ping() && !feed.is_opened());
        guest.flush().expect("room for the pong");
        while !feed.is_opened() {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            feed.speak(Arc::default(), clients);
            while feed.said().messages < AHEAD_MESSAGES {
                guest.read().map(|message| assert!(message.is_text() || message.is_pong())).expect("a message");
                if feed.said().messages == AHEAD_MESSAGES {
                    break;
                }
            }
            let said = feed.hush();
            assert_eq!((said.messages, said.wanted, said.unheard), (AHEAD_MESSAGES, AHEAD_MESSAGES, 0));
            assert_eq!((said.owed, said.by_topic.iter().sum()), (3 * AHEAD_MESSAGES, AHEAD_MESSAGES));
            assert_eq!(feed.owed(&said).iter().sum::<u64>(), said.owed);
            assert_eq!(feed.hush(), said, "a feed that is hushed says nothing");
        }
        guest.send(tungstenite::Message::Ping("?".into())).expect("room");
        while !matches!(guest.read().expect("a message"), tungstenite::Message::Pong(payload) if payload == "?") {}
    }
}
