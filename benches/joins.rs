//! The cost of subscriptions for the shard and the other clients: joining everything, one wildcard more, a burst of new
//! topics.
//!
//! `cargo bench --bench joins -- [TOPICS] [JOINS]`, by default 100,000 and 50. A row with joins at the rate of a thousand
//! a minute has 60 ms of wall time each if the shard keeps up. One shard in this process, and a feed of
//! 1000 messages per second on existing topics. Meanwhile clients without a subscription send `ping`, one of them every
//! 2 ms: the wait for the answer shows how long the shard was away. CPU is that of the shard's thread alone, without
//! the cost of the feed. On a machine with other work the greatest wait is the machine's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::bus::clock::Clock;
use fanline::bus::publisher::Publisher;
use fanline::bus::retention::Retention;
use fanline::bus::{self, Limits};
use fanline::delivery::bus_handles::BusHandles;
use fanline::delivery::handoff::{Handoff, SessionOptions};
use fanline::delivery::settings::Settings;
use fanline::delivery::shards::{Delivery, ShardThreads};
use fanline::protocol::encoding::{Payload, PayloadKind};
use fanline::settings::table::{ServerLimits, Slow};
use fanline::words::ids::Epoch;
use fanline::words::metrics::Meters;
use fanline::words::topic::Pattern;

const MESSAGE_BYTES: usize = 160;
const FEED_PAUSE: Duration = Duration::from_millis(1);
/// Between two pings of one client: 20 messages per second, far below the hundred that a client may send.
const PING_PAUSE: Duration = Duration::from_millis(50);
const PROBERS: u32 = 24;
/// Limit for one step.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two joins at the rate of a thousand a minute.
const JOIN_PAUSE: Duration = Duration::from_millis(60);
const PING: &str = r#"{"op":"ping"}"#;
const PONG: &str = r#""op":"pong""#;
const WILDCARDS: usize = 99;
const NAMES: usize = 900;
const BURST_CLIENTS: usize = 300;
const BURST_TOPICS: usize = 2000;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (topics, joins) = (*numbers.first().unwrap_or(&100_000), *numbers.get(1).unwrap_or(&50));
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    println!("{:<58}{:>12}{:>12}{:>14}", "", "CPU ms", "wall ms", "waits max ms");
    let scene = Scene::open(topics);
    scene.print(&format!("nobody joins, {topics} topics"), 1, |_| std::thread::sleep(Duration::from_secs(2)));
    scene.print(&format!("join `>`, {joins} one after another: each"), joins, |scene| {
        (0..joins).for_each(|_| scene.join_everything(1));
    });
    scene.print("join `>`, 20 at once: each", 20, |scene| scene.join_everything(20));
    scene.print(&format!("join `>`, {joins} of a thousand a minute: each"), joins, |scene| scene.join_in_turn(joins));
    scene.toggle();
    drop(scene);
    for topics in [1000, 3200, topics] {
        let scene = Scene::open(topics);
        let mut client = scene.connect(&[]);
        let wildcards = (0..WILDCARDS).map(|n| format!("*{n:02}.*"));
        client.command("subscribe", wildcards.chain((0..NAMES).map(|n| format!("name.{n}"))));
        client.wait_for_pong();
        let title = format!("{WILDCARDS} wildcards, {NAMES} names, one wildcard more; {topics} topics");
        scene.print(&title, 1, |_| {
            client.command("subscribe", ["*.x".to_string()].into_iter());
            client.wait_for_pong();
        });
    }
    type Kind = (&'static str, fn(usize, usize) -> String, fn(usize) -> String);
    let kinds: [Kind; 2] = [
        (
            "found by what they say",
            |client, n| format!("s{client}x{n}*.*"),
            |n| format!("s{}x{}q{n}.x", n % BURST_CLIENTS, n % WILDCARDS),
        ),
        (
            "nothing to find them by",
            |client, n| format!("t{}.*", format!("{client}{n:02}").replace("", "*")),
            |n| format!("t{}.x", 700_000 + n),
        ),
    ];
    for (kind, wildcard, topic) in kinds {
        let scene = Scene::open(1000);
        let clients: Vec<Client> = (0..BURST_CLIENTS).map(|_| scene.connect(&[])).collect();
        for (at, mut client) in clients.iter().map(Client::again).enumerate() {
            client.command("subscribe", (0..WILDCARDS).map(|n| wildcard(at, n)));
            client.wait_for_pong();
        }
        let mut all = scene.connect(&[">"]);
        all.wait_for_pong();
        let title = format!("{} wildcards ({kind}), {BURST_TOPICS} new topics", BURST_CLIENTS * WILDCARDS);
        scene.print(&title, 1, |scene| {
            scene.publish((0..BURST_TOPICS).map(topic).collect());
            all.read_until(&format!("\"{}\"", topic(BURST_TOPICS - 1))).expect("the newest topic");
        });
    }
}

/// One shard, its feed, and the clients that are kept waiting.
struct Scene {
    delivery: Delivery,
    _threads: ShardThreads,
    listener: TcpListener,
    publish: Sender<Vec<String>>,
    waits: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    topics: usize,
    /// CPU of the shard in a second of nothing but the feed.
    feed_cpu: f64,
}

impl Scene {
    fn open(topics: usize) -> Scene {
        let limits = Limits { ring_frames_max: 65_536, ring_bytes_max: 64 << 20, topics_max: 300_000 };
        let (clock, meters) = (Clock::start(), Meters::unread());
        let (mut publisher, reader) = bus::open(Epoch(1), limits, &meters);
        (0..topics).for_each(|n| publish(&mut publisher, &format!("t{n}.x"), &clock));
        let (delivery, threads) =
            Delivery::start(settings(), &BusHandles::reading(reader), clock, &meters).expect("threads");
        let (sender, wanted) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || feed(publisher, topics, &clock, &wanted, &stopped));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let waits = Arc::default();
        let mut scene =
            Scene { delivery, _threads: threads, listener, publish: sender, waits, stop, topics, feed_cpu: 0.0 };
        for at in 0..PROBERS {
            let mut prober = scene.connect(&[]);
            let (waits, stopped) = (scene.waits.clone(), scene.stop.clone());
            std::thread::spawn(move || {
                std::thread::sleep(PING_PAUSE * at / PROBERS);
                while !stopped.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    prober.say(PING);
                    if prober.read_until(PONG).is_err() {
                        // The shard was stopped.
                        return;
                    }
                    waits.lock().expect("nobody panics with it").push(asked.elapsed());
                    std::thread::sleep(PING_PAUSE);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let (before, since) = (shard_cpu(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        scene.feed_cpu = (shard_cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64();
        scene
    }

    fn publish(&self, topics: Vec<String>) {
        self.publish.send(topics).expect("the feed goes on");
    }

    fn connect(&self, patterns: &[&str]) -> Client {
        let address = self.listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).expect("loopback");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let (socket, _) = self.listener.accept().expect("a connection");
        socket.set_nonblocking(true).expect("non-blocking");
        socket.set_nodelay(true).expect("no delay");
        let patterns = patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        let options = SessionOptions { patterns, ..SessionOptions::default() };
        self.delivery.adopt(Handoff { socket: socket.into(), unread: Bytes::new(), options, permit: None });
        Client { stream, tail: Vec::new() }
    }

    /// This many clients at once join `>`, read everything, and leave.
    fn join_everything(&self, clients: usize) {
        let clients: Vec<Client> = (0..clients).map(|_| self.connect(&[">"])).collect();
        std::thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || client.wait_for_pong());
            }
        });
    }

    /// This many clients join `>` one `JOIN_PAUSE` after another, whether the earlier ones have read everything or not.
    fn join_in_turn(&self, clients: usize) {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for due in (0..clients as u32).map(|at| JOIN_PAUSE * at) {
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
                let mut client = self.connect(&[">"]);
                scope.spawn(move || client.wait_for_pong());
            }
        });
    }

    /// A client that subscribes to 99 wildcards, unsubscribes, and so on, for ten seconds.
    fn toggle(&self) {
        let mut client = self.connect(&[]);
        let (before, since, mut times) = (shard_cpu(), Instant::now(), 0);
        while since.elapsed() < Duration::from_secs(10) {
            for op in ["subscribe", "unsubscribe"] {
                client.command(op, (0..WILDCARDS).map(|n| format!("*q{n}.*")));
                client.wait_for_pong();
            }
            times += 1;
        }
        let busy = (shard_cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64() - self.feed_cpu;
        println!(
            "{WILDCARDS} wildcards toggled, {} topics: {times} times in 10 s, {:.1} % of the shard",
            self.topics,
            busy * 100.0
        );
    }

    /// Runs a step, and prints what it cost, CPU and wall by the number given.
    fn print(&self, title: &str, by: usize, step: impl FnOnce(&Scene)) {
        self.waits.lock().expect("nobody panics with it").clear();
        let (before, since) = (shard_cpu(), Instant::now());
        step(self);
        let (cpu, wall) = ((shard_cpu() - before).as_secs_f64(), since.elapsed().as_secs_f64());
        // The wait that still lasts counts, too.
        std::thread::sleep(Duration::from_millis(50));
        let longest = self.waits.lock().expect("nobody panics with it").iter().max().copied().unwrap_or_default();
        let (cpu, wall) = ((cpu - self.feed_cpu * wall).max(0.0) / by as f64 * 1e3, wall / by as f64 * 1e3);
        println!("{title:<58}{cpu:>12.1}{wall:>12.1}{:>14.1}", longest.as_secs_f64() * 1e3);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.delivery.stop();
    }
}

struct Client {
    stream: TcpStream,
    /// The end of what was read: what is looked for may lie on a border.
    tail: Vec<u8>,
}

impl Client {
    /// The same connection.
    fn again(&self) -> Client {
        Client { stream: self.stream.try_clone().expect("a descriptor"), tail: Vec::new() }
    }

    fn command(&mut self, op: &str, topics: impl Iterator<Item = String>) {
        let topics: Vec<String> = topics.map(|topic| format!("\"{topic}\"")).collect();
        self.say(&format!(r#"{{"op":"{op}","topics":[{}]}}"#, topics.join(",")));
    }

    /// Commands are answered when everything that is due was sent.
    fn wait_for_pong(&mut self) {
        self.say(PING);
        self.read_until(PONG).expect("an answer");
    }

    fn say(&mut self, text: &str) {
        let mut frame = match u8::try_from(text.len()) {
            Ok(length @ ..126) => vec![0x81, 0x80 | length],
            _ => {
                let [high, low] = u16::try_from(text.len()).expect("a short command").to_be_bytes();
                vec![0x81, 0x80 | 126, high, low]
            }
        };
        frame.extend([0; 4]);
        frame.extend(text.bytes());
        self.stream.write_all(&frame).expect("the server reads");
    }

    fn read_until(&mut self, text: &str) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let bytes = self.stream.read(&mut buffer)?;
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.tail.extend_from_slice(&buffer[..bytes]);
            if memchr::memmem::find(&self.tail, text.as_bytes()).is_some() {
                self.tail.clear();
                return Ok(());
            }
            let kept = self.tail.len().min(text.len());
            self.tail.drain(..self.tail.len() - kept);
        }
    }
}

fn feed(mut publisher: Publisher, topics: usize, clock: &Clock, wanted: &Receiver<Vec<String>>, stop: &AtomicBool) {
    for n in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        publish(&mut publisher, &format!("t{}.x", n.wrapping_mul(7919) % topics), clock);
        for topic in wanted.try_iter().flatten() {
            publish(&mut publisher, &topic, clock);
        }
        std::thread::sleep(FEED_PAUSE);
    }
}

fn publish(publisher: &mut Publisher, topic: &str, clock: &Clock) {
    let text = format!(r#"{{"s":"{topic}","p":"{:.>width$}"}}"#, "", width = MESSAGE_BYTES - 30);
    let payload = Payload { bytes: Bytes::from(text), kind: PayloadKind::Json };
    publisher.publish(topic, payload, Retention::NEWEST, clock.now()).expect("a good topic");
}

/// CPU of the threads of shards, those that have ended left out.
fn shard_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc").filter_map(Result::ok);
    let of_shard = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("shard-"))
    };
    let cpu = tasks.map(|task| task.path()).filter(of_shard).filter_map(|path| {
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(cpu.sum())
}

/// As the server has them by default, but for timers so long that they do not show.
fn settings() -> Settings {
    let (defaults, lenient) = (Settings::default(), Settings::lenient());
    Settings {
        limits: ServerLimits {
            wildcards_total_max: defaults.limits.wildcards_total_max,
            messages_per_second_max: defaults.limits.messages_per_second_max,
            ..lenient.limits
        },
        slow: Slow {
            replay_max: defaults.slow.replay_max,
            unsent_bytes_max: defaults.slow.unsent_bytes_max,
            ..lenient.slow
        },
        compression: defaults.compression,
        ..lenient
    }
}
