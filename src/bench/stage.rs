//! What is running while it is measured: the server, its feed and the crowd of clients.
//!
//! With the feed of the bench, a measurement is a stretch between two silences: everything that was said is waited for,
//! so deliveries are accounted for to the last one. Other feeds do not pause; there the figures are those of a span.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bus::clock::Clock;

use super::BenchError;
use super::cpu::{Usage, machine_cpu, process_cpu};
use super::crowd::{ClientPool, PoolTotals};
use super::dial::DialTarget;
use super::feed::{BenchFeed, FeedTotals};
use super::hello::subscribe;
use super::plan::{FeedSource, Plan};
use super::server::ServerProcess;
use super::speech::Generator;
use super::tally::Latency;
use super::wants::SubscriptionPlan;

const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);
/// Clients to which nothing comes for this time have everything that will come.
const STILL: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);
/// Of a request head the server takes some 32 KiB; more patterns than fit here go into a command.
const QUERY_BYTES_MAX: usize = 8 << 10;

/// The server under test, its feed if it is ours, and its clients. They end in this order: a server that is left alone with
/// its feed gone would complain.
pub struct Bench {
    server: Option<ServerProcess>,
    crowd: ClientPool,
    feed: Option<BenchFeed>,
    target: DialTarget,
    wants: Option<Arc<SubscriptionPlan>>,
    connecting: Option<Connecting>,
    growth: Growth,
}

/// How the last clients came.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Connecting {
    pub clients: usize,
    pub seconds: f64,
}

/// Of the server's memory while clients connected; not when they did so for the second time, into memory that was freed.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    bytes: u64,
    clients: usize,
}

/// What was measured with so many clients.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub clients: usize,
    /// How they came, one after the other.
    pub connecting: Option<Connecting>,
    pub seconds: f64,
    /// Topics of the feed of the bench.
    pub feed_topics: Option<usize>,
    /// Messages of the feed that clients ask for; known of the feed of the bench.
    pub messages: Option<u64>,
    pub messages_per_second: f64,
    /// All messages of the feed of the bench, also those that no client asks for.
    pub feed_messages: Option<u64>,
    /// Payload as the feed sent it; known of the feed of the bench.
    pub bytes_per_message: Option<f64>,
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    /// WebSocket headers included; of nothing that was delivered there is none.
    pub bytes_per_delivery: Option<f64>,
    /// From the feed to the clients; from the server's receiving it on, where the feed is not the bench's.
    pub latency: Option<Latency>,
    /// Known of a server that was started here.
    pub server: Option<ServerFigures>,
    /// CPU of the load generator, its feed included.
    pub generator_cores: f64,
    /// CPU of everything else on the machine, interrupts included; known with a server that was started here.
    pub other_cores: Option<f64>,
    /// Deliveries that did not come, over all clients; known with the feed of the bench.
    pub lost: Option<u64>,
    /// Deliveries that came more than once.
    pub repeated: Option<u64>,
    /// Offsets that are missing without a notice, over the clients that are followed.
    pub gaps: u64,
    /// Messages that are no frames, such as heartbeats.
    pub notices: u64,
    pub pings: u64,
    /// Notices `skipped`.
    pub skips: u64,
    /// Clients whose connection has ended.
    pub ended: u64,
    /// Messages of the feed while no server was connected to it.
    pub unheard: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerFigures {
    pub cores: f64,
    pub cpu_us_per_delivery: Option<f64>,
    pub resident_bytes: u64,
    /// Without the kernel's buffers; known with the feed of the bench.
    pub bytes_per_connection: Option<f64>,
}

/// What is compared at the two ends of a measurement.
struct Reading {
    at: Instant,
    server: Option<Usage>,
    generator: Duration,
    machine: Option<Duration>,
}

impl Bench {
    /// Starts what has to be started; nobody is connected yet.
    pub fn open(plan: &Plan) -> Result<Bench, BenchError> {
        let clock = Clock::start();
        let mut wants = None;
        let (feed, server) = match &plan.source {
            FeedSource::Ours { arguments, feed } => {
                let speech = Generator::new(feed.market, feed.bytes)?;
                wants = Some(feed.wants.clone());
                let opened = BenchFeed::open(speech, feed.wants.clone(), feed.rate, clock)
                    .map_err(BenchError::system("open a feed"))?;
                let own = [opened.url(), "--profile".into(), "simulated".into()].map(OsString::from);
                let server = ServerProcess::start(&[&own[..], arguments].concat())?;
                let heard = wait(CONNECT_DEADLINE, || opened.is_heard());
                opened.open_market();
                let read = heard && wait(CONNECT_DEADLINE, || opened.is_opened());
                read.then_some(()).ok_or(BenchError::NotConnected)?;
                (Some(opened), Some(server))
            }
            FeedSource::Configured { arguments } => (None, Some(ServerProcess::start(arguments)?)),
            FeedSource::Target(_) => (None, None),
        };
        let mut target = match (&plan.source, &server) {
            (FeedSource::Target(target), _) => target.clone(),
            (_, Some(server)) => DialTarget::parse(&format!("ws://{}", server.address()))?,
            (_, None) => return Err(BenchError::NotListening),
        };
        target.deflate = plan.deflate;
        if plan.topics.len() > QUERY_BYTES_MAX {
            target.hello = subscribe(&plan.topics.split(',').collect::<Vec<_>>());
        } else if plan.topics_each.is_none() {
            target.add_parameter("topics", &plan.topics);
        }
        target.add_parameter("format", plan.format.as_str());
        let crowd =
            ClientPool::gather(plan.reading(), plan.deflate, clock).map_err(BenchError::system("start a thread"))?;
        Ok(Bench { server, crowd, feed, target, wants, connecting: None, growth: Growth::default() })
    }

    /// Lets clients come or go until there are so many.
    pub fn fill(&mut self, clients: usize, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        let present = self.crowd.clients();
        if clients < present {
            self.crowd.keep(clients);
            self.settle();
            return Ok(());
        }
        let before = self.resident_bytes();
        let started = Instant::now();
        let mut told = started;
        for index in present..clients {
            if let Some(names) = self.wants.as_ref().and_then(|wants| wants.names(index)) {
                self.target.hello = subscribe(&names);
            }
            let upgraded = self.target.dial(index).map_err(|error| BenchError::Dial { connected: index, error })?;
            self.crowd.join(upgraded);
            if told.elapsed() >= SECOND {
                told = Instant::now();
                tell(&format!("{index} of {clients} clients connected"));
            }
        }
        if clients > present {
            self.connecting = Some(Connecting { clients: clients - present, seconds: started.elapsed().as_secs_f64() });
        }
        self.settle();
        if let (Some(before), Some(after), Some(_)) = (before, self.resident_bytes(), &self.feed)
            && present == self.growth.clients
        {
            self.growth.bytes += after.saturating_sub(before);
            self.growth.clients = clients;
        }
        match self.crowd.look(Vec::new()).tally.refusals {
            0 => Ok(()),
            refused => Err(BenchError::Refused { refused, clients }),
        }
    }

    pub fn clients(&self) -> usize {
        self.crowd.clients()
    }

    /// Lets the feed run for a moment, so that buffers have their sizes and compression its windows.
    pub fn warm_up(&self) {
        match &self.feed {
            Some(feed) => {
                self.crowd.restart();
                feed.speak(self.crowd.received(), self.crowd.clients());
                std::thread::sleep(WARM_UP);
                feed.hush();
                self.settle();
            }
            None => std::thread::sleep(WARM_UP),
        }
    }

    /// Measures for `span`.
    pub fn measure(&self, span: Duration, tell: &mut dyn FnMut(&str)) -> Measurement {
        self.crowd.restart();
        let before = self.moment();
        if let Some(feed) = &self.feed {
            feed.speak(self.crowd.received(), self.crowd.clients());
        }
        self.watch(before.at, span, tell);
        let said = self.feed.as_ref().map(BenchFeed::hush);
        let end = self.settle();
        let owed = self.feed.as_ref().zip(said.as_ref()).map(|(feed, said)| feed.owed(said));
        let look = self.crowd.look(owed.unwrap_or_default());
        self.step((&before, end), &look, said)
    }

    /// Tells once a second how it goes, until `span` is over.
    fn watch(&self, started: Instant, span: Duration, tell: &mut dyn FnMut(&str)) {
        let mut last = (started, 0);
        while let Some(left) = span.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(SECOND));
            let PoolTotals { tally, .. } = self.crowd.look(Vec::new());
            let now = Instant::now();
            let rate = (tally.deliveries - last.1) as f64 / (now - last.0).as_secs_f64();
            last = (now, tally.deliveries);
            let latency = Latency::of(&tally.ages).map_or(String::new(), |latency| {
                format!(", p50 {:.1} ms, p99 {:.1} ms", latency.p50_us / 1000.0, latency.p99_us / 1000.0)
            });
            tell(&format!(
                "{:.0} s, {} clients: {rate:.0} deliveries/s{latency}",
                started.elapsed().as_secs_f64(),
                self.clients(),
            ));
        }
    }

    /// With the feed of the bench: waits until nothing more comes. Answers when the last delivery came.
    fn settle(&self) -> Instant {
        let received = self.crowd.received();
        let (mut seen, mut since) = (None, Instant::now());
        if self.feed.is_some() {
            wait(CONNECT_DEADLINE, || {
                let deliveries = received.load(Ordering::Relaxed);
                if seen != Some(deliveries) {
                    (seen, since) = (Some(deliveries), Instant::now());
                }
                since.elapsed() >= STILL
            });
        }
        since
    }

    fn step(&self, (before, end): (&Reading, Instant), look: &PoolTotals, said: Option<FeedTotals>) -> Measurement {
        let after = self.moment();
        let (deliveries, clients) = (look.tally.deliveries, self.clients());
        let end = if deliveries > 0 { end } else { after.at };
        let seconds = (end - before.at).as_secs_f64();
        let each = |sum: f64| (deliveries > 0).then_some(sum / deliveries as f64);
        let server = before.server.zip(after.server).map(|(before, after)| {
            let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            ServerFigures {
                cores: cpu_s / seconds,
                cpu_us_per_delivery: each(cpu_s * 1e6),
                resident_bytes: after.resident_bytes,
                bytes_per_connection: self.growth.of_one(),
            }
        });
        let generator_cores = after.generator.saturating_sub(before.generator).as_secs_f64() / seconds;
        let other_cores = before.machine.zip(after.machine).zip(server).map(|((before, after), server)| {
            (after.saturating_sub(before).as_secs_f64() / seconds - server.cores - generator_cores).max(0.0)
        });
        let messages = said.as_ref().map(|said| said.wanted);
        Measurement {
            clients,
            connecting: self.connecting,
            seconds,
            feed_topics: self.wants.as_ref().map(|wants| wants.topics()),
            messages,
            messages_per_second: messages.map_or(deliveries as f64 / clients.max(1) as f64, |messages| messages as f64)
                / seconds,
            feed_messages: said.as_ref().map(|said| said.messages),
            bytes_per_message: said
                .as_ref()
                .filter(|said| said.messages > 0)
                .map(|said| said.bytes as f64 / said.messages as f64),
            deliveries,
            deliveries_per_second: deliveries as f64 / seconds,
            bytes_per_delivery: each(look.tally.bytes as f64),
            latency: Latency::of(&look.tally.ages),
            server,
            generator_cores,
            other_cores,
            lost: said.as_ref().map(|_| look.lost),
            repeated: said.as_ref().map(|_| look.repeated),
            gaps: look.tally.gaps,
            notices: look.tally.notices,
            pings: look.tally.pings,
            skips: look.tally.skips,
            ended: look.ended,
            unheard: said.map_or(0, |said| said.unheard),
        }
    }

    fn moment(&self) -> Reading {
        let server = self.server.as_ref().and_then(ServerProcess::usage);
        Reading { at: Instant::now(), server, generator: process_cpu(), machine: machine_cpu() }
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.server.as_ref().and_then(ServerProcess::usage).map(|usage| usage.resident_bytes)
    }
}

impl Growth {
    /// Bytes of a connection; none if nobody was seen to connect.
    fn of_one(self) -> Option<f64> {
        (self.clients > 0).then(|| self.bytes as f64 / self.clients as f64)
    }
}

/// Waits until `done`, at most until the deadline; whether it is done.
fn wait(deadline: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
}
