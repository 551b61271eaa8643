//! The updates of one message, in a buffer that each message reuses.

use std::ops::Range;

use crate::profile::rules::numbers::Numbers;
use crate::protocol::encoding::PayloadKind;
use crate::words::stamp::Stamp;

use crate::intake::classify::Classifier;
use crate::intake::update::Update;

/// Memory that is kept: updates, and bytes of their topics.
const KEPT_UPDATES: usize = 4096;
const KEPT_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct FoundUpdates {
    /// The topics, one after another.
    topics: String,
    updates: Vec<FoundUpdate>,
    /// Overwritten by each message: its key, and the topic of one update.
    pub(super) key: String,
    pub(super) topic: String,
}

/// One update: the parts that differ from its siblings.
#[derive(Clone, Debug)]
struct FoundUpdate {
    /// Index of the classifier's treatment.
    treatment: usize,
    topic: Range<usize>,
    element: Range<usize>,
    kind: PayloadKind,
    numbers: Option<Numbers>,
    snapshot: bool,
}

/// Contents of a message at one place.
pub(crate) struct Finding {
    pub treatment: usize,
    pub element: Range<usize>,
    pub kind: PayloadKind,
    pub numbers: Option<Numbers>,
    pub snapshot: bool,
}

impl FoundUpdates {
    pub(crate) fn clear(&mut self) {
        self.topics.clear();
        self.updates.clear();
        self.topics.shrink_to(KEPT_BYTES);
        self.updates.shrink_to(KEPT_UPDATES);
    }

    /// Adds an update of the topic just written.
    pub(crate) fn add(&mut self, finding: Finding) {
        let start = self.topics.len();
        self.topics.push_str(&self.topic);
        let Finding { treatment, element, kind, numbers, snapshot } = finding;
        let topic = start..self.topics.len();
        self.updates.push(FoundUpdate { treatment, topic, element, kind, numbers, snapshot });
    }

    /// The updates in their order. `message` is the one just classified.
    pub fn updates<'a>(
        &'a self,
        message: &'a [u8],
        classifier: &'a Classifier,
        received: Stamp,
    ) -> impl Iterator<Item = Update<'a>> {
        self.updates.iter().map(move |found| Update {
            treatment: classifier.treatment(found.treatment),
            topic: &self.topics[found.topic.clone()],
            message,
            kind: found.kind,
            element: found.element.clone(),
            numbers: found.numbers,
            snapshot: found.snapshot,
            received,
        })
    }
}
