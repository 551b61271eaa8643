//! What a command changes of a lane's patterns: from texts to names, and to the key of the lane that has them.

use std::ptr;
use std::sync::Arc;

use crate::bus::frame::Frame;
use crate::bus::reader::Reader;
use crate::delivery::chunk::Chunk;
use crate::delivery::demand::TopicDemand;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::Lane;
use crate::delivery::lanes::lane_key::{LaneKey, LaneTerms};
use crate::delivery::lanes::lane_patterns::PatternChange;
use crate::delivery::lanes::stream::Due;
use crate::delivery::lanes::topic_filter::TopicFilter;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::settings::Settings;
use crate::protocol::command::CommandRefusal;
use crate::protocol::encoding::Encoder;
use crate::words::topic::Pattern;
use shared_deflate::token::{Mark, Stream};

/// Topics that a lane changes by in place: more are as fast by another lane, and a command stays short.
const CHANGES_MAX: usize = 16;

impl Lanes {
    /// What changes if these patterns are added to those of the lane.
    pub fn adding(&self, lane: LaneId, wanted: &[Pattern], demand: &TopicDemand) -> PatternChange {
        let (patterns, names) = (&self[lane].key.patterns, self.index.names());
        let mut change = PatternChange { totals: patterns.totals(), ..PatternChange::default() };
        for pattern in wanted {
            if !pattern.is_exact() {
                if patterns.wildcards().binary_search(pattern).is_err() {
                    change.added_wildcards.push(pattern.clone());
                }
                continue;
            }
            match names.find(pattern.as_str()) {
                None => change.fresh.push(pattern.clone()),
                Some(name) if !patterns.has_name(name) => change.added.push(name),
                Some(_) => {}
            }
        }
        sort_without_repeats(&mut change.added);
        sort_without_repeats(&mut change.fresh);
        sort_without_repeats(&mut change.added_wildcards);
        let totals = &mut change.totals;
        let known = change.added.iter().map(|name| &names[*name]);
        known.for_each(|name| totals.add(&name.text, name.is_asked_for()));
        change.fresh.iter().for_each(|topic| totals.add(topic.as_str(), demand.asks_for(topic)));
        change.added_wildcards.iter().for_each(|wildcard| totals.add_wildcard(wildcard.as_str()));
        change
    }

    /// What changes if these patterns are taken from those of the lane; or the first that it does not have.
    pub fn removing<'p>(&self, lane: LaneId, unwanted: &'p [Pattern]) -> Result<PatternChange, &'p Pattern> {
        let (patterns, names) = (&self[lane].key.patterns, self.index.names());
        let mut change = PatternChange { totals: patterns.totals(), ..PatternChange::default() };
        for pattern in unwanted {
            if pattern.is_exact() {
                let name = names.find(pattern.as_str()).filter(|name| patterns.has_name(*name));
                change.removed.push(name.ok_or(pattern)?);
            } else {
                patterns.wildcards().binary_search(pattern).map_err(|_| pattern)?;
                change.removed_wildcards.push(pattern.clone());
            }
        }
        sort_without_repeats(&mut change.removed);
        sort_without_repeats(&mut change.removed_wildcards);
        let totals = &mut change.totals;
        let known = change.removed.iter().map(|name| &names[*name]);
        known.for_each(|name| totals.remove(&name.text, name.is_asked_for()));
        change.removed_wildcards.iter().for_each(|wildcard| totals.remove_wildcard(wildcard.as_str()));
        Ok(change)
    }

    /// Whether the lane itself can change, instead of its session: it is of one session, few topics come or go, and there is
    /// no lane yet with the patterns after it.
    pub fn is_changeable(&self, lane: LaneId, change: &PatternChange, terms: &LaneTerms) -> bool {
        let of_topics = change.added_wildcards.is_empty() && change.removed_wildcards.is_empty();
        let is_small = of_topics && change.names() <= CHANGES_MAX && terms.every.is_none();
        let has_no_equal =
            || !change.fresh.is_empty() || !self.by_key.contains_key(&self.changed_key(lane, change, terms));
        is_small && self[lane].is_private() && has_no_equal()
    }

    /// Changes a lane that can be (`is_changeable`); or says why not. In proportion to the change, but for the copy of a
    /// list of ids.
    pub fn change_lane(
        &mut self,
        id: LaneId,
        mut change: PatternChange,
        settings: &Settings,
        demand: &TopicDemand,
    ) -> Result<(), CommandRefusal> {
        self.check_growth(&change, settings)?;
        self.name_fresh(&mut change, demand)?;
        let key = self.changed_key(id, &change, &LaneTerms::default());
        let lane = &mut self.lanes[id.0 as usize];
        let newest_gone = self.index.newest_among(&change.removed);
        self.index.change_lane(id, key.patterns.names(), &change);
        lane.newest = match newest_gone {
            // A replay is not to report as skipped what was of a topic that is gone.
            Some(gone) if gone >= lane.newest => self.index.newest_of(id),
            _ => self.index.newest_among(&change.added).map_or(lane.newest, |newest| newest.max(lane.newest)),
        };
        self.by_key.remove(&lane.key);
        self.by_key.insert(key.clone(), id);
        lane.key = key;
        Ok(())
    }

    /// What is kept of topics that have come to a lane of one session in step, by offset, as one chunk for it. It enters
    /// what the session has inflated.
    pub fn values(&mut self, id: LaneId, kept: &[Arc<Frame>], (reader, encoder): (&Reader, &mut Encoder)) -> Chunk {
        let refers = self[id].key.compression.refers_by_topic();
        let since = self[id].stream.as_ref().map_or(0, Stream::position);
        let mut due = Vec::new();
        for frame in kept {
            let (whole, Lane { key, stream, .. }) = (frame.whole(), &mut self.lanes[id.0 as usize]);
            let position = stream.as_ref().map_or(0, Stream::position);
            due.push(Due::alone(whole, position));
            let Some(stream) = stream.as_mut().filter(|_| refers && !whole.is_status()) else { continue };
            let text_bytes = whole.encoded(key.plain(), encoder).text().len();
            let is_newest = self.index.entry(frame.topic.id).is_some_and(|it| Arc::ptr_eq(it.retained.newest(), frame));
            // Later messages refer to the newest one, and to that as it was published.
            let subscriber = self.index.subscriber_mut(id, frame.topic.id);
            let subscriber = subscriber.filter(|_| is_newest && ptr::eq(whole, &**frame));
            stream.pass(subscriber.map_or(&mut Mark::default(), |it| &mut it.mark), text_bytes);
        }
        self.chunk(id, &due, since, (reader, encoder))
    }

    /// The key of a lane like this one after the change.
    pub(super) fn changed_key(&self, lane: LaneId, change: &PatternChange, terms: &LaneTerms) -> LaneKey {
        let key = &self[lane].key;
        key.with(key.patterns.changed(change, self.index.names()), terms)
    }

    /// Names the fresh topics of the change, which must come into force at once.
    pub(super) fn name_fresh(
        &mut self,
        change: &mut PatternChange,
        demand: &TopicDemand,
    ) -> Result<(), CommandRefusal> {
        let texts: Vec<Arc<str>> = change.fresh.iter().map(|topic| Arc::from(topic.as_str())).collect();
        let claims = demand.claim(&texts)?;
        let named = texts.into_iter().zip(claims).map(|(text, claim)| self.index.insert_name(text, claim));
        change.added.extend(named);
        change.added.sort_unstable();
        change.fresh = Vec::new();
        Ok(())
    }

    /// The lane gets, or would get, the topic.
    pub fn receives(&self, lane: LaneId, topic: &str) -> bool {
        let key = &self[lane].key;
        let is_named = self.index.names().find(topic).is_some_and(|name| key.patterns.has_name(name));
        let is_allowed = || key.filter.as_ref().is_none_or(|filter| filter.allows_counted(topic).0);
        is_named || (key.patterns.wildcards().iter().any(|wildcard| wildcard.matches(topic)) && is_allowed())
    }

    /// Those of the lane's patterns of which the filter allows no topic.
    pub fn forbidden(&self, lane: LaneId, filter: &TopicFilter) -> Vec<Pattern> {
        let wildcards = self[lane].key.patterns.wildcards().iter().filter(|wildcard| !filter.admits(wildcard)).cloned();
        let names = self.named(lane).filter(|name| !filter.allows_counted(name).0);
        let names = names.map(|name| Pattern::parse(name).expect("what lanes name was read as a pattern"));
        names.chain(wildcards).collect()
    }

    /// The texts of the lane's patterns, in no order.
    pub fn texts(&self, lane: LaneId) -> impl Iterator<Item = &str> {
        let wildcards = self[lane].key.patterns.wildcards().iter().map(Pattern::as_str);
        self.named(lane).chain(wildcards)
    }

    /// The topics that the lane names, in no order.
    pub fn named(&self, lane: LaneId) -> impl Iterator<Item = &str> {
        let names = self.index.names();
        self[lane].key.patterns.names().iter().map(|name| &*names[*name].text)
    }
}

fn sort_without_repeats<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}
