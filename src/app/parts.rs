//! The vital threads of the server, watched in one place: none ends unnoticed.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::config::logs::panic_message;

/// Interval of checks whether a part has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The vital threads that are still running.
#[derive(Default)]
pub(super) struct VitalParts(Vec<Part>);

struct Part {
    name: String,
    thread: JoinHandle<io::Result<()>>,
}

/// A part, and how it ended.
#[derive(Debug)]
pub struct EndedPart {
    pub part: String,
    how: How,
}

#[derive(Debug)]
enum How {
    ByItself,
    Failed(io::Error),
    Panicked(String),
}

impl VitalParts {
    /// Starts a part. It may end only when the server stops.
    pub(super) fn start(
        &mut self,
        name: &str,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        self.watch(thread);
        Ok(())
    }

    /// Watches a thread that is named after its part.
    pub(super) fn watch(&mut self, thread: JoinHandle<io::Result<()>>) {
        let name = thread.thread().name().unwrap_or("unnamed").into();
        self.0.push(Part { name, thread });
    }

    /// Waits until a part has ended; returns it.
    pub(super) async fn one_ended(&mut self) -> EndedPart {
        loop {
            match self.0.iter().position(|part| part.thread.is_finished()) {
                Some(index) => return EndedPart::of(self.0.swap_remove(index)),
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Waits until all parts have ended, after a stop. The error is the first one that failed.
    pub(super) async fn all_ended(&mut self) -> Result<(), EndedPart> {
        while !self.0.is_empty() {
            let ended = self.one_ended().await;
            if !matches!(ended.how, How::ByItself) {
                return Err(ended);
            }
        }
        Ok(())
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|part| part.name.as_str()).collect()
    }
}

impl EndedPart {
    fn of(part: Part) -> EndedPart {
        let how = match part.thread.join() {
            Ok(Ok(())) => How::ByItself,
            Ok(Err(error)) => How::Failed(error),
            Err(panic) => How::Panicked(panic_message(&*panic).into()),
        };
        EndedPart { part: part.name, how }
    }

    pub fn panicked(part: &str, panic: &(dyn std::any::Any + Send)) -> EndedPart {
        EndedPart { part: part.into(), how: How::Panicked(panic_message(panic).into()) }
    }
}

impl fmt::Display for EndedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = &self.part;
        match &self.how {
            How::ByItself => write!(f, "`{part}` ended unexpectedly"),
            How::Failed(error) => write!(f, "`{part}` failed: {error}"),
            How::Panicked(message) => write!(f, "`{part}` panicked: {message}"),
        }
    }
}

/// A runtime for one thread.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs to the end on this thread. Nothing that blocks, such as a name resolution, delays that end, not even at a panic.
pub(super) fn drive<T>(runtime: Runtime, run: impl Future<Output = T>) -> T {
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run)));
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}
