//! The bench harness: the server under test, its feed and the client pool.
//!
//! With the bench's feed, a measurement lies between two pauses and ends when everything sent has arrived, so deliveries are
//! accounted for to the last one. Other feeds do not pause; there the figures cover a span of time.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bus::clock::Clock;

use super::BenchError;
use super::client_pool::{ClientPool, Owed, PoolTotals};
use super::client_tls::Trust;
use super::cpu::{Usage, machine_cpu, process_cpu};
use super::dial::DialTarget;
use super::feed::{BenchFeed, FeedTotals};
use super::generator::Generator;
use super::list_changes::ListChanges;
use super::plan::{FeedSource, Plan};
use super::server::ServerProcess;
use super::subscribe::subscribe;
use super::subscription_plan::SubscriptionPlan;
use super::tally::Latency;
use super::text_ledger::TextLedger;

const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Silence after which nothing more arrives if all that is due has.
const STILL: Duration = Duration::from_millis(500);
/// The same if something is missing: a server may do other work for a while.
const STILL_WITHOUT: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);
/// Patterns beyond this go into a command: the server accepts request heads of about 32 KiB.
const QUERY_BYTES_MAX: usize = 8 << 10;

/// The server under test, its feed if it is ours, and its clients. Dropped in this order: a server whose feed
/// ended first would log errors.
pub struct BenchHarness {
    server: Option<ServerProcess>,
    pool: ClientPool,
    feed: Option<BenchFeed>,
    target: DialTarget,
    subscriptions: Option<Arc<SubscriptionPlan>>,
    connecting: Option<Connecting>,
    growth: Growth,
}

/// How fast the last clients connected.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Connecting {
    pub clients: usize,
    pub seconds: f64,
}

/// Growth of the server's memory while clients connected for the first time, not into memory freed before.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    bytes: u64,
    clients: usize,
}

/// The figures of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub clients: usize,
    /// How fast they connected, one after the other.
    pub connecting: Option<Connecting>,
    pub seconds: f64,
    /// Topics of the bench's feed.
    pub feed_topics: Option<usize>,
    /// Messages of the feed that clients subscribe to; known for the bench's feed.
    pub messages: Option<u64>,
    pub messages_per_second: f64,
    /// All messages of the bench's feed, including those without subscribers.
    pub feed_messages: Option<u64>,
    /// Payload as the feed sent it; known for the bench's feed.
    pub bytes_per_message: Option<f64>,
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    /// WebSocket headers included; none without deliveries.
    pub bytes_per_delivery: Option<f64>,
    /// Bytes that followed clients would have received without compression, by those they have received.
    pub ratio: Option<f64>,
    /// Changes of clients' lists.
    pub changes: u64,
    /// From the feed to the clients; from the server's receive time if the feed is not the bench's.
    pub latency: Option<Latency>,
    /// Known for a server that was started here.
    pub server: Option<ServerFigures>,
    /// CPU of the load generator, its feed included.
    pub generator_cores: f64,
    /// CPU of everything else on the machine, interrupts included; known with a server that was started here.
    pub other_cores: Option<f64>,
    /// Missing deliveries over all clients; known with the bench's feed.
    pub lost: Option<u64>,
    /// Deliveries that arrived more than once.
    pub repeated: Option<u64>,
    /// Offsets missing without `skipped`, and messages of a topic missing or not new, over followed clients.
    pub gaps: u64,
    /// Messages of followed clients that had the text that was sent, and another; known with the bench's feed where
    /// deflated.
    pub compared: u64,
    pub wrong: u64,
    /// Commands that were refused.
    pub refusals: u64,
    /// Messages that are not frames, such as heartbeats.
    pub notices: u64,
    pub pings: u64,
    /// Server messages `skipped`.
    pub skips: u64,
    /// Clients whose connection has ended.
    pub ended: u64,
    /// Messages of the feed while no server was connected.
    pub unheard: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerFigures {
    pub cores: f64,
    pub cpu_us_per_delivery: Option<f64>,
    /// Of the messages that clients subscribe to; known with the bench's feed.
    pub cpu_us_per_message: Option<f64>,
    pub resident_bytes: u64,
    /// Without the kernel's buffers; known with the bench's feed.
    pub bytes_per_connection: Option<f64>,
}

/// Counters that are compared at the two ends of a measurement.
struct Reading {
    at: Instant,
    server: Option<Usage>,
    generator: Duration,
    machine: Option<Duration>,
}

impl BenchHarness {
    /// Starts server and feed as planned, without clients.
    pub fn open(plan: &Plan) -> Result<BenchHarness, BenchError> {
        let clock = Clock::start();
        let (mut subscriptions, mut texts) = (None, None);
        let (feed, server) = match &plan.source {
            FeedSource::Ours { arguments, feed } => {
                let generator = Generator::new(feed.market, feed.bytes)?;
                subscriptions = Some(feed.subscriptions.clone());
                texts = plan.deflate.then(Arc::<TextLedger>::default);
                let opened = BenchFeed::open(generator, feed.subscriptions.clone(), feed.rate, texts.clone(), clock)
                    .map_err(BenchError::system("open a feed"))?;
                let own = [opened.url(), "--profile".into(), "simulated".into()].map(OsString::from);
                let server = ServerProcess::start(&[&own[..], arguments].concat(), plan.certificate)?;
                let connected = wait(CONNECT_DEADLINE, || opened.is_connected());
                opened.send_opening();
                let read = connected && wait(CONNECT_DEADLINE, || opened.is_opened());
                read.then_some(()).ok_or(BenchError::NotConnected)?;
                (Some(opened), Some(server))
            }
            FeedSource::Configured { arguments } => (None, Some(ServerProcess::start(arguments, plan.certificate)?)),
            FeedSource::Target(_) => (None, None),
        };
        let mut target = match (&plan.source, &server) {
            (FeedSource::Target(target), _) => target.clone(),
            // A child of ours needs no proof of who it is.
            (_, Some(server)) => DialTarget::parse(server.url(), &Trust::Anyone)?,
            (_, None) => return Err(BenchError::NotListening),
        };
        target.deflate = plan.deflate;
        if plan.topics.len() > QUERY_BYTES_MAX {
            target.first_command = subscribe(&plan.topics.split(',').collect::<Vec<_>>());
        } else if plan.topics_each.is_none() {
            target.add_parameter("topics", &plan.topics);
        }
        target.add_parameter("format", plan.format.as_str());
        let pool = ClientPool::start(plan.reading(), plan.deflate, texts, clock)
            .map_err(BenchError::system("start a thread"))?;
        Ok(BenchHarness { server, pool, feed, target, subscriptions, connecting: None, growth: Growth::default() })
    }

    /// Connects or disconnects clients until there are `clients`.
    pub fn fill(&mut self, clients: usize, progress: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        let present = self.pool.clients();
        if clients < present {
            self.pool.keep(clients);
            self.settle(0);
            return Ok(());
        }
        let before = self.resident_bytes();
        let started = Instant::now();
        let mut reported = started;
        for index in present..clients {
            if let Some(names) = self.subscriptions.as_ref().and_then(|subscriptions| subscriptions.names(index)) {
                self.target.first_command = subscribe(&names);
            }
            let upgraded = self.target.dial(index).map_err(|error| BenchError::Dial { connected: index, error })?;
            self.pool.join(upgraded);
            if reported.elapsed() >= SECOND {
                reported = Instant::now();
                progress(&format!("{index} of {clients} clients connected"));
            }
        }
        if clients > present {
            self.connecting = Some(Connecting { clients: clients - present, seconds: started.elapsed().as_secs_f64() });
        }
        self.settle(0);
        if let (Some(before), Some(after), Some(_)) = (before, self.resident_bytes(), &self.feed)
            && present == self.growth.clients
        {
            self.growth.bytes += after.saturating_sub(before);
            self.growth.clients = clients;
        }
        match self.pool.totals(Vec::new()).tally.refusals {
            0 => Ok(()),
            refused => Err(BenchError::Refused { refused, clients }),
        }
    }

    pub fn clients(&self) -> usize {
        self.pool.clients()
    }

    /// Runs the feed for a moment, so that buffers have their sizes and compression its windows.
    pub fn warm_up(&self) {
        match &self.feed {
            Some(feed) => {
                self.pool.restart();
                feed.start(self.pool.received(), self.pool.clients());
                std::thread::sleep(WARM_UP);
                let owed = feed.pause().owed;
                self.settle(owed);
            }
            None => std::thread::sleep(WARM_UP),
        }
    }

    /// Measures for `span`, while so many lists are changed per second. After changes, lists are not the plan's any more.
    pub fn measure(
        &self,
        span: Duration,
        changes_per_second: Option<u64>,
        progress: &mut dyn FnMut(&str),
    ) -> Measurement {
        self.pool.restart();
        let before = self.moment();
        if let Some(feed) = &self.feed {
            feed.start(self.pool.received(), self.pool.clients());
        }
        let mut changes = self.subscriptions.as_ref().zip(changes_per_second).map(|(subscriptions, per_second)| {
            ListChanges::new(subscriptions, self.clients(), per_second as f64, before.at)
        });
        self.watch(before.at, span, changes.as_mut(), progress);
        let sent = self.feed.as_ref().map(BenchFeed::pause);
        let owed = self.feed.as_ref().zip(sent.as_ref()).map(|(feed, sent)| match &mut changes {
            Some(changes) => changes.owed(&sent.by_topic),
            None => feed.owed(sent).into_iter().map(Owed::exactly).collect(),
        });
        let owed: Vec<Owed> = owed.unwrap_or_default();
        let end = self.settle(owed.iter().map(|owed| owed.least).sum());
        let totals = self.pool.totals(owed);
        let changes = changes.map_or(0, |changes| changes.made());
        Measurement { changes, ..self.step((&before, end), &totals, sent) }
    }

    /// Reports progress once a second, and changes lists, until `span` is over.
    fn watch(
        &self,
        started: Instant,
        span: Duration,
        mut changes: Option<&mut ListChanges<'_>>,
        progress: &mut dyn FnMut(&str),
    ) {
        let pause = if changes.is_some() { POLL_INTERVAL } else { SECOND };
        let mut last = (started, 0);
        while let Some(left) = span.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(pause));
            let now = Instant::now();
            if let Some((changes, feed)) = changes.as_mut().zip(self.feed.as_ref()) {
                self.pool.send(changes.step(now, || feed.sent_by_topic()));
            }
            if now - last.0 >= SECOND {
                let deliveries = self.report(started, last, progress);
                last = (now, deliveries);
            }
        }
    }

    /// Reports progress since `last`; returns the deliveries so far.
    fn report(&self, started: Instant, last: (Instant, u64), progress: &mut dyn FnMut(&str)) -> u64 {
        let PoolTotals { tally, .. } = self.pool.totals(Vec::new());
        let rate = (tally.deliveries - last.1) as f64 / last.0.elapsed().as_secs_f64();
        let latency = Latency::of(&tally.ages).map_or(String::new(), |latency| {
            format!(", p50 {:.1} ms, p99 {:.1} ms", latency.p50_us / 1000.0, latency.p99_us / 1000.0)
        });
        let (seconds, clients) = (started.elapsed().as_secs_f64(), self.clients());
        progress(&format!("{seconds:.0} s, {clients} clients: {rate:.0} deliveries/s{latency}"));
        tally.deliveries
    }

    /// With the bench's feed: waits until nothing more arrives. Returns when the last delivery arrived. `due` is the least
    /// number of deliveries since the last restart.
    fn settle(&self, due: u64) -> Instant {
        let received = self.pool.received();
        let (mut seen, mut since) = (None, Instant::now());
        if self.feed.is_some() {
            wait(CONNECT_DEADLINE, || {
                let deliveries = received.load(Ordering::Relaxed);
                if seen != Some(deliveries) {
                    (seen, since) = (Some(deliveries), Instant::now());
                }
                since.elapsed() >= if deliveries < due { STILL_WITHOUT } else { STILL }
            });
        }
        since
    }

    fn step(&self, (before, end): (&Reading, Instant), totals: &PoolTotals, sent: Option<FeedTotals>) -> Measurement {
        let after = self.moment();
        let (deliveries, clients) = (totals.tally.deliveries, self.clients());
        let end = if deliveries > 0 { end } else { after.at };
        let seconds = (end - before.at).as_secs_f64();
        let each = |sum: f64| (deliveries > 0).then_some(sum / deliveries as f64);
        let messages = sent.as_ref().map(|sent| sent.wanted);
        let server = before.server.zip(after.server).map(|(before, after)| {
            let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            ServerFigures {
                cores: cpu_s / seconds,
                cpu_us_per_delivery: each(cpu_s * 1e6),
                cpu_us_per_message: messages
                    .filter(|messages| *messages > 0)
                    .map(|messages| cpu_s * 1e6 / messages as f64),
                resident_bytes: after.resident_bytes,
                bytes_per_connection: self.growth.of_one(),
            }
        });
        let generator_cores = after.generator.saturating_sub(before.generator).as_secs_f64() / seconds;
        let other_cores = before.machine.zip(after.machine).zip(server).map(|((before, after), server)| {
            (after.saturating_sub(before).as_secs_f64() / seconds - server.cores - generator_cores).max(0.0)
        });
        Measurement {
            clients,
            connecting: self.connecting,
            seconds,
            feed_topics: self.subscriptions.as_ref().map(|subscriptions| subscriptions.topics()),
            messages,
            messages_per_second: messages.map_or(deliveries as f64 / clients.max(1) as f64, |messages| messages as f64)
                / seconds,
            feed_messages: sent.as_ref().map(|sent| sent.messages),
            bytes_per_message: sent
                .as_ref()
                .filter(|sent| sent.messages > 0)
                .map(|sent| sent.bytes as f64 / sent.messages as f64),
            deliveries,
            deliveries_per_second: deliveries as f64 / seconds,
            bytes_per_delivery: each(totals.tally.bytes as f64),
            ratio: (totals.tally.followed > 0)
                .then(|| totals.tally.followed_plain_bytes as f64 / totals.tally.followed_bytes as f64),
            changes: 0,
            latency: Latency::of(&totals.tally.ages),
            server,
            generator_cores,
            other_cores,
            lost: sent.as_ref().map(|_| totals.lost),
            repeated: sent.as_ref().map(|_| totals.repeated),
            gaps: totals.tally.gaps,
            compared: totals.tally.compared,
            wrong: totals.tally.wrong,
            refusals: totals.tally.refusals,
            notices: totals.tally.notices,
            pings: totals.tally.pings,
            skips: totals.tally.skips,
            ended: totals.ended,
            unheard: sent.map_or(0, |sent| sent.unheard),
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
    /// Bytes per connection; none without new connections.
    fn of_one(self) -> Option<f64> {
        (self.clients > 0).then(|| self.bytes as f64 / self.clients as f64)
    }
}

/// Waits until `done`, at most until the deadline; returns whether it is done.
fn wait(deadline: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
