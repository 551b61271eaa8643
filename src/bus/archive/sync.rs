//! The thread that makes the archive safe against a loss of power, so that a slow disk does not hold up the recorder.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use feed_log::segments::Unsynced;
use feed_log::segments::disk::LogDisk;

use crate::bus::archive::meters::{ArchiveFailure, ArchiveMeters};

pub struct ArchiveSync {
    pub(super) jobs: Receiver<Unsynced>,
    pub(super) disk: Arc<dyn LogDisk>,
    pub(super) meters: ArchiveMeters,
}

impl ArchiveSync {
    /// Works until the recorder has ended. What fails is tried again with what comes next.
    pub fn run(self) -> io::Result<()> {
        let mut left = Unsynced::default();
        while let Ok(job) = self.jobs.recv() {
            left.merge(job);
            match left.sync(&*self.disk) {
                Ok(()) => left = Unsynced::default(),
                Err(error) => {
                    self.meters.failed(ArchiveFailure::Sync);
                    tracing::error!(
                        %error,
                        "the archive cannot be synced, so a loss of power could take what was written; \
                         check the disk of archive.dir"
                    );
                }
            }
        }
        Ok(())
    }
}
