//! A reader never sleeps while there is news, whoever brings it.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Bed, Item, check, publish};
use crate::bus::signal::doorbell::Doorbell;
use crate::bus::log::ring::Ring;

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let bell = Arc::new(bed.bell());
        let reader = thread::spawn({
            let (ring, bell) = (ring.clone(), bell.clone());
            move || {
                let mut cursor = 0;
                while cursor < 2 {
                    bell.doze();
                    if ring.head().0 == cursor {
                        bed.sleep();
                    }
                    bell.rouse();
                    cursor = ring.head().0;
                }
            }
        });
        publish_and_ring(&ring, &bell, 2);
        reader.join().expect("the reader ends well");
    });
}

#[test]
fn a_reader_hears_both_the_publisher_and_the_door_and_is_struck_once_per_sleep() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let bell = Arc::new(bed.bell());
        let mail = Arc::new(AtomicU64::new(0));
        let door = thread::spawn({
            let (mail, bell) = (mail.clone(), bell.clone());
            move || {
                mail.store(1, Ordering::Release);
                bell.ring();
            }
        });
        let reader = thread::spawn({
            let (ring, bell, bed) = (ring.clone(), bell.clone(), bed.clone());
            move || {
                let (mut seen, mut dozes) = (0, 0);
                while seen < 2 {
                    bell.doze();
                    dozes += 1;
                    let news = || ring.head().0 + mail.load(Ordering::Acquire);
                    if news() == seen {
                        bed.sleep();
                    }
                    bell.rouse();
                    seen = news();
                }
                dozes
            }
        });
        publish_and_ring(&ring, &bell, 1);
        door.join().expect("the door ends well");
        let dozes = reader.join().expect("the reader ends well");
        assert!(bed.strikes.load(Ordering::Relaxed) <= dozes, "a strike without a sleep");
    });
}

/// As `Publisher::publish` does it: the frame first, then the bell.
fn publish_and_ring(ring: &Ring<Item>, bell: &Doorbell, frames: u64) {
    for offset in 1..=frames {
        publish(ring, offset);
        bell.ring();
    }
}
