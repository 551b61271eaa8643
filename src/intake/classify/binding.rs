//! Bindings of a connection's keys, and the messages whose key is unknown yet.
//!
//! An acknowledgement binds a key (a channel id) to the values of the profile's variables. Data may arrive before it: a
//! few wait for it, not for long.

use std::collections::{HashMap, VecDeque};

use crate::intake::classify::Unnamed;
use crate::intake::classify::waiting::Waiting;
use crate::profile::rule::Variables;

/// Keys on one connection. Recorded venues allow at most a few hundred channels on one.
pub(super) const BINDINGS_MAX: usize = 4096;
/// Bytes of a key, and of a value.
pub(super) const BOUND_BYTES_MAX: usize = 256;
/// Messages that wait for their key at most; then the oldest waits no longer.
pub(super) const UNBOUND_MAX: usize = 64;
const UNBOUND_BYTES_MAX: usize = 1 << 20;
/// Longest wait.
pub(super) const UNBOUND_NS: u64 = 5_000_000_000;

/// The bindings of one connection.
#[derive(Default)]
pub(super) struct Bindings {
    keys: HashMap<Box<str>, Box<Variables>>,
}

impl Bindings {
    pub(super) fn get(&self, key: &str) -> Option<&Variables> {
        self.keys.get(key).map(|values| &**values)
    }

    /// Binds a key; an earlier binding is forgotten.
    pub(super) fn set(&mut self, key: &str, values: Box<Variables>) -> Result<(), Unnamed> {
        let longest = values.iter().flatten().map(|value| value.len()).chain([key.len()]).max().unwrap_or(0);
        if longest > BOUND_BYTES_MAX {
            return Err(Unnamed::BoundTooLong { bytes: longest });
        }
        if self.keys.len() == BINDINGS_MAX && !self.keys.contains_key(key) {
            return Err(Unnamed::TooManyBound);
        }
        self.keys.insert(key.into(), values);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.keys.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    /// The key whose variables have these values, by the variables' numbers.
    pub(super) fn key(&self, wanted: &[(usize, &str)]) -> Option<&str> {
        let fits = |values: &Variables| {
            wanted
                .iter()
                .all(|(number, value)| values.get(*number).is_some_and(|bound| bound.as_deref() == Some(value)))
        };
        self.keys.iter().find(|(_, values)| fits(values)).map(|(key, _)| &**key)
    }
}

/// A message that waits for its key.
pub(super) struct Unbound {
    pub key: Box<str>,
    pub waiting: Waiting,
}

/// The messages that wait for their keys, oldest first.
#[derive(Default)]
pub(super) struct UnboundQueue {
    messages: VecDeque<Unbound>,
    bytes: usize,
}

impl UnboundQueue {
    pub(super) fn push(&mut self, unbound: Unbound) {
        self.bytes += unbound.waiting.text.len();
        self.messages.push_back(unbound);
    }

    /// The oldest message, if there are too many.
    pub(super) fn overflow(&mut self) -> Option<Unbound> {
        let full = self.messages.len() > UNBOUND_MAX || self.bytes > UNBOUND_BYTES_MAX;
        if full { self.take(0) } else { None }
    }

    /// The oldest message, if it has waited long enough.
    pub(super) fn overdue(&mut self, now_ns: u64) -> Option<Unbound> {
        if self.deadline_ns()? <= now_ns { self.take(0) } else { None }
    }

    /// The oldest message whose key is bound.
    pub(super) fn bound(&mut self, bindings: &Bindings) -> Option<Unbound> {
        let place = self.messages.iter().position(|unbound| bindings.get(&unbound.key).is_some())?;
        self.take(place)
    }

    /// The oldest message, bound or not.
    pub(super) fn pop(&mut self) -> Option<Unbound> {
        self.take(0)
    }

    /// Deadline of the oldest message, on the monotonic clock in nanoseconds.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.messages.front().map(|oldest| oldest.waiting.received.mono_ns.saturating_add(UNBOUND_NS))
    }

    fn take(&mut self, place: usize) -> Option<Unbound> {
        let unbound = self.messages.remove(place)?;
        self.bytes -= unbound.waiting.text.len();
        Some(unbound)
    }
}
