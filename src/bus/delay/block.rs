//! A run of waiting frames that goes to the disk together, and comes back before the first of them is due.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::delay::due::DueItem;
use crate::bus::delay::slice::DelaySlice;
use crate::bus::delay::spool::record::BlockTopics;
use crate::bus::delay::spool::worker::StoredBlock;
use crate::bus::delay::waiting::WaitingFrame;
use crate::bus::frame::Topic;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

pub(super) struct FrameBlock {
    state: BlockState,
    /// Frames that wait, each by itself.
    frames: usize,
    /// Memory of these frames, where they are in memory.
    frames_bytes: usize,
    /// Of the newest frame.
    newest: Stamp,
    until: Offset,
}

/// Where its frames are.
enum BlockState {
    /// In memory, and more may follow.
    Open(Vec<WaitingFrame>),
    /// With the worker, on the way to the disk.
    Storing,
    Stored(StoredBlock),
    /// With the worker, on the way back.
    Loading,
    /// In memory, and not to be stored any more.
    Loaded(std::vec::IntoIter<WaitingFrame>),
    /// The disk did not take them. With the memory of the slices.
    Conflated(VecDeque<DelaySlice>, usize),
    Lost(BlockTopics),
    /// Nothing is left.
    Spent,
}

impl FrameBlock {
    pub fn open(first: WaitingFrame) -> FrameBlock {
        let (newest, until, frames_bytes) = (first.received, first.offset, first.bytes());
        FrameBlock { state: BlockState::Open(vec![first]), frames: 1, frames_bytes, newest, until }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, BlockState::Open(_))
    }

    pub fn is_spent(&self) -> bool {
        matches!(self.state, BlockState::Spent)
    }

    /// It is in memory, or will be without being asked for.
    pub fn is_settled(&self) -> bool {
        !matches!(self.state, BlockState::Open(_) | BlockState::Storing | BlockState::Stored(_))
    }

    pub fn frames(&self) -> usize {
        self.frames
    }

    pub fn frames_bytes(&self) -> usize {
        self.frames_bytes
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        let held = match &self.state {
            BlockState::Open(_) | BlockState::Storing | BlockState::Loading | BlockState::Loaded(_) => {
                self.frames_bytes
            }
            BlockState::Stored(stored) => stored.topics.len() * size_of::<Arc<Topic>>(),
            BlockState::Lost(topics) => topics.len() * size_of::<Arc<Topic>>(),
            BlockState::Conflated(_, bytes) => *bytes,
            BlockState::Spent => 0,
        };
        size_of::<FrameBlock>() + held
    }

    /// The receipt of what comes out next; none while it is on disk or on the way.
    pub fn received(&self) -> Option<Stamp> {
        match &self.state {
            BlockState::Open(frames) => frames.first().map(|frame| frame.received),
            BlockState::Loaded(frames) => frames.as_slice().first().map(|frame| frame.received),
            BlockState::Conflated(slices, _) => slices.front().map(DelaySlice::newest),
            BlockState::Lost(_) => Some(self.newest),
            BlockState::Storing | BlockState::Stored(_) | BlockState::Loading | BlockState::Spent => None,
        }
    }

    /// Adds a frame to an open block.
    pub fn push(&mut self, frame: WaitingFrame) {
        let BlockState::Open(frames) = &mut self.state else { panic!("expected an open block") };
        self.frames += 1;
        self.frames_bytes += frame.bytes();
        (self.newest, self.until) = (frame.received, frame.offset);
        frames.push(frame);
    }

    /// What is to be stored, if it is open. It is open no longer.
    pub fn begin_storing(&mut self) -> Option<Vec<WaitingFrame>> {
        let BlockState::Open(frames) = &mut self.state else { return None };
        let frames = std::mem::take(frames);
        self.state = BlockState::Storing;
        Some(frames)
    }

    pub fn stored(&mut self, stored: StoredBlock) {
        self.state = BlockState::Stored(stored);
    }

    /// What is to be loaded, if it is on disk.
    pub fn begin_loading(&mut self) -> Option<StoredBlock> {
        match std::mem::replace(&mut self.state, BlockState::Loading) {
            BlockState::Stored(stored) => Some(stored),
            other => {
                self.state = other;
                None
            }
        }
    }

    pub fn loaded(&mut self, frames: Vec<WaitingFrame>) {
        self.frames_bytes = frames.iter().map(WaitingFrame::bytes).sum();
        self.state = BlockState::Loaded(frames.into_iter());
    }

    /// The frames could not be stored: of each topic and second the newest is left.
    pub fn conflate(&mut self, frames: Vec<WaitingFrame>) {
        let mut slices: VecDeque<DelaySlice> = VecDeque::new();
        for frame in frames {
            match slices.back_mut().filter(|slice| slice.is_open(frame.received)) {
                Some(slice) => slice.take(frame),
                None => {
                    let mut slice = DelaySlice::begin(frame.received);
                    slice.take(frame);
                    slices.push_back(slice);
                }
            }
        }
        let bytes = slices.iter().map(slice_bytes).sum();
        (self.state, self.frames, self.frames_bytes) = (BlockState::Conflated(slices, bytes), 0, 0);
    }

    /// The frames did not come back.
    pub fn lose(&mut self, topics: BlockTopics) {
        (self.state, self.frames, self.frames_bytes) = (BlockState::Lost(topics), 0, 0);
    }

    /// The next of it. It is open no longer.
    pub fn pop(&mut self) -> Option<DueItem> {
        if let BlockState::Open(frames) = &mut self.state {
            self.state = BlockState::Loaded(std::mem::take(frames).into_iter());
        }
        let (due, is_last) = match &mut self.state {
            BlockState::Loaded(frames) => {
                let frame = frames.next()?;
                self.frames -= 1;
                self.frames_bytes -= frame.bytes();
                (DueItem::Frame(frame), frames.len() == 0)
            }
            BlockState::Conflated(slices, bytes) => {
                let slice = slices.pop_front()?;
                *bytes -= slice_bytes(&slice);
                (DueItem::Slice(slice), slices.is_empty())
            }
            BlockState::Lost(topics) => (DueItem::Lost { topics: std::mem::take(topics), until: self.until }, true),
            BlockState::Open(_)
            | BlockState::Storing
            | BlockState::Stored(_)
            | BlockState::Loading
            | BlockState::Spent => return None,
        };
        if is_last {
            self.state = BlockState::Spent;
        }
        Some(due)
    }
}

fn slice_bytes(slice: &DelaySlice) -> usize {
    size_of::<DelaySlice>() + slice.bytes()
}
