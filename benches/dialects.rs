//! What bots cost that speak a dialect, beside as many raw clients of the same topics.
//!
//! `cargo bench --bench dialects -- [CLIENTS] [SECONDS] [RUNS]`, by default 100 clients, 10 s, 5 runs. Starts the real server in
//! front of a simulated market, which is a process of its own. In each run, raw clients, bots whose messages go out as
//! received, and bots that are sent a part of each message take turns. A figure is CPU of the server per delivery. The
//! ratios are taken within a run; the median is printed, and the lowest and the highest. Bots share encodings if one is made
//! of each frame, however many there are.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use fanline::settings::table::MarketSettings;
use fanline::simulator::market::Market;
use server::Server;

const SYMBOLS: usize = 20;
const RATE: &str = "2000";

/// The market's messages, for bots.
const PROFILE: &str = r#"
profile = 1
name = "market-bots"
[[on]]
name = "data"
as = "data"
topic = "${/topic}"
[downstream.paths]
"/received" = {}
"/part" = { form = "part" }
[[downstream.forms]]
name = "received"
[[downstream.forms]]
name = "part"
at = "/data"
[[downstream.on]]
name = "subscribe"
do = "subscribe"
each = "/args/*"
reply = '{"ok":true}'
"#;

/// Who is served in a part of a run.
struct Kind {
    name: &'static str,
    path: &'static str,
    /// Of `fanline_encodings_total`.
    encoding: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { name: "raw clients", path: "/v1/ws?format=raw&topics=", encoding: "raw" },
    Kind { name: "bots, as received", path: "/received", encoding: "form" },
    Kind { name: "bots, a part of each message", path: "/part", encoding: "form" },
];

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |place: usize, default: usize| numbers.get(place).copied().unwrap_or(default);
    let (clients, seconds, runs) = (number(0, 100), number(1, 10), number(2, 5));
    fanline::open_files::raise_open_files_limit().expect("a limit of open files");
    let (topics, feed) = (topics(), Feed::start());
    let profile = std::env::temp_dir().join(format!("fanline-dialects-{}.toml", std::process::id()));
    std::fs::write(&profile, PROFILE).expect("a folder to write to");
    let name = profile.display().to_string();
    let server = Server::start(&[&feed.url, "--profile", &name, "--shards-count", "1"]);
    let span = Duration::from_secs(seconds as u64);
    let mut ratios = [const { Vec::new() }; KINDS.len()];
    for run in 1..=runs {
        let costs = KINDS.map(|kind| serve(&server, &kind, clients, &topics, span));
        for (place, cost) in costs.iter().enumerate() {
            ratios[place].push(cost / costs[0]);
        }
        println!("run {run}: {costs:.3?} us of CPU per delivery");
    }
    for (kind, ratios) in KINDS.iter().zip(&mut ratios).skip(1) {
        ratios.sort_by(f64::total_cmp);
        let (median, lowest, highest) = (ratios[runs / 2], ratios[0], ratios[runs - 1]);
        println!("{clients} {}: {median:.3} times raw clients ({lowest:.3} to {highest:.3})", kind.name);
    }
    let _ = std::fs::remove_file(profile);
}

/// CPU of the server per delivery, in microseconds, while it serves so many of a kind.
fn serve(server: &Server, kind: &Kind, count: usize, topics: &[String], span: Duration) -> f64 {
    let readers: Vec<Reader> = (0..count).map(|_| Reader::connect(server, kind, topics)).collect();
    std::thread::sleep(Duration::from_secs(1));
    let label = format!("encoding=\"{}\"", kind.encoding);
    let figures = || {
        let made = server.labelled("fanline_encodings_total", &label);
        (server.usage().cpu, server.metric("fanline_deliveries_total"), made)
    };
    let before = figures();
    std::thread::sleep(span);
    let after = figures();
    let (deliveries, made) = (after.1 - before.1, after.2 - before.2);
    let cost = (after.0 - before.0).as_secs_f64() * 1e6 / deliveries;
    println!("{count} {}: {deliveries} deliveries of {made} encodings", kind.name);
    readers.into_iter().for_each(Reader::end);
    cost
}

/// A client that reads all it is sent.
struct Reader {
    socket: TcpStream,
    reading: JoinHandle<()>,
}

impl Reader {
    fn connect(server: &Server, kind: &Kind, topics: &[String]) -> Reader {
        let mut socket = TcpStream::connect(server.address).expect("a connection");
        let is_raw = kind.encoding == "raw";
        let path = if is_raw { format!("{}{}", kind.path, topics.join(",")) } else { kind.path.to_string() };
        server::upgrade_at(&mut socket, &path);
        if !is_raw {
            let args: Vec<String> = topics.iter().map(|topic| format!("\"{topic}\"")).collect();
            let text = format!(r#"{{"args":[{}]}}"#, args.join(","));
            let length = u16::try_from(text.len()).expect("a short message");
            let mut frame = vec![0x81, 0x80 | 126];
            frame.extend(length.to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(text.bytes());
            socket.write_all(&frame).expect("the server reads");
        }
        let mut reading = socket.try_clone().expect("a descriptor");
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while reading.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        Reader { socket, reading }
    }

    fn end(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.reading.join().expect("a reader does not panic");
    }
}

/// The simulated market as a process.
struct Feed {
    child: Child,
    url: String,
}

impl Feed {
    fn start() -> Feed {
        let symbols = SYMBOLS.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanline"))
            .args(["simulate", "--listen", "127.0.0.1:0", "--rate", RATE, "--symbols", &symbols])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the market starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let url = line.split_whitespace().find(|word| word.starts_with("ws://")).expect("an address").to_string();
        Feed { child, url }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All topics of the market.
fn topics() -> Vec<String> {
    let mut market = Market::new(MarketSettings { symbols: SYMBOLS, ..MarketSettings::default() }).expect("a market");
    let mut topics = BTreeSet::new();
    for _ in 0..SYMBOLS * 200 {
        let text = market.next(1_767_225_600_000).text;
        topics.insert(text.split('"').nth(3).expect("a topic").to_owned());
    }
    topics.into_iter().collect()
}
