//! Which client wants which topics of the bench's own feed, and what each is owed of what the feed has said.
//!
//! Topics go by their numbers in the simulated market, clients by the order in which they have joined.

use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::words::topic::Pattern;

use super::speech::topics;

/// What the clients want of a market.
#[derive(Clone, Debug)]
pub struct SubscriptionPlan {
    /// Names, by number.
    topics: Vec<String>,
    share: TopicShare,
}

#[derive(Clone, Debug)]
enum TopicShare {
    /// By topic: whether every client wants it, or none.
    Alike(Vec<bool>),
    /// Client i wants so many: number i times this and those that follow, round and round.
    Each(usize),
}

impl SubscriptionPlan {
    /// Every client wants what a pattern matches.
    pub fn alike(market: MarketSettings, patterns: &[Pattern]) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let wanted = topics.iter().map(|topic| patterns.iter().any(|pattern| pattern.matches(topic))).collect();
        Ok(SubscriptionPlan { topics, share: TopicShare::Alike(wanted) })
    }

    /// Every client wants so many topics, at most all; every topic is wanted by as many clients as any other, give or take one.
    pub fn each(market: MarketSettings, topics_each: usize) -> Result<SubscriptionPlan, SimulatorError> {
        let topics = topics(market)?;
        let share = TopicShare::Each(topics_each.min(topics.len()));
        Ok(SubscriptionPlan { topics, share })
    }

    /// How many topics the feed has.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// What a client names when it subscribes; none if all name the same patterns.
    pub fn names(&self, client: usize) -> Option<Vec<&str>> {
        match self.share {
            TopicShare::Alike(_) => None,
            TopicShare::Each(each) => Some(self.numbers(client, each).map(|number| &*self.topics[number]).collect()),
        }
    }

    /// How many of the clients want a topic.
    pub fn takers(&self, topic: usize, clients: usize) -> u64 {
        let takers = match &self.share {
            TopicShare::Alike(wanted) => usize::from(wanted[topic]) * clients,
            TopicShare::Each(each) => {
                let (round, rest) = (clients * each / self.topics.len(), clients * each % self.topics.len());
                round + usize::from(topic < rest)
            }
        };
        takers as u64
    }

    /// How many clients want a topic that is wanted at all, on average; 0 if none is.
    pub fn takers_mean(&self, clients: usize) -> f64 {
        let takers = (0..self.topics.len()).map(|topic| self.takers(topic, clients)).filter(|takers| *takers > 0);
        let (wanted, sum) = takers.fold((0, 0), |(wanted, sum), takers| (wanted + 1, sum + takers));
        sum as f64 / f64::max(1.0, f64::from(wanted))
    }

    /// Deliveries that are owed to each of the clients when so many messages were said of each topic.
    pub fn owed(&self, said: &[u64], clients: usize) -> Vec<u64> {
        match &self.share {
            TopicShare::Alike(wanted) => {
                let sum = said.iter().zip(wanted).map(|(said, wanted)| said * u64::from(*wanted)).sum();
                vec![sum; clients]
            }
            TopicShare::Each(each) => {
                (0..clients).map(|client| self.numbers(client, *each).map(|topic| said[topic]).sum()).collect()
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
    fn takers_and_what_is_owed_add_up_to_the_same() {
        let patterns = ["trade.*", "quote.AAPL", "nothing"].map(|text| Pattern::parse(text).expect("a pattern"));
        let alike = SubscriptionPlan::alike(market(3), &patterns).expect("a market");
        let each = [1, 4, 6].map(|each| SubscriptionPlan::each(market(3), each).expect("a market"));
        let said = [3, 10, 0, 7, 100, 1];
        for wants in each.iter().chain([&alike]) {
            for clients in [0, 1, 2, 5, 12, 100] {
                let owed = wants.owed(&said, clients);
                let taken: u64 = (0..6).map(|topic| said[topic] * wants.takers(topic, clients)).sum();
                assert_eq!((owed.len(), owed.iter().sum()), (clients, taken), "{wants:?}");
            }
        }
        assert_eq!((alike.takers_mean(10), alike.names(0)), (10.0, None));
    }

    #[test]
    fn topics_are_dealt_out_evenly_and_by_name() {
        let wants = SubscriptionPlan::each(market(2), 3).expect("a market");
        let names = [0, 1].map(|client| wants.names(client).expect("names"));
        assert_eq!(names.concat().len(), 6);
        assert_eq!(names[0][0], names[1][1], "the fourth is the last, then it begins again");
        assert_eq!([0, 1, 2, 3].map(|topic| wants.takers(topic, 2)), [2, 2, 1, 1]);
        assert_eq!((wants.takers_mean(2), wants.takers_mean(0)), (1.5, 0.0));
        assert_eq!(wants.owed(&[1000, 100, 10, 1], 2), [1110, 1101]);
        let one = SubscriptionPlan::each(market(2), 1).expect("a market");
        assert_eq!((one.takers_mean(2), one.takers(3, 2)), (1.0, 0), "two of four topics are wanted");
        assert_eq!(
            SubscriptionPlan::each(market(2), 9).expect("a market").takers(0, 7),
            7,
            "nobody wants a topic twice"
        );
    }
}
