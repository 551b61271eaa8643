//! The views of the feed that clients can have: the live log, and delayed ones, each a log of its own.

use std::sync::Arc;

use crate::access::rights::ViewId;
use crate::bus::reader::Reader;

/// A reader of each view; clones are the same ones.
#[derive(Clone)]
pub struct Views(Arc<[Reader]>);

impl Views {
    /// The live log, and the delayed views in the order of their numbers.
    pub fn new(live: Reader, delayed: impl IntoIterator<Item = Reader>) -> Views {
        Views(std::iter::once(live).chain(delayed).collect())
    }

    pub fn live(&self) -> &Reader {
        &self.0[0]
    }

    /// Whether there are no delayed views.
    pub fn is_live_alone(&self) -> bool {
        self.0.len() == 1
    }

    /// The log of this view; none if there is no such view. Never the live log instead.
    pub fn reader(&self, view: ViewId) -> Option<&Reader> {
        self.0.get(usize::from(view.0))
    }
}
