//! Long work in short parts, so that it delays nothing else.
//!
//! Answers use at most half of one core: after each part the work pauses for as long, and then lets other work go first.
//! So long answers do not delay a short one.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::clock::thread_cpu;

/// 5 ms: short compared with what a client notices, long compared with a switch of threads.
const PART: Duration = Duration::from_millis(5);

/// Work between two readings of the clock: about 100 us.
const WORK_MAX: usize = 512;

/// The cost of one answer so far, and its turn. For threads that may block.
pub(in crate::edge) struct WorkPace {
    turns: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
    runtime: Handle,
    /// Since the last reading of the clock.
    work: usize,
    begun: Duration,
    /// CPU time at the start of the part, so that a busy machine does not count.
    part: Duration,
}

impl WorkPace {
    /// Waits for the first turn.
    pub(crate) fn begin(turns: Arc<Semaphore>, runtime: Handle) -> WorkPace {
        let now = thread_cpu();
        let mut pace = WorkPace { turns, turn: None, runtime, work: 0, begun: now, part: now };
        pace.take_turn();
        pace
    }

    /// Called for each item; `work` is its approximate time in units of 200 ns.
    pub(crate) fn breathe(&mut self, work: usize) {
        self.work += 1 + work;
        if self.work < WORK_MAX {
            return;
        }
        self.work = 0;
        if thread_cpu().saturating_sub(self.part) >= PART {
            thread::sleep(PART);
            self.take_turn();
            self.part = thread_cpu();
        }
    }

    /// CPU time so far.
    pub(crate) fn cost(&self) -> Duration {
        thread_cpu().saturating_sub(self.begun)
    }

    /// Waits behind all that wait already.
    fn take_turn(&mut self) {
        self.turn = None;
        let turn = self.runtime.block_on(self.turns.clone().acquire_owned());
        self.turn = Some(turn.expect("the turns are never closed"));
    }
}
