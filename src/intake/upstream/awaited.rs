//! Subscribed items without any message yet.
//!
//! Arrival is not watched message by message: it is looked up once, when an item's time is over. A later message ends
//! the silence by itself (`ItemStatus::arrived`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::words::rate_limited_log::NameLog;
use crate::words::stamp::Stamp;

use crate::intake::time::ns;
use crate::intake::upstream::Upstream;

/// Obsolete entries that are never worth a cleanup.
const OUTDATED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Awaited {
    timeout_ns: u64,
    /// Time of each subscription.
    asked: HashMap<String, Stamp>,
    /// The same items in the order of their deadlines; some entries are obsolete.
    due: VecDeque<(u64, String)>,
    /// Names to log: of topics that must have their item's name, and of others.
    silent: NameLog,
    unnamed: NameLog,
}

impl Awaited {
    pub(super) fn new(timeout: Duration) -> Awaited {
        Awaited { timeout_ns: ns(timeout), ..Awaited::default() }
    }

    /// Items that are subscribed from now on have this long.
    pub(super) fn wait_for(&mut self, timeout: Duration) {
        self.timeout_ns = ns(timeout);
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout_ns)
    }

    /// An item was subscribed, and not refused.
    pub(super) fn begin(&mut self, name: &str, now: Stamp) {
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

    pub(super) fn forget(&mut self, name: &str) {
        self.asked.remove(name);
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let due = self.due.front().map(|(at, _)| *at);
        [due, self.silent.deadline_ns(), self.unnamed.deadline_ns()].into_iter().flatten().min()
    }

    /// Items whose time is over, and when they were subscribed.
    fn over(&mut self, now: Stamp) -> Vec<(String, Stamp)> {
        let mut over = Vec::new();
        while let Some((_, name)) = self.due.pop_front_if(|(at, _)| *at <= now.mono_ns) {
            // One that was dropped and subscribed again has a later entry.
            let asked = self.asked.get(&name).filter(|asked| asked.mono_ns + self.timeout_ns <= now.mono_ns).copied();
            over.extend(asked.map(|asked| (name, asked)));
        }
        over.iter().for_each(|(name, _)| self.forget(name));
        over
    }
}

impl Upstream {
    /// An item was granted: its data are awaited, if none have ever arrived.
    pub(super) fn await_data(&mut self, name: &str, now: Stamp) {
        if !self.pipeline.output.came_since(name, 0) && !self.pipeline.output.items.is_silent(name) {
            self.awaited.begin(name, now);
        }
    }

    /// Checks the items whose time is over.
    pub(super) fn tick_awaited(&mut self, now: Stamp) {
        let over = self.awaited.over(now);
        let is_open = self.connections.open_count() > 0;
        let mut others = None;
        for (name, asked) in over {
            if self.pipeline.output.came_since(&name, 0) || self.pipeline.output.items.is_refused(&name) {
                continue;
            }
            if !is_open {
                // Without a connection nothing can arrive.
                self.awaited.begin(&name, now);
                continue;
            }
            // Some items of the operator produce topics of other names, such as those of all symbols of a market. A
            // client that names a topic waits for exactly that one.
            let gives_others = self.demand.is_only_pinned(&name) && *others.get_or_insert_with(|| self.has_others());
            if gives_others {
                self.awaited.unnamed.add(&name);
            } else {
                self.awaited.silent.add(&name);
                self.pipeline.output.items.set_silent(&name, asked, now);
            }
        }
        let after_s = self.awaited.timeout_ns / 1_000_000_000;
        if let Some((names, count)) = self.awaited.silent.line(now) {
            tracing::warn!(
                count,
                "upstream: no message of {names} {after_s} s after subscribing, and no refusal; \
                 the topics may be quiet, or be named differently"
            );
            self.pipeline.output.counts.trouble(format!("no message of {names}"));
        }
        if let Some((names, count)) = self.awaited.unnamed.line(now) {
            tracing::info!(
                count,
                "upstream: no topic has the name of the items {names}, {after_s} s after subscribing, but topics of \
                 other names have arrived"
            );
        }
    }

    /// Whether there are topics whose name is no item's.
    fn has_others(&self) -> bool {
        let named = self.assignment.names().filter(|name| self.pipeline.output.knows(name)).count();
        self.pipeline.output.topics() > named
    }
}
