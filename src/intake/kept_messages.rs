//! Some of a feed's messages, kept as they arrive, for whoever looks at the feed: a few of each kind.
//!
//! A kind is a rule, a class, and whether the message holds a snapshot. Only messages of one connection are kept, the
//! first that brings one, so that its bindings and numbers hold for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::intake::classify::{Classified, FeedMessage};
use crate::intake::update::{Update, UpdateSource};
use crate::profile::rule::MessageClass;

/// The most that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepBounds {
    pub of_a_kind: usize,
    pub messages: usize,
    pub bytes: usize,
}

/// Shared by who keeps and who reads.
#[derive(Clone, Debug)]
pub struct KeptMessages(Arc<Mutex<MessageStore>>);

#[derive(Debug)]
struct MessageStore {
    bounds: KeepBounds,
    source: Option<UpdateSource>,
    counts: HashMap<(Option<Arc<str>>, MessageClass, bool), usize>,
    bytes: usize,
    messages: Vec<String>,
}

impl KeptMessages {
    pub(crate) fn new(bounds: KeepBounds) -> KeptMessages {
        let (counts, messages) = (HashMap::new(), Vec::new());
        KeptMessages(Arc::new(Mutex::new(MessageStore { bounds, source: None, counts, bytes: 0, messages })))
    }

    /// Keeps the message, if there is room for one of its kind. `first` is the first of its updates.
    pub(crate) fn keep(
        &self,
        source: UpdateSource,
        message: &FeedMessage<'_>,
        (classified, first): (&Classified, Option<&Update<'_>>),
    ) {
        // Bytes that are no text have no place in a file of lines.
        let FeedMessage::Text(text) = message else { return };
        let mut store = self.store();
        if *store.source.get_or_insert(source) != source {
            return;
        }
        let rule = classified.rule.clone().or_else(|| first.map(|update| update.treatment.rule.name.clone()));
        let kind = (rule, classified.class, first.is_some_and(|update| update.snapshot));
        let KeepBounds { of_a_kind, messages, bytes: bytes_max } = store.bounds;
        let has_room = store.messages.len() < messages && store.bytes + text.len() <= bytes_max;
        let count = store.counts.entry(kind).or_default();
        if *count == of_a_kind || !has_room {
            return;
        }
        *count += 1;
        store.bytes += text.len();
        store.messages.push((*text).to_string());
    }

    /// What was kept, in the order of arrival.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.store().messages)
    }

    fn store(&self) -> MutexGuard<'_, MessageStore> {
        self.0.lock().expect("no holder panics")
    }
}
