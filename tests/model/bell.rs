//! A reader never sleeps while there is news, whoever brings it.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Bed, Item, check, publish};
use crate::bus::bell::Bell;
use crate::bus::ring::Ring;

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let bell = Arc::new(bed.bell());
        let writer = spawn_writer(&ring, &bell, 2);
        let mut cursor = 0;
        while cursor < 2 {
            bell.doze();
            if ring.head().0 == cursor {
                bed.sleep();
            }
            bell.rouse();
            cursor = ring.head().0;
        }
        writer.join().expect("the writer ends well");
    });
}

#[test]
fn a_reader_hears_both_the_publisher_and_the_door_and_is_struck_once_per_sleep() {
    check(|| {
        let (ring, bed) = (Arc::new(Ring::new(2)), Arc::new(Bed::default()));
        let bell = Arc::new(bed.bell());
        let mail = Arc::new(AtomicU64::new(0));
        let writer = spawn_writer(&ring, &bell, 1);
        let door = thread::spawn({
            let (mail, bell) = (mail.clone(), bell.clone());
            move || {
                mail.store(1, Ordering::Release);
                bell.ring();
            }
        });
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
        writer.join().expect("the writer ends well");
        door.join().expect("the door ends well");
        assert!(bed.strikes.load(Ordering::Relaxed) <= dozes, "a strike without a sleep");
    });
}

/// As `Publisher::publish` does it: the frame first, then the bell.
fn spawn_writer(ring: &Arc<Ring<Item>>, bell: &Arc<Bell>, frames: u64) -> thread::JoinHandle<()> {
    let (ring, bell) = (ring.clone(), bell.clone());
    thread::spawn(move || {
        for offset in 1..=frames {
            publish(&ring, offset);
            bell.ring();
        }
    })
}
