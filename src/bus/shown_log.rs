//! The log that clients of a view are shown now, for those who look for it each time: another epoch is another log.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::bus::reader::Reader;

/// Clones see the same log.
#[derive(Clone)]
pub struct ShownLog(Arc<ArcSwap<Reader>>);

impl ShownLog {
    pub fn new(reader: Reader) -> ShownLog {
        ShownLog(Arc::new(ArcSwap::from_pointee(reader)))
    }

    /// Stays what it is, whatever begins later.
    pub fn reader(&self) -> Reader {
        Reader::clone(&self.0.load())
    }

    /// Another epoch has begun.
    pub fn begin(&self, reader: Reader) {
        self.0.store(Arc::new(reader));
    }
}
