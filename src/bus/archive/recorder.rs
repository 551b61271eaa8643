//! The recorder: follows the ring, and appends what is new to the archive.
//!
//! A segment opens with what is retained at its beginning, so that it can be read without those before it. A disk that
//! refuses is tried again; frames wait in the ring meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::header::EntryHeader;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::term::{Term, TermReason};
use feed_log::entry::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Deflate, EntryBody, EntryPlace, LoggedText, PartCount};
use feed_log::segments::disk::LogDisk;
use feed_log::segments::{NewestEntry, Segments, Unsynced};

use crate::bus::archive::meters::{ArchiveFailure, ArchiveMeters};
use crate::bus::archive::reservation::Reservation;
use crate::bus::frame::Frame;
use crate::bus::log::snapshot::{Snapshot, TopicChoice};
use crate::bus::logged::{item_of, items_after};
use crate::bus::reader::Reader;
use crate::words::ids::{Epoch, Offset};
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// Entries that one turn writes: a few megabytes.
const TURN_ENTRIES: usize = 16;
/// After a failure.
const RETRY_NS: u64 = 100_000_000;

pub(super) struct RecorderParts {
    pub reader: Reader,
    pub segments: Segments,
    pub reservation: Reservation,
    pub epoch: Epoch,
    /// Everything up to here is archived, or is for nobody.
    pub cursor: Offset,
    pub jobs: SyncSender<Unsynced>,
}

pub struct Recorder {
    reader: Reader,
    segments: Segments,
    reservation: Reservation,
    epoch: Epoch,
    cursor: Offset,
    jobs: SyncSender<Unsynced>,
    disk: Arc<dyn LogDisk>,
    term: u64,
    node: u64,
    chain: Chain,
    /// The term's entry is written.
    has_begun: bool,
    /// What the next segment opens with, once everything before it is written.
    opening: Option<Snapshot>,
    unsynced: Unsynced,
    sync_interval_ns: u64,
    next_sync_ns: u64,
    retry_ns: u64,
    failure_log: RateLimitedLog,
    lost_log: RateLimitedLog,
    meters: ArchiveMeters,
}

impl Recorder {
    pub(super) fn new(
        parts: RecorderParts,
        disk: Arc<dyn LogDisk>,
        sync_interval: Duration,
        meters: ArchiveMeters,
    ) -> Recorder {
        let RecorderParts { reader, segments, reservation, epoch, cursor, jobs } = parts;
        let newest = segments.newest();
        Recorder {
            reader,
            segments,
            reservation,
            epoch,
            cursor,
            jobs,
            disk,
            term: newest.map_or(1, |newest| newest.header.term + 1),
            node: rand::random(),
            chain: newest.map_or(Chain::START, |newest| newest.chain),
            has_begun: false,
            opening: None,
            unsynced: Unsynced::default(),
            sync_interval_ns: u64::try_from(sync_interval.as_nanos()).unwrap_or(u64::MAX),
            next_sync_ns: 0,
            retry_ns: 0,
            failure_log: RateLimitedLog::default(),
            lost_log: RateLimitedLog::default(),
            meters,
        }
    }

    /// Writes what is new. True if there is more.
    pub fn turn(&mut self, now: Stamp) -> bool {
        // What fails is told there.
        let _ = self.reserve(now);
        let mut is_late = false;
        if now.mono_ns >= self.retry_ns {
            match self.write(now) {
                Ok(is_more) => is_late = is_more,
                Err(error) => {
                    self.retry_ns = now.mono_ns.saturating_add(RETRY_NS);
                    self.failed(ArchiveFailure::Write, &error, now);
                }
            }
        }
        self.pass_to_sync(now);
        self.meters.bytes.set(self.segments.bytes() as f64);
        self.meters.waiting.set(self.reader.head().0.saturating_sub(self.cursor.0) as f64);
        is_late
    }

    /// Whether all is written that there will ever be.
    pub fn is_done(&self) -> bool {
        self.reader.has_ended() && self.is_level()
    }

    /// Whether all is written that was published.
    pub fn is_level(&self) -> bool {
        self.cursor >= self.reader.head()
    }

    /// The orderly end: the next start goes on from here exactly, if nothing is published any more.
    ///
    /// # Errors
    /// The disk is faulty. The next start then goes by the reservation.
    pub fn close(mut self, nothing_follows: bool) -> io::Result<()> {
        self.unsynced.merge(self.segments.take_unsynced());
        self.unsynced.sync(&*self.disk)?;
        if nothing_follows { self.reservation.close(self.epoch, self.cursor) } else { Ok(()) }
    }

    /// Reserves offsets ahead of the publisher.
    pub(super) fn reserve(&mut self, now: Stamp) -> io::Result<()> {
        let kept = self.reservation.keep_ahead(self.epoch, self.reader.head());
        if let Err(error) = &kept {
            self.failed(ArchiveFailure::Reserve, error, now);
        }
        kept
    }

    /// As [`Recorder::turn`], without what is beside the entries.
    pub(super) fn write(&mut self, now: Stamp) -> io::Result<bool> {
        for _ in 0..TURN_ENTRIES {
            if self.opening.is_none() && self.segments.is_full() {
                self.opening = self.snapshot();
            }
            if self.opening.as_ref().is_some_and(|opening| opening.offset <= self.cursor) {
                self.begin_segment(now)?;
            }
            if !self.has_begun {
                self.begin_term(now)?;
            }
            let until = self.opening.as_ref().map_or(Offset(u64::MAX), |opening| opening.offset);
            let until = until.min(self.reader.head());
            if self.cursor >= until {
                return Ok(false);
            }
            let items = items_after(&self.reader, self.cursor, until);
            if items.is_empty() {
                self.start_over(now);
                continue;
            }
            let (first, count) = (self.cursor.next(), items.len() as u64);
            self.append(first, &EntryBody::Batch(items), now)?;
            self.cursor = Offset(self.cursor.0 + count);
        }
        Ok(true)
    }

    /// Frames are gone from the ring: what they left of their topics opens another segment.
    fn start_over(&mut self, now: Stamp) {
        let Some(snapshot) = self.snapshot() else { return };
        let lost = snapshot.offset.0.saturating_sub(self.cursor.0);
        self.meters.lost.increment(lost);
        if self.lost_log.take(now).is_some() {
            tracing::error!(
                frames = lost,
                "the disk of archive.dir is slower than the feed, so frames are missing in the archive, and clients that \
                 resume from before them after a restart receive `skipped`; choose a faster disk, or raise \
                 ring.frames_max and ring.bytes_max"
            );
        }
        self.cursor = snapshot.offset;
        self.opening = Some(snapshot);
    }

    /// None if the publisher went a whole ring ahead meanwhile: it is tried again.
    fn snapshot(&self) -> Option<Snapshot> {
        let snapshot = self.reader.snapshot(&TopicChoice::new(&[]), &mut |_| {});
        (!snapshot.overrun).then_some(snapshot)
    }

    fn begin_segment(&mut self, now: Stamp) -> io::Result<()> {
        let Some(opening) = &self.opening else { return Ok(()) };
        let mut frames: Vec<Arc<Frame>> = Vec::new();
        for current in &opening.topics {
            let newest = current.retained.newest();
            frames.extend(current.retained.kept_after(Offset::START).cloned());
            // It keeps a topic known of which nothing is retained.
            frames.extend(Some(newest).filter(|newest| current.retained.find(newest.offset).is_none()).cloned());
        }
        frames.sort_by_key(|frame| frame.offset);
        let next = opening.offset.next();
        self.segments.end_segment();
        let mut chunks = chunks(&frames).peekable();
        let mut is_last = false;
        while !is_last {
            let items = chunks.next().unwrap_or_default();
            is_last = chunks.peek().is_none();
            self.append(next, &EntryBody::Retained { items, is_last }, now)?;
        }
        self.opening = None;
        if let Err(error) = self.segments.retire(now.wall_ms) {
            self.failed(ArchiveFailure::Remove, &error, now);
        }
        Ok(())
    }

    fn begin_term(&mut self, now: Stamp) -> io::Result<()> {
        let reason = if self.term == 1 { TermReason::First } else { TermReason::Restart };
        let term = Term {
            reason,
            previous: self.term - 1,
            base_offset: self.cursor.0,
            base_chain: self.chain,
            configuration: [0; 32],
            node_name: LoggedText::from(""),
            resigns: false,
        };
        self.append(self.cursor.next(), &EntryBody::Term(term), now)?;
        self.has_begun = true;
        Ok(())
    }

    fn append(&mut self, first: Offset, body: &EntryBody, now: Stamp) -> io::Result<()> {
        let place = EntryPlace {
            term: self.term,
            node: self.node,
            epoch: self.epoch.0,
            first: first.0,
            chain_before: self.chain,
            sent_ms: now.wall_ms,
        };
        let (bytes, chain) = place.encode(body, Deflate::No, PartCount::default()).map_err(io::Error::other)?;
        let header = EntryHeader::decode(&bytes).map_err(io::Error::other)?;
        self.segments.append(&bytes, NewestEntry { header, chain })?;
        self.chain = chain;
        Ok(())
    }

    fn pass_to_sync(&mut self, now: Stamp) {
        if now.mono_ns < self.next_sync_ns {
            return;
        }
        self.next_sync_ns = now.mono_ns.saturating_add(self.sync_interval_ns);
        self.unsynced.merge(self.segments.take_unsynced());
        if self.unsynced.is_empty() {
            return;
        }
        let job = std::mem::take(&mut self.unsynced);
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
            self.unsynced = job;
        }
    }

    fn failed(&mut self, failure: ArchiveFailure, error: &io::Error, now: Stamp) {
        self.meters.failed(failure);
        if self.failure_log.take(now).is_none() {
            return;
        }
        match failure {
            ArchiveFailure::Reserve => tracing::error!(
                %error,
                "the archive cannot reserve offsets, so the next start may begin another epoch, and clients that resume \
                 receive `skipped`; check the disk of archive.dir"
            ),
            ArchiveFailure::Write | ArchiveFailure::Sync | ArchiveFailure::Remove => tracing::error!(
                %error,
                "the archive cannot be written; frames wait in the ring, and are missing in the archive once it \
                 overwrites them; make room on the disk of archive.dir"
            ),
        }
    }
}

/// Items of one entry each.
fn chunks(frames: &[Arc<Frame>]) -> impl Iterator<Item = Vec<(u64, LoggedItem)>> + '_ {
    let mut left = frames.iter().peekable();
    std::iter::from_fn(move || {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(frame) = left.next() else { break };
            let item = item_of(frame);
            bytes += item.bytes();
            items.push((frame.offset.0, item));
        }
        (!items.is_empty()).then_some(items)
    })
}
