//! What lists of topics cost that are another one for each client: memory, and CPU when one topic of them changes.
//!
//! `cargo bench --bench lists -- [CLIENTS] [TOPICS]`, by default 10,000 clients with 100 of 1000 topics each. Starts the
//! real server on the simulated market. Memory is that of the server's process (VmRSS): what the kernel keeps for
//! sockets is not in it. CPU is that of the whole server less that of a stretch without commands just before.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanline::settings::table::MarketSettings;
use fanline::simulator::market::Market;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use server::{Server, upgrade};

const SYMBOLS: usize = 1000;
/// All topics of a symbol are as good as another; of each symbol one is taken.
const TOPICS: usize = 1000;
/// Commands of one client, one after the other's answer.
const COMMANDS: usize = 20_000;
const LONG_LIST: usize = 500;
const SPAN: Duration = Duration::from_secs(10);

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (clients, length) = (*numbers.first().unwrap_or(&10_000), *numbers.get(1).unwrap_or(&100));
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    let topics = topics();
    of_many(clients, length, &topics);
    for rate in ["1", "5000"] {
        of_one(rate, &topics);
    }
}

/// Topics of the simulated market.
fn topics() -> Vec<String> {
    let mut market = Market::new(MarketSettings { symbols: SYMBOLS, ..MarketSettings::default() }).expect("a market");
    let mut topics = BTreeSet::new();
    while topics.len() < TOPICS {
        let text = market.next(1_767_225_600_000).text;
        topics.insert(text.split('"').nth(3).expect("a topic").to_owned());
    }
    topics.into_iter().collect()
}

fn serve(rate: &str) -> Server {
    let symbols = SYMBOLS.to_string();
    let arguments = ["--simulate-symbols", &symbols, "--simulate-rate", rate, "--shards-count", "1"];
    let limits = ["--limits-messages-per-second-max", "1000000"];
    let server = Server::start(&[&arguments[..], &limits].concat());
    std::thread::sleep(Duration::from_secs(3));
    server
}

/// Many clients with a list each: memory, then one change a second of each.
fn of_many(count: usize, length: usize, topics: &[String]) {
    let server = serve("1");
    let mut rng = StdRng::seed_from_u64(1);
    let empty = server.usage().resident_bytes;
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(&server)).collect();
    std::thread::sleep(Duration::from_secs(3));
    let joined = server.usage().resident_bytes;
    for client in &mut clients {
        client.list = topics.sample(&mut rng, length).cloned().collect();
        client.command("subscribe", &client.list.clone(), true);
        client.wait_for("\"count\":");
    }
    std::thread::sleep(Duration::from_secs(3));
    let listed = server.usage().resident_bytes;
    let each = |bytes: u64, by: usize| bytes as f64 / by as f64;
    println!(
        "{count} clients, {length} of {} topics each: {:.0} bytes a connection, {:.1} bytes a topic; counted {:.1}",
        topics.len(),
        each(joined - empty, count),
        each(listed - joined, count * length),
        each(server.metric("fanline_lane_bytes") as u64, count * length),
    );

    let before = server.usage().cpu;
    std::thread::sleep(SPAN);
    let idle = server.usage().cpu - before;
    let (before, begun) = (server.usage().cpu, Instant::now());
    let rounds = SPAN.as_secs() as u32;
    for round in 0..rounds {
        for (n, client) in clients.iter_mut().enumerate() {
            let due = Duration::from_secs(1) * round + Duration::from_secs(1) * n as u32 / count as u32;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            client.change(topics, &mut rng, true);
        }
    }
    let took = begun.elapsed();
    let busy = (server.usage().cpu - before).saturating_sub(idle);
    println!(
        "each changes one topic a second: {:.3} cores, {:.1} us a change ({:.1} s for {rounds} rounds)",
        busy.as_secs_f64() / took.as_secs_f64(),
        busy.as_secs_f64() * 1e6 / (count as f64 * f64::from(rounds)),
        took.as_secs_f64()
    );
}

/// One client with a long list, of which one topic changes, while the feed flows at this rate.
fn of_one(rate: &str, topics: &[String]) {
    let server = serve(rate);
    let mut rng = StdRng::seed_from_u64(2);
    let mut client = Client::connect(&server);
    client.list = topics.sample(&mut rng, LONG_LIST).cloned().collect();
    client.command("subscribe", &client.list.clone(), true);
    client.wait_for("\"count\":");
    for brief in [true, false] {
        let (before, begun) = (server.usage().cpu, Instant::now());
        for _ in 0..COMMANDS {
            client.change(topics, &mut rng, brief);
            client.wait_for("subscribed\"");
        }
        let (busy, took) = (server.usage().cpu - before, begun.elapsed());
        let before = server.usage().cpu;
        // What the feed costs meanwhile, the client's own frames among it.
        let until = Instant::now() + took;
        client.read_until(until);
        let idle = server.usage().cpu - before;
        println!(
            "a list of {LONG_LIST} at {rate} messages/s, {}: {:.1} us a change",
            if brief { "brief answers" } else { "answers with all topics" },
            busy.saturating_sub(idle).as_secs_f64() * 1e6 / COMMANDS as f64
        );
    }
}

struct Client {
    socket: TcpStream,
    list: Vec<String>,
    /// The end of what was read.
    tail: Vec<u8>,
}

impl Client {
    fn connect(server: &Server) -> Client {
        let mut socket = TcpStream::connect(server.address).expect("a connection");
        socket.set_nodelay(true).expect("no delay");
        upgrade(&mut socket, "");
        let mut client = Client { socket, list: Vec::new(), tail: Vec::new() };
        client.wait_for("welcome");
        client
    }

    fn command(&mut self, op: &str, topics: &[String], brief: bool) {
        let topics: Vec<String> = topics.iter().map(|topic| format!("\"{topic}\"")).collect();
        let text = format!(r#"{{"op":"{op}","topics":[{}],"brief":{brief}}}"#, topics.join(","));
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(length @ ..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(text.len()).expect("a short command").to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.bytes());
        self.socket.write_all(&frame).expect("the server reads");
    }

    /// A topic more, or one less, in turns.
    fn change(&mut self, topics: &[String], rng: &mut StdRng, brief: bool) {
        if self.list.len().is_multiple_of(2) {
            let topic = loop {
                let topic = topics.choose(rng).expect("topics");
                if !self.list.contains(topic) {
                    break topic.clone();
                }
            };
            self.command("subscribe", std::slice::from_ref(&topic), brief);
            self.list.push(topic);
        } else {
            let at = rng.random_range(0..self.list.len());
            let topic = self.list.swap_remove(at);
            self.command("unsubscribe", &[topic], brief);
        }
    }

    /// Reads until the text has come.
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(at) = memchr::memmem::find(&self.tail, text.as_bytes()) {
                self.tail.drain(..at + text.len());
                return;
            }
            let kept = self.tail.len().saturating_sub(text.len());
            self.tail.drain(..kept);
            let read = self.socket.read(&mut buffer).expect("the server is there");
            assert!(read > 0, "the server has closed the connection");
            self.tail.extend_from_slice(&buffer[..read]);
        }
    }

    fn read_until(&mut self, until: Instant) {
        let mut buffer = [0; 65_536];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            let _ = self.socket.read(&mut buffer);
        }
        self.socket.set_read_timeout(None).expect("no timeout");
    }
}
