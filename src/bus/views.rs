//! The views of the feed that clients can have: the live log, and delayed ones, each a log of its own.

use std::sync::Arc;

use crate::access::rights::ViewId;
use crate::bus::reader::Reader;
use crate::bus::shown_log::ShownLog;

/// The log of each view; clones are the same ones.
#[derive(Clone)]
pub struct Views(Arc<[ShownLog]>);

impl Views {
    /// The live log, and the delayed views in the order of their numbers.
    pub fn new(live: ShownLog, delayed: impl IntoIterator<Item = ShownLog>) -> Views {
        Views(std::iter::once(live).chain(delayed).collect())
    }

    pub fn live(&self) -> Reader {
        self.0[0].reader()
    }

    /// Whether there are no delayed views.
    pub fn is_live_alone(&self) -> bool {
        self.0.len() == 1
    }

    /// The log of this view; none if there is no such view. Never the live log instead.
    pub fn reader(&self, view: ViewId) -> Option<Reader> {
        self.0.get(usize::from(view.0)).map(ShownLog::reader)
    }
}
