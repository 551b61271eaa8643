//! What is kept of topics, exact at one offset: a visit of the last-value cache, carried forward from the ring.
//!
//! The publisher does not stop while topics are visited, so a plain visit mixes moments: a topic visited early may be
//! overtaken before the last one is visited. The head after the visit would then lose that update for a reader that
//! goes on from there; the head before it would repeat what the visit already saw. So everything that entered the ring
//! since the head before the visit is applied to what was seen, up to the head after it.
//!
//! Invariant: a reader that goes on from `offset` misses nothing of the topics. Unless `overrun`, it repeats nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::access::rights::{GrantedPattern, GrantedTopics};
use crate::bus::frame::{FrameKind, Topic};
use crate::bus::latest::Current;
use crate::bus::reader::{FrameLookup, Reader};
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::PatternSet;
use crate::words::topic::Pattern;

pub struct Snapshot {
    pub offset: Offset,
    /// In no order.
    pub topics: Vec<Current>,
    /// The publisher went a whole ring ahead during the visit: `offset` is the head before it, and topics may be newer.
    pub overrun: bool,
}

/// Called between any two steps with the work that the last one was, so that long work can be done in parts.
pub type OnStep<'b> = &'b mut dyn FnMut(usize);

/// Which topics a snapshot holds: all, or those that match one of some patterns.
pub struct TopicChoice<'p> {
    patterns: &'p [Pattern],
    compiled: PatternSet,
    /// Of what is chosen, only topics that each of these matches.
    within: Vec<PatternSet>,
}

/// What is known of topics: none where a topic is not chosen, so that it is matched once.
type MatchedTopics = HashMap<TopicId, Option<Current>>;

impl<'p> TopicChoice<'p> {
    /// Without patterns all topics.
    pub fn new(patterns: &'p [Pattern]) -> TopicChoice<'p> {
        TopicChoice { patterns, compiled: patterns.iter().collect(), within: Vec::new() }
    }

    /// Of these, only what is granted.
    pub fn within(self, granted: &GrantedTopics) -> TopicChoice<'p> {
        let patterns = |granted: &[GrantedPattern]| granted.iter().map(|granted| &granted.pattern).collect();
        let within = match granted {
            GrantedTopics::All => Vec::new(),
            GrantedTopics::Matching(granted) => vec![patterns(granted)],
            GrantedTopics::Narrowed { named, within } => vec![patterns(within), named.iter().collect()],
        };
        TopicChoice { within, ..self }
    }

    fn is_all(&self) -> bool {
        self.patterns.is_empty() && self.within.is_empty()
    }

    /// The names of the topics, where no pattern is a wildcard and so none has to be looked for.
    fn names(&self) -> Option<impl Iterator<Item = &'p str>> {
        let exact = !self.patterns.is_empty() && self.patterns.iter().all(Pattern::is_exact);
        exact.then(|| self.patterns.iter().map(Pattern::as_str))
    }

    /// Whether it has the topic.
    pub fn holds(&self, topic: &str, on_step: OnStep<'_>) -> bool {
        let wanted = Some(&self.compiled).filter(|_| !self.patterns.is_empty());
        matches_all(wanted.into_iter().chain(&self.within), topic, on_step)
    }
}

impl Reader {
    /// What is kept of these topics, exact at one offset.
    pub fn snapshot(&self, choice: &TopicChoice<'_>, on_step: OnStep<'_>) -> Snapshot {
        let before = self.head();
        let mut seen = visit(self, choice, on_step);
        // A frame is remembered one statement before it enters the ring, so the visit may have seen the one after the
        // head. Then the snapshot is exact there, and the head moves on before any client can use the cursor.
        let newest = seen.values().flatten().map(|current| current.retained.newest().offset).max();
        let head = self.head();
        let carried = carry(self, choice, ((before, head), &mut seen), on_step);
        let newest = head.max(newest.unwrap_or_default());
        // Further ahead is what a publisher remembers in the middle of a leap: some of it was not seen.
        let overrun = carried.is_err() || newest > head.next();
        let offset = if overrun { before } else { newest };
        Snapshot { offset, topics: seen.into_values().flatten().collect(), overrun }
    }
}

fn matches_all<'s>(mut sets: impl Iterator<Item = &'s PatternSet>, topic: &str, on_step: OnStep<'_>) -> bool {
    sets.all(|set| {
        let (matched, steps) = set.matches_counted(topic);
        on_step(steps);
        matched
    })
}

struct Overrun;

/// While a part of the cache is locked, only references to topics are copied, and values that are two pointers. What is
/// kept of another topic, which may be thousands of deltas, is copied of one topic at a time.
fn visit(reader: &Reader, choice: &TopicChoice<'_>, on_step: OnStep<'_>) -> MatchedTopics {
    // A topic that has gone meanwhile is new when it comes back.
    let look = |name: &str| reader.latest(name).map(|current| (current.retained.newest().topic.id, Some(current)));
    if let Some(names) = choice.names() {
        let granted = names.filter(|name| {
            on_step(1);
            matches_all(choice.within.iter(), name, on_step)
        });
        return granted.filter_map(look).collect();
    }
    let is_all = choice.is_all();
    let mut found = MatchedTopics::with_capacity(reader.topics());
    let mut topics: Vec<Arc<Topic>> = Vec::new();
    reader.each_latest(|current| {
        let topic = &current.retained.newest().topic;
        if is_all && current.retained.is_single() {
            found.insert(topic.id, Some(current.clone()));
        } else {
            topics.push(topic.clone());
        }
    });
    on_step(found.len());
    for topic in topics {
        let is_chosen = choice.holds(&topic.name, on_step);
        found.extend(if is_chosen { look(&topic.name) } else { Some((topic.id, None)) });
        on_step(usize::from(is_chosen));
    }
    found
}

/// Applies the frames after the first offset up to the second.
fn carry(
    reader: &Reader,
    choice: &TopicChoice<'_>,
    ((before, head), found): ((Offset, Offset), &mut MatchedTopics),
    on_step: OnStep<'_>,
) -> Result<(), Overrun> {
    let mut offset = before;
    while offset < head {
        offset = offset.next();
        let FrameLookup::Hot(frame) = reader.frame(offset) else { return Err(Overrun) };
        on_step(0);
        if let FrameKind::Expired(topics) = &frame.kind {
            topics.iter().for_each(|topic| drop(found.remove(&topic.id)));
            continue;
        }
        match found.entry(frame.topic.id) {
            Entry::Occupied(mut entry) => {
                if let Some(current) = entry.get_mut()
                    && current.retained.newest().offset < offset
                {
                    current.take(frame);
                }
            }
            Entry::Vacant(entry) => {
                // Not visited, so the topic is new since `before`, and this is its first frame.
                let chosen = choice.holds(&frame.topic.name, on_step);
                entry.insert(chosen.then(|| Current::new(frame)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use std::time::Duration;

    use super::*;
    use crate::bus::publisher::Publisher;
    use crate::bus::retention::Retention;
    use crate::bus::{Limits, open};
    use crate::protocol::encoding::{Payload, PayloadKind};
    use crate::words::ids::Epoch;
    use crate::words::metrics::Meters;
    use crate::words::stamp::Stamp;

    /// Name, newest offset and count of each topic.
    type Lines = BTreeMap<String, (u64, u64)>;

    fn bus(ring_frames_max: usize) -> (Publisher, Reader) {
        let limits = Limits { ring_frames_max, ring_bytes_max: 1 << 20, topics_max: 100 };
        open(Epoch(1), limits, &Meters::unread())
    }

    fn publish(publisher: &mut Publisher, topic: &str) {
        let payload = Payload { bytes: bytes::Bytes::from_static(b"1"), kind: PayloadKind::Json };
        publisher.publish(topic, payload, Retention::NEWEST, Stamp::default()).expect("a good topic");
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).expect(text)).collect()
    }

    /// What may be granted of these topics: all, some, and some that a token names.
    fn granted() -> [GrantedTopics; 3] {
        let within = |texts: &[&str]| {
            let granted = patterns(texts).into_iter();
            granted.map(|pattern| GrantedPattern { pattern, delay: Duration::ZERO }).collect()
        };
        let narrowed = GrantedTopics::Narrowed { named: patterns(&["*.7", "*.1"]).into(), within: within(&["b.>"]) };
        [GrantedTopics::All, GrantedTopics::Matching(within(&["a.1", "b.*"])), narrowed]
    }

    fn lines(snapshot: &Snapshot) -> Lines {
        let line = |current: &Current| {
            let newest = current.retained.newest();
            (newest.topic.name.to_string(), (newest.offset.0, current.count))
        };
        snapshot.topics.iter().map(line).collect()
    }

    /// What was there once `published`, in order, was published up to this offset.
    fn expected(published: &[String], offset: Offset, patterns: &[Pattern], granted: &GrantedTopics) -> Lines {
        let mut lines = Lines::new();
        for (offset, topic) in (1..=offset.0).zip(published) {
            let is_wanted = patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(topic));
            if is_wanted && granted.allows(topic) {
                let line = lines.entry(topic.clone()).or_default();
                *line = (offset, line.1 + 1);
            }
        }
        lines
    }

    #[test]
    fn a_snapshot_is_exact_at_its_offset_whatever_is_published_between_its_steps() {
        let (mut exact, mut overruns) = (0, 0);
        for seed in 0..500 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut publisher, reader) = bus(32);
            let mut published: Vec<String> = Vec::new();
            let mut publish_some = |most: usize| {
                for _ in 0..rng.random_range(0..=most) {
                    let prefix = ["a", "b"][rng.random_range(0..2)];
                    let topic = format!("{prefix}.{}", rng.random_range(0..8));
                    publish(&mut publisher, &topic);
                    published.push(topic);
                }
            };
            publish_some(40);
            let before = reader.head();
            let patterns = patterns([&[][..], &["a.*"], &["a.1", "b.7"]][seed as usize % 3]);
            let granted = granted()[seed as usize / 3 % 3].clone();
            let snapshot = reader.snapshot(&TopicChoice::new(&patterns).within(&granted), &mut |_| publish_some(3));
            if snapshot.overrun {
                overruns += 1;
                assert_eq!(snapshot.offset, before, "a reader that goes on from here learns of the gap; seed {seed}");
            } else {
                exact += 1;
                assert!(snapshot.offset >= before);
                assert_eq!(lines(&snapshot), expected(&published, snapshot.offset, &patterns, &granted), "seed {seed}");
            }
        }
        assert!(exact > 50 && overruns > 50, "both happen: {exact} and {overruns}");
    }

    #[test]
    fn a_snapshot_is_exact_beside_a_publisher_that_does_not_wait() {
        let (mut publisher, reader) = bus(1 << 16);
        let published: Vec<String> = (0..60_000_u64).map(|n| format!("t.{}", n * n % 61)).collect();
        let topics = published.clone();
        let publishing = std::thread::spawn(move || {
            topics.iter().for_each(|topic| publish(&mut publisher, topic));
            publisher
        });
        let mut snapshots = Vec::new();
        while !publishing.is_finished() {
            snapshots.push(reader.snapshot(&TopicChoice::new(&[]), &mut |_| {}));
        }
        let _publisher = publishing.join().expect("the publisher ends well");
        // The first and the last ones, and some in between: to replay the stream for each would take minutes.
        let step = snapshots.len().div_ceil(50);
        for snapshot in snapshots.iter().step_by(step) {
            assert!(!snapshot.overrun, "the ring holds all");
            assert_eq!(
                lines(snapshot),
                expected(&published, snapshot.offset, &[], &GrantedTopics::All),
                "at {}",
                snapshot.offset
            );
        }
    }
}
