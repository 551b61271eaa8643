//! A shard driven by one seed, without sockets, clock or threads: clients join, change their subscriptions, stall, take
//! a few bytes, vanish, while frames are published and the ring overruns. What each client received is then compared
//! with what was published.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::bus::history::History;
use crate::bus::keeping::Keeping;
use crate::bus::publisher::Publisher;
use crate::bus::{self, Limits};
use crate::delivery::asking::Mailbox;
use crate::delivery::door::Ends;
use crate::delivery::lane::SessionId;
use crate::delivery::meters::ShardMeters;
use crate::delivery::newcomer::Terms;
use crate::delivery::session::Socket;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::delivery::window::WindowSettings;
use crate::wire::command::Policy;
use crate::wire::encode::{Payload, PayloadKind};
use crate::wire::negotiate::Agreement;
use crate::words::ids::{Cursor, Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

const TOPICS: [&str; 6] = ["a.x", "a.y", "b.x", "b.y.z", "c", "d.q"];
const PATTERNS: [&str; 8] = ["a.x", "a.*", "*.x", "b.>", ">", "c", "d.*", "e.*"];

/// Both ends of a client's connection.
#[derive(Default)]
pub(super) struct Pipe {
    pub to_server: VecDeque<u8>,
    pub to_client: Vec<u8>,
    /// Bytes the client's socket still takes.
    pub room: usize,
    pub broken: bool,
}

#[derive(Clone)]
pub(super) struct FakeSocket(pub Rc<RefCell<Pipe>>);

impl Read for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.broken {
            return Ok(0);
        }
        if pipe.to_server.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.to_server.read(buffer)
    }
}

impl Write for FakeSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let taken = bytes.len().min(pipe.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.room -= taken;
        pipe.to_client.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for FakeSocket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a client knows and expects.
struct Client {
    id: SessionId,
    pipe: Rc<RefCell<Pipe>>,
    paced: bool,
    deflate: Option<Agreement>,
    /// As any client would inflate: the window is as agreed, and kept unless it was agreed otherwise.
    inflater: Decompress,
    /// Patterns in force, as the server has confirmed them, and since which offset.
    patterns: BTreeMap<String, u64>,
    /// Per topic the offsets received, in the order of arrival.
    seen: HashMap<String, Vec<u64>>,
    /// Ranges that the server said it skipped.
    skipped: Vec<(u64, u64)>,
    /// Whether a command awaits its answer.
    asked: bool,
    /// Where to resume, kept as docs/PROTOCOL.md says; none while that is unknown.
    cursor: Option<u64>,
    has_subscribed: bool,
    /// Offset of the last `subscribed`, if it was not the connection's first.
    added_at: u64,
}

struct World {
    rng: StdRng,
    now: Stamp,
    publisher: Publisher,
    shard: Shard<FakeSocket>,
    clients: Vec<Client>,
    /// Topic of offset 1, 2, …
    published: Vec<&'static str>,
    epoch: Epoch,
}

impl World {
    fn new(seed: u64, history: History) -> World {
        let limits = Limits { ring_frames_max: 32, ring_bytes_max: 1 << 20, topics_max: 100 };
        let epoch = Epoch(seed);
        let (publisher, reader) = bus::open_with_history(epoch, limits, history, &Meters::unread());
        let settings = Settings {
            shards: 1,
            patterns_max: 20,
            wildcards_max: 20,
            lanes_max: 100,
            message_bytes_max: 1024,
            messages_per_second_max: 1000,
            asks_per_second_max: 1000,
            heartbeat_interval: Duration::from_secs(5),
            ping_interval: Duration::from_secs(3600),
            ping_timeout: Duration::from_secs(3600),
            replay_max: Duration::from_millis(500),
            write_deadline: Duration::from_secs(3600),
            unsent_bytes_max: 0,
            compression_level: 1,
            window: WindowSettings { windows_max: 3, members_min: 2, cut_frames_max: 40, cut_frames_min: 10 },
        };
        let meters = ShardMeters::new(&Meters::unread(), 0);
        let ends = (Ends::reading(reader), Arc::new(|_| {}) as Mailbox);
        let mut shard = Shard::new(settings, ends, Arc::new(AtomicUsize::new(1 << 30)), meters);
        // So few that most lanes are matched in several turns.
        shard.matches_per_turn = 5;
        let now = Stamp { wall_ms: 1, mono_ns: 1 };
        World {
            rng: StdRng::seed_from_u64(seed),
            now,
            publisher,
            shard,
            clients: Vec::new(),
            published: Vec::new(),
            epoch,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.random_range(1..20) {
            let topic = self.pick(&TOPICS);
            self.publish_on(topic);
        }
    }

    fn publish_on(&mut self, topic: &'static str) {
        let filler = "x".repeat(self.rng.random_range(0..60));
        let text = format!("{{\"n\":{},\"f\":\"{filler}\"}}", self.published.len() + 1);
        let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
        self.publisher.publish(topic, payload, Keeping::NEWEST, self.now).expect("a good topic");
        self.published.push(topic);
    }

    fn join(&mut self) {
        let every = self.rng.random_bool(0.2).then_some(Duration::from_millis(50));
        let patterns = match self.rng.random_bool(0.5) {
            true => vec![Pattern::parse(self.pick(&PATTERNS)).expect("a pattern")],
            false => Vec::new(),
        };
        let policy = self.pick(&[Policy::Conflate, Policy::Lossless]);
        let kinds = [(false, None), (true, None), (false, Some(9)), (false, None), (false, None)];
        let (server_no_context_takeover, server_max_window_bits) = self.pick(&kinds);
        let agreement = Agreement { server_no_context_takeover, server_max_window_bits };
        let deflate = self.rng.random_bool(0.8).then_some(agreement);
        self.adopt(Terms { deflate, every, patterns, policy, ..Terms::default() });
    }

    fn adopt(&mut self, terms: Terms) {
        let pipe = Rc::new(RefCell::new(Pipe { room: self.rng.random_range(0..5000), ..Pipe::default() }));
        let (paced, deflate, asked) = (terms.every.is_some(), terms.deflate, !terms.patterns.is_empty());
        let id = self.shard.adopt(FakeSocket(pipe.clone()), b"", terms, self.now);
        let client = Client {
            id,
            pipe,
            paced,
            deflate,
            inflater: stock_inflater(deflate),
            patterns: BTreeMap::new(),
            seen: HashMap::new(),
            skipped: Vec::new(),
            asked,
            cursor: Some(0),
            has_subscribed: false,
            added_at: 0,
        };
        self.clients.push(client);
    }

    fn ask(&mut self) {
        let Some(at) = self.any_client() else { return };
        if self.clients[at].asked {
            return;
        }
        let pattern = self.pick(&PATTERNS);
        let op = self.pick(&["subscribe", "subscribe", "unsubscribe"]);
        let every = if self.clients[at].paced { ",\"every_ms\":50" } else { "" };
        let every = if op == "subscribe" { every } else { "" };
        let text = format!("{{\"op\":\"{op}\",\"topics\":[\"{pattern}\"]{every}}}");
        let client = &mut self.clients[at];
        client.asked = true;
        let mut pipe = client.pipe.borrow_mut();
        pipe.to_server.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        pipe.to_server.extend(text.bytes());
        drop(pipe);
        self.shard.ready(self.clients[at].id, true, self.now);
    }

    fn any_client(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.rng.random_range(0..self.clients.len()))
    }

    fn give_room(&mut self) {
        if let Some(at) = self.any_client() {
            self.clients[at].pipe.borrow_mut().room += self.rng.random_range(0..3000);
            self.shard.ready(self.clients[at].id, false, self.now);
        }
    }

    fn vanish(&mut self) {
        if let Some(at) = self.any_client().filter(|_| self.clients.len() > 3) {
            let client = self.clients.swap_remove(at);
            client.pipe.borrow_mut().broken = true;
            self.shard.ready(client.id, true, self.now);
        }
    }

    /// A client loses its connection and resumes on a new one.
    fn resume(&mut self) {
        let Some(at) = self.any_client() else { return };
        let client = &mut self.clients[at];
        let Some(cursor) = client.cursor.filter(|_| !client.asked && !client.patterns.is_empty() && !client.paced)
        else {
            return;
        };
        client.pipe.borrow_mut().broken = true;
        self.shard.ready(client.id, true, self.now);
        client.pipe = Rc::new(RefCell::new(Pipe { room: 2000, ..Pipe::default() }));
        client.inflater = stock_inflater(client.deflate);
        client.asked = true;
        let terms = Terms {
            patterns: client.patterns.keys().map(|text| Pattern::parse(text).expect("a pattern")).collect(),
            deflate: client.deflate,
            since: Some(Cursor { epoch: self.epoch, offset: Offset(cursor) }),
            ..Terms::default()
        };
        client.id = self.shard.adopt(FakeSocket(client.pipe.clone()), b"", terms, self.now);
    }

    fn step(&mut self) {
        let passed_ms = self.rng.random_range(0..40);
        self.now.mono_ns += passed_ms * 1_000_000;
        self.now.wall_ms += passed_ms;
        match self.rng.random_range(0..100) {
            0..=24 => self.publish(),
            25..=29 => self.join(),
            30..=39 => self.ask(),
            40..=59 => self.give_room(),
            60 => self.vanish(),
            61 => self.resume(),
            62..=84 => self.shard.round(self.now),
            85..=94 => self.shard.run_queue(self.now),
            _ => self.shard.tick(self.now),
        }
        for client in &mut self.clients {
            client.receive();
        }
    }

    /// Lets everything be delivered: nobody publishes, everyone reads.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.now.mono_ns += 20_000_000;
            for client in &self.clients {
                client.pipe.borrow_mut().room = 1 << 20;
                self.shard.ready(client.id, true, self.now);
            }
            self.shard.round(self.now);
            self.shard.run_queue(self.now);
            self.clients.iter_mut().for_each(Client::receive);
        }
        assert!(!self.shard.has_work(), "a shard at rest has nothing to do");
    }

    fn check(&self) {
        for client in &self.clients {
            assert!(!client.asked, "every command is answered");
            for topic in TOPICS {
                self.check_topic(client, topic);
            }
        }
    }

    fn check_topic(&self, client: &Client, topic: &str) {
        let seen = client.seen.get(topic).map(Vec::as_slice).unwrap_or_default();
        let matching = client.patterns.iter().filter(|(pattern, _)| matches(pattern, topic));
        let Some(since) = matching.map(|(_, since)| *since).min() else { return };
        let offsets = (1..).zip(&self.published).filter(|(_, name)| **name == topic).map(|(offset, _)| offset);
        let offsets: Vec<u64> = offsets.collect();
        assert_eq!(seen.last(), offsets.last(), "the newest of {topic} has arrived");
        if client.paced {
            return;
        }
        for offset in offsets.into_iter().filter(|offset| *offset > since) {
            let told = client.skipped.iter().any(|(from, to)| (*from..=*to).contains(&offset));
            assert!(told || seen.contains(&offset), "{topic} {offset} was neither sent nor said to be skipped");
        }
    }
}

impl Client {
    /// Decodes what has arrived, as any WebSocket client would.
    fn receive(&mut self) {
        let bytes = std::mem::take(&mut self.pipe.borrow_mut().to_client);
        let mut rest = bytes.as_slice();
        while let Some((first, payload, tail)) = split_frame(rest) {
            rest = tail;
            if first & 0x0F == 0x1 {
                let inflated = if first & 0x40 != 0 { self.inflate(payload) } else { payload.to_vec() };
                self.hear(&serde_json::from_slice(&inflated).expect("JSON"));
            }
        }
        let kept = rest.to_vec();
        self.pipe.borrow_mut().to_client = kept;
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.deflate.expect("compression was agreed on").server_no_context_takeover {
            self.inflater.reset(false);
        }
        let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
        let mut text = Vec::with_capacity(4096);
        self.inflater.decompress_vec(&whole, &mut text, FlushDecompress::Sync).expect("the server's deflate");
        text
    }

    fn hear(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().expect("a number");
        match message["op"].as_str() {
            None => {
                let (topic, offset) = (message["topic"].as_str().expect("a topic"), number("offset"));
                assert_eq!(message["data"]["n"].as_u64(), Some(offset), "a frame carries its own payload");
                assert!(self.asked || self.patterns.keys().any(|pattern| matches(pattern, topic)), "{topic} is wanted");
                let seen = self.seen.entry(topic.to_string()).or_default();
                assert!(seen.last().is_none_or(|last| *last < offset), "{topic} {offset} comes after {seen:?}");
                seen.push(offset);
                self.move_cursor(offset, self.added_at + 1);
            }
            Some("subscribed" | "unsubscribed") => {
                self.asked = false;
                let offset = number("offset");
                let topics = message["topics"].as_array().expect("topics");
                let topics: Vec<&str> = topics.iter().filter_map(Value::as_str).collect();
                if self.has_subscribed && !topics.iter().all(|topic| self.patterns.contains_key(*topic)) {
                    (self.cursor, self.added_at) = (None, offset);
                }
                self.has_subscribed = true;
                self.patterns.retain(|pattern, _| topics.contains(&pattern.as_str()));
                for topic in topics {
                    self.patterns.entry(topic.to_string()).or_insert(offset);
                }
                // What was left and comes back starts over.
                let patterns = &self.patterns;
                self.seen.retain(|topic, _| patterns.keys().any(|pattern| matches(pattern, topic)));
            }
            Some("error") => self.asked = false,
            Some("heartbeat") => self.move_cursor(number("offset"), self.added_at),
            Some("skipped") => self.skipped.push((number("from"), number("to"))),
            Some(_) => {}
        }
    }
}

impl Client {
    /// After a further subscription an offset is a cursor only from `valid_from` on.
    fn move_cursor(&mut self, offset: u64, valid_from: u64) {
        if offset >= valid_from || self.cursor.is_some() {
            self.cursor = self.cursor.max(Some(offset));
        }
    }
}

fn stock_inflater(deflate: Option<Agreement>) -> Decompress {
    Decompress::new_with_window_bits(false, deflate.map_or(15, Agreement::window_bits))
}

fn matches(pattern: &str, topic: &str) -> bool {
    Pattern::parse(pattern).expect("a pattern").matches(topic)
}

/// The first byte, the payload, and what follows the first WireFrame of `bytes`, if it is whole.
pub(super) fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, header) = match *bytes.get(1)? {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(header..header + length)?;
    Some((bytes[0], payload, &bytes[header + length..]))
}

#[test]
fn every_client_gets_its_topics_in_order_without_silent_gap_or_repeat() {
    let seeds = std::env::var("FANLINE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let run = || {
            let mut world = World::new(seed, History::default());
            for _ in 0..1500 {
                world.step();
            }
            world.settle();
            world.check();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("the simulation failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_newcomer_gets_the_last_messages_of_a_topic_that_keeps_them() {
    let history = History::parse(&["c=3".to_string()]).expect("a good entry");
    let mut world = World::new(1, history);
    for topic in ["c", "a.x", "c", "c", "a.x", "c", "d.q"] {
        world.publish_on(topic);
    }
    world.settle();
    let patterns = ["c", "a.*"].map(|text| Pattern::parse(text).expect("a pattern")).to_vec();
    world.adopt(Terms { patterns, ..Terms::default() });
    world.settle();
    let seen = &world.clients[0].seen;
    assert_eq!(seen.get("c").map(Vec::as_slice), Some(&[3, 4, 6][..]));
    assert_eq!(seen.get("a.x").map(Vec::as_slice), Some(&[5][..]));
    assert_eq!(seen.len(), 2);
}

#[test]
fn who_reads_again_after_a_long_stall_has_time_to_answer_a_ping() {
    let mut world = World::new(1, History::default());
    world.shard.settings.ping_interval = Duration::from_secs(1);
    world.shard.settings.ping_timeout = Duration::from_secs(5);
    world.adopt(Terms { patterns: vec![Pattern::parse(">").expect("a pattern")], ..Terms::default() });
    world.settle();
    let id = world.clients[0].id;
    let wait = |world: &mut World, seconds: u64| {
        for _ in 0..10 * seconds {
            world.now.mono_ns += 100_000_000;
            world.shard.tick(world.now);
            world.shard.run_queue(world.now);
        }
    };
    wait(&mut world, 3);
    assert!(world.clients[0].pipe.borrow().to_client.ends_with(&[0x89, 0]), "it was pinged");
    world.clients[0].pipe.borrow_mut().room = 0;
    world.publish();
    world.shard.round(world.now);
    wait(&mut world, 60);
    world.clients[0].pipe.borrow_mut().room = 1 << 20;
    world.shard.ready(id, false, world.now);
    wait(&mut world, 4);
    let closed =
        |world: &World| world.clients[0].pipe.borrow().to_client.windows(2).any(|two| two == 4408u16.to_be_bytes());
    assert!(!closed(&world), "its pong may be on its way");
    wait(&mut world, 4);
    assert!(closed(&world), "it was silent for all of `ping.timeout`");
}
