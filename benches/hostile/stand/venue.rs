//! The feed: a WebSocket server for the fanline under attack, with topics that move and topics that only have a value.
//!
//! | shared | written by | guarded by |
//! |---|---|---|
//! | `line` | the listener, for each new connection; the writer, when it breaks | its mutex, held for one write |
//! | `stretch` | the owner, to begin and to end one; the speaker, after each message | its mutex |
//! | `pongs`, `asked` | the listener | themselves |
//! | `end` | the owner, once | itself |

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanline::bench::timestamp;
use fanline::bus::clock::Clock;
use serde_json::Value;
use shared_deflate::deflate::Inflater;
use shared_deflate::frame::{Decoder, Message, Opcode, put_frame};
use tokio_tungstenite::tungstenite;

use super::{LISTS, LIVE_TOPICS};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_micros(500);
const BATCH_MESSAGES_MAX: u64 = 64;
const GLANCE: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(30);
/// A server's own messages to a feed are small.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Brings a message to about 160 bytes.
const PAD: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklm";

/// The feed. It ends when it is dropped.
pub struct Venue {
    address: SocketAddr,
    shared: Arc<Shared>,
    speaking: Option<JoinHandle<()>>,
}

/// Messages of one stretch, by the list of honest clients that they are for.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub by_list: [u64; LISTS],
}

#[derive(Default)]
struct Shared {
    line: Mutex<Option<TcpStream>>,
    stretch: Mutex<Stretch>,
    /// Answers to pings: who has answered has read what was before.
    pongs: AtomicU64,
    /// Bytes of what the server has asked for.
    asked: AtomicU64,
    end: AtomicBool,
}

#[derive(Default)]
struct Stretch {
    /// When it began, here and on the clock of the marks; none while the feed is hushed.
    begun: Option<(Instant, u64)>,
    messages: u64,
    said: Said,
}

impl Venue {
    /// Listens on a free loopback port.
    pub fn open(rate: u64, clock: Clock) -> io::Result<Venue> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, shared) = (listener.local_addr()?, Arc::<Shared>::default());
        let door = shared.clone();
        std::thread::Builder::new().name("venue-door".into()).spawn(move || let_in(&listener, &door))?;
        let speaker = shared.clone();
        let speaking = std::thread::Builder::new().name("venue".into()).spawn(move || speak(&speaker, rate, clock))?;
        Ok(Venue { address, shared, speaking: Some(speaking) })
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// Waits for the server, and says one message of each topic; so many only have this value.
    pub fn introduce(&self, still_topics: usize) -> io::Result<()> {
        self.wait("the server to connect to the feed", || lock(&self.shared.line).is_some())?;
        let live = (0..LIVE_TOPICS).map(live_topic);
        self.announce(live.chain((0..still_topics).map(|number| format!("still.{number}"))));
        self.wait("the server to read the feed's opening", || self.shared.pongs.load(Ordering::Relaxed) > 0)
    }

    /// A message of each of these topics, at once, and a ping behind them.
    pub fn announce(&self, topics: impl Iterator<Item = String>) {
        let mut batch = Vec::new();
        topics.for_each(|topic| put_message(&mut batch, &topic, (0, 0)));
        put_frame(&mut batch, Opcode::Ping, b"");
        self.shared.write(&batch);
    }

    /// One message of so many bytes, and a few more.
    pub fn say_large(&self, topic: &str, bytes: usize) {
        let text = format!(r#"{{"topic":"{topic}","text":"{}"}}"#, "x".repeat(bytes));
        let mut batch = Vec::new();
        put_frame(&mut batch, Opcode::Text, text.as_bytes());
        self.shared.write(&batch);
    }

    /// Speaks from now on.
    pub fn speak(&self) {
        let begun = Some((Instant::now(), 0));
        *lock(&self.shared.stretch) = Stretch { begun, ..Stretch::default() };
    }

    /// Says nothing more; answers what was said.
    pub fn hush(&self) -> Said {
        let mut stretch = lock(&self.shared.stretch);
        stretch.begun = None;
        stretch.said.clone()
    }

    /// Bytes of what the server has asked for so far.
    pub fn asked_bytes(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> io::Result<()> {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > DEADLINE {
                return Err(io::Error::other(format!("expected {what} within {DEADLINE:?}, found that it has not")));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }
}

impl Drop for Venue {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        // Opens the door once more, so that it sees the end.
        drop(TcpStream::connect(self.address));
        if let Some(speaking) = self.speaking.take() {
            // A panic of the thread has been printed.
            let _ = speaking.join();
        }
    }
}

impl Shared {
    fn write(&self, bytes: &[u8]) {
        let mut line = lock(&self.line);
        if line.as_mut().is_some_and(|line| line.write_all(bytes).is_err()) {
            *line = None;
        }
    }
}

/// The name of a topic that moves.
pub fn live_topic(number: usize) -> String {
    format!("live.{number}")
}

fn put_message(batch: &mut Vec<u8>, topic: &str, (number, due_ns): (u64, u64)) {
    let mut text = format!(r#"{{"topic":"{topic}","n":{number},"pad":"{PAD}"}}"#).into_bytes();
    timestamp::put(&mut text, due_ns);
    put_frame(batch, Opcode::Text, &text);
}

/// Message number n of a stretch is of topic n, round and round, and is for the list of n.
fn speak(shared: &Shared, rate: u64, clock: Clock) {
    let mut batch = Vec::new();
    while !shared.end.load(Ordering::Relaxed) {
        let mut stretch = lock(&shared.stretch);
        if let Some((begun, begun_ns)) = &mut stretch.begun {
            if *begun_ns == 0 {
                *begun_ns = clock.now().mono_ns.saturating_sub(begun.elapsed().as_nanos() as u64).max(1);
            }
            let (begun_ns, due) = (*begun_ns, (begun.elapsed().as_secs_f64() * rate as f64) as u64);
            batch.clear();
            let last = due.min(stretch.messages + BATCH_MESSAGES_MAX);
            for number in stretch.messages..last {
                // From when it was due, not from when the line took it: a line that is held up is a wait too.
                let due_ns = begun_ns + number * 1_000_000_000 / rate;
                put_message(&mut batch, &live_topic(number as usize % LIVE_TOPICS), (number, due_ns));
                stretch.said.by_list[number as usize % LISTS] += 1;
            }
            stretch.messages = last;
            shared.write(&batch);
        }
        drop(stretch);
        std::thread::sleep(TICK);
    }
}

fn let_in(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.end.load(Ordering::Relaxed) {
            return;
        }
        let shared = shared.clone();
        let guest = std::thread::Builder::new().name("venue-guest".into());
        // Without a thread the server is turned away, and comes again.
        drop(socket.and_then(|socket| guest.spawn(move || listen(socket, &shared))));
    }
}

/// Shakes hands, answers pings and requests, until the server is gone.
fn listen(socket: TcpStream, shared: &Shared) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut socket = tungstenite::accept(socket).ok()?.into_inner();
    *lock(&shared.line) = Some(socket.try_clone().ok()?);
    let (mut decoder, mut inflater) = (Decoder::new(MESSAGE_BYTES_MAX, false), Inflater::new());
    let mut piece = [0; 64 << 10];
    loop {
        let bytes = socket.read(&mut piece).ok().filter(|bytes| *bytes > 0)?;
        decoder.push(&piece[..bytes]);
        let mut answers = Vec::new();
        while let Some(message) = decoder.next(&mut inflater).ok()? {
            match message {
                Message::Pong => drop(shared.pongs.fetch_add(1, Ordering::Relaxed)),
                Message::Ping(payload) => put_frame(&mut answers, Opcode::Pong, &payload),
                Message::Text(text) => {
                    shared.asked.fetch_add(text.len() as u64, Ordering::Relaxed);
                    put_frame(&mut answers, Opcode::Text, answer(&text)?.as_bytes());
                }
                Message::Binary(_) | Message::Close(_) => {}
            }
        }
        shared.write(&answers);
    }
}

/// Of what `attack::ASKED` lets the server ask for: topics that move are granted, others are refused.
fn answer(text: &str) -> Option<String> {
    let request: Value = serde_json::from_str(text).ok()?;
    let key = if request["open"].as_str()?.starts_with("live.") { "granted" } else { "denied" };
    Some(format!(r#"{{"{key}":"{key}","ref":{}}}"#, request["ref"]))
}

/// What a thread that panicked has left is numbers and sockets, as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
