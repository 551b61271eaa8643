//! Wakes one sleeping reader when something was published, and costs nothing while it is awake.
//!
//! | thread | does | pairs with |
//! |---|---|---|
//! | reader | stores `asleep` = true, fence SeqCst, then looks at the head once more | the publisher's fence |
//! | publisher | moves the head, fence SeqCst, then swaps `asleep` to false and rings if it was true | the reader's fence |
//!
//! Either the reader sees the new head and does not sleep, or the publisher sees it asleep and rings: no lost wake-up
//! (tests/model/doorbell.rs).

use crate::bus::signal::sync::{AtomicBool, Ordering, fence};

/// One reader's doorbell. The reader alone arms and disarms it, everyone else may ring.
pub struct Doorbell {
    /// Set by the reader before it sleeps, cleared by the thread that rings and by the reader on waking.
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Doorbell {
    /// `wake` must wake the reader from its sleep, also if it is called just before the sleep begins.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Doorbell {
        Doorbell { asleep: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// Wakes the reader if it sleeps or is about to. Call after the news is visible to it.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// The reader is about to sleep; it must look for news once more after this call, and only sleep if there is none.
    pub fn arm(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The reader is awake and will look for news without being rung.
    pub fn disarm(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::bus::signal::sync::model;

    #[test]
    fn a_doorbell_wakes_once_per_sleep() {
        model(|| {
            let wakes = Arc::new(AtomicUsize::new(0));
            let counted = wakes.clone();
            let doorbell = Doorbell::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            doorbell.ring();
            assert_eq!(wakes.load(Ordering::Relaxed), 0, "awake readers are left alone");
            doorbell.arm();
            doorbell.ring();
            doorbell.ring();
            assert_eq!(wakes.load(Ordering::Relaxed), 1);
            doorbell.arm();
            doorbell.disarm();
            doorbell.ring();
            assert_eq!(wakes.load(Ordering::Relaxed), 1);
        });
    }
}
