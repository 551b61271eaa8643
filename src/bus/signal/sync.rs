//! What the ring and the doorbell are made of: std's atomics and arc-swap, or loom's under `--cfg loom`.
//!
//! This is the one switch between the two. tests/model builds the same ring, versioned value and doorbell on loom's
//! side and tries every order in which threads can run and every value that a load may give.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use modelled::{AtomicBool, AtomicSlot, AtomicU64};
#[cfg(not(loom))]
pub(crate) use real::AtomicSlot;

#[cfg(not(loom))]
mod real {
    use std::sync::Arc;

    use arc_swap::ArcSwapOption;

    /// An atomically swapped pointer, or none. Swapping is at least AcqRel, loading at least Acquire.
    pub(crate) struct AtomicSlot<T>(ArcSwapOption<T>);

    impl<T> AtomicSlot<T> {
        pub(crate) fn new(item: Option<Arc<T>>) -> AtomicSlot<T> {
            AtomicSlot(ArcSwapOption::new(item))
        }

        pub(crate) fn load(&self) -> Option<Arc<T>> {
            self.0.load_full()
        }

        pub(crate) fn swap(&self, item: Option<Arc<T>>) -> Option<Arc<T>> {
            self.0.swap(item)
        }
    }
}

#[cfg(loom)]
mod modelled {
    use std::sync::{Arc, Mutex, PoisonError, atomic};

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread::{self, ThreadId};

    /// A number that one thread writes: the one that makes it.
    ///
    /// loom 0.7 looks for a race with the last access only. A writer that looks at its own number just before it stores
    /// the next one would hide every reader that looked before, and most orders would never be tried. What the only
    /// writer reads is what it stored last, so its own loads need no model.
    pub struct AtomicU64 {
        number: loom::sync::atomic::AtomicU64,
        writer: ThreadId,
        /// Not modelled: what the writer stored last.
        stored: atomic::AtomicU64,
    }

    impl AtomicU64 {
        pub fn new(value: u64) -> AtomicU64 {
            let number = loom::sync::atomic::AtomicU64::new(value);
            AtomicU64 { number, writer: thread::current().id(), stored: atomic::AtomicU64::new(value) }
        }

        pub fn load(&self, ordering: Ordering) -> u64 {
            if thread::current().id() == self.writer {
                return self.stored.load(Ordering::Relaxed);
            }
            self.number.load(ordering)
        }

        pub fn store(&self, value: u64, ordering: Ordering) {
            assert_eq!(thread::current().id(), self.writer, "one thread writes");
            self.stored.store(value, Ordering::Relaxed);
            self.number.store(value, ordering);
        }
    }

    /// A flag that several threads store.
    ///
    /// loom 0.7 leaves the order of two threads' plain stores open even after a swap has read one of them, and then
    /// lets a load give what that swap had stored long before: a lost wake-up that C++ forbids (a swap reads the store
    /// right before its own). Here a store is a swap, which loom puts behind everything stored so far.
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> AtomicBool {
            AtomicBool(loom::sync::atomic::AtomicBool::new(value))
        }

        pub fn load(&self, ordering: Ordering) -> bool {
            self.0.load(ordering)
        }

        pub fn store(&self, value: bool, ordering: Ordering) {
            self.0.swap(value, ordering);
        }

        pub fn swap(&self, value: bool, ordering: Ordering) -> bool {
            self.0.swap(value, ordering)
        }
    }

    /// The model of an atomically swapped pointer: a number that loom swaps, and behind it everything ever stored.
    ///
    /// It assumes of arc-swap that a pointer which was loaded stays alive (here nothing is ever freed), that it is
    /// swapped by one atomic step with AcqRel and loaded with Acquire, and nothing more: arc-swap's own fences and its
    /// SeqCst are not modelled, so that nothing here leans on them.
    pub struct AtomicSlot<T> {
        /// 0 is none; else one more than the place in `kept`.
        number: AtomicUsize,
        /// Not modelled: loom runs one thread at a time and never switches while this is locked.
        kept: Mutex<Vec<Arc<T>>>,
    }

    impl<T> AtomicSlot<T> {
        pub fn new(item: Option<Arc<T>>) -> AtomicSlot<T> {
            let kept: Vec<Arc<T>> = item.into_iter().collect();
            AtomicSlot { number: AtomicUsize::new(kept.len()), kept: Mutex::new(kept) }
        }

        pub fn load(&self) -> Option<Arc<T>> {
            self.item(self.number.load(Ordering::Acquire))
        }

        pub fn swap(&self, item: Option<Arc<T>>) -> Option<Arc<T>> {
            let number = item.map_or(0, |item| {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(item);
                kept.len()
            });
            self.item(self.number.swap(number, Ordering::AcqRel))
        }

        fn item(&self, number: usize) -> Option<Arc<T>> {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            number.checked_sub(1).map(|place| kept[place].clone())
        }
    }
}

/// Runs a unit test that uses the ring or the doorbell: once, or in every order that loom finds.
#[cfg(test)]
pub(crate) fn model(test: impl Fn() + Send + Sync + 'static) {
    #[cfg(loom)]
    loom::model(test);
    #[cfg(not(loom))]
    test();
}
