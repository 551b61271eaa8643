//! From committed entries into the bus that clients read.

use feed_log::entry::item::LoggedItem;
use feed_log::entry::part::PartAssembly;
use feed_log::entry::{EntryBody, LogEntry};

use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::logged::{frame_of, hole, publish_logged};
use crate::bus::publisher::Publisher;
use crate::cluster::logged_state::feed_state;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

pub struct Applier {
    publisher: Publisher,
    parts: PartAssembly,
    /// As the ingester has it.
    feed: FeedState,
    /// Nobody answers for the log.
    is_cut_off: bool,
}

impl Applier {
    pub fn new(publisher: Publisher) -> Applier {
        Applier { publisher, parts: PartAssembly::default(), feed: FeedState::Connecting, is_cut_off: false }
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Shows a committed entry, the next of all.
    pub fn apply(&mut self, entry: LogEntry, now: Stamp) {
        let first = entry.header.first;
        match entry.body {
            EntryBody::Batch(items) => self.show(first, items, now),
            EntryBody::Part(part) => match self.parts.take(&part) {
                Ok(None) => {}
                Ok(Some(whole)) => match EntryBody::decode_parts(&entry.header, whole) {
                    Ok(items) => self.show(first, items, now),
                    Err(error) => {
                        tracing::error!(%error, "an entry of the cluster's log cannot be read; its offsets stay empty")
                    }
                },
                Err(error) => {
                    tracing::error!(%error, "a part of an entry of the cluster's log is missing; its offsets stay empty")
                }
            },
            EntryBody::Term(_) | EntryBody::Retained { .. } => {}
        }
        self.hold_until(entry.header.first + u64::from(entry.header.count), now);
    }

    /// Goes on with an entry although what was before it is not here: readers are overrun.
    pub fn jump(&mut self, entry: LogEntry, now: Stamp) {
        self.parts = PartAssembly::default();
        let before = Offset(entry.header.first.saturating_sub(1));
        if self.publisher.head() < before {
            self.publisher.leap(Vec::new(), before);
        }
        self.apply(entry, now);
    }

    /// While nobody answers for the log, what clients have may be outdated.
    pub fn cut_off(&mut self, is_cut_off: bool, now: Stamp) {
        if std::mem::replace(&mut self.is_cut_off, is_cut_off) == is_cut_off {
            return;
        }
        let state = if is_cut_off {
            FeedState::Stale {
                reason: StaleReason::Cluster,
                since_ms: now.wall_ms,
                message: "this server has no connection to the cluster's log; it goes on by itself as soon as it has"
                    .to_owned(),
            }
        } else {
            self.feed.clone()
        };
        self.publisher.announce(state);
    }

    fn show(&mut self, first: u64, items: Vec<LoggedItem>, now: Stamp) {
        let mut next = first;
        for item in items {
            if let LoggedItem::State(state) = &item {
                self.feed = feed_state(state);
                if !self.is_cut_off {
                    self.publisher.announce(self.feed.clone());
                }
            }
            if !item.is_numbered() {
                continue;
            }
            let offset = Offset(next);
            next += 1;
            if offset > self.publisher.head()
                && let Some(frame) = frame_of(item)
            {
                publish_logged(&mut self.publisher, offset, &frame.renumbered(offset), now);
            }
        }
    }

    /// Every offset of an entry is given, though nothing may stand there.
    fn hold_until(&mut self, next: u64, now: Stamp) {
        while self.publisher.head().0 + 1 < next {
            let offset = self.publisher.head().next();
            publish_logged(&mut self.publisher, offset, &hole(), now);
        }
    }
}
