//! Opening an archive: which epoch goes on, and from which offset.
//!
//! The epoch goes on only where no offset can get a second content: where the reservation before counts. Then the
//! offsets that may have been given and are not archived stand for nothing. Otherwise another epoch begins, and clients
//! with a cursor of before are told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use feed_log::segments::disk::LogDisk;
use feed_log::segments::error::SegmentError;
use feed_log::segments::{SegmentLimits, Segments};

use crate::bus::archive::directory::ArchiveDirectory;
use crate::bus::archive::meters::ArchiveMeters;
use crate::bus::archive::recorder::{Recorder, RecorderParts};
use crate::bus::archive::reservation::Reservation;
use crate::bus::archive::restore::Restore;
use crate::bus::archive::sync::ArchiveSync;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::private_directory::PrivateDirectoryError;
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::words::ids::{Epoch, Offset};
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

/// Segments that fill an archive: so much goes at once.
const SEGMENTS: u64 = 32;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Offsets that are reserved ahead: after a kill, at most these stand for nothing, in an eighth of the ring.
const WINDOW_MAX: u64 = 8192;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Directory(#[from] PrivateDirectoryError),
    #[error("archive.dir: {error}; repair `{}`, or choose another directory", .path.display())]
    Segment { path: PathBuf, error: SegmentError },
    #[error("archive.dir: expected to read and write `{}`, found: {error}; check the disk, or choose another directory", .path.display())]
    Disk { path: PathBuf, error: io::Error },
}

/// What an archive is opened with.
#[derive(Clone, Debug)]
pub struct ArchiveTerms {
    pub directory: PathBuf,
    pub age_max: Duration,
    pub bytes_max: u64,
    pub sync_interval: Duration,
    pub ring_frames: usize,
}

/// An archive, before anything of it is in the bus.
pub struct OpenArchive {
    terms: ArchiveTerms,
    disk: Arc<dyn LogDisk>,
    segments: Segments,
    reservation: Reservation,
    epoch: Epoch,
    /// The newest archived offset.
    archived: Offset,
    /// The newest that may have been given.
    given: Offset,
}

/// What goes on from an archive.
pub struct RestoredArchive {
    pub recorder: Recorder,
    pub sync: ArchiveSync,
}

impl OpenArchive {
    /// # Errors
    /// The directory cannot be used, or the disk does not answer.
    pub fn open(terms: ArchiveTerms) -> Result<OpenArchive, ArchiveError> {
        let disk: Arc<dyn LogDisk> = Arc::new(ArchiveDirectory::open(&terms.directory)?);
        OpenArchive::on(disk, terms)
    }

    pub(super) fn on(disk: Arc<dyn LogDisk>, terms: ArchiveTerms) -> Result<OpenArchive, ArchiveError> {
        let limits = SegmentLimits {
            segment_bytes: (terms.bytes_max / SEGMENTS).min(SEGMENT_BYTES_MAX),
            bytes_max: terms.bytes_max,
            age_max_ms: u64::try_from(terms.age_max.as_millis()).unwrap_or(u64::MAX),
        };
        let path = terms.directory.clone();
        let (segments, found) = Segments::open(disk.clone(), limits)
            .map_err(|error| ArchiveError::Segment { path: path.clone(), error })?;
        if found.torn_bytes + found.damaged_files > 0 {
            tracing::warn!(
                bytes = found.torn_bytes,
                files = found.damaged_files,
                "the end of the archive was not written whole, and is cut off"
            );
        }
        let window = (terms.ring_frames as u64 / 8).clamp(2, WINDOW_MAX);
        let opened = Reservation::open(disk.clone(), window);
        let (reservation, reserved) = opened.map_err(|error| ArchiveError::Disk { path, error })?;
        let newest = segments.newest();
        let archived = Offset(newest.map_or(0, |newest| newest.header.next_offset().saturating_sub(1)));
        let goes_on = reserved.filter(|reserved| {
            let holes = reserved.until.0.checked_sub(archived.0);
            newest.is_some_and(|newest| newest.header.epoch == reserved.epoch.0)
                && holes.is_some_and(|holes| holes <= window)
        });
        let (epoch, given) = match goes_on {
            Some(reserved) => (reserved.epoch, reserved.until),
            None => (Epoch(rand::random()), archived),
        };
        Ok(OpenArchive { terms, disk, segments, reservation, epoch, archived, given })
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Brings what is archived into a bus of this epoch, and goes on recording what its reader sees.
    ///
    /// # Errors
    /// The disk does not answer.
    pub fn restore(
        self,
        (publisher, reader): (&mut Publisher, Reader),
        now: Stamp,
        meters: &Meters,
    ) -> Result<RestoredArchive, ArchiveError> {
        let OpenArchive { terms, disk, segments, reservation, epoch, archived, given } = self;
        let path = terms.directory.clone();
        let mut restore = Restore::new(publisher, now);
        restore
            .run(&segments, (archived, terms.ring_frames), &path)
            .map_err(|error| ArchiveError::Segment { path: path.clone(), error })?;
        restore.hold_place(given.0 + 1);
        let (frames, newest_ms) = (restore.frames, restore.newest_ms);
        let meters = ArchiveMeters::new(meters);
        let (jobs, waiting_jobs) = sync_channel(1);
        let parts = RecorderParts { reader, segments, reservation, epoch, cursor: publisher.head(), jobs };
        let mut recorder = Recorder::new(parts, disk.clone(), terms.sync_interval, meters.clone());
        recorder.reserve(now).map_err(|error| ArchiveError::Disk { path: path.clone(), error })?;
        tell_silence(publisher, (newest_ms, terms.ring_frames / 4), now);
        recorder.write(now).map_err(|error| ArchiveError::Disk { path, error })?;
        if archived > Offset::START {
            tracing::info!(
                %epoch, offset = %publisher.head(), frames, topics = publisher.topics(),
                "the archive is restored, and clients can resume"
            );
        }
        Ok(RestoredArchive { recorder, sync: ArchiveSync { jobs: waiting_jobs, disk, meters } })
    }
}

/// What is restored is as old as it is, and nobody knows what came since: a gap of each topic, or, where that would
/// take too much of the ring, of those whose deltas could be applied to the wrong value.
fn tell_silence(publisher: &mut Publisher, (newest_ms, topics_max): (u64, usize), now: Stamp) {
    if newest_ms == 0 {
        return;
    }
    publisher.publish_gaps(&publisher.topics_or_those_of_deltas(topics_max), now);
    let message = "the server has started again, and its feed has brought nothing yet".to_string();
    publisher.announce(FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms: newest_ms, message });
}
