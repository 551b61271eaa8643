//! The lock-free log of the newest frames. One writer, any number of readers; none waits for another.
//!
//! A frame with offset `o` lies in slot `o & mask`. A slot is one atomically swapped pointer, so a reader gets a whole
//! frame or none; the frame's own offset tells whether it is the one that was asked for. tests/model/ring.rs checks
//! this table.
//!
//! | field | stored by | loaded by | ordering |
//! |---|---|---|---|
//! | slot | writer, before `head` | readers | swap AcqRel, load Acquire (`sync::Slot`) |
//! | `head` | writer, Release, after the slot | readers, Acquire | a reader that sees head `h` finds slot `h` filled, emptied or overwritten since |
//! | `tail` | writer, Release, before it empties a slot | readers, Acquire | a hint before looking into a slot; after finding it empty or overwritten, it is past the offset |

use std::sync::Arc;

use crate::bus::signal::sync::{AtomicSlot, AtomicU64, Ordering};
use crate::words::ids::Offset;

/// What a ring holds: it knows its own offset.
pub(in crate::bus) trait Numbered {
    fn offset(&self) -> Offset;
}

pub(in crate::bus) struct Ring<T> {
    slots: Box<[AtomicSlot<T>]>,
    mask: u64,
    /// Newest offset in the ring; 0 while it is empty.
    head: AtomicU64,
    /// Oldest offset that the ring may still hold.
    tail: AtomicU64,
}

impl<T: Numbered> Ring<T> {
    /// An empty ring for at least `frames_max` frames, rounded up to a power of two.
    pub(crate) fn new(frames_max: usize) -> Ring<T> {
        let frames = frames_max.next_power_of_two();
        Ring {
            slots: (0..frames).map(|_| AtomicSlot::new(None)).collect(),
            mask: frames as u64 - 1,
            head: AtomicU64::new(0),
            tail: AtomicU64::new(1),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn head(&self) -> Offset {
        Offset(self.head.load(Ordering::Acquire))
    }

    pub(crate) fn tail(&self) -> Offset {
        Offset(self.tail.load(Ordering::Acquire))
    }

    /// The frame with this offset, if the ring still holds it.
    pub(crate) fn get(&self, offset: Offset) -> Option<Arc<T>> {
        self.slot(offset).load().filter(|frame| frame.offset() == offset)
    }

    /// Writer only: puts the frame after the head in its slot, which must be empty, and moves the head.
    pub(crate) fn push(&self, frame: Arc<T>) {
        let offset = frame.offset();
        assert_eq!(offset, self.head().next(), "offsets are dense");
        let before = self.slot(offset).swap(Some(frame));
        assert!(before.is_none(), "the oldest frame is dropped before its slot is needed");
        self.head.store(offset.0, Ordering::Release);
    }

    /// Writer only: empties the oldest slot and gives its frame.
    pub(crate) fn drop_oldest(&self) -> Option<Arc<T>> {
        let tail = self.tail();
        if tail > self.head() {
            return None;
        }
        self.tail.store(tail.0 + 1, Ordering::Release);
        self.slot(tail).swap(None)
    }

    /// Writer only: empties the ring and moves the head to this offset, which is ahead. Readers find what lies between gone.
    pub(crate) fn leap(&self, offset: Offset) {
        while self.drop_oldest().is_some() {}
        self.tail.store(offset.0 + 1, Ordering::Release);
        self.head.store(offset.0, Ordering::Release);
    }

    fn slot(&self, offset: Offset) -> &AtomicSlot<T> {
        &self.slots[(offset.0 & self.mask) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::signal::sync::model;

    impl Numbered for Offset {
        fn offset(&self) -> Offset {
            *self
        }
    }

    #[test]
    fn a_ring_holds_the_newest_frames_and_nothing_else() {
        model(|| {
            let ring = Ring::new(3);
            assert_eq!(ring.capacity(), 4);
            assert_eq!((ring.head(), ring.drop_oldest()), (Offset::START, None));
            for number in 1..=10 {
                if number > 4 {
                    assert_eq!(ring.drop_oldest().as_deref(), Some(&Offset(number - 4)));
                }
                ring.push(Arc::new(Offset(number)));
                for offset in 0..=12 {
                    let held = (1..=number).contains(&offset) && offset + 4 > number;
                    assert_eq!(ring.get(Offset(offset)).is_some(), held, "{offset} with head {number}");
                }
            }
            assert_eq!((ring.tail(), ring.head()), (Offset(7), Offset(10)));
            ring.leap(Offset(15));
            assert!((1..=20).all(|offset| ring.get(Offset(offset)).is_none()));
            ring.push(Arc::new(Offset(16)));
            assert_eq!((ring.tail(), ring.head(), ring.get(Offset(16)).is_some()), (Offset(16), Offset(16), true));
        });
    }
}
