//! Orders that a shard was given lately: a session that was on its way between two shards meanwhile obeys them, too.
//!
//! All shards get all orders, each in its own time. A session that leaves takes along which of them have looked at it. The
//! shard that takes it over carries out the others that it has had; those that it has not had yet will find the session.
//!
//! | bound | at the bound |
//! |---|---|
//! | `KEPT_MAX` orders, `KEPT_NS` | the oldest is forgotten; a session is on its way for milliseconds |

use std::collections::VecDeque;

use crate::access::selector::{SessionOrder, SessionSelector};
use crate::words::stamp::Stamp;

const KEPT_MAX: usize = 1024;
const KEPT_NS: u64 = 10_000_000_000;

/// An order, told from all others.
#[derive(Clone, Debug)]
pub struct NumberedOrder {
    pub number: u64,
    pub selector: SessionSelector,
    pub order: SessionOrder,
}

/// In the order of their arrival.
#[derive(Default)]
pub struct RecentOrders(VecDeque<(u64, NumberedOrder)>);

impl RecentOrders {
    pub fn add(&mut self, order: NumberedOrder, now: Stamp) {
        let is_old = |(arrived_ns, _): &(u64, NumberedOrder)| arrived_ns + KEPT_NS < now.mono_ns;
        while self.0.len() >= KEPT_MAX || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back((now.mono_ns, order));
    }

    pub fn iter(&self) -> impl Iterator<Item = &NumberedOrder> {
        self.0.iter().map(|(_, order)| order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_orders_are_kept_and_not_for_long() {
        let order = |number| NumberedOrder { number, selector: SessionSelector::All, order: SessionOrder::Reassess };
        let at = |mono_ns| Stamp { wall_ms: 0, mono_ns };
        let mut recent = RecentOrders::default();
        (0..2000).for_each(|number| recent.add(order(number), at(1)));
        assert_eq!(recent.iter().map(|order| order.number).collect::<Vec<_>>(), (976..2000).collect::<Vec<_>>());
        recent.add(order(2000), at(KEPT_NS + 2));
        assert_eq!(recent.iter().map(|order| order.number).collect::<Vec<_>>(), [2000]);
    }
}
