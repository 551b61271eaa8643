//! The canary: a subscriber of the server's own, on a thread of its own, which connects to a public listener over a real
//! socket and sees what a client sees.
//!
//! It shows a key that this process has made, and is served like a client and counted nowhere
//! (`edge/entrance/canary.rs`). What should arrive it knows from the ring: the newest message of its topic. The time of
//! a message is that of its frame, so both ends of a measurement are of one clock. Off by default: it costs a session, a
//! delivery of each message of its topic and a shard that is awake, and whoever has no use for that should not pay.

mod messages;
mod sight;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use tokio::sync::watch;

use crate::bench::BenchError;
use crate::bench::client_pool::PONG;
use crate::bench::client_tls::Trust;
use crate::bench::dial::{DialError, DialTarget};
use crate::bus::clock::Clock;
use crate::bus::frame::{Frame, FrameKind};
use crate::bus::reader::Reader;
use crate::bus::shown_log::ShownLog;
use crate::bus::signal::pulse::Pulse;
use crate::config::canary_listener;
use crate::edge::admin_key::AdminKey;
use crate::edge::phase::Phase;
use crate::health::from_here;
use crate::settings::listener::ListenAddress;
use crate::settings::table::Config;
use crate::words::ids::Offset;
use crate::words::metrics::{self as names, Meters};
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

use self::messages::{Heard, MessageReader, NoMessages};
use self::sight::{CanarySight, SILENCE_MAX};

/// Time between two looks at what should have arrived.
const TICK: Duration = Duration::from_millis(250);
const TICK_NS: u64 = TICK.as_millis() as u64 * 1_000_000;
/// Ticks before the next attempt to connect.
const RETRY_TICKS: usize = 4;
/// For each step of a connection. All of them together must end before a sign of life is missed.
const DIAL_MAX: Duration = Duration::from_millis(1500);
/// 100 samples in a second are enough for a percentile.
const SAMPLE_NS: u64 = 10_000_000;
/// Frames among which the newest of the topic is looked for: the topic is a busy one.
const LOOK_BACK: u64 = 256;
/// Frames by which the busiest topic is known.
const CENSUS: u64 = 2048;
/// How often it is looked whether the topic still has messages.
const CENSUS_NS: u64 = 60_000_000_000;

/// What the rest of the server needs to know of the canary before it starts.
pub(super) struct CanaryPlan {
    pub pulse: Pulse,
    key: String,
    topic: Option<Pattern>,
    listens_with_client_ca: bool,
    meters: CanaryMeters,
}

struct CanaryMeters {
    latency: Histogram,
    silence: Gauge,
    reconnects: Counter,
}

/// What it lives among.
pub(super) struct CanarySurroundings {
    pub shown: ShownLog,
    pub clock: Clock,
    pub phases: watch::Receiver<Phase>,
    pub stopped: watch::Receiver<bool>,
}

struct CanarySubscriber {
    target: DialTarget,
    /// None: the busiest.
    topic: Option<Pattern>,
    around: CanarySurroundings,
    pulse: Pulse,
    meters: CanaryMeters,
    sight: CanarySight,
    was_blind: bool,
    next_sample_ns: u64,
    warnings: RateLimitedLog,
    refusals: RateLimitedLog,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum CanaryEnd {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("expected the server to go on, found that it has closed the connection")]
    Closed,
    #[error("expected to read, found: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Messages(#[from] NoMessages),
    #[error("expected messages that were published, found none for {} s", .0.as_secs())]
    Blind(Duration),
}

impl CanaryPlan {
    /// None if there is to be none.
    pub(super) fn of(config: &Config, meters: &Meters) -> Option<CanaryPlan> {
        // Also where there is none: a series that is 0 says so.
        let meters = CanaryMeters {
            latency: meters.histogram(&names::CANARY_LATENCY, &[]),
            silence: meters.gauge(&names::CANARY_SILENCE, &[]),
            reconnects: meters.counter(&names::CANARY_RECONNECTS, &[]),
        };
        meters.silence.set(0.0);
        meters.reconnects.increment(0);
        config.canary.enabled.then(|| CanaryPlan {
            pulse: Pulse::default(),
            key: format!("{:032x}", rand::random::<u128>()),
            topic: config.canary.topic.as_deref().and_then(|text| Pattern::parse(text).ok()),
            listens_with_client_ca: config.tls.client_ca.is_some(),
            meters,
        })
    }

    /// What it shows.
    pub(super) fn key(&self) -> AdminKey {
        AdminKey::of(&self.key)
    }

    /// What runs it until the stop. `listen` is where the server listens.
    ///
    /// # Errors
    /// None of these addresses suits it.
    pub(super) fn into_run(
        self,
        listen: &[ListenAddress],
        around: CanarySurroundings,
    ) -> Result<impl FnOnce() -> io::Result<()> + Send + 'static, BenchError> {
        let CanaryPlan { pulse, key, topic, listens_with_client_ca, meters } = self;
        let listener = canary_listener(listen, listens_with_client_ca);
        let scheme = if listener.is_some_and(|listener| listener.tls) { "wss" } else { "ws" };
        let address = listener.and_then(ListenAddress::socket_addr).map(from_here);
        let url = address.map_or_else(String::new, |address| format!("{scheme}://{address}/v1/canary"));
        // The listener is this process's own, and the key is of no use to anybody else.
        let mut target = DialTarget::parse(&url, &Trust::Anyone)?;
        target.headers = format!("authorization: Bearer {key}\r\n");
        target.deadline = DIAL_MAX;
        let subscriber = CanarySubscriber {
            target,
            topic,
            around,
            pulse,
            meters,
            sight: CanarySight::default(),
            was_blind: false,
            next_sample_ns: 0,
            warnings: RateLimitedLog::default(),
            refusals: RateLimitedLog::default(),
        };
        Ok(move || {
            subscriber.run();
            Ok(())
        })
    }
}

impl CanarySubscriber {
    fn run(mut self) {
        self.sight.begin(self.around.shown.reader().head(), self.around.clock.now());
        while !self.is_stopped() {
            let topic = self.topic.clone().or_else(|| busiest(&self.around.shown.reader()));
            if let Some(topic) = topic.as_ref().filter(|_| self.is_serving()) {
                match self.follow(topic) {
                    // It follows another topic, or there is nobody to follow.
                    Ok(()) => continue,
                    Err(end) if self.is_serving() => {
                        self.meters.reconnects.increment(1);
                        if let Some(hidden) = self.warnings.take(self.around.clock.now()) {
                            tracing::warn!(hidden, "the canary has lost its connection, or has none: {end}");
                        }
                    }
                    // Everybody is sent away.
                    Err(_) => {}
                }
            }
            for _ in 0..RETRY_TICKS {
                if self.is_stopped() {
                    return;
                }
                self.look(topic.as_ref());
                std::thread::sleep(TICK);
            }
        }
    }

    /// One connection. Ends without an error at a stop, or if another topic has to be followed.
    fn follow(&mut self, topic: &Pattern) -> Result<(), CanaryEnd> {
        let mut target = self.target.clone();
        target.add_parameter("topics", topic.as_str());
        let (mut socket, unread) = target.dial(0)?;
        socket.stream.set_read_timeout(Some(TICK))?;
        let (mut messages, mut buffer) = (MessageReader::default(), vec![0; 16 << 10]);
        let began = self.around.clock.now();
        let (mut next_look_ns, mut next_census_ns) = (0, began.mono_ns + CENSUS_NS);
        let mut received = unread;
        loop {
            let now = self.around.clock.now();
            for _ in 0..self.hear(&mut messages, &received, topic, now)? {
                socket.write_all(&PONG)?;
            }
            if now.mono_ns >= next_look_ns {
                next_look_ns = now.mono_ns + TICK_NS;
                self.look(Some(topic));
                if self.is_stopped() {
                    return Ok(());
                }
                // Another connection may be better.
                let silence = self.sight.silence(now).min(Duration::from_nanos(now.ns_since(began)));
                if silence > 2 * SILENCE_MAX {
                    return Err(CanaryEnd::Blind(silence));
                }
            }
            if now.mono_ns >= next_census_ns {
                next_census_ns = now.mono_ns + CENSUS_NS;
                if self.topic.is_none() && self.has_moved_away_from(topic) {
                    return Ok(());
                }
            }
            received.clear();
            match socket.read(&mut buffer) {
                Ok(0) => return Err(CanaryEnd::Closed),
                Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has arrived. Gives the pings to answer.
    fn hear(
        &mut self,
        messages: &mut MessageReader,
        received: &[u8],
        topic: &Pattern,
        now: Stamp,
    ) -> Result<usize, CanaryEnd> {
        let (mut pings, mut is_closed) = (0, false);
        messages.take(received, |heard| match heard {
            Heard::Frame { offset } => self.saw(Offset(offset), now),
            Heard::Welcome => {
                self.sight.begin(self.around.shown.reader().head(), now);
                tracing::info!(topic = topic.as_str(), address = %self.target.address, "the canary is connected");
            }
            Heard::Refusal(words) => {
                if let Some(hidden) = self.refusals.take(now) {
                    tracing::warn!(hidden, "the canary was refused its topic: {words}");
                }
            }
            Heard::Ping => pings += 1,
            Heard::Close => is_closed = true,
            Heard::Other => {}
        })?;
        if is_closed { Err(CanaryEnd::Closed) } else { Ok(pings) }
    }

    fn saw(&mut self, offset: Offset, now: Stamp) {
        if !self.sight.saw(offset) || now.mono_ns < self.next_sample_ns {
            return;
        }
        if let Some(frame) = self.around.shown.reader().frame(offset).hot() {
            self.next_sample_ns = now.mono_ns + SAMPLE_NS;
            self.meters.latency.record(now.ns_since(frame.received) as f64 / 1e9);
        }
    }

    /// Compares what has arrived with what was published, and tells.
    fn look(&mut self, topic: Option<&Pattern>) {
        let now = self.around.clock.now();
        match topic.filter(|_| self.is_serving()) {
            None => self.sight.rest(),
            Some(topic) => {
                if let Some(newest) = newest(&self.around.shown.reader(), topic, LOOK_BACK) {
                    self.sight.expect(newest.offset, newest.received);
                }
            }
        }
        let silence = self.sight.silence(now);
        self.meters.silence.set(silence.as_secs_f64());
        let is_blind = self.sight.is_blind(now);
        if is_blind && !self.was_blind {
            tracing::error!(
                "the canary lacks a message that was published {:.0} s ago; clients may receive nothing, too",
                silence.as_secs_f64()
            );
        } else if self.was_blind && !is_blind {
            tracing::warn!("the canary receives what is published again");
        }
        self.was_blind = is_blind;
        if !self.sight.is_lost(now) {
            self.pulse.beat(now);
        }
    }

    /// The topic has no messages any more, and others have.
    fn has_moved_away_from(&self, topic: &Pattern) -> bool {
        let reader = self.around.shown.reader();
        newest(&reader, topic, CENSUS).is_none() && busiest(&reader).is_some()
    }

    fn is_serving(&self) -> bool {
        *self.around.phases.borrow() == Phase::Serving
    }

    fn is_stopped(&self) -> bool {
        *self.around.stopped.borrow()
    }
}

/// The newest messages of the feed that are in the ring, the newest first.
fn recent(reader: &Reader, count: u64) -> impl Iterator<Item = Arc<Frame>> {
    let head = reader.head().0;
    let offsets = (head.saturating_sub(count) + 1..=head).rev();
    let frames = offsets.filter_map(|offset| reader.frame(Offset(offset)).hot());
    frames.filter(|frame| !frame.is_status() && !matches!(frame.kind, FrameKind::Expired(_)))
}

fn newest(reader: &Reader, topic: &Pattern, count: u64) -> Option<Arc<Frame>> {
    recent(reader, count).find(|frame| topic.matches(&frame.topic.name))
}

/// The topic with the most of the newest messages; none if there are none.
fn busiest(reader: &Reader) -> Option<Pattern> {
    let mut counts: HashMap<u32, (u32, Arc<Frame>)> = HashMap::new();
    for frame in recent(reader, CENSUS) {
        counts.entry(frame.topic.id.0).or_insert((0, frame)).0 += 1;
    }
    let (_, frame) = counts.into_values().max_by_key(|(count, frame)| (*count, frame.offset))?;
    Pattern::parse(&frame.topic.name).ok()
}

#[cfg(test)]
mod tests;
