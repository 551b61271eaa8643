//! What is retained of topics, exact at one offset, for another log that begins with it. For another server it is written
//! once, in entries as the archive has them.
//!
//! ```text
//! entries    length u32, entry                        of what is kept, until one is the last
//! entries    the same                                 of what is newest without being kept
//! topics     flags u8: 1 events, 2 deltas · count u64 of each, in the order in which they were named first
//! ```
//!
//! The first entry names a chain that reader and writer know, each further one its predecessor. Whoever reads believes
//! nothing: what is written may come from anybody.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use feed_log::entry::error::EntryError;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Deflate, EntryBody, EntryPlace, LogEntry, PartCount};

use crate::bus::frame::Frame;
use crate::bus::latest::Current;
use crate::bus::log::snapshot::{OnStep, Snapshot};
use crate::bus::logged::{ArchivedFrame, frame_of, item_of};
use crate::bus::publisher::republish::FrameContent;
use crate::words::ids::Offset;

/// Bodies of entries that are larger are deflated, and those that are larger than the second are not.
const DEFLATE_BYTES: std::ops::Range<usize> = 1024..8 << 20;

const HAD_EVENTS: u8 = 1;
const BUILDS_UP: u8 = 2;
/// Of one topic, after the entries.
const TOPIC_BYTES: usize = 9;

/// What another server, or another log, retains of one topic.
pub struct RetainedTopic {
    pub(in crate::bus) name: Box<str>,
    pub(in crate::bus) count: u64,
    pub(in crate::bus) builds_up: bool,
    pub(in crate::bus) had_events: bool,
    pub(in crate::bus) kept: Vec<(Offset, ArchivedFrame)>,
    /// The newest frame, and the newest transient one, where they are not kept.
    pub(in crate::bus) besides: Vec<(Offset, ArchivedFrame)>,
}

/// Why what is retained cannot be written, or read.
#[derive(Debug, thiserror::Error)]
pub enum RetainedError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("expected at most {max} bytes of what is retained of all topics, found more")]
    TooLarge { max: usize },
    #[error("expected {expected}, found {found}; it is damaged, or of another version")]
    Damaged { expected: &'static str, found: String },
}

/// Writes all topics of a snapshot. `place` is where they stand: its `first` is the offset after it.
///
/// # Errors
/// They are larger than `bytes_max`, or something in them is too long for an entry.
pub fn write_topics(
    snapshot: &Snapshot,
    place: EntryPlace,
    bytes_max: usize,
    on_step: OnStep<'_>,
) -> Result<Bytes, RetainedError> {
    let mut writer = TopicWriter { place, bytes_max, bytes: 0, out: BytesMut::new(), on_step };
    writer.put_all(&mut snapshot.topics.iter().flat_map(|topic| topic.retained.kept_after(Offset::START)))?;
    writer.put_all(&mut snapshot.topics.iter().flat_map(besides))?;
    // As a reader meets their names.
    let is_kept = |topic: &&Current| topic.retained.kept_after(Offset::START).next().is_some();
    let (kept, others): (Vec<&Current>, Vec<&Current>) = snapshot.topics.iter().partition(is_kept);
    for topic in kept.into_iter().chain(others) {
        let had_events = if topic.retained.besides().1 { HAD_EVENTS } else { 0 };
        writer.out.put_u8(had_events | if topic.builds_up() { BUILDS_UP } else { 0 });
        writer.out.put_u64_le(topic.count);
    }
    Ok(writer.out.freeze())
}

/// What is retained of a topic without being kept.
fn besides(topic: &Current) -> impl Iterator<Item = &Arc<Frame>> {
    let newest = topic.retained.newest();
    let transient = topic.retained.besides().0.filter(|transient| transient.offset != newest.offset);
    let newest = Some(newest).filter(|newest| topic.retained.find(newest.offset).is_none());
    transient.into_iter().chain(newest)
}

/// What is retained of all topics, for another log of this process.
pub fn retained_topics(snapshot: &Snapshot) -> Vec<RetainedTopic> {
    let archived = |frame: &Arc<Frame>| Some((frame.offset, frame_of(item_of(frame))?));
    let topics = snapshot.topics.iter().map(|topic| RetainedTopic {
        name: topic.retained.newest().topic.name.clone(),
        count: topic.count,
        builds_up: topic.builds_up(),
        had_events: topic.retained.besides().1,
        kept: topic.retained.kept_after(Offset::START).filter_map(archived).collect(),
        besides: besides(topic).filter_map(archived).collect(),
    });
    topics.collect()
}

struct TopicWriter<'w> {
    place: EntryPlace,
    bytes_max: usize,
    /// Of items, as they were before they were deflated.
    bytes: usize,
    out: BytesMut,
    on_step: OnStep<'w>,
}

impl TopicWriter<'_> {
    fn put_all(&mut self, frames: &mut dyn Iterator<Item = &Arc<Frame>>) -> Result<(), RetainedError> {
        let mut frames = frames.peekable();
        loop {
            let (mut items, mut bytes) = (Vec::new(), 0);
            while items.len() < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX {
                let Some(frame) = frames.next() else { break };
                let item = item_of(frame);
                bytes += item.bytes();
                items.push((frame.offset.0, item));
            }
            (self.on_step)(items.len() + bytes / 256);
            let is_last = frames.peek().is_none();
            self.put(EntryBody::Retained { items, is_last }, bytes)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn put(&mut self, body: EntryBody, bytes: usize) -> Result<(), RetainedError> {
        self.bytes += bytes;
        let deflate = if DEFLATE_BYTES.contains(&bytes) { Deflate::Yes } else { Deflate::No };
        let (entry, chain) = self.place.encode(&body, deflate, PartCount::default())?;
        self.place.chain_before = chain;
        let too_large = RetainedError::TooLarge { max: self.bytes_max };
        let Ok(length) = u32::try_from(entry.len()) else { return Err(too_large) };
        self.out.put_u32_le(length);
        self.out.put_slice(&entry);
        if self.bytes.max(self.out.len()) > self.bytes_max { Err(too_large) } else { Ok(()) }
    }
}

/// Reads what [`write_topics`] has written at this place.
///
/// # Errors
/// It is something else, of another place, or larger than `bytes_max`.
pub fn read_topics(mut bytes: Bytes, place: EntryPlace, bytes_max: usize) -> Result<Vec<RetainedTopic>, RetainedError> {
    let mut reader =
        TopicReader { place, bytes_left: bytes_max, bytes_max, topics: Vec::new(), numbers: HashMap::new() };
    while !reader.take(next_entry(&mut bytes)?, |topic| &mut topic.kept)? {}
    while !reader.take(next_entry(&mut bytes)?, |topic| &mut topic.besides)? {}
    let mut topics = reader.topics;
    if bytes.len() != topics.len() * TOPIC_BYTES {
        return Err(damaged("what is known of each topic", format!("{} bytes", bytes.len())));
    }
    for topic in &mut topics {
        let flags = bytes.get_u8();
        (topic.had_events, topic.builds_up) = (flags & HAD_EVENTS != 0, flags & BUILDS_UP != 0);
        topic.count = bytes.get_u64_le();
    }
    Ok(topics)
}

struct TopicReader {
    place: EntryPlace,
    bytes_left: usize,
    bytes_max: usize,
    topics: Vec<RetainedTopic>,
    /// By name.
    numbers: HashMap<Box<str>, usize>,
}

impl TopicReader {
    /// Whether it was the last of its kind.
    fn take(
        &mut self,
        entry: Bytes,
        list: impl Fn(&mut RetainedTopic) -> &mut Vec<(Offset, ArchivedFrame)>,
    ) -> Result<bool, RetainedError> {
        let LogEntry { header, body, chain } = LogEntry::decode(entry)?;
        let found = (header.chain_before, header.epoch, header.first);
        if found != (self.place.chain_before, self.place.epoch, self.place.first) {
            return Err(damaged("the next entry", format!("one after {} of {}", header.chain_before, header.first)));
        }
        self.place.chain_before = chain;
        let EntryBody::Retained { items, is_last } = body else {
            return Err(damaged("what is retained", format!("{:?}", header.kind)));
        };
        for (offset, item) in items {
            let bytes = item.bytes();
            self.bytes_left =
                self.bytes_left.checked_sub(bytes).ok_or(RetainedError::TooLarge { max: self.bytes_max })?;
            if offset == 0 || offset >= self.place.first {
                return Err(damaged("an offset before the snapshot's", offset.to_string()));
            }
            let topic = self.topic_of(&item)?;
            let frame = frame_of(item).ok_or_else(|| damaged("a frame", "something without an offset".to_owned()))?;
            list(topic).push((Offset(offset), frame));
        }
        Ok(is_last)
    }

    fn topic_of(&mut self, item: &LoggedItem) -> Result<&mut RetainedTopic, RetainedError> {
        let name = match item {
            LoggedItem::Frame(frame) => frame.topic.as_str(),
            LoggedItem::Status(status) => status.topic.as_str(),
            _ => return Err(damaged("a message or a status of a topic", "something else".to_owned())),
        };
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                self.numbers.insert(name.into(), self.topics.len());
                self.topics.push(RetainedTopic::new(name));
                self.topics.len() - 1
            }
        };
        Ok(&mut self.topics[number])
    }
}

impl RetainedTopic {
    fn new(name: &str) -> RetainedTopic {
        let (kept, besides) = (Vec::new(), Vec::new());
        RetainedTopic { name: name.into(), count: 0, builds_up: false, had_events: false, kept, besides }
    }

    /// The newest of the frames that are kept by nobody.
    pub(in crate::bus) fn is_transient(frame: &ArchivedFrame) -> bool {
        let FrameContent::Message { retention, .. } = &frame.content else { return false };
        *retention == crate::bus::retention::Retention::Transient
    }
}

fn next_entry(bytes: &mut Bytes) -> Result<Bytes, RetainedError> {
    let found = bytes.len();
    if found < 4 {
        return Err(damaged("an entry", format!("{found} bytes")));
    }
    let length = bytes.get_u32_le() as usize;
    if length > bytes.len() {
        return Err(damaged("an entry", format!("{} bytes of {length}", bytes.len())));
    }
    Ok(bytes.split_to(length))
}

fn damaged(expected: &'static str, found: String) -> RetainedError {
    RetainedError::Damaged { expected, found }
}

#[cfg(test)]
mod tests;
