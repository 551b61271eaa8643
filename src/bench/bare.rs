//! The bare loop: the cost of the same bytes to the same number of sockets, and nothing else.
//!
//! One thread writes ready WireFrames to one socket after the other, several messages in each `send`. There are no
//! subscriptions, cursors or slow clients: a full socket delays everyone. It is the physical limit of the machine, and the
//! unit of ratios. Compressed bytes are those of stateless encodings.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::bus::clock::{Clock, thread_cpu};
use crate::protocol::encoding::{Encoder, Encoding, Envelope, Payload, PayloadKind};
use crate::words::ids::Offset;

use super::BenchError;
use super::client_pool::ClientPool;
use super::generator::Generator;
use super::options::RateOption;
use super::plan::{FeedPlan, FeedSource, Plan};
use super::tally::Latency;

/// Messages per send.
const BATCHES: [u64; 3] = [1, 16, 64];
const SPAN_MAX: Duration = Duration::from_secs(5);
/// Without a rate: messages by which the loop may be ahead of the average client; less than the kernel's buffers hold.
const AHEAD_MESSAGES: u64 = 1000;
const POLL_INTERVAL: Duration = Duration::from_micros(100);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// The cost of the loop at one number of messages per send.
#[derive(Clone, Debug, Serialize)]
pub struct Bare {
    pub messages_per_send: u64,
    pub deliveries: u64,
    pub deliveries_per_second: f64,
    pub bytes_per_delivery: f64,
    pub cores: f64,
    pub cpu_us_per_delivery: f64,
    pub latency: Option<Latency>,
}

/// Totals of the writing thread.
struct WriterTotals {
    messages: u64,
    cpu: Duration,
}

/// Runs the loop with the feed, the clients and the format of the plan.
pub fn compare(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<Vec<Bare>, BenchError> {
    let FeedSource::Ours { feed, .. } = &plan.source else { return Ok(Vec::new()) };
    let runs = BATCHES.map(|batch| {
        progress(&format!("the bare loop, {batch} messages per send"));
        run(plan, feed, batch)
    });
    runs.into_iter().collect()
}

fn run(plan: &Plan, feed: &FeedPlan, batch: u64) -> Result<Bare, BenchError> {
    let clock = Clock::start();
    let mut pool =
        ClientPool::start(plan.reading(), plan.deflate, None, clock).map_err(BenchError::system("start a thread"))?;
    let sockets = connect(&mut pool, plan.clients).map_err(BenchError::system("connect over loopback"))?;
    let generator = Generator::new(feed.market, feed.bytes)?;
    let encoding = Encoding::websocket(plan.format.format(), plan.deflate);
    let wanted = feed.subscriptions.subscribers(1).iter().map(|subscribers| *subscribers > 0).collect();
    let encoder = Encoder::new(plan.compression_level);
    let writer = Writer { sockets, generator, wanted, encoder, encoding, offset: 0, clock };
    let (rate, span, received) = (feed.rate, plan.span.min(SPAN_MAX), pool.received());
    let started = Instant::now();
    let writing = std::thread::spawn(move || writer.run(batch, rate, span, &received));
    let sent = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let sent = sent.map_err(BenchError::system("write to the clients of the bare loop"))?;
    let seconds = drained(&pool, sent.messages * plan.clients as u64).duration_since(started).as_secs_f64();
    let tally = pool.totals(Vec::new()).tally;
    let each = tally.deliveries.max(1) as f64;
    Ok(Bare {
        messages_per_send: batch,
        deliveries: tally.deliveries,
        deliveries_per_second: tally.deliveries as f64 / seconds,
        bytes_per_delivery: tally.bytes as f64 / each,
        cores: sent.cpu.as_secs_f64() / seconds,
        cpu_us_per_delivery: sent.cpu.as_secs_f64() * 1e6 / each,
        latency: Latency::of(&tally.ages),
    })
}

/// Opens `clients` connections: the client ends go to the pool, the others are returned.
fn connect(pool: &mut ClientPool, clients: usize) -> io::Result<Vec<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let connections = (0..clients).map(|_| {
        pool.join((TcpStream::connect(address)?.into(), Vec::new()));
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(WRITE_DEADLINE))?;
        Ok(socket)
    });
    connections.collect()
}

/// Waits for the last delivery.
fn drained(pool: &ClientPool, expected: u64) -> Instant {
    let (started, received) = (Instant::now(), pool.received());
    while received.load(Ordering::Relaxed) < expected && started.elapsed() < DRAIN_DEADLINE {
        std::thread::sleep(POLL_INTERVAL);
    }
    Instant::now()
}

struct Writer {
    sockets: Vec<TcpStream>,
    generator: Generator,
    /// By number of the topic.
    wanted: Vec<bool>,
    encoder: Encoder,
    encoding: Encoding,
    offset: u64,
    clock: Clock,
}

impl Writer {
    fn run(
        mut self,
        batch: u64,
        rate: RateOption,
        span: Duration,
        received: &Arc<AtomicU64>,
    ) -> io::Result<WriterTotals> {
        let (started, cpu) = (Instant::now(), thread_cpu());
        while started.elapsed() < span {
            let wait = match rate {
                RateOption::PerSecond(rate) => {
                    let due = Duration::from_secs_f64((self.offset + batch) as f64 / rate);
                    due.saturating_sub(started.elapsed())
                }
                RateOption::Max => {
                    let average = received.load(Ordering::Relaxed) / self.sockets.len().max(1) as u64;
                    if self.offset > average + AHEAD_MESSAGES { POLL_INTERVAL } else { Duration::ZERO }
                }
            };
            if wait.is_zero() {
                self.round(batch)?;
            } else {
                std::thread::sleep(wait.min(span.saturating_sub(started.elapsed())));
            }
        }
        Ok(WriterTotals { messages: self.offset, cpu: thread_cpu().saturating_sub(cpu) })
    }

    /// One send to every socket.
    fn round(&mut self, batch: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..batch {
            let mut message = self.generator.next(&self.clock);
            while !self.wanted[message.number] {
                message = self.generator.next(&self.clock);
            }
            self.offset += 1;
            let topic = message.topic().to_owned();
            let payload = Payload { bytes: Bytes::from(message.text), kind: PayloadKind::Json };
            let (offset, ts_ms) = (Offset(self.offset), self.clock.now().wall_ms);
            let encoded = self
                .encoder
                .encode(self.encoding, &Envelope { topic: &topic, offset, ts_ms, kind: None, payload: &payload });
            bytes.extend_from_slice(&encoded.bytes);
        }
        self.sockets.iter_mut().try_for_each(|socket| socket.write_all(&bytes))
    }
}
