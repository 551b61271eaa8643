//! A reader never sleeps while there is news, whichever thread brings it.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Bed, Item, check, publish};
use crate::bus::log::ring::Ring;
use crate::bus::signal::doorbell::Doorbell;

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let doorbell = Arc::new(bed.doorbell());
        let reader = thread::spawn({
            let (ring, doorbell) = (ring.clone(), doorbell.clone());
            move || {
                let mut cursor = 0;
                while cursor < 2 {
                    doorbell.arm();
                    if ring.head().0 == cursor {
                        bed.sleep();
                    }
                    doorbell.disarm();
                    cursor = ring.head().0;
                }
            }
        });
        publish_and_ring(&ring, &doorbell, 2);
        reader.join().expect("the reader ends well");
    });
}

#[test]
fn a_reader_is_woken_by_publisher_and_sender_once_per_sleep() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let doorbell = Arc::new(bed.doorbell());
        let mail = Arc::new(AtomicU64::new(0));
        let sender = thread::spawn({
            let (mail, doorbell) = (mail.clone(), doorbell.clone());
            move || {
                mail.store(1, Ordering::Release);
                doorbell.ring();
            }
        });
        let reader = thread::spawn({
            let (ring, doorbell, bed) = (ring.clone(), doorbell.clone(), bed.clone());
            move || {
                let (mut seen, mut sleeps) = (0, 0);
                while seen < 2 {
                    doorbell.arm();
                    sleeps += 1;
                    let news = || ring.head().0 + mail.load(Ordering::Acquire);
                    if news() == seen {
                        bed.sleep();
                    }
                    doorbell.disarm();
                    seen = news();
                }
                sleeps
            }
        });
        publish_and_ring(&ring, &doorbell, 1);
        sender.join().expect("the sender ends well");
        let sleeps = reader.join().expect("the reader ends well");
        assert!(bed.rings.load(Ordering::Relaxed) <= sleeps, "a ring without a sleep");
    });
}

/// As `Publisher::publish` does it: the frame first, then the doorbell.
fn publish_and_ring(ring: &Ring<Item>, doorbell: &Doorbell, frames: u64) {
    for offset in 1..=frames {
        publish(ring, offset);
        doorbell.ring();
    }
}
