//! The shard for a client that joins: as few shards in use as can carry the sessions, evenly filled.
//!
//! Work done once for a lane is done once in each shard that has the lane: chunks, shared windows, wake-ups. So a
//! further shard comes into use only when those in use have enough to do, and a shard without sessions is not even
//! rung.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// A shard that is busy for a larger part of the time is full, however few its sessions are.
const BUSY_PERCENT_MAX: u32 = 50;

/// How much a shard has to do, and whether it is there. `Delivery::adopt` counts clients that join; the shard's thread
/// writes everything else.
#[derive(Debug, Default)]
pub struct ShardLoad {
    sessions: AtomicUsize,
    busy_percent: AtomicU32,
    /// The shard has ended, in whatever way, and takes no client any more.
    ended: AtomicBool,
}

impl ShardLoad {
    /// A session is on its way to the shard.
    pub fn join(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A session has ended.
    pub fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sessions adopted and not ended.
    pub fn sessions(&self) -> usize {
        if self.has_ended() { 0 } else { self.sessions.load(Ordering::Relaxed) }
    }

    /// The shard has ended, and its sessions with it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Part of the last second in which the shard did not wait.
    pub fn set_busy(&self, part: f64) {
        self.busy_percent.store((part * 100.0) as u32, Ordering::Relaxed);
    }

    fn is_full(&self, spread_after: usize) -> bool {
        self.sessions() >= spread_after || self.busy_percent.load(Ordering::Relaxed) > BUSY_PERCENT_MAX
    }
}

/// The number of the shard for a client that joins: the emptiest in use that is not full; else one that is not in use
/// yet; else the emptiest. None if no shard is left.
pub fn place<'l>(loads: impl Iterator<Item = &'l ShardLoad> + Clone, spread_after: usize) -> Option<usize> {
    let numbered = loads.enumerate().filter(|(_, load)| !load.has_ended());
    let emptiest = |fits: &dyn Fn(&ShardLoad) -> bool| {
        let fitting = numbered.clone().filter(|(_, load)| fits(load));
        fitting.min_by_key(|(_, load)| load.sessions()).map(|(number, _)| number)
    };
    emptiest(&|load| load.sessions() > 0 && !load.is_full(spread_after)).or_else(|| emptiest(&|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(loads: &[ShardLoad], clients: usize, spread_after: usize) -> Vec<usize> {
        for _ in 0..clients {
            loads[place(loads.iter(), spread_after).expect("a shard is left")].join();
        }
        loads.iter().map(ShardLoad::sessions).collect()
    }

    fn shards() -> [ShardLoad; 3] {
        Default::default()
    }

    #[test]
    fn a_shard_comes_into_use_when_those_before_it_are_full() {
        let loads = shards();
        assert_eq!(fill(&loads, 10, 10), [10, 0, 0]);
        assert_eq!(fill(&loads, 1, 10), [10, 1, 0]);
        assert_eq!(fill(&loads, 14, 10), [10, 10, 5]);
        assert_eq!(fill(&loads, 8, 10), [11, 11, 11], "all in use, they are filled evenly");
        assert_eq!(fill(&shards(), 4, 1), [2, 1, 1]);
    }

    #[test]
    fn a_shard_that_was_left_is_filled_up_before_another_comes_into_use() {
        let loads = shards();
        fill(&loads, 20, 10);
        (0..5).for_each(|_| loads[0].leave());
        assert_eq!(fill(&loads, 5, 10), [10, 10, 0]);
    }

    #[test]
    fn a_busy_shard_is_full() {
        let loads = shards();
        fill(&loads, 2, 10);
        loads[0].set_busy(0.51);
        assert_eq!(fill(&loads, 3, 10), [2, 3, 0]);
        loads[1].set_busy(1.0);
        loads[2].set_busy(1.0);
        assert_eq!(fill(&loads, 3, 10), [3, 3, 2], "all busy: the emptiest");
        loads[0].set_busy(0.5);
        assert_eq!(fill(&loads, 2, 10), [5, 3, 2]);
    }

    #[test]
    fn a_shard_that_has_ended_is_given_no_client() {
        let loads = shards();
        fill(&loads, 2, 10);
        loads[0].end();
        assert_eq!(fill(&loads, 20, 10), [0, 10, 10], "the sessions of the first have ended with it");
        loads[1].end();
        loads[2].end();
        assert_eq!(place(loads.iter(), 10), None);
    }
}
