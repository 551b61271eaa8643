//! What is kept of each topic, as of one offset.
//!
//! The publisher does not stop while topics are visited, so a plain visit mixes moments: a topic visited early may be
//! overtaken before the last one is visited. Announcing the head after the visit would then lose that update for a
//! client that goes on from there; announcing the head before it would repeat what the visit already saw. So the
//! visit's result is carried forward: everything the ring got since the head before the visit is applied, up to the
//! head after it, which makes the result exact at that offset.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::bus::frame::{FrameKind, Topic};
use crate::bus::latest::Current;
use crate::bus::reader::Reader;
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::PatternSet;
use crate::words::topic::Pattern;

/// Going on from `offset` misses nothing of the matched topics.
pub(in crate::edge) struct Snapshot {
    pub offset: Offset,
    /// In no order.
    pub currents: Vec<Current>,
}

/// Called between any two steps with the work that the last one was, so that long work can be done in parts.
pub(in crate::edge) type OnStep<'b> = &'b mut dyn FnMut(usize);

/// What is wanted: all topics, or those that match one of these.
pub(in crate::edge) struct Choice<'p> {
    patterns: &'p [Pattern],
    compiled: PatternSet,
}

/// What is known of topics: none where a topic is not wanted, so that it is matched once.
type MatchedTopics = HashMap<TopicId, Option<Current>>;

impl<'p> Choice<'p> {
    pub fn new(patterns: &'p [Pattern]) -> Choice<'p> {
        Choice { patterns, compiled: patterns.iter().collect() }
    }

    /// The names of the topics that are wanted, if they are so few that none has to be looked for.
    fn names(&self) -> Option<impl Iterator<Item = &'p str>> {
        let exact = !self.patterns.is_empty() && self.patterns.iter().all(Pattern::is_exact);
        exact.then(|| self.patterns.iter().map(Pattern::as_str))
    }

    fn wants(&self, topic: &str, breathe: OnStep<'_>) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        let (wanted, steps) = self.compiled.matches_counted(topic);
        breathe(steps);
        wanted
    }
}

impl Snapshot {
    /// Takes the topics that are wanted.
    pub fn take(reader: &Reader, choice: &Choice<'_>, breathe: OnStep<'_>) -> Snapshot {
        let before = reader.head();
        let seen = visit(reader, choice, breathe);
        Snapshot::develop(reader, choice, (before, seen), breathe)
    }

    /// Makes one moment of what was `seen` some time after the head was at `before`.
    fn develop(
        reader: &Reader,
        choice: &Choice<'_>,
        (before, mut seen): (Offset, MatchedTopics),
        breathe: OnStep<'_>,
    ) -> Snapshot {
        // A frame is remembered one statement before it enters the ring, so the visit may have seen the one after the
        // head. Then the picture is exact there, and the head has moved on before any client can use the cursor.
        let offsets = seen.values().flatten().map(|current| current.story.newest().offset);
        let newest = offsets.max().unwrap_or_default();
        let head = reader.head();
        let offset = match carry(reader, choice, ((before, head), &mut seen), breathe) {
            Ok(()) => head.max(newest),
            // The ring was overrun during the visit. From the old head nothing is missed either, some is repeated.
            Err(Overrun) => before,
        };
        Snapshot { offset, currents: seen.into_values().flatten().collect() }
    }
}

struct Overrun;

/// Only references to names are copied while a part of the cache is locked; what is kept of a topic, which may be
/// thousands of changes, is copied of one topic at a time.
fn visit(reader: &Reader, choice: &Choice<'_>, breathe: OnStep<'_>) -> MatchedTopics {
    let mut found = MatchedTopics::new();
    let mut look = |name: &str, breathe: OnStep<'_>| {
        // A topic that has gone meanwhile is new to us when it comes back.
        if let Some(current) = reader.latest(name) {
            found.insert(current.story.newest().topic.id, Some(current));
        }
        breathe(1);
    };
    if let Some(names) = choice.names() {
        names.for_each(|name| look(name, breathe));
        return found;
    }
    let mut topics: Vec<Arc<Topic>> = Vec::with_capacity(reader.topics());
    reader.each_latest(|current| topics.push(current.story.newest().topic.clone()));
    let mut unwanted = Vec::new();
    for topic in topics {
        if choice.wants(&topic.name, breathe) {
            look(&topic.name, breathe);
        } else {
            unwanted.push(topic.id);
        }
    }
    found.extend(unwanted.into_iter().map(|id| (id, None)));
    found
}

/// Applies the frames after the first offset up to the second.
fn carry(
    reader: &Reader,
    choice: &Choice<'_>,
    ((before, head), found): ((Offset, Offset), &mut MatchedTopics),
    breathe: OnStep<'_>,
) -> Result<(), Overrun> {
    let mut offset = before;
    while offset < head {
        offset = offset.next();
        let frame = reader.frame(offset).ok_or(Overrun)?;
        breathe(0);
        if let FrameKind::Expired(topics) = &frame.role {
            topics.iter().for_each(|topic| drop(found.remove(&topic.id)));
            continue;
        }
        match found.entry(frame.topic.id) {
            Entry::Occupied(mut entry) => {
                if let Some(current) = entry.get_mut()
                    && current.story.newest().offset < offset
                {
                    current.take(frame);
                }
            }
            Entry::Vacant(entry) => {
                // Not visited, so the topic is new since `before`, and this is its first frame.
                let wanted = choice.wants(&frame.topic.name, breathe);
                entry.insert(wanted.then(|| Current::new(frame)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::publisher::Publisher;
    use crate::bus::retention::Retention;
    use crate::bus::{Limits, open};
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::ids::Epoch;
    use crate::words::metrics::Meters;
    use crate::words::stamp::Stamp;

    const RING_FRAMES: usize = 8;

    fn bus() -> (Publisher, Reader) {
        let limits = Limits { ring_frames_max: RING_FRAMES, ring_bytes_max: 1000, topics_max: 10 };
        open(Epoch(1), limits, &Meters::unread())
    }

    fn publish(publisher: &mut Publisher, topics: &[&str]) {
        for topic in topics {
            let payload = Payload { bytes: bytes::Bytes::from_static(b"1"), kind: PayloadKind::Json };
            publisher.publish(topic, payload, Retention::NEWEST, Stamp::default()).expect("a good topic");
        }
    }

    /// Topic, offset and count of each, by offset.
    fn lines(picture: &Snapshot) -> Vec<(&str, u64, u64)> {
        let mut lines: Vec<_> = Vec::new();
        for current in &picture.currents {
            let newest = current.story.newest();
            lines.push((&*newest.topic.name, newest.offset.0, current.count));
        }
        lines.sort_unstable_by_key(|(_, offset, _)| *offset);
        lines
    }

    #[test]
    fn what_is_published_during_the_visit_is_in_the_picture() {
        for (patterns, expected) in [
            (&[][..], &[("a.x", 4, 2), ("b", 6, 3), ("a.new", 7, 2)][..]),
            (&["a.*"], &[("a.x", 4, 2), ("a.new", 7, 2)]),
            (&["a.x", "a.new"], &[("a.x", 4, 2), ("a.new", 7, 2)]),
        ] {
            let patterns: Vec<Pattern> = patterns.iter().map(|p| Pattern::parse(p).expect(p)).collect();
            let (mut publisher, reader) = bus();
            publish(&mut publisher, &["a.x", "b"]);
            let before = reader.head();
            publish(&mut publisher, &["b"]);
            let choice = Choice::new(&patterns);
            let seen = visit(&reader, &choice, &mut |_| {});
            publish(&mut publisher, &["a.x", "a.new", "b", "a.new"]);
            let picture = Snapshot::develop(&reader, &choice, (before, seen), &mut |_| {});
            assert_eq!(picture.offset, Offset(7));
            assert_eq!(lines(&picture), expected, "{patterns:?}");
        }
    }

    #[test]
    fn an_overrun_ring_takes_the_cursor_back_to_before_the_visit() {
        let (mut publisher, reader) = bus();
        publish(&mut publisher, &["a", "b"]);
        let before = reader.head();
        let choice = Choice::new(&[]);
        let seen = visit(&reader, &choice, &mut |_| {});
        publish(&mut publisher, &["b"; RING_FRAMES + 1]);
        let picture = Snapshot::develop(&reader, &choice, (before, seen), &mut |_| {});
        assert_eq!(picture.offset, before, "going on from here is answered with `skipped`, not with a silent gap");
    }
}
