//! One value that a writer replaces and readers look at, with a version that shows cheaply whether it changed.
//!
//! | field | stored by | loaded by | ordering |
//! |---|---|---|---|
//! | `value` | writer, before `version` | readers, after `version` | swap AcqRel, load Acquire (`sync::Slot`) |
//! | `version` | writer, Release, after `value` | readers, Acquire | a reader that sees version `v` finds value `v` or a later one |
//!
//! It deliberately does not give both at once: the value may be newer than the version that was seen. A reader that
//! must not see a value before the frames that were published before it loads version, value and head in this order
//! (tests/model/versioned.rs).

use std::sync::Arc;

use crate::bus::signal::sync::{AtomicSlot, AtomicU32, Ordering};

pub(in crate::bus) struct Versioned<T> {
    /// Never none.
    value: AtomicSlot<T>,
    version: AtomicU32,
}

impl<T> Versioned<T> {
    pub(crate) fn new(first: T) -> Versioned<T> {
        Versioned { value: AtomicSlot::new(Some(Arc::new(first))), version: AtomicU32::new(0) }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.value.load().expect("there is a value from the beginning")
    }

    /// Writer only: replaces the value. `is_news`, given the value before and the next one, decides whether that is
    /// another version; the answer.
    pub(crate) fn set(&self, next: Arc<T>, is_news: impl Fn(&T, &T) -> bool) -> bool {
        let before = self.value.swap(Some(next.clone())).expect("there is a value from the beginning");
        let news = is_news(&before, &next);
        if news {
            self.version.fetch_add(1, Ordering::Release);
        }
        news
    }
}
