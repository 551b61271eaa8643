//! One value that a writer replaces and readers look at, with a number that tells them cheaply whether to look.
//!
//! | field | stored by | loaded by | ordering |
//! |---|---|---|---|
//! | `shown` | writer, before `version` | readers, after `version` | swap AcqRel, load Acquire (`sync::Slot`) |
//! | `version` | writer, Release, after `shown` | readers, Acquire | a reader that sees version `v` finds value `v` or a later one |
//!
//! It deliberately does not give both at once: what is shown may be newer than the version that was seen. Whoever
//! must not see a value before the frames that were published before it loads version, value and head in this order
//! (tests/model/board.rs).

use std::sync::Arc;

use crate::bus::signal::sync::{AtomicSlot, AtomicU32, Ordering};

pub(in crate::bus) struct Versioned<T> {
    /// Never none.
    shown: AtomicSlot<T>,
    version: AtomicU32,
}

impl<T> Versioned<T> {
    pub fn new(first: T) -> Versioned<T> {
        Versioned { shown: AtomicSlot::new(Some(Arc::new(first))), version: AtomicU32::new(0) }
    }

    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    pub fn shown(&self) -> Arc<T> {
        self.shown.load().expect("a board shows something from the beginning")
    }

    /// Writer only: shows `next`; whether it is news to readers, and so another version, is for `is_news` to say of
    /// what was shown and what is.
    pub fn show(&self, next: Arc<T>, is_news: impl Fn(&T, &T) -> bool) -> bool {
        let before = self.shown.swap(Some(next.clone())).expect("a board shows something from the beginning");
        let news = is_news(&before, &next);
        if news {
            self.version.fetch_add(1, Ordering::Release);
        }
        news
    }
}
