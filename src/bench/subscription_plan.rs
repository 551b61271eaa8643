//! The subscription plan: which client subscribes to which topics of the bench's feed, and the deliveries owed to each.
//!
//! Topics are numbered as in the simulated market, clients in the order in which they joined. Lists of topics are made anew
//! from the seed whenever they are needed: ten thousand clients cost no memory.

use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::simulator::dice::Dice;
use crate::words::topic::Pattern;

use super::generator::topics;

/// The subscriptions of all clients to a market.
#[derive(Clone, Debug)]
pub struct SubscriptionPlan {
    /// Names, by number.
    topics: Vec<String>,
    share: TopicShare,
}

#[derive(Clone, Debug)]
enum TopicShare {
    /// By topic: whether every client subscribes to it, or none.
    Alike(Vec<bool>),
    /// Each client subscribes to this many: client i from number i times this on, wrapping around.
    Overlap(usize),
    /// Each client subscribes to this many, drawn from the seed and its number.
    Own { each: usize, seed: u64 },
}

impl SubscriptionPlan {
    /// Every client subscribes to the patterns.
    pub fn alike(market: MarketSettings, patterns: &[Pattern]) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let subscribed = topics.iter().map(|topic| patterns.iter().any(|pattern| pattern.matches(topic))).collect();
        Ok(SubscriptionPlan { topics, share: TopicShare::Alike(subscribed) })
    }

    /// Every client subscribes to this many topics in a row, at most all, and groups of clients to the same ones. Topics
    /// have equal numbers of subscribers, to within one.
    pub fn overlap(market: MarketSettings, topics_each: usize) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let share = TopicShare::Overlap(topics_each.min(topics.len()));
        Ok(SubscriptionPlan { topics, share })
    }

    /// Every client subscribes to a list of its own: this many different topics, at most all, each set of them as likely
    /// as any other. The market's seed decides.
    pub fn own(market: MarketSettings, topics_each: usize) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let share = TopicShare::Own { each: topics_each.min(topics.len()), seed: market.seed };
        Ok(SubscriptionPlan { topics, share })
    }

    /// Number of topics of the feed.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// The name of a topic.
    pub fn name(&self, topic: usize) -> &str {
        &self.topics[topic]
    }

    /// The topics that a client names; none if all clients name the same patterns.
    pub fn names(&self, client: usize) -> Option<Vec<&str>> {
        match self.share {
            TopicShare::Alike(_) => None,
            _ => Some(self.list(client).into_iter().map(|topic| self.name(topic)).collect()),
        }
    }

    /// Numbers of the topics that a client receives, each once.
    pub fn list(&self, client: usize) -> Vec<usize> {
        let topics = self.topics.len();
        match &self.share {
            TopicShare::Alike(subscribed) => (0..topics).filter(|topic| subscribed[*topic]).collect(),
            TopicShare::Overlap(each) => (client * each..(client + 1) * each).map(|number| number % topics).collect(),
            TopicShare::Own { each, seed } => sample(&mut dice_of(*seed, client), *each, topics),
        }
    }

    /// Number of subscribers of each topic among the first `clients` clients.
    pub fn subscribers(&self, clients: usize) -> Vec<u64> {
        let topics = self.topics.len();
        match &self.share {
            TopicShare::Alike(subscribed) => {
                subscribed.iter().map(|subscribed| u64::from(*subscribed) * clients as u64).collect()
            }
            TopicShare::Overlap(each) => {
                let (round, rest) = (clients * each / topics, clients * each % topics);
                (0..topics).map(|topic| (round + usize::from(topic < rest)) as u64).collect()
            }
            TopicShare::Own { .. } => {
                let mut subscribers = vec![0; topics];
                (0..clients).flat_map(|client| self.list(client)).for_each(|topic| subscribers[topic] += 1);
                subscribers
            }
        }
    }

    /// Deliveries owed to each client, given the number of messages of each topic.
    pub fn owed(&self, sent: &[u64], clients: usize) -> Vec<u64> {
        let to = |client| self.list(client).into_iter().map(|topic| sent[topic]).sum();
        match &self.share {
            TopicShare::Alike(_) => vec![to(0); clients],
            _ => (0..clients).map(to).collect(),
        }
    }
}

/// Mean number of subscribers of the topics that have any; 0 if none has.
pub fn subscribers_mean(subscribers: &[u64]) -> f64 {
    let subscribed = subscribers.iter().filter(|subscribers| **subscribers > 0).count();
    subscribers.iter().sum::<u64>() as f64 / f64::max(1.0, subscribed as f64)
}

/// Random numbers of one client; those of the next one are unrelated to it.
fn dice_of(seed: u64, client: usize) -> Dice {
    Dice::of(seed ^ Dice::of(client as u64).roll())
}

/// `each` different numbers below `end`, ascending, each set as likely as any other (Floyd 1987).
fn sample(dice: &mut Dice, each: usize, end: usize) -> Vec<usize> {
    let mut numbers = Vec::with_capacity(each);
    for last in end - each..end {
        let number = dice.below_u64(last as u64 + 1) as usize;
        match numbers.binary_search(&number) {
            // Greater than all so far.
            Ok(_) => numbers.push(last),
            Err(at) => numbers.insert(at, number),
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn market(symbols: usize) -> MarketSettings {
        MarketSettings { symbols, ..MarketSettings::default() }
    }

    #[test]
    fn subscribers_and_owed_deliveries_add_up_to_the_same() {
        let patterns = ["trade.*", "quote.AAPL", "nothing"].map(|text| Pattern::parse(text).expect("a pattern"));
        let alike = SubscriptionPlan::alike(market(3), &patterns).expect("a market");
        let overlap = [1, 4, 6].map(|each| SubscriptionPlan::overlap(market(3), each).expect("a market"));
        let own = [1, 4, 6].map(|each| SubscriptionPlan::own(market(3), each).expect("a market"));
        let sent = [3, 10, 0, 7, 100, 1];
        for subscriptions in overlap.iter().chain(&own).chain([&alike]) {
            for clients in [0, 1, 2, 5, 12, 100] {
                let owed = subscriptions.owed(&sent, clients);
                let subscribers = subscriptions.subscribers(clients);
                let taken: u64 = sent.iter().zip(&subscribers).map(|(sent, subscribers)| sent * subscribers).sum();
                assert_eq!((owed.len(), owed.iter().sum()), (clients, taken), "{subscriptions:?}");
            }
        }
        assert_eq!((subscribers_mean(&alike.subscribers(10)), alike.names(0)), (10.0, None));
    }

    #[test]
    fn overlapping_topics_are_spread_evenly_and_by_name() {
        let subscriptions = SubscriptionPlan::overlap(market(2), 3).expect("a market");
        let names = [0, 1].map(|client| subscriptions.names(client).expect("names"));
        assert_eq!(names.concat().len(), 6);
        assert_eq!(names[0][0], names[1][1], "the fourth is the last, then it begins again");
        assert_eq!(subscriptions.subscribers(2), [2, 2, 1, 1]);
        assert_eq!([2, 0].map(|clients| subscribers_mean(&subscriptions.subscribers(clients))), [1.5, 0.0]);
        assert_eq!(subscriptions.owed(&[1000, 100, 10, 1], 2), [1110, 1101]);
        let one = SubscriptionPlan::overlap(market(2), 1).expect("a market");
        assert_eq!(one.subscribers(2), [1, 1, 0, 0], "two of four topics have subscribers");
    }

    #[test]
    fn a_list_of_ones_own_holds_as_many_different_topics_as_asked_for() {
        for (each, expected) in [(1, 1), (3, 3), (20, 20), (100, 100), (101, 100)] {
            let subscriptions = SubscriptionPlan::own(market(50), each).expect("a market");
            for client in 0..200 {
                let mut names = subscriptions.names(client).expect("names");
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), expected, "{each} each, client {client}");
            }
        }
    }

    #[test]
    fn a_list_of_ones_own_differs_from_client_to_client_and_from_seed_to_seed_only() {
        let [plan, again] = [0, 0].map(|_| SubscriptionPlan::own(market(500), 20).expect("a market"));
        let other = MarketSettings { seed: 7, ..market(500) };
        let other = SubscriptionPlan::own(other, 20).expect("a market");
        let mut lists: Vec<_> = (0..2000).map(|client| plan.list(client)).collect();
        for (client, list) in lists.iter().enumerate() {
            assert_eq!(*list, again.list(client));
            assert_ne!(*list, other.list(client), "client {client}");
        }
        lists.sort_unstable();
        lists.dedup();
        assert_eq!(lists.len(), 2000);
    }

    #[test]
    fn topics_of_lists_of_ones_own_are_equally_likely() {
        let plan = SubscriptionPlan::own(market(500), 20).expect("a market");
        let subscribers = plan.subscribers(50_000);
        assert_eq!(subscribers_mean(&subscribers), 1000.0);
        // Chi-squared with 999 degrees of freedom, a little less for draws without repeats: mean 980, deviation 44.
        let chi: f64 = subscribers.iter().map(|found| (*found as f64 - 1000.0).powi(2) / 1000.0).sum();
        assert!((800.0..1200.0).contains(&chi), "{chi}");
        // Two topics are on the same list as often as chance has it: 20 x 19 / (1000 x 999) of 50,000 lists.
        let pairs =
            |a, b| (0..50_000).map(|client| plan.list(client)).filter(|l| l.contains(&a) && l.contains(&b)).count();
        assert!([pairs(0, 1), pairs(998, 999), pairs(3, 700)].iter().all(|found| (3..=40).contains(found)));
    }
}
