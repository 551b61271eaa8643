//! The index against a naive model: lanes and topics come and go at random.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::access::rights::{GrantedPattern, GrantedTopics, Rights};
use crate::bus::retention::Retention;
use crate::delivery::lanes::topic_filter::TopicFilters;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::words::stamp::Stamp;

const TEXTS: [&str; 10] = ["a", "b", "c", "d.x", "d.y", "e.x", "e.y", "f", "g", "h.i.j"];
const WILDCARDS: [&str; 5] = [">", "d.*", "*.x", "h.>", "*"];
const GRANTED: [&str; 5] = ["d.>", "*.y", "a", "h.i.*", "*"];

/// A lane that is open, or leaving: what it names, and the wildcards that still count for new topics.
struct ModelLane {
    names: BTreeSet<&'static str>,
    wildcards: Vec<Pattern>,
    /// The topics that the wildcards are narrowed to; none for all.
    allowed: Option<SharedFilter>,
}

/// What there should be.
#[derive(Default)]
struct Model {
    lanes: BTreeMap<LaneId, ModelLane>,
    topics: BTreeMap<&'static str, Arc<Topic>>,
    offset: u64,
}

struct World {
    rng: StdRng,
    index: TopicIndex,
    filters: TopicFilters,
    model: Model,
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

impl World {
    fn some(&mut self, texts: &[&'static str]) -> BTreeSet<&'static str> {
        texts.iter().copied().filter(|_| self.rng.random_bool(0.3)).collect()
    }

    fn some_filter(&mut self) -> Option<SharedFilter> {
        let granted = self.some(&GRANTED);
        let delay = std::time::Duration::ZERO;
        let granted = granted.into_iter().map(|text| GrantedPattern { pattern: pattern(text), delay });
        let topics = GrantedTopics::Matching(granted.collect());
        let rights = Rights { topics, ..Rights::unlimited() };
        if self.rng.random_bool(0.5) { self.filters.of(&rights) } else { None }
    }

    fn ids(&mut self, texts: &BTreeSet<&'static str>) -> Vec<NameId> {
        let index = &mut self.index;
        let named = |text: &&str| index.names().find(text).unwrap_or_else(|| index.insert_name(Arc::from(*text), None));
        let mut ids: Vec<NameId> = texts.iter().map(named).collect();
        ids.sort_unstable();
        ids
    }

    fn open(&mut self) {
        let vacant = (0..).map(LaneId).find(|lane| !self.model.lanes.contains_key(lane)).expect("a number");
        let names = self.some(&TEXTS);
        let wildcards: Vec<Pattern> = self.some(&WILDCARDS).into_iter().map(pattern).collect();
        let ids: Arc<[NameId]> = self.ids(&names).into();
        let allowed = self.some_filter();
        let named = self.index.add_lane(vacant, &ids, (&wildcards, allowed.clone()));
        let set: PatternSet = wildcards.iter().collect();
        let (_, _, matched) = self.index.match_lane(vacant, &set, (0, usize::MAX));
        assert_eq!(named.max(matched), self.index.newest_of(vacant));
        self.model.lanes.insert(vacant, ModelLane { names, wildcards, allowed });
    }

    fn any_lane(&mut self) -> Option<LaneId> {
        let at = self.rng.random_range(0..self.model.lanes.len().max(1));
        self.model.lanes.keys().nth(at).copied()
    }

    fn close(&mut self) {
        let Some(lane) = self.any_lane() else { return };
        let model = self.model.lanes.remove(&lane).expect("it is there");
        self.index.remove_wildcards(lane, &model.wildcards);
        let topics_max = self.rng.random_range(1..4);
        while self.index.leave(lane, topics_max) == topics_max {}
        assert_eq!(self.index.count_of(lane), 0);
    }

    /// A frame of a topic, which is new or not.
    fn publish(&mut self) {
        let text = TEXTS[self.rng.random_range(0..TEXTS.len())];
        let used: BTreeSet<usize> = self.model.topics.values().map(|topic| topic.id.index()).collect();
        let vacant = (0..).find(|id| !used.contains(id)).expect("a number");
        let topic = self
            .model
            .topics
            .entry(text)
            .or_insert_with(|| Arc::new(Topic { id: TopicId(vacant as u32), name: text.into(), keep: None }));
        self.model.offset += 1;
        let payload = Payload { bytes: Bytes::from_static(b"{}"), kind: PayloadKind::Json };
        let (offset, retention) = (Offset(self.model.offset), Retention::NEWEST);
        self.index.take_frame(Arc::new(Frame::new(offset, topic.clone(), Stamp::default(), payload, retention)));
    }

    fn forget(&mut self) {
        let text = TEXTS[self.rng.random_range(0..TEXTS.len())];
        if let Some(topic) = self.model.topics.remove(text) {
            self.index.forget(&topic);
        }
    }

    /// Both sides say what the model says.
    fn check(&mut self) {
        let World { index, model, .. } = self;
        let named: BTreeSet<&str> = model.lanes.values().flat_map(|lane| &lane.names).copied().collect();
        assert_eq!(index.names.count(), named.len(), "names live as long as a lane has them");
        let gets = |lane: &ModelLane, text: &str| {
            let is_allowed = |filter: &SharedFilter| filter.granted().iter().any(|pattern| pattern.matches(text));
            let is_wanted = lane.wildcards.iter().any(|pattern| pattern.matches(text));
            lane.names.contains(text) || (is_wanted && lane.allowed.as_ref().is_none_or(is_allowed))
        };
        for (text, topic) in &model.topics {
            let mut found: Vec<LaneId> = index.subscribers_mut(topic.id).map(|subscriber| subscriber.lane).collect();
            found.sort_unstable();
            let lanes = model.lanes.iter().filter(|(_, lane)| gets(lane, text)).map(|(id, _)| *id);
            assert_eq!(found, lanes.collect::<Vec<LaneId>>(), "each lane has one subscriber on {text}");
        }
        let mut subscribers = 0;
        for (id, lane) in &model.lanes {
            let topics: BTreeSet<&str> = index.topics_of(*id).map(|(_, entry)| entry.topic_name()).collect();
            let expected = model.topics.keys().copied().filter(|text| gets(lane, text));
            assert_eq!(topics, expected.collect::<BTreeSet<&str>>());
            assert_eq!(topics.len(), index.topics_of(*id).count(), "each once");
            for (text, topic) in &model.topics {
                assert_eq!(index.entry_on(*id, topic.id).is_some(), gets(lane, text), "{text}");
            }
            let list = &index.lanes[id.0 as usize];
            for (name, place) in list.names.iter().zip(&list.places) {
                assert_eq!(index.names[*name].subscribers.as_slice()[*place as usize].lane, *id);
            }
            subscribers += index.count_of(*id);
        }
        assert_eq!(index.subscribers, subscribers);
    }
}

#[test]
fn lanes_and_topics_agree_whatever_comes_and_goes() {
    for seed in 0..20 {
        let rng = StdRng::seed_from_u64(seed);
        let mut world =
            World { rng, index: TopicIndex::default(), filters: TopicFilters::default(), model: Model::default() };
        for _ in 0..400 {
            match world.rng.random_range(0..10) {
                0..=2 => world.open(),
                3..=4 => world.close(),
                5..=7 => world.publish(),
                _ => world.forget(),
            }
            world.check();
        }
        while !world.model.lanes.is_empty() {
            world.close();
        }
        world.check();
        assert_eq!((world.index.names.bytes(), world.index.subscribers()), (0, 0), "seed {seed}");
    }
}
