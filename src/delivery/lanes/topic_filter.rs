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
    patterns: Arc<[Pattern]>,
    compiled: PatternSet,
}

/// A filter of one shard; the same filter is equal, and no other.
#[derive(Clone)]
pub struct SharedFilter(Arc<TopicFilter>);

/// The filters in use.
#[derive(Default)]
pub struct TopicFilters {
    filters: HashMap<Arc<[Pattern]>, Weak<TopicFilter>>,
    /// At so many, those that are not in use any more are forgotten.
    sweep_at: usize,
}

impl TopicFilter {
    /// The patterns that are allowed.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the topic is allowed, and the steps that finding out took.
    pub fn allows_counted(&self, topic: &str) -> (bool, usize) {
        self.compiled.matches_counted(topic)
    }

    /// Whether a topic that matches this pattern can be allowed.
    pub fn admits(&self, pattern: &Pattern) -> bool {
        match pattern.is_exact() {
            true => self.allows_counted(pattern.as_str()).0,
            false => self.patterns.iter().any(|allowed| allowed.overlaps(pattern)),
        }
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
        f.debug_list().entries(&*self.0.patterns).finish()
    }
}

impl TopicFilters {
    /// The filter of these rights; none if they allow all topics.
    pub fn of(&mut self, rights: &Rights) -> Option<SharedFilter> {
        let GrantedTopics::Matching(granted) = &rights.topics else { return None };
        let patterns: Arc<[Pattern]> = granted.iter().map(|granted| granted.pattern.clone()).collect();
        if let Some(filter) = self.filters.get(&patterns).and_then(Weak::upgrade) {
            return Some(SharedFilter(filter));
        }
        if self.filters.len() >= self.sweep_at {
            self.filters.retain(|_, filter| filter.strong_count() > 0);
            self.sweep_at = 2 * self.filters.len() + 16;
        }
        let compiled = patterns.iter().collect();
        let filter = Arc::new(TopicFilter { patterns: patterns.clone(), compiled });
        self.filters.insert(patterns, Arc::downgrade(&filter));
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
