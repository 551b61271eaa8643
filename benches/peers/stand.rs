//! A server under load: its clients, and stretches of messages that are accounted for to the last delivery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanline::bench::client::{AgeSource, MessageFields};
use fanline::bench::client_pool::ClientPool;
use fanline::bench::generator::{GeneratedMessage, Generator};
use fanline::bench::subscription_plan::SubscriptionPlan;
use fanline::bench::tally::Latency;
use fanline::bus::clock::Clock;
use fanline::settings::table::MarketSettings;

use super::servers::{Peer, Server, Wish, free_port};

/// As fast as clients take it: messages that the publisher may be ahead of the average client, and messages in a write.
const AHEAD_MESSAGES: f64 = 500.0;
const BATCH_MESSAGES: usize = 16;
/// A server that lost messages never catches up; after this time without progress it is not waited for.
const STALL: Duration = Duration::from_millis(250);
/// Nothing is published to a server that holds more, until it holds less.
const RESIDENT_BYTES_MAX: u64 = 2 << 30;
const RESIDENT_GLANCE: Duration = Duration::from_millis(100);
const GLANCE: Duration = Duration::from_millis(1);
const CONNECTED: Duration = Duration::from_millis(500);
/// Clients that miss something, and receive nothing for this time, have all they will get.
const STILL: Duration = Duration::from_secs(2);
/// What has not arrived by then is lost.
const DRAIN_DEADLINE: Duration = Duration::from_secs(8);
/// This many clients connect before memory is measured, so that a program's own start is not in it.
const EARLY: usize = 10;
/// Head of a WireFrame with 126 to 65,535 bytes (RFC 6455 section 5.2).
const HEAD_BYTES: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    PerSecond(f64),
    /// As fast as clients take it.
    Max,
}

/// What a stretch of messages has cost.
pub struct Stretch {
    pub deliveries: f64,
    pub bytes: f64,
    pub seconds: f64,
    pub cpu_us: f64,
    pub p99_ms: f64,
    /// Of all deliveries that were due.
    pub lost: f64,
}

/// What clients receive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Audience {
    /// Every client every message.
    All,
    /// Every client a list of its own, this many of the topics of a market with so many symbols.
    Lists { each: usize, symbols: usize },
}

/// A server and its clients.
pub struct Stand {
    server: Server,
    pool: ClientPool,
    received: Arc<AtomicU64>,
    clock: Clock,
    generator: Generator,
    deflate: bool,
    packed: Option<fn(usize, usize) -> usize>,
    /// Number of clients of each topic of the market, and of bytes of its name to the server.
    topics: Vec<(f64, usize)>,
    resident_bytes_early: u64,
}

/// What was published in a stretch.
#[derive(Default)]
struct Said {
    messages: f64,
    /// Their deliveries.
    due: f64,
    /// Bytes of these in clients' streams, of a server that packs messages.
    packed_bytes: f64,
}

impl Stand {
    /// None if the server does not start, knows no topics but lists are wanted, or turns clients away.
    pub fn open(peer: &Peer, target: &Path, clients: usize, audience: Audience, deflate: bool) -> Option<Stand> {
        let (market, subscriptions) = match audience {
            Audience::All => (MarketSettings::default(), None),
            Audience::Lists { each, symbols } => {
                let market = MarketSettings { symbols, ..MarketSettings::default() };
                (market, Some((peer.subscribe?, SubscriptionPlan::own(market, each).ok()?)))
            }
        };
        let folder = folder(target);
        let (port, back_port) = (free_port(), free_port());
        let wish = Wish {
            deflate,
            folder: &folder,
            peers: &target.join("peers"),
            port,
            back_port,
            lists: subscriptions.is_some(),
        };
        let mut server = (peer.start)(&wish)?;
        let clock = Clock::start();
        let reading = MessageFields { notices: false, dense: false, sequenced: false, age: AgeSource::Timestamp };
        let mut pool = ClientPool::start(reading, deflate, None, clock).ok()?;
        let mut resident_bytes_early = 0;
        for index in 0..clients {
            if index == clients / EARLY {
                std::thread::sleep(CONNECTED);
                resident_bytes_early = server.processes.usage().resident_bytes;
            }
            if let Some((subscribe, subscriptions)) = &subscriptions {
                subscribe(&mut server.target, &subscriptions.names(index)?);
            }
            match server.target.dial(index) {
                Ok(upgraded) => pool.join(upgraded),
                Err(error) => {
                    eprintln!("{}: client {index}: {error}", peer.name);
                    return None;
                }
            }
        }
        std::thread::sleep(CONNECTED);
        let generator = Generator::new(market, 0).ok()?;
        let topics = match &subscriptions {
            // All messages go to one topic.
            None => vec![(clients as f64, 1); generator.topics()],
            Some((_, subscriptions)) => {
                let subscribers = subscriptions.subscribers(clients).into_iter().map(|subscribers| subscribers as f64);
                subscribers.enumerate().map(|(at, clients)| (clients, subscriptions.name(at).len())).collect()
            }
        };
        let (received, packed) = (pool.received(), peer.packed);
        Some(Stand { server, pool, received, clock, generator, deflate, packed, topics, resident_bytes_early })
    }

    /// Memory that all processes hold more than with a tenth of the clients, by client.
    pub fn kib_per_connection(&self) -> f64 {
        let clients = self.pool.clients() - self.pool.clients() / EARLY;
        let grown = self.server.processes.usage().resident_bytes.saturating_sub(self.resident_bytes_early);
        grown as f64 / 1024.0 / clients as f64
    }

    /// Publishes for `span`, and waits until everything has arrived. None if the server takes no more.
    pub fn stretch(&mut self, span: Duration, pace: Pace) -> Option<Stretch> {
        self.pool.restart();
        let (started, before) = (Instant::now(), self.server.processes.usage());
        let said = match pace {
            Pace::PerSecond(rate) => self.say_evenly(span, rate)?,
            Pace::Max => self.say_ahead(span)?,
        };
        let end = self.settle(&said);
        let after = self.server.processes.usage();
        let look = self.pool.totals(Vec::new());
        let due = said.due;
        let deliveries = match self.packed {
            // nats-server loses messages only with their connection; compressed, they cannot be told apart.
            Some(_) if self.deflate && look.ended == 0 => due,
            _ => self.deliveries(&said),
        };
        Some(Stretch {
            deliveries,
            bytes: look.tally.bytes as f64,
            seconds: (end - started).as_secs_f64(),
            cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / deliveries.max(1.0),
            p99_ms: Latency::of(&look.tally.ages).map_or(f64::NAN, |latency| latency.p99_us / 1000.0),
            lost: (due - deliveries).round().max(0.0) / due.max(1.0),
        })
    }

    fn say(&mut self, messages: usize, said: &mut Said) -> Option<()> {
        let mut texts = Vec::with_capacity(messages);
        for _ in 0..messages {
            let GeneratedMessage { text, number } = self.generator.next(&self.clock);
            let (clients, topic_bytes) = self.topics[number];
            said.due += clients;
            said.packed_bytes += self.packed.map_or(0.0, |packed| packed(topic_bytes, text.len()) as f64 * clients);
            texts.push(text);
        }
        said.messages += messages as f64;
        self.server.publisher.publish(&texts).ok()
    }

    fn say_evenly(&mut self, span: Duration, rate: f64) -> Option<Said> {
        let (started, mut said) = (Instant::now(), Said::default());
        while said.messages < (span.as_secs_f64() * rate).round() {
            let due = Duration::from_secs_f64(said.messages / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            self.say(1, &mut said)?;
        }
        Some(said)
    }

    fn say_ahead(&mut self, span: Duration) -> Option<Said> {
        let (started, mut said) = (Instant::now(), Said::default());
        let (mut taken, mut since, mut given_up) = (0.0, started, 0.0);
        let (mut looked, mut weighed, mut is_heavy) = (started, started, false);
        while started.elapsed() < span {
            if looked.elapsed() >= GLANCE {
                looked = Instant::now();
                let average = self.deliveries(&said) / self.pool.clients() as f64;
                if average > taken {
                    (taken, since) = (average, looked);
                } else if since.elapsed() > STALL {
                    (given_up, since) = (said.messages - average, looked);
                }
            }
            if weighed.elapsed() >= RESIDENT_GLANCE {
                is_heavy = self.server.processes.usage().resident_bytes > RESIDENT_BYTES_MAX;
                weighed = Instant::now();
            }
            if said.messages - taken - given_up < AHEAD_MESSAGES && !is_heavy {
                self.say(BATCH_MESSAGES, &mut said)?;
            } else {
                std::thread::sleep(GLANCE);
            }
        }
        Some(said)
    }

    /// WireFrames; of a server that packs messages, what their payloads amount to.
    fn deliveries(&self, said: &Said) -> f64 {
        if self.packed.is_none() || self.deflate {
            return self.received.load(Ordering::Relaxed) as f64;
        }
        let tally = self.pool.totals(Vec::new()).tally;
        let bytes = tally.bytes as f64 - HEAD_BYTES * tally.deliveries as f64;
        (bytes * said.due / said.packed_bytes.max(1.0)).round()
    }

    /// Waits until everything has arrived, or nothing more arrives; returns when the last delivery arrived.
    fn settle(&self, said: &Said) -> Instant {
        let started = Instant::now();
        let (mut seen, mut since) = (f64::NAN, started);
        while since.elapsed() < STILL && started.elapsed() < DRAIN_DEADLINE {
            let deliveries = self.deliveries(said);
            if seen != deliveries {
                (seen, since) = (deliveries, Instant::now());
            }
            if deliveries >= said.due {
                break;
            }
            std::thread::sleep(GLANCE);
        }
        since
    }
}

/// A new empty folder for one server.
fn folder(target: &Path) -> PathBuf {
    let folder = target.join("bench").join(format!("peer-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}
