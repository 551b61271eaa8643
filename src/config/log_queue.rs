//! The queue of log lines for the thread that writes them, so that no other thread ever waits for the log.
//!
//! The reader of a log may be slow, stopped or gone, and its disk may be full. So the queue is bounded in bytes. Lines
//! beyond the bound and lines that could not be written are dropped, counted, and reported once writing works again.
//! Part of the room is kept for warnings and errors.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// About 7,000 lines; as much again may be on its way to the reader.
const BYTES_MAX: usize = 1 << 20;
/// Of these, reserved for warnings and errors.
const URGENT_BYTES: usize = BYTES_MAX / 4;
/// Pause between attempts to write to a non-blocking stderr that is full.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The queue; clones share it.
#[derive(Clone, Default)]
pub struct LogQueue {
    shared: Arc<QueueShared>,
}

#[derive(Default)]
struct QueueShared {
    /// Held for a copy of one line, never while writing.
    state: Mutex<QueueState>,
    /// Wakes the writing thread: there are lines.
    news: Condvar,
    /// Wakes threads that flush: a batch is done.
    dealt: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: Vec<u8>,
    lines: u64,
    writing: bool,
    dropped: u64,
    dropped_unreported: u64,
}

/// Accepts one whole line.
pub struct LineWriter<'q> {
    queue: &'q LogQueue,
    urgent: bool,
}

impl LogQueue {
    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Waits until everything is written or given up, at most for `patience`.
    pub fn flush(&self, patience: Duration) {
        let busy = |state: &mut QueueState| state.writing || !state.waiting.is_empty();
        // Nothing more can be done for the log, whatever the outcome.
        drop(self.shared.dealt.wait_timeout_while(self.state(), patience, busy));
    }

    /// Writes lines to `out`, for ever. Calls `report` with the number of dropped lines once writing works again.
    pub(super) fn write_to(&self, mut out: impl Write, report: impl Fn(u64)) {
        loop {
            let (batch, lines) = self.next();
            let written = write_all(&mut out, &batch);
            let dropped = self.dealt_with(lines, written.is_ok());
            if dropped > 0 {
                report(dropped);
            }
        }
    }

    fn push(&self, line: &[u8], urgent: bool) {
        let bytes_max = if urgent { BYTES_MAX } else { BYTES_MAX - URGENT_BYTES };
        let mut state = self.state();
        if state.waiting.len() + line.len() > bytes_max {
            state.drop_lines(1);
            return;
        }
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.shared.news.notify_one();
    }

    fn next(&self) -> (Vec<u8>, u64) {
        let nothing = |state: &mut QueueState| state.waiting.is_empty();
        let state = self.shared.news.wait_while(self.state(), nothing);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        let lines = std::mem::take(&mut state.lines);
        (std::mem::take(&mut state.waiting), lines)
    }

    /// Returns the number of dropped lines to report now.
    fn dealt_with(&self, lines: u64, written: bool) -> u64 {
        let mut state = self.state();
        state.writing = false;
        if !written {
            state.drop_lines(lines);
        }
        let unreported = if written { std::mem::take(&mut state.dropped_unreported) } else { 0 };
        drop(state);
        self.shared.dealt.notify_all();
        unreported
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Each change is complete before anything can panic, so a poisoned lock is still valid.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn drop_lines(&mut self, lines: u64) {
        self.dropped += lines;
        self.dropped_unreported += lines;
    }
}

impl<'q> MakeWriter<'q> for LogQueue {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> LineWriter<'q> {
        LineWriter { queue: self, urgent: false }
    }

    fn make_writer_for(&'q self, metadata: &Metadata<'_>) -> LineWriter<'q> {
        LineWriter { queue: self, urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Like `Write::write_all`, also for a stderr that the parent process has made non-blocking.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LINE: [u8; 100] = [b'x'; 100];

    /// A reader that takes each batch only when the test sends its outcome.
    struct SlowReader {
        written: Sender<usize>,
        outcomes: Receiver<io::Result<()>>,
    }

    impl Write for SlowReader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.len()).expect("the test listens");
            self.outcomes.recv().unwrap_or(Ok(())).map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_reported_once_writing_works_again() {
        let queue = LogQueue::default();
        let (written, batches) = channel();
        let (outcome, outcomes) = channel();
        let (reported, reports) = channel();
        let writer = queue.clone();
        std::thread::spawn(move || {
            let report = |dropped| reported.send(dropped).expect("the test listens");
            writer.write_to(SlowReader { written, outcomes }, report);
        });
        queue.push(&LINE, false);
        assert_eq!(batches.recv_timeout(PATIENCE), Ok(100), "the first line is with the reader");

        let fitting = (BYTES_MAX - URGENT_BYTES) / LINE.len();
        (0..fitting + 7).for_each(|_| queue.push(&LINE, false));
        assert_eq!(queue.dropped(), 7);
        queue.push(&LINE, true);
        assert_eq!(queue.dropped(), 7, "a warning still finds room");
        queue.flush(Duration::from_millis(1));
        assert!(reports.try_recv().is_err(), "nothing is reported as long as nothing is read");

        outcome.send(Err(ErrorKind::StorageFull.into())).expect("the writer waits");
        assert_eq!(batches.recv_timeout(PATIENCE), Ok((fitting + 1) * 100), "a failed write is not the end");
        outcome.send(Ok(())).expect("the writer waits");
        assert_eq!(reports.recv_timeout(PATIENCE), Ok(8), "the line that was not written counts too");
        queue.flush(PATIENCE);
        assert_eq!(queue.dropped(), 8);
    }
}
