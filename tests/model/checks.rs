//! The checks, and what they share: an item that notices unsynchronised access, a reader that sleeps.

mod doorbell;
mod versioned;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};

use crate::bus::signal::doorbell::Doorbell;
use crate::bus::log::ring::{Numbered, Ring};
use crate::words::ids::Offset;

/// Explores a model with at most four preemptions per run, or `LOOM_MAX_PREEMPTIONS` of them. Three find each of 24
/// faults planted by hand; four take seconds, five a minute and a half, and each further one ten times as long.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(4));
    builder.check(model);
}

/// Stands for a frame. Loom fails the run if a reader touches the body without seeing the writer's last write to it.
struct Item {
    offset: Offset,
    body: UnsafeCell<()>,
}

impl Item {
    fn new(offset: u64) -> Arc<Item> {
        let item = Item { offset: Offset(offset), body: UnsafeCell::new(()) };
        item.body.with_mut(|_| ());
        Arc::new(item)
    }

    fn read(&self) {
        self.body.with(|_| ());
    }
}

impl Numbered for Item {
    fn offset(&self) -> Offset {
        self.offset
    }
}

/// As `Publisher::publish` does it: makes room, then pushes.
fn publish(ring: &Ring<Item>, offset: u64) {
    if offset > ring.capacity() as u64 {
        ring.drop_oldest().expect("a full ring").read();
    }
    ring.push(Item::new(offset));
}

/// Stands for the kernel's poll with its waker: a wake before the sleep ends the sleep at once.
#[derive(Default)]
struct Bed {
    woken: Mutex<bool>,
    changed: Condvar,
    /// Not modelled: only counted.
    rings: AtomicUsize,
}

impl Bed {
    /// A doorbell that wakes the reader that sleeps here.
    fn doorbell(self: &Arc<Bed>) -> Doorbell {
        let bed = self.clone();
        Doorbell::new(move || {
            bed.rings.fetch_add(1, Ordering::Relaxed);
            *bed.woken.lock().expect("no panic under the lock") = true;
            bed.changed.notify_one();
        })
    }

    /// Sleeps until woken; loom reports a sleep without an end as a deadlock.
    fn sleep(&self) {
        let mut woken = self.woken.lock().expect("no panic under the lock");
        while !*woken {
            woken = self.changed.wait(woken).expect("no panic under the lock");
        }
        *woken = false;
    }
}
