//! The lock-free log of the newest frames. One writer, any number of readers, nobody waits for anybody.
//!
//! A frame with offset `o` lies in slot `o & mask`. A slot is one atomically swapped pointer, so a reader gets a whole
//! frame or none; the frame's own offset tells whether it is the one that was asked for.
//!
//! | field | stored by | loaded by | ordering |
//! |---|---|---|---|
//! | slot | writer, before `head` | readers | swap AcqRel, load Acquire (arc-swap) |
//! | `head` | writer, Release, after the slot | readers, Acquire | a reader that sees head `h` finds slot `h` filled or overwritten by a later frame |
//! | `tail` | writer, Release, before it empties a slot | readers, Acquire | only a hint: a slot emptied since is seen as overrun |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::bus::frame::Frame;
use crate::words::ids::Offset;

pub(super) struct Ring {
    slots: Box<[ArcSwapOption<Frame>]>,
    mask: u64,
    /// Newest offset in the ring; 0 while it is empty.
    head: AtomicU64,
    /// Oldest offset that the ring may still hold.
    tail: AtomicU64,
}

impl Ring {
    /// An empty ring for at least `frames_max` frames, rounded up to a power of two.
    pub fn new(frames_max: usize) -> Ring {
        let frames = frames_max.next_power_of_two();
        Ring {
            slots: (0..frames).map(|_| ArcSwapOption::empty()).collect(),
            mask: frames as u64 - 1,
            head: AtomicU64::new(0),
            tail: AtomicU64::new(1),
        }
    }

    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub fn head(&self) -> Offset {
        Offset(self.head.load(Ordering::Acquire))
    }

    pub fn tail(&self) -> Offset {
        Offset(self.tail.load(Ordering::Acquire))
    }

    /// The frame with this offset, if the ring still holds it.
    pub fn get(&self, offset: Offset) -> Option<Arc<Frame>> {
        self.slot(offset).load_full().filter(|frame| frame.offset == offset)
    }

    /// Writer only: puts the frame after the head in its slot and moves the head. Drops what lay in the slot.
    pub fn push(&self, frame: Arc<Frame>) {
        let offset = frame.offset;
        assert_eq!(offset, self.head().next(), "offsets are dense");
        self.slot(offset).store(Some(frame));
        self.head.store(offset.0, Ordering::Release);
    }

    /// Writer only: empties the oldest slot and gives its frame.
    pub fn drop_oldest(&self) -> Option<Arc<Frame>> {
        let tail = self.tail();
        if tail > self.head() {
            return None;
        }
        self.tail.store(tail.0 + 1, Ordering::Release);
        self.slot(tail).swap(None)
    }

    fn slot(&self, offset: Offset) -> &ArcSwapOption<Frame> {
        &self.slots[(offset.0 & self.mask) as usize]
    }
}
