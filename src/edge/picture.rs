//! What is kept of each topic, as of one offset.
//!
//! The publisher does not stop while topics are visited, so a plain visit mixes moments: a topic visited early may be
//! overtaken before the last one is visited. Announcing the head after the visit would then lose that update for a
//! client that goes on from there; announcing the head before it would repeat what the visit already saw. So the
//! visit's result is carried forward: everything the ring got since the head before the visit is applied, up to the
//! head after it, which makes the result exact at that offset.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::bus::frame::Role;
use crate::bus::latest::Current;
use crate::bus::reader::Reader;
use crate::words::ids::{Offset, TopicId};
use crate::words::topic::Pattern;

/// Going on from `offset` misses nothing of the matched topics.
pub(super) struct Picture {
    pub offset: Offset,
    /// In no order.
    pub currents: Vec<Current>,
}

impl Picture {
    /// Takes the topics that match one of `patterns`; all if there are none.
    pub fn take(reader: &Reader, patterns: &[Pattern]) -> Picture {
        let before = reader.head();
        let seen = visit(reader, patterns);
        Picture::develop(reader, patterns, before, seen)
    }

    /// Makes one moment of what was `seen` some time after the head was at `before`.
    fn develop(reader: &Reader, patterns: &[Pattern], before: Offset, seen: Vec<Current>) -> Picture {
        let mut found: HashMap<TopicId, Current> = seen
            .into_iter()
            .filter(|current| wanted(patterns, &current.story.newest().topic.name))
            .map(|current| (current.story.newest().topic.id, current))
            .collect();
        // A frame is remembered one statement before it enters the ring, so the visit may have seen the one after the
        // head. Then the picture is exact there, and the head has moved on before any client can use the cursor.
        let newest = found.values().map(|current| current.story.newest().offset).max().unwrap_or_default();
        let head = reader.head();
        let offset = match carry(reader, patterns, (before, head), &mut found) {
            Ok(()) => head.max(newest),
            // The ring was overrun during the visit. From the old head nothing is missed either, some is repeated.
            Err(Overrun) => before,
        };
        Picture { offset, currents: found.into_values().collect() }
    }
}

struct Overrun;

/// Nothing but copying references happens while a part of the cache is locked; patterns are matched afterwards.
fn visit(reader: &Reader, patterns: &[Pattern]) -> Vec<Current> {
    if !patterns.is_empty() && patterns.iter().all(Pattern::is_exact) {
        return patterns.iter().filter_map(|pattern| reader.latest(pattern.as_str())).collect();
    }
    let mut seen = Vec::with_capacity(reader.topics());
    reader.each_latest(|current| seen.push(current.clone()));
    seen
}

/// Applies the frames after the first offset up to the second.
fn carry(
    reader: &Reader,
    patterns: &[Pattern],
    (before, head): (Offset, Offset),
    found: &mut HashMap<TopicId, Current>,
) -> Result<(), Overrun> {
    let mut offset = before;
    while offset < head {
        offset = offset.next();
        let frame = reader.frame(offset).ok_or(Overrun)?;
        if let Role::Expired(topics) = &frame.role {
            topics.iter().for_each(|topic| drop(found.remove(&topic.id)));
            continue;
        }
        match found.entry(frame.topic.id) {
            Entry::Occupied(mut entry) => {
                let current = entry.get_mut();
                if current.story.newest().offset < offset {
                    current.take(frame);
                }
            }
            Entry::Vacant(entry) => {
                // Not visited, so the topic is new since `before`, and this is its first frame.
                if wanted(patterns, &frame.topic.name) {
                    entry.insert(Current::new(frame));
                }
            }
        }
    }
    Ok(())
}

fn wanted(patterns: &[Pattern], topic: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::keeping::Keeping;
    use crate::bus::publisher::Publisher;
    use crate::bus::{Limits, open};
    use crate::wire::encode::{Payload, PayloadKind};
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
            publisher.publish(topic, payload, Keeping::NEWEST, Stamp::default()).expect("a good topic");
        }
    }

    /// Topic, offset and count of each, by offset.
    fn lines(picture: &Picture) -> Vec<(&str, u64, u64)> {
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
            let seen = visit(&reader, &patterns);
            publish(&mut publisher, &["a.x", "a.new", "b", "a.new"]);
            let picture = Picture::develop(&reader, &patterns, before, seen);
            assert_eq!(picture.offset, Offset(7));
            assert_eq!(lines(&picture), expected, "{patterns:?}");
        }
    }

    #[test]
    fn an_overrun_ring_takes_the_cursor_back_to_before_the_visit() {
        let (mut publisher, reader) = bus();
        publish(&mut publisher, &["a", "b"]);
        let before = reader.head();
        let seen = visit(&reader, &[]);
        publish(&mut publisher, &["b"; RING_FRAMES + 1]);
        let picture = Picture::develop(&reader, &[], before, seen);
        assert_eq!(picture.offset, before, "going on from here is answered with `skipped`, not with a silent gap");
    }
}
