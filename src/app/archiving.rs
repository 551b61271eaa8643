//! The archive of a server: opened before the bus, and fed by a thread of its own.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::bus::archive::open::{ArchiveError, ArchiveTerms, OpenArchive};
use crate::bus::archive::recorder::Recorder;
use crate::bus::clock::Clock;
use crate::settings::table::Config;

/// How often the recorder looks for frames. So long may a frame be known to clients and not be archived yet.
const TURN_INTERVAL: Duration = Duration::from_millis(2);
/// After the stop: the feed ends within it, and what is left is written.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// # Errors
/// The directory cannot be used.
pub(super) fn open(config: &Config) -> Result<Option<OpenArchive>, ArchiveError> {
    let settings = &config.archive;
    let Some(directory) = &settings.dir else { return Ok(None) };
    let terms = ArchiveTerms {
        directory: PathBuf::from(directory),
        age_max: settings.age_max,
        bytes_max: settings.bytes_max as u64,
        sync_interval: settings.sync_interval,
        ring_frames: config.ring.frames_max,
    };
    OpenArchive::open(terms).map(Some)
}

/// Records until the stop, and then what the feed has left.
pub(super) fn record(mut recorder: Recorder, clock: Clock, stopped: &watch::Receiver<bool>) -> io::Result<()> {
    let mut stopped_at = None;
    loop {
        if *stopped.borrow() {
            let since = *stopped_at.get_or_insert_with(Instant::now);
            if recorder.is_done() || since.elapsed() > END_TIMEOUT {
                break;
            }
        }
        if !recorder.turn(clock.now()) {
            std::thread::sleep(TURN_INTERVAL);
        }
    }
    if let Err(error) = recorder.close() {
        tracing::error!(%error, "the archive could not be closed; the next start goes on after offsets that stand for nothing");
    }
    Ok(())
}
