//! A reader beside the writer gets the frames it looks up, or learns that they are overwritten.

use std::sync::Arc;

use loom::thread;

use super::{Item, check, publish};
use crate::bus::log::ring::Ring;
use crate::words::ids::Offset;

#[test]
fn a_reader_gets_the_whole_frame_it_asked_for_or_none() {
    check(|| {
        let ring = Arc::new(Ring::new(2));
        let reader = spawn(&ring, |ring| {
            // Without a look at the head: the slot alone must do.
            for offset in [1, 3, 2] {
                if let Some(item) = ring.get(Offset(offset)) {
                    assert_eq!(item.offset, Offset(offset), "a foreign frame");
                    item.read();
                }
            }
        });
        publish_all(&ring, 3);
        reader.join().expect("the reader ends well");
    });
}

#[test]
fn every_frame_up_to_the_head_is_delivered_or_seen_to_be_overrun() {
    check(|| {
        let ring = Arc::new(Ring::new(2));
        let reader = spawn(&ring, walk_twice);
        publish_all(&ring, 4);
        let mut walk = reader.join().expect("the reader ends well");
        walk.round(&ring);
        assert_eq!((walk.cursor, walk.delivered + walk.skipped), (4, 4));
    });
}

#[test]
fn nothing_is_skipped_while_the_ring_has_room() {
    check(|| {
        let ring = Arc::new(Ring::new(4));
        let reader = spawn(&ring, walk_twice);
        publish_all(&ring, 3);
        let mut walk = reader.join().expect("the reader ends well");
        walk.round(&ring);
        assert_eq!((walk.delivered, walk.skipped), (3, 0));
    });
}

/// What a shard knows of its place in the ring.
#[derive(Default)]
struct Walk {
    cursor: u64,
    delivered: u64,
    skipped: u64,
}

impl Walk {
    /// As `Shard::round` does it.
    fn round(&mut self, ring: &Ring<Item>) {
        let head = ring.head().0;
        assert!(head >= self.cursor, "the head never goes back");
        while self.cursor < head {
            let next = Offset(self.cursor + 1);
            if let Some(item) = ring.get(next) {
                item.read();
                self.cursor += 1;
                self.delivered += 1;
            } else {
                assert!(ring.tail() > next, "frame {next} of {head} is missing and was not overrun");
                self.skipped += head - self.cursor;
                self.cursor = head;
            }
        }
    }
}

fn walk_twice(ring: &Ring<Item>) -> Walk {
    let mut walk = Walk::default();
    walk.round(ring);
    walk.round(ring);
    walk
}

/// Starts the reader. The writer is the thread that made the ring.
fn spawn<T: 'static>(ring: &Arc<Ring<Item>>, read: impl Fn(&Ring<Item>) -> T + 'static) -> thread::JoinHandle<T> {
    let ring = ring.clone();
    thread::spawn(move || read(&ring))
}

fn publish_all(ring: &Ring<Item>, frames: u64) {
    (1..=frames).for_each(|offset| publish(ring, offset));
}
