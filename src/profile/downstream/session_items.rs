//! The items of one session: what a request changes of them, and what is against it.

use std::collections::BTreeSet;

use crate::profile::downstream::Dialect;
use crate::profile::downstream::conversation::{Deed, SaidRequest};
use crate::words::topic::Pattern;

/// Sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionItems(Vec<String>);

/// What a request changes.
#[derive(Debug, Default)]
pub struct SaidChange {
    /// Items that come or go, by the request's kind, each once and sorted.
    pub names: Vec<String>,
    /// Places of items that are not granted, and why.
    pub refused: Vec<(usize, String)>,
}

impl SessionItems {
    pub fn new(mut names: Vec<String>) -> SessionItems {
        names.sort_unstable();
        names.dedup();
        SessionItems(names)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// What the request changes; `forbids` says why an item may not be had. A request that is granted as one changes
    /// nothing if one of its items is refused.
    pub fn change(
        &self,
        request: &SaidRequest<'_>,
        items_max: usize,
        mut forbids: impl FnMut(&str) -> Option<String>,
    ) -> SaidChange {
        let subscribes = request.deed() == Deed::Subscribe;
        let (mut names, mut refused) = (BTreeSet::new(), Vec::new());
        for (place, item) in request.items().iter().enumerate() {
            let is_known = self.has(&item.name);
            let over = || {
                let is_full = self.0.len() + names.len() >= items_max;
                is_full.then(|| format!("expected at most {items_max} items on one connection, found more"))
            };
            let fault = match &item.fault {
                Some(fault) => Some(fault.clone()),
                None if !subscribes || is_known || names.contains(&item.name) => None,
                None => forbids(&item.name).or_else(over),
            };
            match fault {
                Some(fault) => refused.push((place, fault)),
                // What is not in force ends by itself.
                None if is_known != subscribes => drop(names.insert(item.name.clone())),
                None => {}
            }
        }
        if request.is_one() && !refused.is_empty() {
            names.clear();
        }
        SaidChange { names: names.into_iter().collect(), refused }
    }

    /// The items come into force.
    pub fn add(&mut self, names: Vec<String>) {
        self.0.extend(names);
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// The items are in force no more.
    pub fn remove(&mut self, names: &[String]) {
        self.0.retain(|name| names.binary_search(name).is_err());
    }

    /// The patterns of these items that no other item needs, once they are gone.
    pub fn patterns_left_by(&self, names: &[String], dialect: &Dialect) -> Vec<Pattern> {
        let mut patterns: BTreeSet<Pattern> = names.iter().flat_map(|name| dialect.topics_of(name)).collect();
        let stay = |name: &&String| names.binary_search(name).is_err();
        // A plain item has one topic, its own.
        let shares = |name: &&String| !dialect.is_plain(name) || patterns.contains(name.as_str());
        let others: Vec<&String> = self.0.iter().filter(stay).filter(shares).collect();
        for pattern in others.iter().flat_map(|name| dialect.topics_of(name)) {
            patterns.remove(&pattern);
        }
        patterns.into_iter().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }
}
