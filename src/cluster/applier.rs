//! From committed entries into the bus that clients read.

use feed_log::entry::item::{LoggedItem, LoggedState};
use feed_log::entry::part::PartAssembly;
use feed_log::entry::{EntryBody, LogEntry};

use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::logged::{ArchivedFrame, frame_of, hole};
use crate::bus::publisher::republish::{FrameContent, GivenFrame};
use crate::bus::publisher::{PublishError, Publisher};
use crate::bus::topic_status::renumbered;
use crate::cluster::collector::FOR_CLIENTS;
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
                self.publish(offset, &frame, now);
            }
        }
    }

    fn publish(&mut self, offset: Offset, frame: &ArchivedFrame, now: Stamp) {
        match self.publisher.republish(given(offset, frame, now)) {
            Ok(_) => {}
            Err(PublishError::OutOfSequence { .. }) => self.publisher.leap(Vec::new(), offset),
            // The ingester has room for the topic, and this node has not.
            Err(PublishError::BadTopic(_) | PublishError::TooManyTopics { .. }) => self.leave_empty(offset, now),
        }
    }

    /// Every offset of an entry is given, though nothing may stand there.
    fn hold_until(&mut self, next: u64, now: Stamp) {
        while self.publisher.head().0 + 1 < next {
            self.leave_empty(self.publisher.head().next(), now);
        }
    }

    fn leave_empty(&mut self, offset: Offset, now: Stamp) {
        let empty = hole();
        if self.publisher.republish(given(offset, &empty, now)).is_err() {
            self.publisher.leap(Vec::new(), offset);
        }
    }
}

/// Clients see when the ingester received it; durations begin now.
fn given(offset: Offset, frame: &ArchivedFrame, now: Stamp) -> GivenFrame<'_> {
    let received = Stamp { wall_ms: frame.received_ms, mono_ns: now.mono_ns };
    let content = match &frame.content {
        FrameContent::Status { kind, text } => FrameContent::Status { kind: *kind, text: renumbered(text, offset) },
        other => other.clone(),
    };
    GivenFrame { offset, topic: &frame.topic, received, content }
}

fn feed_state(state: &LoggedState) -> FeedState {
    let message = state.message.as_str().to_owned();
    let stale = |reason| FeedState::Stale { reason, since_ms: state.since_ms, message: message.clone() };
    match state.label.as_str() {
        "connecting" => FeedState::Connecting,
        "idle" => FeedState::Idle { for_clients: state.reason.as_str() == FOR_CLIENTS, message },
        "live" => FeedState::Live,
        "silent" => stale(StaleReason::UpstreamSilent),
        _ => stale(StaleReason::UpstreamDown),
    }
}
