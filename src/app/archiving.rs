//! The archive of a server: opened before the bus, and fed by a thread of its own, which may pause for another process.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::bus::archive::open::{ArchiveError, ArchiveTerms, OpenArchive, RestoredArchive};
use crate::bus::archive::recorder::Recorder;
use crate::bus::archive::sync::ArchiveSync;
use crate::bus::clock::Clock;
use crate::settings::table::Config;

/// How often the recorder looks for frames. So long may a frame be known to clients and not be archived yet.
const TURN_INTERVAL: Duration = Duration::from_millis(2);
/// How often a thread without an archive looks whether it is to end.
const PAUSED_INTERVAL: Duration = Duration::from_millis(50);
/// After the stop: the feed ends within it, and what is left is written.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// # Errors
/// The directory cannot be used.
pub(super) fn open(config: &Config) -> Result<Option<OpenArchive>, ArchiveError> {
    terms(config).map(OpenArchive::open).transpose()
}

/// None without an archive.
pub(super) fn terms(config: &Config) -> Option<ArchiveTerms> {
    let settings = &config.archive;
    Some(ArchiveTerms {
        directory: PathBuf::from(settings.dir.as_ref()?),
        age_max: settings.age_max,
        bytes_max: settings.bytes_max as u64,
        sync_interval: settings.sync_interval,
        ring_frames: config.ring.frames_max,
    })
}

/// Orders for the thread that records.
#[derive(Clone)]
pub(super) struct ArchiveControl(Sender<ArchiveCall>);

enum ArchiveCall {
    /// Nothing is published any more: what is left is written, the directory is given up, and then this is answered.
    Close(oneshot::Sender<()>),
    /// Goes on with the directory.
    Open(Box<RestoredArchive>),
}

impl ArchiveControl {
    /// Gives up the directory. Returns once another process may have it, or the thread has ended.
    pub(super) async fn close(&self) {
        let (closed, answer) = oneshot::channel();
        if self.0.send(ArchiveCall::Close(closed)).is_ok() {
            // Without an answer the thread has ended, and the server with it.
            let _ = answer.await;
        }
    }

    pub(super) fn open(&self, archive: RestoredArchive) {
        // A thread that has ended ends the server.
        let _ = self.0.send(ArchiveCall::Open(Box::new(archive)));
    }
}

/// The thread that records, and what gives it orders.
pub(super) fn recording(
    archive: RestoredArchive,
    clock: Clock,
    stopped: watch::Receiver<bool>,
) -> (ArchiveControl, impl FnOnce() -> io::Result<()> + Send) {
    let (calls, orders) = channel();
    (ArchiveControl(calls), move || RecordingThread { orders, clock, stopped }.run(archive))
}

struct RecordingThread {
    orders: Receiver<ArchiveCall>,
    clock: Clock,
    stopped: watch::Receiver<bool>,
}

impl RecordingThread {
    /// Records until the stop, but for the time between an order to close and one to open.
    fn run(&self, archive: RestoredArchive) -> io::Result<()> {
        let mut next = Some(Box::new(archive));
        while let Some(archive) = next {
            let Some(closed) = self.record(*archive)? else { return Ok(()) };
            // Who asked may have given up.
            let _ = closed.send(());
            next = self.wait();
        }
        Ok(())
    }

    /// Records; returns whom to answer once the directory is given up, or none at the stop.
    fn record(&self, archive: RestoredArchive) -> io::Result<Option<oneshot::Sender<()>>> {
        let RestoredArchive { mut recorder, sync } = archive;
        let syncing = start_sync(sync)?;
        let (mut closes, mut ending) = (None, None);
        loop {
            if syncing.is_finished() {
                return join(syncing).and_then(|()| Err(io::Error::other("its sync ended unexpectedly")));
            }
            if closes.is_none()
                && let Ok(ArchiveCall::Close(closed)) = self.orders.try_recv()
            {
                closes = Some(closed);
            }
            if closes.is_some() || *self.stopped.borrow() {
                let since = *ending.get_or_insert_with(Instant::now);
                if self.is_over(&recorder, closes.is_some()) || since.elapsed() > END_TIMEOUT {
                    break;
                }
            }
            if !recorder.turn(self.clock.now()) {
                std::thread::sleep(TURN_INTERVAL);
            }
        }
        let nothing_follows = self.is_over(&recorder, closes.is_some());
        if let Err(error) = recorder.close(nothing_follows) {
            tracing::error!(%error, "the archive could not be closed; the next start goes on after offsets that stand for nothing");
        }
        // With it the last hold on the directory is gone.
        join(syncing)?;
        Ok(closes)
    }

    /// Whether all is written.
    fn is_over(&self, recorder: &Recorder, is_paused: bool) -> bool {
        recorder.is_done() || (is_paused && recorder.is_level())
    }

    /// The next archive; none at the stop.
    fn wait(&self) -> Option<Box<RestoredArchive>> {
        while !*self.stopped.borrow() {
            match self.orders.recv_timeout(PAUSED_INTERVAL) {
                Ok(ArchiveCall::Open(archive)) => return Some(archive),
                Ok(ArchiveCall::Close(closed)) => drop(closed.send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PAUSED_INTERVAL),
            }
        }
        None
    }
}

fn start_sync(sync: ArchiveSync) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name("archive-sync".into()).spawn(move || sync.run())
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("its sync has panicked")))
}
