//! The thread that writes blocks to the disk and reads them back, and the bounded queue of jobs to it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use crate::bus::delay::spool::failure::SpoolFailure;
use crate::bus::delay::spool::record::{self, BlockTopics};
use crate::bus::delay::spool::segment::{BlockPlace, SpoolFiles, SpoolStore, SpoolUsage};
use crate::bus::delay::waiting::WaitingFrame;
use crate::words::ids::Offset;

/// Blocks are bounded in bytes; this bounds those that are small.
const JOBS_MAX: usize = 256;

/// What a line needs for its spool.
#[derive(Clone)]
pub struct SpoolTerms {
    pub files: Arc<dyn SpoolFiles>,
    /// Bytes of the files of one view.
    pub bytes_max: u64,
}

/// What a queue wants of its worker. `entry` is the place of the block in the queue.
pub(in crate::bus::delay) enum SpoolJob {
    Store { entry: u64, frames: Vec<WaitingFrame> },
    Load { entry: u64, stored: StoredBlock },
}

/// How a job ended.
pub(in crate::bus::delay) enum SpoolAnswer {
    /// With the memory that the frames took.
    Stored {
        entry: u64,
        stored: StoredBlock,
        bytes: usize,
    },
    Refused {
        entry: u64,
        frames: Vec<WaitingFrame>,
        failure: SpoolFailure,
    },
    Loaded {
        entry: u64,
        frames: Vec<WaitingFrame>,
        damaged: usize,
    },
    Lost {
        entry: u64,
        topics: BlockTopics,
        frames: usize,
        failure: SpoolFailure,
    },
}

/// A block on disk; what stays of it in memory.
pub(in crate::bus::delay) struct StoredBlock {
    place: BlockPlace,
    frames: usize,
    until: Offset,
    pub topics: BlockTopics,
}

/// The queue's end.
pub(in crate::bus::delay) struct SpoolHandle {
    jobs: SyncSender<SpoolJob>,
    answers: Receiver<SpoolAnswer>,
}

/// Does the jobs of one queue, in their order.
pub struct SpoolWorker {
    jobs: Receiver<SpoolJob>,
    answers: Sender<SpoolAnswer>,
    store: SpoolStore,
    /// The block that is written or read.
    buffer: Vec<u8>,
}

impl SpoolHandle {
    /// Passes a job on, or gives it back if too many wait. Never waits.
    pub fn send(&self, job: SpoolJob) -> Result<(), SpoolJob> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    pub fn answer(&self) -> Option<SpoolAnswer> {
        self.answers.try_recv().ok()
    }
}

impl SpoolWorker {
    pub(in crate::bus::delay) fn open(terms: &SpoolTerms, usage: SpoolUsage) -> (SpoolHandle, SpoolWorker) {
        let (jobs, waiting_jobs) = sync_channel(JOBS_MAX);
        let (answers, waiting_answers) = channel();
        let store = SpoolStore::new(terms.files.clone(), terms.bytes_max, usage);
        let worker = SpoolWorker { jobs: waiting_jobs, answers, store, buffer: Vec::new() };
        (SpoolHandle { jobs, answers: waiting_answers }, worker)
    }

    /// Works until the line has ended. Fails never: what goes wrong is an answer.
    pub fn run(mut self) -> io::Result<()> {
        while let Ok(job) = self.jobs.recv() {
            self.work(job);
        }
        Ok(())
    }

    /// Does the next job, if one waits.
    #[cfg(test)]
    pub fn step(&mut self) -> bool {
        let job = self.jobs.try_recv().ok();
        job.map(|job| self.work(job)).is_some()
    }

    fn work(&mut self, job: SpoolJob) {
        let answer = match job {
            SpoolJob::Store { entry, frames } => self.store(entry, frames),
            SpoolJob::Load { entry, stored } => self.load(entry, stored),
        };
        self.store.tidy();
        // The line may have ended meanwhile.
        let _ = self.answers.send(answer);
    }

    fn store(&mut self, entry: u64, frames: Vec<WaitingFrame>) -> SpoolAnswer {
        self.buffer.clear();
        let topics = record::encode_block(&frames, &mut self.buffer);
        match self.store.append(&self.buffer) {
            Ok(place) => {
                let until = frames.last().map_or(Offset::START, |newest| newest.offset);
                let bytes = frames.iter().map(WaitingFrame::bytes).sum();
                SpoolAnswer::Stored { entry, stored: StoredBlock { place, frames: frames.len(), until, topics }, bytes }
            }
            Err(failure) => SpoolAnswer::Refused { entry, frames, failure },
        }
    }

    fn load(&mut self, entry: u64, stored: StoredBlock) -> SpoolAnswer {
        let StoredBlock { place, frames, until, topics } = stored;
        if let Err(error) = self.store.read(&place, &mut self.buffer) {
            return SpoolAnswer::Lost { entry, topics, frames, failure: SpoolFailure::Read(error) };
        }
        match record::decode_block(&self.buffer, &topics, (frames, until)) {
            Ok(decoded) => SpoolAnswer::Loaded { entry, frames: decoded.frames, damaged: decoded.damaged },
            Err(_) => SpoolAnswer::Lost { entry, topics, frames, failure: SpoolFailure::Damaged },
        }
    }
}
