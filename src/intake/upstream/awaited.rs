//! Items that were asked for and of which nothing has come yet.
//!
//! Whether something has come is not watched message by message: it is looked up once, when an item's time is over. What
//! comes later ends the silence by itself (`Press::came`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::words::stamp::Stamp;

use super::super::digest::Digest;
use super::Upstream;
use crate::intake::upstream::tick::in_ns;

/// Moments of items that are not awaited any more: so many are never looked through.
const OUTDATED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Awaited {
    timeout_ns: u64,
    /// When each was asked for.
    asked: HashMap<String, Stamp>,
    /// The same items in the order in which their time is over; some are not awaited any more.
    due: VecDeque<(u64, String)>,
    /// What is to be told to the log: of topics that must be called like their item, and of others.
    silent: Digest,
    unnamed: Digest,
}

impl Awaited {
    pub fn new(timeout: Duration) -> Awaited {
        Awaited { timeout_ns: in_ns(timeout), ..Awaited::default() }
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout_ns)
    }

    /// An item was asked for, and not refused.
    pub fn begin(&mut self, name: &str, now: Stamp) {
        if self.asked.contains_key(name) {
            return;
        }
        if self.due.len() > 2 * self.asked.len() + OUTDATED_MAX {
            let asked = &self.asked;
            self.due.retain(|(_, name)| asked.contains_key(name));
        }
        self.asked.insert(name.to_string(), now);
        self.due.push_back((now.mono_ns.saturating_add(self.timeout_ns), name.to_string()));
    }

    pub fn forget(&mut self, name: &str) {
        self.asked.remove(name);
    }

    pub fn deadline_ns(&self) -> Option<u64> {
        let due = self.due.front().map(|(at, _)| *at);
        [due, self.silent.deadline_ns(), self.unnamed.deadline_ns()].into_iter().flatten().min()
    }

    /// Those whose time is over, and when they were asked for.
    fn over(&mut self, now: Stamp) -> Vec<(String, Stamp)> {
        let mut over = Vec::new();
        while let Some((_, name)) = self.due.pop_front_if(|(at, _)| *at <= now.mono_ns) {
            // One that was let go and asked for again has a later moment of its own.
            let asked = self.asked.get(&name).filter(|asked| asked.mono_ns + self.timeout_ns <= now.mono_ns).copied();
            over.extend(asked.map(|asked| (name, asked)));
        }
        over.iter().for_each(|(name, _)| self.forget(name));
        over
    }
}

impl Upstream {
    /// An item was granted: its data are awaited, if none have ever come.
    pub(super) fn await_data(&mut self, name: &str, now: Stamp) {
        if !self.outlet.came_since(name, 0) && !self.outlet.was_silent(name) {
            self.awaited.begin(name, now);
        }
    }

    /// Looks what has become of the items whose time is over.
    pub(super) fn tick_awaited(&mut self, now: Stamp) {
        let over = self.awaited.over(now);
        let is_open = self.members.iter().any(|member| member.is_open());
        let mut others = None;
        for (name, asked) in over {
            if self.outlet.came_since(&name, 0) {
                continue;
            }
            if !is_open {
                // Without a connection nothing can come.
                self.awaited.begin(&name, now);
                continue;
            }
            // Some items of the operator give topics of other names: those of all symbols of a market. A client that names
            // a topic waits for this one.
            let gives_others = self.wishes.is_only_pinned(&name) && *others.get_or_insert_with(|| self.has_others());
            if gives_others {
                self.awaited.unnamed.add(&name);
            } else {
                self.awaited.silent.add(&name);
                self.outlet.is_silent(&name, asked, now);
            }
        }
        let after_s = self.awaited.timeout_ns / 1_000_000_000;
        if let Some((names, count)) = self.awaited.silent.line(now) {
            tracing::warn!(
                count,
                "upstream: nothing has come yet of {names} {after_s} s after it was asked for, and it was not refused; \
                 topics may be quiet by nature, or names be written in another way"
            );
            self.outlet.trouble(format!("nothing has come of {names}"));
        }
        if let Some((names, count)) = self.awaited.unnamed.line(now) {
            tracing::info!(
                count,
                "upstream: no topic is called like the items {names}, {after_s} s after they were asked for, but topics \
                 of other names have come"
            );
        }
    }

    /// Whether there are topics that no item is called like.
    fn has_others(&self) -> bool {
        let named = self.roster.names().filter(|name| self.outlet.knows(name)).count();
        self.outlet.topics() > named
    }
}
