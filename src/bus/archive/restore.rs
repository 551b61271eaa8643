//! From the archive into the bus: what is retained of topics, and the newest frames into the ring.

use std::path::Path;

use feed_log::entry::item::LoggedItem;
use feed_log::entry::{EntryBody, LogEntry};
use feed_log::segments::Segments;
use feed_log::segments::error::SegmentError;
use feed_log::segments::record::SegmentReader;

use crate::bus::logged::{ArchivedFrame, frame_of, hole, publish_logged};
use crate::bus::publisher::Publisher;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Offsets without an entry that are passed one by one; more are left out together, as a snapshot would.
const HOLES_MAX: u64 = 16_384;

pub(super) struct Restore<'p> {
    pub publisher: &'p mut Publisher,
    pub now: Stamp,
    /// Topics of a snapshot whose last entry has not come yet.
    snapshot: Vec<(u64, LoggedItem)>,
    /// When the newest frame was received.
    pub newest_ms: u64,
    pub frames: u64,
}

impl<'p> Restore<'p> {
    pub fn new(publisher: &'p mut Publisher, now: Stamp) -> Restore<'p> {
        Restore { publisher, now, snapshot: Vec::new(), newest_ms: 0, frames: 0 }
    }

    /// Fills ring and latest values with what is archived up to `until`.
    ///
    /// # Errors
    /// The disk does not answer. What is damaged is left out and told.
    pub fn run(
        &mut self,
        segments: &Segments,
        (until, ring_frames): (Offset, usize),
        directory: &Path,
    ) -> Result<(), SegmentError> {
        let wanted = (until.0 + 1).saturating_sub(ring_frames as u64);
        // A segment opens with what is retained before its first frame.
        let first = segments.kept().rev().find(|segment| segment.first.first <= wanted).or(segments.kept().next());
        let first = first.map_or(0, |segment| segment.number);
        let numbers: Vec<u64> =
            segments.kept().map(|segment| segment.number).filter(|number| *number >= first).collect();
        for number in numbers {
            self.snapshot.clear();
            match self.segment(segments.read(number)?) {
                Ok(()) => {}
                Err(error) if error.is_of_disk() => return Err(error),
                Err(error) => tracing::error!(
                    directory = %directory.display(),
                    %error,
                    "a file of the archive is damaged; what follows in it is left out, and clients that resume from \
                     before it receive `skipped`"
                ),
            }
        }
        if self.publisher.head() < until {
            self.publisher.leap(Vec::new(), until);
        }
        Ok(())
    }

    fn segment(&mut self, mut reader: SegmentReader) -> Result<(), SegmentError> {
        while let Some(stored) = reader.next_entry()? {
            // It was written by this program, so its checksum says that it is whole.
            let Ok(entry) = LogEntry::decode(stored.bytes) else { continue };
            let first = entry.header.first;
            match entry.body {
                EntryBody::Term(_) => self.hold_place(first),
                EntryBody::Retained { items, is_last } => {
                    self.snapshot.extend(items);
                    if is_last {
                        let items = std::mem::take(&mut self.snapshot);
                        self.begin_with(items, Offset(first.saturating_sub(1)));
                    }
                }
                EntryBody::Batch(items) => {
                    self.hold_place(first);
                    let numbered = items.into_iter().filter(LoggedItem::is_numbered);
                    (first..).zip(numbered).for_each(|(offset, item)| self.publish(Offset(offset), item));
                }
                EntryBody::Part(_) => {}
            }
        }
        Ok(())
    }

    /// What is retained at an offset counts only where the frames before it are not here.
    fn begin_with(&mut self, items: Vec<(u64, LoggedItem)>, at: Offset) {
        if self.publisher.head() >= at {
            return;
        }
        let frames = items.into_iter().filter_map(|(offset, item)| Some((Offset(offset), frame_of(item)?)));
        let frames: Vec<(Offset, ArchivedFrame)> = frames.collect();
        self.newest_ms = frames.iter().map(|(_, frame)| frame.received_ms).fold(self.newest_ms, u64::max);
        let given = frames.iter().map(|(offset, frame)| frame.given(*offset, self.now)).collect();
        self.publisher.leap(given, at);
    }

    /// Offsets up to this one were given, and nothing is archived of them.
    pub fn hold_place(&mut self, next: u64) {
        let head = self.publisher.head().0;
        if next > 1 && (head == 0 || next.saturating_sub(head) > HOLES_MAX) {
            return self.publisher.leap(Vec::new(), Offset(next - 1));
        }
        for offset in head + 1..next {
            publish_logged(self.publisher, Offset(offset), &hole(), self.now);
        }
    }

    fn publish(&mut self, offset: Offset, item: LoggedItem) {
        if offset <= self.publisher.head() {
            return;
        }
        if let Some(frame) = frame_of(item) {
            self.newest_ms = self.newest_ms.max(frame.received_ms);
            self.frames += 1;
            publish_logged(self.publisher, offset, &frame, self.now);
        }
    }
}
