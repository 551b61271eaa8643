//! The subscription plan: which client subscribes to which topics of the bench's feed, and the deliveries owed to each.
//!
//! Topics are numbered as in the simulated market, clients in the order in which they joined.

use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
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
    Each(usize),
}

impl SubscriptionPlan {
    /// Every client subscribes to the patterns.
    pub fn alike(market: MarketSettings, patterns: &[Pattern]) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let subscribed = topics.iter().map(|topic| patterns.iter().any(|pattern| pattern.matches(topic))).collect();
        Ok(SubscriptionPlan { topics, share: TopicShare::Alike(subscribed) })
    }

    /// Every client subscribes to this many topics, at most all. Topics have equal numbers of subscribers, to within one.
    pub fn each(market: MarketSettings, topics_each: usize) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let share = TopicShare::Each(topics_each.min(topics.len()));
        Ok(SubscriptionPlan { topics, share })
    }

    /// Number of topics of the feed.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// The topics that a client names; none if all clients name the same patterns.
    pub fn names(&self, client: usize) -> Option<Vec<&str>> {
        match self.share {
            TopicShare::Alike(_) => None,
            TopicShare::Each(each) => Some(self.numbers(client, each).map(|number| &*self.topics[number]).collect()),
        }
    }

    /// Number of subscribers of a topic.
    pub fn subscribers(&self, topic: usize, clients: usize) -> u64 {
        let subscribers = match &self.share {
            TopicShare::Alike(subscribed) => usize::from(subscribed[topic]) * clients,
            TopicShare::Each(each) => {
                let (round, rest) = (clients * each / self.topics.len(), clients * each % self.topics.len());
                round + usize::from(topic < rest)
            }
        };
        subscribers as u64
    }

    /// Mean number of subscribers of the topics that have any; 0 if none has.
    pub fn subscribers_mean(&self, clients: usize) -> f64 {
        let subscribers =
            (0..self.topics.len()).map(|topic| self.subscribers(topic, clients)).filter(|subscribers| *subscribers > 0);
        let (subscribed, sum) =
            subscribers.fold((0, 0), |(subscribed, sum), subscribers| (subscribed + 1, sum + subscribers));
        sum as f64 / f64::max(1.0, f64::from(subscribed))
    }

    /// Deliveries owed to each client, given the number of messages of each topic.
    pub fn owed(&self, sent: &[u64], clients: usize) -> Vec<u64> {
        match &self.share {
            TopicShare::Alike(subscribed) => {
                let sum = sent.iter().zip(subscribed).map(|(sent, subscribed)| sent * u64::from(*subscribed)).sum();
                vec![sum; clients]
            }
            TopicShare::Each(each) => {
                (0..clients).map(|client| self.numbers(client, *each).map(|topic| sent[topic]).sum()).collect()
            }
        }
    }

    fn numbers(&self, client: usize, each: usize) -> impl Iterator<Item = usize> {
        let topics = self.topics.len();
        (client * each..(client + 1) * each).map(move |number| number % topics)
    }
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
        let each = [1, 4, 6].map(|each| SubscriptionPlan::each(market(3), each).expect("a market"));
        let sent = [3, 10, 0, 7, 100, 1];
        for subscriptions in each.iter().chain([&alike]) {
            for clients in [0, 1, 2, 5, 12, 100] {
                let owed = subscriptions.owed(&sent, clients);
                let taken: u64 = (0..6).map(|topic| sent[topic] * subscriptions.subscribers(topic, clients)).sum();
                assert_eq!((owed.len(), owed.iter().sum()), (clients, taken), "{subscriptions:?}");
            }
        }
        assert_eq!((alike.subscribers_mean(10), alike.names(0)), (10.0, None));
    }

    #[test]
    fn topics_are_spread_evenly_and_by_name() {
        let subscriptions = SubscriptionPlan::each(market(2), 3).expect("a market");
        let names = [0, 1].map(|client| subscriptions.names(client).expect("names"));
        assert_eq!(names.concat().len(), 6);
        assert_eq!(names[0][0], names[1][1], "the fourth is the last, then it begins again");
        assert_eq!([0, 1, 2, 3].map(|topic| subscriptions.subscribers(topic, 2)), [2, 2, 1, 1]);
        assert_eq!((subscriptions.subscribers_mean(2), subscriptions.subscribers_mean(0)), (1.5, 0.0));
        assert_eq!(subscriptions.owed(&[1000, 100, 10, 1], 2), [1110, 1101]);
        let one = SubscriptionPlan::each(market(2), 1).expect("a market");
        assert_eq!((one.subscribers_mean(2), one.subscribers(3, 2)), (1.0, 0), "two of four topics have subscribers");
        assert_eq!(
            SubscriptionPlan::each(market(2), 9).expect("a market").subscribers(0, 7),
            7,
            "no client subscribes to a topic twice"
        );
    }
}
