//! Changes of lists under load: at an even rate, one client after the other replaces one topic of its list by another.
//!
//! A change is an `unsubscribe` and a `subscribe`. What is owed stays exact but for the two topics of a change in the moment
//! of the change: a message that the feed sends within `MOMENT` of the command may arrive or not. The value with which the
//! new topic begins is owed. So each client is owed a number of deliveries between two bounds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::simulator::dice::Dice;

use super::client_pool::Owed;
use super::subscribe::{subscribe, unsubscribe};
use super::subscription_plan::SubscriptionPlan;

/// The longest way of a command, and of a message, on a machine that is not overloaded.
const MOMENT: Duration = Duration::from_secs(1);
/// How often the feed's counts are looked at; bounds are wider by this much.
const GLANCE: Duration = Duration::from_millis(50);

/// The lists of all clients, and what was changed in them.
pub struct ListChanges<'p> {
    subscriptions: &'p SubscriptionPlan,
    /// By client; a list holds at least one topic and lacks at least one.
    lists: Vec<Vec<usize>>,
    dice: Dice,
    per_second: f64,
    started: Instant,
    made: u64,
    /// Messages of each topic so far, at moments from a little more than `MOMENT` ago on.
    counts: VecDeque<(Instant, Vec<u64>)>,
    /// Changes whose moment is not over.
    pending: VecDeque<ListChange>,
    /// By client: what a change adds to the messages of the topics that are in its list at the end.
    corrections: Vec<Correction>,
}

#[derive(Clone, Copy, Debug)]
struct ListChange {
    at: Instant,
    client: usize,
    left: usize,
    joined: usize,
}

/// Messages of topics in the list before they joined it (less), and of topics that have left it (more).
#[derive(Clone, Copy, Debug, Default)]
struct Correction {
    least: i64,
    most: i64,
}

impl<'p> ListChanges<'p> {
    /// For the first `clients` clients with their lists of the plan; nothing has been sent.
    pub fn new(subscriptions: &'p SubscriptionPlan, clients: usize, per_second: f64, now: Instant) -> ListChanges<'p> {
        ListChanges {
            subscriptions,
            lists: (0..clients).map(|client| subscriptions.list(client)).collect(),
            dice: Dice::of(clients as u64),
            per_second,
            started: now,
            made: 0,
            counts: [(now, vec![0; subscriptions.topics()])].into(),
            pending: VecDeque::new(),
            corrections: vec![Correction::default(); clients],
        }
    }

    /// Number of changes.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The commands that are due, by client. `sent` answers the messages of each topic so far; it is asked now and then.
    pub fn step(&mut self, now: Instant, sent: impl Fn() -> Vec<u64>) -> Vec<(usize, Vec<u8>)> {
        if self.counts.back().is_some_and(|(at, _)| now - *at >= GLANCE) {
            let counts = sent();
            while let Some(change) = self.pending.pop_front_if(|change| now - change.at >= MOMENT) {
                self.close(change, &counts);
            }
            self.counts.push_back((now, counts));
            // The first is from before the moment of a change that is made now.
            while self.counts.get(1).is_some_and(|(at, _)| now - *at >= MOMENT) {
                self.counts.pop_front();
            }
        }
        let due = ((now - self.started).as_secs_f64() * self.per_second) as u64;
        (self.made..due).map(|_| self.change(now)).collect()
    }

    /// What each client is owed, given all messages of each topic.
    pub fn owed(&mut self, sent: &[u64]) -> Vec<Owed> {
        while let Some(change) = self.pending.pop_front() {
            self.close(change, sent);
        }
        let owed = self.lists.iter().zip(&self.corrections).map(|(list, correction)| {
            let all = list.iter().map(|topic| sent[*topic]).sum::<u64>();
            let with = |more: i64| all.saturating_add_signed(more);
            Owed { least: with(correction.least), most: with(correction.most) }
        });
        owed.collect()
    }

    fn change(&mut self, now: Instant) -> (usize, Vec<u8>) {
        let client = self.made as usize % self.lists.len();
        self.made += 1;
        let list = &mut self.lists[client];
        let place = self.dice.below_u64(list.len() as u64) as usize;
        let joined = loop {
            let topic = self.dice.below_u64(self.subscriptions.topics() as u64) as usize;
            if !list.contains(&topic) {
                break topic;
            }
        };
        let left = std::mem::replace(&mut list[place], joined);
        let before = &self.counts[0].1;
        let correction = &mut self.corrections[client];
        // One for the value with which the new topic begins.
        correction.least += before[left] as i64 + 1;
        correction.most += 1 - before[joined] as i64;
        self.pending.push_back(ListChange { at: now, client, left, joined });
        let [left, joined] = [left, joined].map(|topic| self.subscriptions.name(topic));
        (client, [unsubscribe(&[left]), subscribe(&[joined])].concat())
    }

    /// Ends the moment of a change, given the messages of each topic by then.
    fn close(&mut self, change: ListChange, after: &[u64]) {
        let correction = &mut self.corrections[change.client];
        correction.least -= after[change.joined] as i64;
        correction.most += after[change.left] as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::MarketSettings;

    fn plan(each: usize) -> SubscriptionPlan {
        SubscriptionPlan::own(MarketSettings { symbols: 10, ..MarketSettings::default() }, each).expect("a market")
    }

    #[test]
    fn a_change_replaces_one_topic_of_one_client_after_the_other() {
        let plan = plan(5);
        let start = Instant::now();
        let mut changes = ListChanges::new(&plan, 4, 100.0, start);
        assert!(changes.step(start + Duration::from_millis(5), || vec![0; 20]).is_empty());
        let commands = changes.step(start + Duration::from_millis(65), || vec![0; 20]);
        assert_eq!(commands.iter().map(|(client, _)| *client).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1]);
        assert_eq!(changes.made(), 6);
        for (client, made) in [(0, 2), (1, 2), (2, 1), (3, 1)] {
            let (before, mut after) = (plan.list(client), changes.lists[client].clone());
            assert!(after.iter().filter(|topic| !before.contains(topic)).count() <= made);
            after.sort_unstable();
            after.dedup();
            assert_eq!(after.len(), 5, "different topics");
        }
    }

    #[test]
    fn only_messages_in_the_moment_of_a_change_are_uncertain() {
        let plan = plan(1);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut changes = ListChanges::new(&plan, 1, 0.1, start);
        let first = changes.lists[0][0];
        // A message of each topic each 100 ms, all the time.
        let sent = |ms: u64| vec![ms / 100; 20];
        for ms in (0..=15_000).step_by(10) {
            let commands = changes.step(at(ms), || sent(ms));
            assert_eq!(commands.len(), usize::from(ms == 10_000), "one change after 10 s");
        }
        assert_ne!(changes.lists[0][0], first);
        let [owed] = changes.owed(&sent(15_000))[..] else { panic!("one client") };
        // 100 messages of the first topic, a value, and 50 of the second; 10 each are uncertain at each side, and the
        // glance's.
        assert!((131 - 2..=131).contains(&owed.least), "{owed:?}");
        assert!((171..=171 + 2).contains(&owed.most), "{owed:?}");
    }

    #[test]
    fn what_is_owed_without_messages_are_the_values() {
        let plan = plan(3);
        let start = Instant::now();
        let mut changes = ListChanges::new(&plan, 2, 10.0, start);
        (0..300).for_each(|ms| drop(changes.step(start + Duration::from_millis(10 * ms), || vec![0; 20])));
        assert_eq!(changes.made(), 29);
        assert_eq!(changes.owed(&[0; 20]), [Owed { least: 15, most: 15 }, Owed { least: 14, most: 14 }]);
    }
}
