//! Some of a feed's messages, kept as they arrive, for whoever looks at the feed: a few of each kind.
//!
//! A kind is a rule, a class, and whether the message holds a snapshot. Only messages of one connection are kept, the
//! first that brings one, so that its bindings and numbers hold for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::intake::classify::{Classified, FeedMessage};
use crate::intake::update::{Update, UpdateSource};
use crate::profile::rule::MessageClass;
use crate::words::stamp::Stamp;

/// The most that is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeepBounds {
    pub of_a_kind: usize,
    pub messages: usize,
    pub bytes: usize,
}

/// A message as it arrived. Bytes that are no text are an error of whoever reads them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptMessage {
    pub content: Result<String, Vec<u8>>,
    pub received: Stamp,
}

/// The rule that decided, the class, and whether the message holds a snapshot.
pub(crate) type KeptKind = (Option<Arc<str>>, MessageClass, bool);

#[derive(Debug, Default)]
pub(crate) struct MessageStore {
    bounds: KeepBounds,
    counts: HashMap<KeptKind, usize>,
    bytes: usize,
    messages: Vec<KeptMessage>,
}

/// A store with those who keep, and who reads. Locked for a moment by each.
#[derive(Clone, Debug)]
pub struct KeptMessages(Arc<Mutex<(Option<UpdateSource>, MessageStore)>>);

impl MessageStore {
    pub(crate) fn new(bounds: KeepBounds) -> MessageStore {
        MessageStore { bounds, ..MessageStore::default() }
    }

    /// Keeps the message, if there is room for one of its kind.
    pub(crate) fn keep(&mut self, message: &FeedMessage<'_>, kind: KeptKind, received: Stamp) {
        let bytes = message.bytes().len();
        let has_room = self.messages.len() < self.bounds.messages && self.bytes + bytes <= self.bounds.bytes;
        let count = self.counts.entry(kind).or_default();
        if *count == self.bounds.of_a_kind || !has_room {
            return;
        }
        *count += 1;
        self.bytes += bytes;
        let content = match message {
            FeedMessage::Text(text) => Ok((*text).to_string()),
            FeedMessage::Binary(bytes) | FeedMessage::Undecodable(bytes, _) => Err(bytes.to_vec()),
        };
        self.messages.push(KeptMessage { content, received });
    }

    /// What was kept, in the order of arrival.
    pub(crate) fn take(&mut self) -> Vec<KeptMessage> {
        std::mem::take(&mut self.messages)
    }
}

impl KeptMessages {
    pub(crate) fn new(bounds: KeepBounds) -> KeptMessages {
        KeptMessages(Arc::new(Mutex::new((None, MessageStore::new(bounds)))))
    }

    /// Keeps the message, if there is room for one of its kind. `first` is the first of its updates.
    pub(crate) fn keep(
        &self,
        source: UpdateSource,
        message: &FeedMessage<'_>,
        (classified, first): (&Classified, Option<&Update<'_>>),
        received: Stamp,
    ) {
        let (first_source, store) = &mut *self.0.lock().expect("no holder panics");
        if *first_source.get_or_insert(source) == source {
            let rule = classified.rule.clone().or_else(|| first.map(|update| update.treatment.rule.name.clone()));
            store.keep(message, (rule, classified.class, first.is_some_and(|update| update.snapshot)), received);
        }
    }

    pub(crate) fn take(&self) -> Vec<KeptMessage> {
        self.0.lock().expect("no holder panics").1.take()
    }
}
