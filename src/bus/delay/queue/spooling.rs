//! How a queue uses its spool: which frames go to the disk, and when they come back.
//!
//! A frame goes to the disk if those that wait in memory alone have no room for it. A block is read as soon as there is
//! room for what is read ahead, and in any case when it is the next; so the disk has at least the time of the blocks
//! before it.

use std::collections::VecDeque;

use crate::bus::delay::block::FrameBlock;
use crate::bus::delay::queue::{DelayQueue, Entry};
use crate::bus::delay::spool::failure::SpoolFailure;
use crate::bus::delay::spool::limits::SpoolLimits;
use crate::bus::delay::spool::record;
use crate::bus::delay::spool::worker::{SpoolAnswer, SpoolHandle, SpoolJob};
use crate::bus::delay::waiting::WaitingFrame;

pub(super) struct QueueSpool {
    handle: SpoolHandle,
    limits: SpoolLimits,
    /// The numbers of blocks that are not in memory for good.
    unloaded: VecDeque<u64>,
    /// A block is on the way back.
    is_loading: bool,
    /// Memory of blocks on the way to the disk.
    storing_bytes: usize,
    /// Blocks that were read or are on the way back, with the memory of each.
    loaded: VecDeque<(u64, usize)>,
    loaded_bytes: usize,
    failures: Vec<(SpoolFailure, usize)>,
}

impl QueueSpool {
    pub fn new(handle: SpoolHandle, limits: SpoolLimits) -> QueueSpool {
        QueueSpool {
            handle,
            limits,
            unloaded: VecDeque::new(),
            is_loading: false,
            storing_bytes: 0,
            loaded: VecDeque::new(),
            loaded_bytes: 0,
            failures: Vec::new(),
        }
    }

    pub fn take_failures(&mut self) -> Vec<(SpoolFailure, usize)> {
        std::mem::take(&mut self.failures)
    }

    /// Gives back the room of blocks that were published, which are those before this entry.
    fn give_back(&mut self, taken: u64) {
        while let Some((_, bytes)) = self.loaded.pop_front_if(|(entry, _)| *entry < taken) {
            self.loaded_bytes -= bytes;
        }
    }

    /// Frames of this memory may be read: there is room, or nothing else can be published before them.
    fn may_load(&self, bytes: usize) -> bool {
        let is_room = self.loaded.is_empty() || self.loaded_bytes + bytes <= self.limits.loaded_bytes_max;
        is_room && !self.is_loading
    }
}

impl DelayQueue {
    /// Takes what the worker has done, and lets it read what comes next.
    pub fn tend_spool(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.give_back(self.taken);
        }
        while let Some(answer) = self.spool.as_ref().and_then(|spool| spool.handle.answer()) {
            self.take_answer(answer);
        }
        self.load_next();
    }

    /// Whether the frame goes to the disk rather than into memory alone.
    pub(super) fn goes_to_disk(&self, frame: &WaitingFrame) -> bool {
        let Some(QueueSpool { limits, .. }) = &self.spool else { return false };
        if frame.bytes() > limits.frame_bytes_max || !record::has_form(frame) {
            return false;
        }
        match self.entries.back() {
            Some(Entry::Block(block)) if block.is_open() => true,
            // Blocks do not end for a few frames: a quarter must be free.
            Some(Entry::Block(_)) => self.direct_bytes + frame.bytes() > limits.direct_bytes_max / 4 * 3,
            _ => self.direct_bytes + frame.bytes() > limits.direct_bytes_max,
        }
    }

    /// Adds a frame that goes to the disk to the block at the end, which is begun if there is none.
    pub(super) fn push_in_block(&mut self, frame: WaitingFrame) {
        if !matches!(self.entries.back(), Some(Entry::Block(block)) if block.is_open()) {
            self.frames += 1;
            self.add(Entry::Block(Box::new(FrameBlock::open(frame))));
            let newest = self.newest();
            if let Some(spool) = &mut self.spool {
                spool.unloaded.push_back(newest);
            }
            return;
        }
        let bytes = self.change_block(self.newest(), |block| {
            block.push(frame);
            block.frames_bytes()
        });
        let block_bytes = self.spool.as_ref().map(|spool| spool.limits.block_bytes);
        if bytes >= block_bytes {
            self.close_block();
        }
    }

    /// Hands the block at the end over, if more frames could follow in it.
    pub(super) fn close_block(&mut self) {
        let (Some(Entry::Block(block)), Some(spool)) = (self.entries.back_mut(), &mut self.spool) else { return };
        let bytes = block.frames_bytes();
        let Some(frames) = block.begin_storing() else { return };
        let entry = self.taken + self.entries.len() as u64 - 1;
        let job = SpoolJob::Store { entry, frames };
        let has_room = spool.storing_bytes + bytes <= spool.limits.storing_bytes_max;
        match if has_room { spool.handle.send(job) } else { Err(job) } {
            Err(SpoolJob::Store { frames, .. }) => self.conflate(entry, frames, SpoolFailure::Slow),
            Ok(()) | Err(SpoolJob::Load { .. }) => spool.storing_bytes += bytes,
        }
    }

    /// Changes a block and what is counted of it; none if there is no block with this number.
    pub(super) fn change_block<T>(&mut self, entry: u64, change: impl FnOnce(&mut FrameBlock) -> T) -> Option<T> {
        let place = usize::try_from(entry.checked_sub(self.taken)?).ok()?;
        let Some(Entry::Block(block)) = self.entries.get_mut(place) else { return None };
        let (bytes, frames) = (block.bytes(), block.frames());
        let changed = change(block);
        self.bytes = self.bytes + block.bytes() - bytes;
        self.frames = self.frames + block.frames() - frames;
        Some(changed)
    }

    fn take_answer(&mut self, answer: SpoolAnswer) {
        let Some(spool) = &mut self.spool else { return };
        match answer {
            SpoolAnswer::Stored { entry, stored, bytes } => {
                spool.storing_bytes -= bytes;
                self.change_block(entry, |block| block.stored(stored));
            }
            SpoolAnswer::Refused { entry, frames, failure } => {
                spool.storing_bytes -= frames.iter().map(WaitingFrame::bytes).sum::<usize>();
                self.conflate(entry, frames, failure);
            }
            SpoolAnswer::Loaded { entry, frames, damaged } => {
                spool.is_loading = false;
                if damaged > 0 {
                    spool.failures.push((SpoolFailure::Damaged, damaged));
                }
                self.change_block(entry, |block| block.loaded(frames));
            }
            SpoolAnswer::Lost { entry, topics, frames, failure } => {
                spool.is_loading = false;
                spool.failures.push((failure, frames));
                // One block at a time is on the way back, so it is the newest of them.
                spool.loaded_bytes -= spool.loaded.pop_back().map_or(0, |(_, bytes)| bytes);
                self.change_block(entry, |block| block.lose(topics));
            }
        }
    }

    fn conflate(&mut self, entry: u64, frames: Vec<WaitingFrame>, failure: SpoolFailure) {
        if let Some(spool) = &mut self.spool {
            spool.failures.push((failure, frames.len()));
        }
        self.change_block(entry, |block| block.conflate(frames));
    }

    /// Asks for the first block that is not in memory, if there is room for it.
    fn load_next(&mut self) {
        while let Some(&entry) = self.spool.as_ref().and_then(|spool| spool.unloaded.front()) {
            let (is_settled, bytes) =
                self.change_block(entry, |block| (block.is_settled(), block.frames_bytes())).unwrap_or((true, 0));
            let Some(spool) = &mut self.spool else { return };
            if is_settled {
                spool.unloaded.pop_front();
                continue;
            }
            if !spool.may_load(bytes) {
                return;
            }
            let Some(stored) = self.change_block(entry, FrameBlock::begin_loading).flatten() else { return };
            let Some(spool) = &mut self.spool else { return };
            match spool.handle.send(SpoolJob::Load { entry, stored }) {
                Err(SpoolJob::Load { stored, .. }) => {
                    self.change_block(entry, |block| block.stored(stored));
                }
                Ok(()) | Err(SpoolJob::Store { .. }) => {
                    spool.is_loading = true;
                    spool.loaded.push_back((entry, bytes));
                    spool.loaded_bytes += bytes;
                }
            }
            return;
        }
    }

    /// The number of the entry at the end.
    fn newest(&self) -> u64 {
        self.taken + self.entries.len() as u64 - 1
    }
}
