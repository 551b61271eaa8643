//! What a cluster adds, in one run: a server alone, the server that holds the feed for a cluster, and one that follows, all
//! with the same messages at the same time. From the feed to a client, and the CPU of each server for a message.
//!
//! `cargo bench --bench cluster -- [SECONDS] [large]`, by default 10 s for each rate. With `large` a message of 5 MB comes
//! each second between small ones, which are measured. It needs nats-server, which `make setup` installs.

#[path = "support/machine.rs"]
mod machine;
#[path = "support/server.rs"]
mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kit::eventually;
use kit::fake_feed::{FakeFeed, PROFILE};
use kit::nats::NatsServer;
use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use server::Server;

const RATES: [u64; 2] = [1_000, 10_000];
/// Before what is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// What a message of a ticker takes, about.
const FILLING: usize = 150;
const LARGE_BYTES: usize = 5 << 20;
/// Between two parts of what the feed publishes.
const STEP: Duration = Duration::from_millis(1);

/// What was agreed on for the server that holds the feed: further delay, and further CPU for a message.
const P50_MORE_MAX: Duration = Duration::from_micros(500);
const P99_MORE_MAX: Duration = Duration::from_millis(3);
const CPU_MORE_MAX: Duration = Duration::from_micros(3);

/// A server, and how late its client has had each message.
struct Measured {
    name: &'static str,
    server: Server,
    delays: Arc<Mutex<Vec<Duration>>>,
    cpu: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(10);
    let is_large = arguments.iter().any(|argument| argument == "large");
    for (name, value) in machine::description() {
        println!("{name}: {value}");
    }
    println!("\n{:>8}  {:<9} {:>10} {:>10} {:>12}", "messages", "server", "p50 us", "p99 us", "CPU us each");
    for rate in if is_large { &RATES[..1] } else { &RATES[..] } {
        run(*rate, Duration::from_secs(seconds), is_large);
    }
}

fn run(rate: u64, span: Duration, is_large: bool) {
    let Some(nats) = NatsServer::start("bench-cluster") else { return };
    let feed = FakeFeed::open();
    let profile = kit::scratch().join("bench-cluster.toml");
    std::fs::write(&profile, PROFILE).expect("a folder to write to");
    let (url, profile, nats) = (feed.url(), profile.to_str().expect("UTF-8"), (nats.url(), nats));
    let start = |more: &[&str]| {
        let own = [&*url, "--profile", profile, "--upstream-subscribe", "live,large"];
        Server::start(&[&own[..], more].concat())
    };
    let began = Instant::now();
    let mut servers = Vec::new();
    for (name, more) in
        [("alone", &[][..]), ("ingester", &["--cluster-urls", &nats.0]), ("follower", &["--cluster-urls", &nats.0])]
    {
        let server = start(more);
        let delays = Arc::<Mutex<Vec<Duration>>>::default();
        listen(format!("ws://{}/v1/ws?topics=live", server.address), delays.clone(), began);
        servers.push(Measured { name, server, delays, cpu: Duration::ZERO });
    }
    eventually("two servers are connected to the feed", || (feed.ready(&["live"]).len() == 2).then_some(()));
    let is_over = Arc::new(AtomicBool::new(false));
    let feeding = publish(feed, rate, (began, is_over.clone()), is_large);
    std::thread::sleep(WARM_UP);
    for measured in &mut servers {
        measured.delays.lock().expect("whole").clear();
        measured.cpu = measured.server.usage().cpu;
    }
    std::thread::sleep(span);
    let results: Vec<(Duration, Duration, Duration)> = servers.iter().map(Measured::result).collect();
    is_over.store(true, Ordering::Relaxed);
    feeding.join().expect("it publishes");
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    for (measured, (p50, p99, cpu)) in servers.iter().zip(&results) {
        let (p50, p99, cpu) = (micros(*p50), micros(*p99), micros(*cpu));
        println!("{rate:>8}  {:<9} {p50:>10.0} {p99:>10.0} {cpu:>12.2}", measured.name);
    }
    let more = |at: usize, of: fn(&(Duration, Duration, Duration)) -> Duration| {
        (micros(of(&results[at])) - micros(of(&results[0])), micros(of(&results[at])) / micros(of(&results[0])))
    };
    for (at, measured) in servers.iter().enumerate().skip(1) {
        for (what, (further, ratio), max) in [
            ("p50", more(at, |it| it.0), P50_MORE_MAX),
            ("p99", more(at, |it| it.1), P99_MORE_MAX),
            ("CPU", more(at, |it| it.2), CPU_MORE_MAX),
        ] {
            let verdict = if further <= micros(max) { "within" } else { "beyond" };
            println!(
                "{rate:>8}  {:<9} {what}: {further:+.2} us on top, {ratio:.2} times as much; {verdict} {:.0} us",
                measured.name,
                micros(max)
            );
        }
    }
}

impl Measured {
    /// p50 and p99 of the delay, and the CPU for a message.
    fn result(&self) -> (Duration, Duration, Duration) {
        let mut delays = std::mem::take(&mut *self.delays.lock().expect("whole"));
        delays.sort_unstable();
        let cpu = self.server.usage().cpu.saturating_sub(self.cpu);
        let at = |part: usize| delays.get(delays.len() * part / 100).copied().expect("there are messages");
        (at(50), at(99), cpu / u32::try_from(delays.len()).expect("a few millions"))
    }
}

/// A client on a thread of its own, which notes how old each message is when it comes.
fn listen(url: String, delays: Arc<Mutex<Vec<Duration>>>, began: Instant) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut stream, _) = connect_async(&url).await.expect("a server");
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                let Some((_, rest)) = text.split_once("\"ns\":") else { continue };
                let digits: &str = rest.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
                let sent = Duration::from_nanos(digits.parse().expect("nanoseconds"));
                delays.lock().expect("whole").push(began.elapsed().saturating_sub(sent));
            }
        });
    });
}

fn publish(
    feed: FakeFeed,
    rate: u64,
    (began, is_over): (Instant, Arc<AtomicBool>),
    is_large: bool,
) -> std::thread::JoinHandle<()> {
    let filling = "x".repeat(FILLING);
    let large = json!({"topic": "large", "value": "y".repeat(LARGE_BYTES)}).to_string();
    std::thread::spawn(move || {
        let (started, mut sent, mut larges) = (Instant::now(), 0, 0);
        while !is_over.load(Ordering::Relaxed) {
            let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                sent += 1;
                let ns = u64::try_from(began.elapsed().as_nanos()).expect("a short run");
                let text = format!("{{\"topic\":\"live\",\"ns\":{ns},\"filling\":\"{filling}\"}}");
                feed.publish("live", &text, |_| false);
            }
            if is_large && started.elapsed().as_secs() > larges {
                larges += 1;
                feed.publish("large", &large, |_| false);
            }
            std::thread::sleep(STEP);
        }
    })
}
