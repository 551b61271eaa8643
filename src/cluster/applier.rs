//! From committed entries into the bus that clients read.

use feed_log::entry::item::LoggedItem;
use feed_log::entry::part::PartAssembly;
use feed_log::entry::{EntryBody, LogEntry};

use crate::bus::feed_state::FeedState;
use crate::bus::logged::{ArchivedFrame, frame_of, hole, publish_logged, refill_logged};
use crate::bus::publisher::Publisher;
use crate::bus::retained_topic::RetainedTopic;
use crate::cluster::logged_state::feed_state;
use crate::cluster::runner::CutOffWords;
use crate::cluster::snapshots::PeerSnapshot;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

pub struct Applier {
    publisher: Publisher,
    parts: PartAssembly,
    /// As the ingester has it.
    feed: FeedState,
    /// Nobody answers for the log.
    is_cut_off: bool,
    refills: Refills,
    words: CutOffWords,
}

/// Frames that are older than what is retained of their topics, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refills {
    Nothing,
    /// A snapshot follows.
    BeforeSnapshot,
    /// It has all up to this offset.
    Until(Offset),
}

impl Applier {
    /// With a snapshot to follow, what comes before it fills the ring.
    pub fn new(publisher: Publisher, awaits_snapshot: bool, words: CutOffWords) -> Applier {
        let refills = if awaits_snapshot { Refills::BeforeSnapshot } else { Refills::Nothing };
        let (parts, feed) = (PartAssembly::default(), FeedState::Connecting);
        Applier { publisher, parts, feed, is_cut_off: false, refills, words }
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// As the ingester has it.
    pub fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// Another epoch begins after this offset with what was retained in the one before.
    pub fn begin_anew(&mut self, topics: Vec<RetainedTopic>, feed: FeedState, offset: u64, now: Stamp) {
        if offset > 0 {
            self.publisher.leap_to(topics, Offset(offset), now);
        }
        self.feed = feed;
        if !self.is_cut_off {
            self.publisher.announce(self.feed.clone());
        }
    }

    /// Clients are shown another bus.
    pub fn give_way(self) {
        self.publisher.give_way();
    }

    /// The state of the feed, between two entries that do not belong together.
    pub fn feed_if_whole(&self) -> Option<FeedState> {
        (!self.parts.is_within()).then(|| self.feed.clone())
    }

    /// What another server retains takes the place of what is retained here. After a hole readers are overrun, and what
    /// it has of the entries that follow is not shown again; else they fill the ring.
    pub fn begin_with(&mut self, snapshot: PeerSnapshot, is_after_hole: bool, now: Stamp) {
        let PeerSnapshot { place, feed, topics } = snapshot;
        let offset = Offset(place.offset);
        if is_after_hole {
            self.parts = PartAssembly::default();
            self.publisher.leap_to(topics, offset, now);
        } else {
            self.publisher.restore(topics, now);
            self.refills = Refills::Until(offset);
        }
        self.feed = feed;
        if !self.is_cut_off {
            self.publisher.announce(self.feed.clone());
        }
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
            let CutOffWords { reason, message, .. } = self.words;
            FeedState::Stale { reason, since_ms: now.wall_ms, message: message.to_owned() }
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
                self.publish(offset, &frame.renumbered(offset), now);
            }
        }
    }

    fn publish(&mut self, offset: Offset, frame: &ArchivedFrame, now: Stamp) {
        if matches!(self.refills, Refills::Until(last) if offset > last) {
            self.refills = Refills::Nothing;
        }
        match self.refills {
            Refills::Nothing => publish_logged(&mut self.publisher, offset, frame, now),
            Refills::BeforeSnapshot | Refills::Until(_) => refill_logged(&mut self.publisher, offset, frame, now),
        }
    }

    /// Every offset of an entry is given, though nothing may stand there.
    fn hold_until(&mut self, next: u64, now: Stamp) {
        while self.publisher.head().0 + 1 < next {
            let offset = self.publisher.head().next();
            self.publish(offset, &hole(), now);
        }
    }
}
