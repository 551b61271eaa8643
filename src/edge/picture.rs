//! The latest frame of each topic, as of one offset.
//!
//! The publisher does not stop while topics are visited, so a plain visit mixes moments: a topic visited early may be
//! overtaken before the last one is visited. Announcing the head after the visit would then lose that update for a
//! client that goes on from there; announcing the head before it would repeat what the visit already saw. So the
//! visit's result is carried forward: everything the ring got since the head before the visit is applied, up to the
//! head after it, which makes the result exact at that offset.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
        let mut found: HashMap<TopicId, Current> = visit(reader, patterns)
            .into_iter()
            .filter(|current| wanted(patterns, &current.frame.topic.name))
            .map(|current| (current.frame.topic.id, current))
            .collect();
        // A frame is remembered one statement before it enters the ring, so the visit may have seen the one after the
        // head. Then the picture is exact there, and the head has moved on before any client can use the cursor.
        let newest = found.values().map(|current| current.frame.offset).max().unwrap_or_default();
        let head = reader.head();
        let offset = match carry(reader, patterns, before, head, &mut found) {
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

/// Applies the frames after `before` up to `head`.
fn carry(
    reader: &Reader,
    patterns: &[Pattern],
    before: Offset,
    head: Offset,
    found: &mut HashMap<TopicId, Current>,
) -> Result<(), Overrun> {
    let mut offset = before;
    while offset < head {
        offset = offset.next();
        let frame = reader.frame(offset).ok_or(Overrun)?;
        match found.entry(frame.topic.id) {
            Entry::Occupied(mut entry) => {
                let current = entry.get_mut();
                if current.frame.offset < offset {
                    *current = Current { frame, count: current.count + 1 };
                }
            }
            Entry::Vacant(entry) => {
                // Not visited, so the topic is new since `before`, and this is its first frame.
                if wanted(patterns, &frame.topic.name) {
                    entry.insert(Current { frame, count: 1 });
                }
            }
        }
    }
    Ok(())
}

fn wanted(patterns: &[Pattern], topic: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(topic))
}
