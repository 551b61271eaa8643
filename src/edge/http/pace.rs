//! Long work in short parts, so that it holds up nobody.
//!
//! One core at most is busy with answers, for half of the time: a part of work is followed by a rest of the same
//! length, and then by whoever else waits for a turn. So a short answer is not kept waiting by long ones.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::clock::thread_cpu;

/// 5 ms: short against what a client notices, long against the change of threads.
const PART: Duration = Duration::from_millis(5);

/// The clock is asked once for so much work: some 100 us.
const WORK_MAX: usize = 512;

/// What the work of one answer has cost, and its turn. For threads that may block.
pub(in crate::edge) struct WorkPace {
    turns: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
    runtime: Handle,
    /// Since the clock was asked.
    work: usize,
    begun: Duration,
    /// CPU time at the beginning of the part: a busy machine makes nothing dearer.
    part: Duration,
}

impl WorkPace {
    /// Waits for the first turn.
    pub fn begin(turns: Arc<Semaphore>, runtime: Handle) -> WorkPace {
        let now = thread_cpu();
        let mut pace = WorkPace { turns, turn: None, runtime, work: 0, begun: now, part: now };
        pace.take_turn();
        pace
    }

    /// To be called for each item; `work` is about its time in units of 200 ns.
    pub fn breathe(&mut self, work: usize) {
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
    pub fn cost(&self) -> Duration {
        thread_cpu().saturating_sub(self.begun)
    }

    /// Waits behind all who wait already.
    fn take_turn(&mut self) {
        self.turn = None;
        let turn = self.runtime.block_on(self.turns.clone().acquire_owned());
        self.turn = Some(turn.expect("the turns are never closed"));
    }
}
