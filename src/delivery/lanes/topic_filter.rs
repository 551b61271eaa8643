//! The topics that rights allow, compiled: what wildcards of a lane are narrowed by.
//!
//! A lane subscribes only to topics that are asked for and allowed. Topics that it names are checked when they are
//! subscribed to, so that a lane without wildcards has no filter; what its wildcards match is checked once per topic and
//! filter, in the topic index. Equal filters of a shard are one, so that equal wildcards of one tier share a lane.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use crate::access::rights::{GrantedTopics, Rights};
use crate::words::patterns::PatternSet;
use crate::words::topic::Pattern;

pub struct TopicFilter {
    key: FilterKey,
    granted: PatternSet,
    named: Option<PatternSet>,
}

/// What two filters differ by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FilterKey {
    /// A topic must match one of these.
    granted: Arc<[Pattern]>,
    /// And one of these, if a token names topics.
    named: Option<Arc<[Pattern]>>,
}

/// A filter of one shard; the same filter is equal, and no other.
#[derive(Clone)]
pub struct SharedFilter(Arc<TopicFilter>);

/// The filters in use.
#[derive(Default)]
pub struct TopicFilters {
    filters: HashMap<FilterKey, Weak<TopicFilter>>,
    /// At so many, those that are not in use any more are forgotten.
    sweep_at: usize,
}

impl TopicFilter {
    /// The patterns that the tier allows.
    pub fn granted(&self) -> &[Pattern] {
        &self.key.granted
    }

    /// Those that the token names; none if it does not narrow the tier.
    pub fn named(&self) -> Option<&[Pattern]> {
        self.key.named.as_deref()
    }

    /// How many patterns it has.
    pub fn count(&self) -> usize {
        self.granted().len() + self.named().map_or(0, <[Pattern]>::len)
    }

    /// Whether the topic is allowed, and the steps that finding out took.
    pub fn allows_counted(&self, topic: &str) -> (bool, usize) {
        let (is_granted, steps) = self.granted.matches_counted(topic);
        let Some(named) = self.named.as_ref().filter(|_| is_granted) else { return (is_granted, steps) };
        let (is_named, further) = named.matches_counted(topic);
        (is_named, steps + further)
    }

    /// Whether a topic that matches this pattern can be allowed. Of wildcards it is not known better than by pairs.
    pub fn admits(&self, pattern: &Pattern) -> bool {
        if pattern.is_exact() {
            return self.allows_counted(pattern.as_str()).0;
        }
        let overlaps = |list: &[Pattern]| list.iter().any(|allowed| allowed.overlaps(pattern));
        overlaps(self.granted()) && self.named().is_none_or(overlaps)
    }
}

impl std::ops::Deref for SharedFilter {
    type Target = TopicFilter;

    fn deref(&self) -> &TopicFilter {
        &self.0
    }
}

impl SharedFilter {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl PartialEq for SharedFilter {
    fn eq(&self, other: &SharedFilter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedFilter {}

impl Hash for SharedFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl fmt::Debug for SharedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.key.fmt(f)
    }
}

impl TopicFilters {
    /// The filter of these rights; none if they allow all topics.
    pub fn of(&mut self, rights: &Rights) -> Option<SharedFilter> {
        let (granted, named) = match &rights.topics {
            GrantedTopics::All => return None,
            GrantedTopics::Matching(granted) => (granted, None),
            GrantedTopics::Narrowed { named, within } => (within, Some(Arc::from(&**named))),
        };
        let granted = granted.iter().map(|granted| granted.pattern.clone()).collect();
        let key = FilterKey { granted, named };
        if let Some(filter) = self.filters.get(&key).and_then(Weak::upgrade) {
            return Some(SharedFilter(filter));
        }
        if self.filters.len() >= self.sweep_at {
            self.filters.retain(|_, filter| filter.strong_count() > 0);
            self.sweep_at = 2 * self.filters.len() + 16;
        }
        let compiled = |list: &Arc<[Pattern]>| list.iter().collect::<PatternSet>();
        let (granted, named) = (compiled(&key.granted), key.named.as_ref().map(compiled));
        let filter = Arc::new(TopicFilter { key: key.clone(), granted, named });
        self.filters.insert(key, Arc::downgrade(&filter));
        Some(SharedFilter(filter))
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.filters.len()
    }
}

/// What filters have said about one topic.
#[derive(Default)]
pub struct FilterVerdicts {
    verdicts: HashMap<usize, bool>,
    /// What finding out took.
    pub steps: usize,
}

impl FilterVerdicts {
    /// Whether a lane with this filter may have the topic, which is always the same.
    pub fn allows(&mut self, filter: Option<&SharedFilter>, topic: &str) -> bool {
        let Some(filter) = filter else { return true };
        let FilterVerdicts { verdicts, steps } = self;
        *verdicts.entry(filter.address()).or_insert_with(|| {
            let (allowed, taken) = filter.allows_counted(topic);
            *steps += taken;
            allowed
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::rights::GrantedPattern;

    fn rights(patterns: &[&str]) -> Rights {
        let granted = patterns
            .iter()
            .map(|text| GrantedPattern { pattern: Pattern::parse(text).expect("a pattern"), delay: Duration::ZERO });
        Rights { topics: GrantedTopics::Matching(granted.collect()), ..Rights::unlimited() }
    }

    #[test]
    fn equal_rights_have_one_filter_and_those_of_nobody_are_forgotten() {
        let mut filters = TopicFilters::default();
        assert_eq!(filters.of(&Rights::unlimited()), None);
        let first = filters.of(&rights(&["a.*"]));
        assert_eq!(first, filters.of(&Rights { tier: "other".into(), ..rights(&["a.*"]) }));
        assert_ne!(first, filters.of(&rights(&["a.>"])));
        (0..1000).for_each(|n| drop(filters.of(&rights(&[&format!("t{n}")]))));
        assert!(filters.count() < 50, "{}", filters.count());
        assert_eq!(first, filters.of(&rights(&["a.*"])));
    }

    #[test]
    fn a_token_that_names_topics_narrows_what_its_tier_allows() {
        let GrantedTopics::Matching(within) = rights(&["ticker.>", "book.*"]).topics else { panic!("as made above") };
        let named = ["*.BTC", "trade.>"].map(|text| Pattern::parse(text).expect("a pattern")).into();
        let topics = GrantedTopics::Narrowed { named, within };
        let filter = TopicFilters::default().of(&Rights { topics, ..Rights::unlimited() }).expect("not all topics");
        for (pattern, expected) in [
            ("ticker.BTC", true),
            ("ticker.ETH", false),
            ("trade.BTC", false),
            ("*.BTC", true),
            ("book.*", true),
            ("trade.>", false),
            // It overlaps one of each list, though nothing matches all three.
            ("*.ETH", true),
            ("news.>", false),
        ] {
            assert_eq!(filter.admits(&Pattern::parse(pattern).expect("a pattern")), expected, "{pattern}");
        }
    }

    #[test]
    fn a_filter_admits_what_it_may_allow() {
        let filter = TopicFilters::default().of(&rights(&["ticker.>", "book.BTC-*"])).expect("not all topics");
        for (pattern, expected) in [
            ("ticker.BTC-USD", true),
            ("book.BTC-USD", true),
            ("book.ETH-USD", false),
            ("ticker", false),
            (">", true),
            ("book.*", true),
            ("book.ETH*", false),
            ("*.*-USD", true),
            ("trade.>", false),
        ] {
            assert_eq!(filter.admits(&Pattern::parse(pattern).expect("a pattern")), expected, "{pattern}");
        }
    }
}
