//! Amounts by network in about one span of time, such as failures of a minute: a bound for whoever causes too many.
//!
//! Two windows, of which the older one counts in part: no timer, and no more memory than the networks of two spans, up to
//! a bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// About 3 MiB in each window; further networks are not counted.
const NETWORKS_MAX: usize = 65_536;

pub struct NetworkCounts {
    span: Duration,
    began: Instant,
    current: HashMap<IpAddr, u32>,
    previous: HashMap<IpAddr, u32>,
}

impl NetworkCounts {
    pub fn new(span: Duration, now: Instant) -> NetworkCounts {
        NetworkCounts { span, began: now, current: HashMap::new(), previous: HashMap::new() }
    }

    /// What the network of this address has caused in the last span, about.
    pub fn of(&mut self, address: IpAddr, now: Instant) -> f64 {
        self.advance(now);
        let network = network(address);
        let count = |window: &HashMap<IpAddr, u32>| f64::from(window.get(&network).copied().unwrap_or(0));
        let passed = now.saturating_duration_since(self.began).as_secs_f64() / self.span.as_secs_f64();
        count(&self.current) + count(&self.previous) * (1.0 - passed)
    }

    pub fn add(&mut self, address: IpAddr, amount: u32, now: Instant) {
        self.advance(now);
        let network = network(address);
        if self.current.len() < NETWORKS_MAX || self.current.contains_key(&network) {
            let count = self.current.entry(network).or_default();
            *count = count.saturating_add(amount);
        }
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < self.span {
            return;
        }
        self.previous = std::mem::take(&mut self.current);
        if passed >= 2 * self.span {
            self.previous.clear();
            self.began = now;
        } else {
            self.began += self.span;
        }
    }
}

/// What counts as one address: an IPv4 address or an IPv6 /64, the least that one subscriber line gets.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_a_network_has_caused_fades_within_two_spans_and_is_its_own() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let address = |text: &str| text.parse::<IpAddr>().expect(text);
        let mut counts = NetworkCounts::new(Duration::from_secs(60), start);
        for (one, same, other) in
            [("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
        {
            counts.add(address(one), 7, start);
            counts.add(address(same), 3, start);
            assert_eq!([one, same, other].map(|text| counts.of(address(text), start)), [10.0, 10.0, 0.0]);
        }
        assert_eq!(counts.of(address("192.0.2.1"), after(60)), 10.0);
        assert_eq!(counts.of(address("192.0.2.1"), after(90)), 5.0);
        assert_eq!(counts.of(address("192.0.2.1"), after(120)), 0.0);
        counts.add(address("192.0.2.1"), u32::MAX, after(120));
        counts.add(address("192.0.2.1"), u32::MAX, after(120));
        assert_eq!(counts.of(address("192.0.2.1"), after(121)), f64::from(u32::MAX));
        assert_eq!(counts.of(address("192.0.2.1"), after(500)), 0.0);
    }

    #[test]
    fn the_networks_that_are_counted_are_bounded() {
        let start = Instant::now();
        let mut counts = NetworkCounts::new(Duration::from_secs(60), start);
        for number in 0..NETWORKS_MAX as u32 + 1000 {
            counts.add(Ipv4Addr::from_bits(number).into(), 1, start);
        }
        assert_eq!(counts.current.len(), NETWORKS_MAX);
        assert_eq!(counts.of(Ipv4Addr::from_bits(5).into(), start), 1.0);
    }
}
