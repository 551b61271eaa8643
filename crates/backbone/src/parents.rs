//! Which of several parents a reader turns to next.
//!
//! A round tries each once. Whoever was lost comes last, and after a round in which nobody could be reached there is a
//! pause that grows. A parent whose log is of another epoch is taken only where no other one is left in the round: it
//! would make all clients begin anew.

use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct ParentChoice {
    /// By number of the parent, whether it was tried in this round.
    tried: Vec<bool>,
    /// The next round begins with this one.
    first: usize,
    /// Within the round, where the next one is looked for.
    next: usize,
    pause: Duration,
    /// Of the next round; none while one is under way.
    begins_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextParent {
    /// Try this one.
    Try(usize),
    /// The next round begins then.
    At(Duration),
    /// All were tried; the outcome is to be seen.
    Wait,
}

impl ParentChoice {
    /// `first` is the one to begin with, of `parents`.
    ///
    /// # Panics
    /// There is none.
    pub fn new(parents: usize, first: usize) -> ParentChoice {
        assert!(parents > 0, "a reader has a parent");
        let first = first % parents;
        ParentChoice { tried: vec![false; parents], first, next: first, pause: PAUSE_MIN, begins_at: None }
    }

    pub fn next(&mut self, now: Duration) -> NextParent {
        if let Some(at) = self.begins_at {
            if now < at {
                return NextParent::At(at);
            }
            self.begin_round();
        }
        let count = self.tried.len();
        let untried = (0..count).map(|step| (self.next + step) % count).find(|parent| !self.tried[*parent]);
        untried.map_or(NextParent::Wait, NextParent::Try)
    }

    /// An attempt to reach it has begun.
    pub fn begin(&mut self, parent: usize) {
        self.tried[parent] = true;
        self.next = (parent + 1) % self.tried.len();
    }

    /// All attempts of the round have failed. `jitter` is between 0 and 1.
    pub fn round_failed(&mut self, now: Duration, jitter: f64) {
        self.begins_at = Some(now + self.pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
        self.pause = (2 * self.pause).min(PAUSE_MAX);
    }

    /// It is followed.
    pub fn connected(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// The one that was followed is gone: all others come before it.
    pub fn lost(&mut self, parent: usize) {
        self.first = (parent + 1) % self.tried.len();
        self.begin_round();
    }

    /// Whether a parent whose log has this epoch may be followed by a reader that shows `own`.
    pub fn takes(&self, epoch: u64, own: Option<u64>) -> bool {
        own.is_none_or(|own| own == epoch) || self.tried.iter().all(|tried| *tried)
    }

    fn begin_round(&mut self) {
        self.tried.fill(false);
        (self.next, self.begins_at) = (self.first, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn round(choice: &mut ParentChoice, now: Duration) -> Vec<usize> {
        let mut order = Vec::new();
        while let NextParent::Try(parent) = choice.next(now) {
            choice.begin(parent);
            order.push(parent);
        }
        order
    }

    #[test]
    fn each_parent_is_tried_once_a_round_and_the_lost_one_last() {
        let mut choice = ParentChoice::new(3, 1);
        assert_eq!(round(&mut choice, NOW), [1, 2, 0]);
        choice.connected();
        choice.lost(0);
        assert_eq!(round(&mut choice, NOW), [1, 2, 0]);
        choice.lost(1);
        assert_eq!(round(&mut choice, NOW), [2, 0, 1]);
        assert_eq!(ParentChoice::new(2, 7).next(NOW), NextParent::Try(1));
    }

    #[test]
    fn rounds_without_success_come_at_growing_intervals_that_are_bounded() {
        let mut choice = ParentChoice::new(2, 0);
        let (mut now, mut pauses) = (NOW, Vec::new());
        for _ in 0..8 {
            assert_eq!(round(&mut choice, now).len(), 2);
            assert_eq!(choice.next(now), NextParent::Wait);
            choice.round_failed(now, 1.0);
            let NextParent::At(at) = choice.next(now) else { panic!("a pause") };
            pauses.push(at - now);
            now = at;
        }
        assert_eq!((pauses[0], pauses[1]), (PAUSE_MIN, 2 * PAUSE_MIN));
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        choice.connected();
        choice.lost(1);
        assert_eq!(choice.next(now), NextParent::Try(0), "after a success there is no pause");
    }

    #[test]
    fn another_epoch_is_taken_only_where_nobody_else_is_left() {
        let mut choice = ParentChoice::new(2, 0);
        choice.begin(0);
        assert!(choice.takes(7, None) && choice.takes(7, Some(7)) && !choice.takes(8, Some(7)));
        choice.begin(1);
        assert!(choice.takes(8, Some(7)));
    }
}
