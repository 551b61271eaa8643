//! The log of a server that has the feed to itself: its frames as entries, at the offsets that they have.
//!
//! It begins anew with each start, and with each gap that the ring tears: with a term, before which nothing is named. A
//! relay goes on with it where the epoch is the same, as after a restart with an archive.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backbone::follower::snapshot::SnapshotPlace;
use backbone::ingester::IngesterSettings;
use backbone::ingester::builder::{EntryBuilder, PendingEntry};
use backbone::log::{LogSequence, StoredBytes};
use backbone::position::LogPosition;
use feed_log::entry::error::EntryError;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::term::TermReason;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::bus::clock::Clock;
use crate::bus::feed_state::FeedState;
use crate::bus::logged::items_after;
use crate::bus::reader::Reader;
use crate::bus::signal::doorbell::Doorbell;
use crate::cluster::logged_state::logged_state;
use crate::cluster::relay::served_log::ServedLog;
use crate::cluster::snapshots::SnapshotBasis;
use crate::cluster::snapshots::maker::BasisRequest;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// An entry comes at least this often, be it an empty one.
const BEAT: Duration = Duration::from_millis(500);
/// The state of the feed is told again after this time: whoever reads the log from somewhere finds it soon.
const STATE_AGAIN: Duration = Duration::from_secs(5);
/// Not the first sequence that there is: what was before is missing, and a reader must see that.
const FIRST_SEQUENCE: LogSequence = LogSequence(1 << 20);

pub struct RootLog {
    reader: Reader,
    served: Arc<ServedLog>,
    builder: EntryBuilder,
    position: LogPosition,
    cursor: Offset,
    /// The version of the feed's state that was told last, and when.
    told: Option<(u32, Duration)>,
    appended_at: Duration,
}

impl RootLog {
    /// From the oldest frame on that is at hand.
    pub fn new(reader: Reader, served: Arc<ServedLog>, settings: IngesterSettings, now: Stamp) -> RootLog {
        let cursor = Offset(reader.tail().0.saturating_sub(1)).min(reader.head());
        let position = LogPosition {
            sequence: FIRST_SEQUENCE,
            // Later than that of any start before, if the clock is right.
            term: now.wall_ms,
            node: settings.node,
            epoch: reader.epoch().0,
            ..LogPosition::EMPTY
        };
        let builder = EntryBuilder::new(settings);
        let (told, appended_at) = (None, now.mono());
        let mut log = RootLog { reader, served, builder, position, cursor, told, appended_at };
        log.begin(cursor, now);
        log
    }

    /// Appends whatever is published, for ever, and says what a snapshot is to be made after.
    pub async fn run(mut self, clock: Clock, mut asked: mpsc::Receiver<BasisRequest>) -> Infallible {
        let notify = Arc::new(Notify::new());
        let rung = notify.clone();
        let doorbell = Arc::new(Doorbell::new(move || rung.notify_one()));
        self.reader.add_doorbell(doorbell.clone());
        loop {
            while let Ok(request) = asked.try_recv() {
                self.answer(request);
            }
            doorbell.arm();
            if self.turn(clock.now()) {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = notify.notified() => {}
                Some(request) = asked.recv() => self.answer(request),
                () = sleep(BEAT.saturating_sub(clock.now().mono().saturating_sub(self.appended_at))) => {}
            }
        }
    }

    fn answer(&self, request: BasisRequest) {
        // Whoever asked may be gone.
        let _ = request.send(Some(self.basis()));
    }

    fn basis(&self) -> SnapshotBasis {
        let feed = FeedState::clone(&self.reader.feed());
        let (offset, read_from) = (self.reader.head().0, self.served.sequence_of(self.reader.tail().0));
        SnapshotBasis { place: SnapshotPlace { position: self.position, offset, read_from }, feed }
    }

    /// Appends what is new. True if there is more.
    fn turn(&mut self, now: Stamp) -> bool {
        // Before the head: the state was set after the frames up to there.
        let version = self.reader.feed_version();
        let state = self.reader.feed();
        let head = self.reader.head();
        let mut items = items_after(&self.reader, self.cursor, head);
        if items.is_empty() && self.cursor < head {
            tracing::warn!(
                frames = head.0 - self.cursor.0,
                "frames were overwritten before relays were given them, so relays begin with the current values, and \
                 their clients receive `skipped`; raise ring.frames_max and ring.bytes_max"
            );
            self.begin(head, now);
            return true;
        }
        self.cursor = Offset(self.cursor.0 + items.len() as u64);
        let is_level = self.cursor >= head;
        let is_told = |(told, at): (u32, Duration)| told == version && now.mono() < at + STATE_AGAIN;
        if is_level && !self.told.is_some_and(is_told) {
            self.told = Some((version, now.mono()));
            items.push(LoggedItem::State(logged_state(&state)));
        }
        if items.is_empty() && now.mono() < self.appended_at + BEAT {
            return false;
        }
        if let Err(error) = self.append(items, now) {
            tracing::error!(%error, "messages of the feed cannot be given to relays, which begin anew after them");
            self.begin(self.cursor, now);
        }
        !is_level
    }

    /// A log that goes on after this offset.
    fn begin(&mut self, after: Offset, now: Stamp) {
        let LogPosition { sequence, term, node, epoch, .. } = self.position;
        let next_offset = after.0.saturating_add(1);
        let before = LogPosition { sequence, term, node, epoch, next_offset, ..LogPosition::EMPTY };
        self.position = before;
        let term = self.builder.term(term + 1, TermReason::Restart, false, &before, now.wall_ms);
        self.served.begin_anew();
        self.push(term, now);
        (self.cursor, self.told) = (after, None);
    }

    fn append(&mut self, items: Vec<LoggedItem>, now: Stamp) -> Result<(), EntryError> {
        for (body, count) in EntryBuilder::bodies(items)? {
            let pending = self.builder.entry(self.position.term, body, count, &self.position, now.wall_ms)?;
            self.push(pending, now);
        }
        Ok(())
    }

    fn push(&mut self, pending: PendingEntry, now: Stamp) {
        let PendingEntry { entry, bytes } = pending;
        let sequence = self.position.sequence.next();
        self.position = LogPosition::after(sequence, &entry);
        self.appended_at = now.mono();
        self.served.push(StoredBytes { sequence, bytes }, entry.header.first);
    }
}

#[cfg(test)]
mod tests {
    use backbone::log::LogRange;
    use bytes::Bytes;
    use feed_log::chain::Chain;
    use feed_log::entry::{EntryBody, LogEntry};

    use super::*;
    use crate::bus::publisher::Publisher;
    use crate::bus::retention::Retention;
    use crate::bus::{self, Limits};
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::ids::Epoch;
    use crate::words::metrics::Meters;

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: 1_000_000 + ms, mono_ns: ms * 1_000_000 }
    }

    fn open() -> (Publisher, RootLog, Arc<ServedLog>) {
        let limits = Limits { ring_frames_max: 16, ring_bytes_max: 1 << 20, topics_max: 10 };
        let (publisher, reader) = bus::open(Epoch(7), limits, &Meters::unread());
        let settings = IngesterSettings::unnamed(1, 1024);
        let served = Arc::new(ServedLog::new(1 << 20));
        (publisher, RootLog::new(reader, served.clone(), settings, at(0)), served)
    }

    fn publish(publisher: &mut Publisher, count: usize) {
        for number in 0..count {
            let payload = Payload { bytes: Bytes::from(format!("{number}")), kind: PayloadKind::Json };
            publisher.publish("a", payload, Retention::Value { keep: 1 }, at(0)).expect("room");
        }
    }

    fn entries(served: &ServedLog) -> Vec<LogEntry> {
        let (given, _) = served.read(LogRange { from: LogSequence::START, to: LogSequence(u64::MAX) });
        given.into_iter().map(|stored| LogEntry::decode(stored.bytes).expect("an entry")).collect()
    }

    #[test]
    fn each_entry_continues_the_one_before_and_offsets_are_those_of_the_frames() {
        let (mut publisher, mut log, served) = open();
        for _ in 0..5 {
            publish(&mut publisher, 3);
            assert!(!log.turn(at(1)));
        }
        assert!(!log.turn(at(400)), "nothing is due");
        let before = entries(&served).len();
        assert!(!log.turn(at(600)));
        let entries = entries(&served);
        assert_eq!(entries.len(), before + 1, "a beat");
        assert_eq!(entries[0].header.chain_before, Chain::START);
        let mut position = LogPosition::after(FIRST_SEQUENCE, &entries[0]);
        for entry in &entries[1..] {
            assert!(position.takes(entry), "{:?}", entry.header);
            position = LogPosition::after(position.sequence.next(), entry);
        }
        assert_eq!((position.next_offset, log.basis().place.offset), (16, 15));
    }

    #[test]
    fn a_torn_log_begins_anew_after_the_gap() {
        let (mut publisher, mut log, served) = open();
        publish(&mut publisher, 40);
        assert!(log.turn(at(1)), "the first are gone");
        publish(&mut publisher, 2);
        while log.turn(at(2)) {}
        let entries = entries(&served);
        assert!(matches!(entries[0].body, EntryBody::Term(_)));
        assert_eq!((entries[0].header.first, entries[0].header.chain_before), (41, Chain::START));
        assert_eq!(log.position.next_offset, 43);
    }
}
