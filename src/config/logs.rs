//! The log: to stderr, as text for people or as JSON for machines.
//!
//! stdout is reserved for the few lines that other programs wait for. No fault of stderr or stdout delays or ends the
//! process: lines go through `log_queue`, panics become log lines, and single sentences have a deadline.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tracing_subscriber::{EnvFilter, reload};

use crate::config::log_queue::LogQueue;
use crate::settings::table::{Log, LogFormat};

/// Longest wait for the log's reader at the end of the process, and for the reader of a single sentence.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of a running command. Dropping it writes the remaining lines, unless that takes too long.
pub struct Logging {
    pub queue: LogQueue,
    pub level: LogLevel,
}

/// The level of a running log.
#[derive(Clone)]
pub struct LogLevel(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogLevel {
    /// From now on; `level` is as in `log.level`.
    pub fn set(&self, level: &str) {
        if let Err(error) = (self.0)(filter_of(level)) {
            tracing::warn!(%error, "the level of the log could not be changed");
        }
    }
}

/// Starts the log of this process, panics included. Later calls have no effect, so that several servers can live in one
/// test process.
pub fn start(log: &Log) -> Logging {
    let queue = LogQueue::default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter_of(&log.level)).with_writer(queue.clone());
    // Its own errors would go to stderr past the queue.
    let lines = lines.log_internal_errors(false);
    let (started, level) = match log.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), LogLevel(Arc::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            (lines.try_init(), LogLevel(Arc::new(move |filter| handle.reload(filter))))
        }
    };
    if started.is_ok() {
        let writer = queue.clone();
        let write = move || writer.write_to(io::stderr(), report_dropped);
        // Without a thread the queue fills up; lines are then dropped, and the metrics show it.
        drop(std::thread::Builder::new().name("log".into()).spawn(write));
        std::panic::set_hook(Box::new(log_panic));
    }
    Logging { queue, level }
}

fn filter_of(level: &str) -> EnvFilter {
    // It tells of each attempt to connect, ten a second; `src/cluster` tells of those that matter.
    EnvFilter::builder().parse_lossy(format!("async_nats=warn,{level}"))
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.flush(PATIENCE);
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(lines, "log lines were dropped: they were not read in time, or could not be written");
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string);
    let message = panic_message(panic.payload());
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(thread, place, backtrace = backtrace.map(tracing::field::display), "a thread panicked: {message}");
}

/// The message of a panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// Writes a sentence to stdout or stderr; waits at most one second for a reader that takes nothing.
///
/// # Errors
/// It could not be written, or not in time.
pub fn write_within(mut out: impl Write + Send + 'static, sentence: String) -> io::Result<()> {
    let (written, outcome) = channel();
    let write = move || {
        let outcome = out.write_all(sentence.as_bytes()).and_then(|()| out.flush());
        // After the deadline nobody receives it.
        let _ = written.send(outcome);
    };
    std::thread::Builder::new().name("sentence".into()).spawn(write)?;
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
