//! An intake on a bus of its own, for tests that play the venue themselves.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanline::bus::clock::Clock;
use fanline::bus::feed_state::{FeedState, StaleReason};
use fanline::bus::reader::Reader;
use fanline::bus::signal::doorbell::Doorbell;
use fanline::bus::{self, Limits};
use fanline::config::effective::EffectiveUpstream;
use fanline::intake::upstream::{Settings, Upstream, UpstreamError};
use fanline::profile::Profile;
use fanline::settings::table::Config;
use fanline::words::ids::{Epoch, Offset};
use fanline::words::metrics::Meters;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;

/// How long anything that should happen may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running intake, and what it publishes.
pub struct Intake {
    pub reader: Reader,
    news: Arc<Notify>,
    bell: Arc<Doorbell>,
    meters: PrometheusHandle,
    log: Log,
    _logging: DefaultGuard,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), UpstreamError>>,
}

impl Intake {
    pub fn start(settings: Settings) -> Intake {
        let limits = Limits { ring_frames_max: 1024, ring_bytes_max: 64 << 20, topics_max: 100 };
        Intake::start_within(limits, settings)
    }

    pub fn start_within(limits: Limits, settings: Settings) -> Intake {
        let log = Log::default();
        let logger = tracing_subscriber::fmt().with_ansi(false).with_writer({
            let log = log.clone();
            move || log.clone()
        });
        let logging = tracing::subscriber::set_default(logger.finish());
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        let meters = Meters::new(Arc::new(recorder));
        let (publisher, reader) = bus::open(Epoch(1), limits, &meters);
        let news = Arc::new(Notify::new());
        let struck = news.clone();
        let bell = Arc::new(Doorbell::new(move || struck.notify_one()));
        reader.add_doorbell(bell.clone());
        let upstream = Upstream::new(settings, publisher, Clock::start(), &meters).expect("right settings");
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(upstream.run(stopped));
        Intake { reader, news, bell, meters: prometheus, log, _logging: logging, stop, running }
    }

    /// Waits until `holds` is true of the feed.
    pub async fn until(&self, what: &str, holds: impl Fn(&FeedState) -> bool) {
        let waiting = async {
            loop {
                self.bell.arm();
                if holds(&self.reader.feed()) {
                    return;
                }
                self.news.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        let found = self.reader.feed();
        assert!(waited.is_ok(), "waited for {what}, found {found:?}, {:#?} and\n{}", self.published(), self.log());
    }

    /// Waits until the feed is stale for this reason, and the log has said this.
    pub async fn until_stale(&self, expected: StaleReason, part: &str) {
        let is_stale = |state: &FeedState| matches!(state, FeedState::Stale { reason, .. } if *reason == expected);
        self.until(part, |state| is_stale(state) && self.log().contains(part)).await;
    }

    /// Waits until the log has said this; of a test on one thread.
    pub async fn until_logged(&self, part: &str) {
        const INTERVAL: Duration = Duration::from_millis(5);
        let waiting = async {
            while !self.log().contains(part) {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "expected `{part}` in\n{}", self.log());
    }

    /// The log so far; of a test on one thread.
    pub fn log(&self) -> String {
        let log = self.log.0.lock().expect("no holder panics");
        String::from_utf8_lossy(&log).into_owned()
    }

    pub async fn until_live(&self) {
        self.until("live", |state| *state == FeedState::Live).await;
    }

    /// Everything that was published so far, as topic and payload.
    pub fn published(&self) -> Vec<(String, String)> {
        let frame = |offset| self.reader.frame(Offset(offset)).hot().expect("the ring holds all");
        let frames = (1..=self.reader.head().0).map(frame);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        frames.map(|frame| (frame.topic.name.to_string(), text(&frame.payload.bytes))).collect()
    }

    /// The metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.meters.render()
    }

    pub fn assert_metric(&self, line: &str) {
        let text = self.metrics();
        assert!(text.lines().any(|found| found == line), "expected `{line}` in\n{text}");
    }

    /// Stops it, and gives what it ended with.
    pub async fn end(self) -> Result<(), UpstreamError> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(self) -> Result<(), UpstreamError> {
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("it ends in time");
        ended.expect("it does not panic")
    }
}

/// Lines in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no holder panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Settings of an intake that connects and reconnects quickly; the rest as documented.
pub fn settings(url: &str, profile: Profile, items: &[&str]) -> Settings {
    Settings {
        items: items.iter().map(|item| item.to_string()).collect(),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: None,
        ping_interval: Duration::ZERO,
        pong_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        ..EffectiveUpstream::new(&Config::default(), profile, url.into()).settings
    }
}
