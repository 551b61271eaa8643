//! The log: to stderr, as text for people or as JSON for machines.
//!
//! stdout is left to the few lines that other programs wait for. Nothing that can happen to stderr or stdout holds up or
//! ends the process: lines go through `log_queue`, panics are told as lines of the log, and single sentences have a
//! deadline.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::mpsc::channel;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::log_queue::LogQueue;
use crate::settings::table::{Log, LogFormat};

/// How long the end of the process waits for the log's reader, and anyone for the reader of a single sentence.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of a running command. When it is dropped, what was logged is written, unless that takes too long.
pub struct Logging {
    pub queue: LogQueue,
}

/// Starts the log of this process, which panics are told to as well. Later calls have no effect, so that several servers
/// can live in one test process.
pub fn start(log: &Log) -> Logging {
    let queue = LogQueue::default();
    let filter = EnvFilter::builder().parse_lossy(&log.level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue.clone());
    // Its own complaints would go to stderr past the queue.
    let lines = lines.log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_ok() {
        let writer = queue.clone();
        let write = move || writer.write_to(io::stderr(), tell_dropped);
        // Without a thread the log is full at some time; lines are dropped then, and that shows in the metrics.
        drop(std::thread::Builder::new().name("log".into()).spawn(write));
        std::panic::set_hook(Box::new(tell_panic));
    }
    Logging { queue }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.flush(PATIENCE);
    }
}

fn tell_dropped(lines: u64) {
    tracing::warn!(lines, "lines of the log were dropped: they were not read in time, or could not be written");
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string);
    let message = panic_message(panic.payload());
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(thread, place, backtrace = backtrace.map(tracing::field::display), "a thread panicked: {message}");
}

/// What a panic says.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// Writes a sentence to stdout or stderr; a reader that takes nothing is not waited for any longer than a second.
///
/// # Errors
/// It could not be written, or not in time.
pub fn write_within(mut out: impl Write + Send + 'static, sentence: String) -> io::Result<()> {
    let (written, outcome) = channel();
    let write = move || {
        let outcome = out.write_all(sentence.as_bytes()).and_then(|()| out.flush());
        // Nobody listens any more if it took too long.
        let _ = written.send(outcome);
    };
    std::thread::Builder::new().name("sentence".into()).spawn(write)?;
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
